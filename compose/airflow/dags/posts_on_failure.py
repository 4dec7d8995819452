"""A DAG with a callback that posts to Slack by itself: only the address is another one than before Windsock."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


def slack_alert(context: dict[str, Any]) -> None:
    """Posts to the destination `slack` of Windsock, which answers once the message is on disk."""
    webhook = f"http://x:{Path('/run/secrets/windsock_token').read_text()}@windsock:9780/webhook/slack/slack"
    text = f"The callback of {context['dag'].dag_id} says: {context['exception']}"
    requests.post(webhook, json={"text": text}, timeout=10)


@dag(
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"on_failure_callback": slack_alert},
    tags=["team:data", "example"],
)
def posts_on_failure() -> None:
    """A task that fails at once."""

    @task
    def load() -> None:
        raise RuntimeError("the warehouse refused the invoices")

    load()


posts_on_failure()
