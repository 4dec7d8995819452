"""A DAG with a PythonOperator that posts to Slack: only the address is another one than before Windsock."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import requests

try:
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.python import PythonOperator


def report() -> None:
    """Posts to the destination `slack` of Windsock; fails unless the message is on disk there."""
    webhook = f"http://x:{Path('/run/secrets/windsock_token').read_text()}@windsock:9780/webhook/slack/slack"
    answer = requests.post(webhook, json={"text": "42 orders were loaded"}, timeout=10)
    if answer.text != "ok":  # raise_for_status() would write the address, and the token in it, to the log
        raise RuntimeError(f"Windsock said {answer.status_code}: {answer.text}")


with DAG(
    "posts",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["team:data", "example"],
):
    PythonOperator(task_id="report", python_callable=report)
