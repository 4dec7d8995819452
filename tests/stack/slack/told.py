"""A DAG that fails, and says so in each way in which teams do it today; Airflow 2 and 3 read it alike."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any

import requests  # type: ignore[import-untyped]
from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook  # type: ignore[import-not-found]
from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier  # type: ignore[import-not-found]
from airflow.providers.slack.operators.slack_webhook import SlackWebhookOperator  # type: ignore[import-not-found]

try:
    from airflow.providers.standard.operators.python import PythonOperator  # type: ignore[import-not-found]
    from airflow.sdk import DAG  # type: ignore[import-not-found]
except ImportError:
    from airflow import DAG  # type: ignore[import-not-found]
    from airflow.operators.python import PythonOperator  # type: ignore[import-not-found]

webhook = os.environ["TOLD_WEBHOOK"]
BLOCK = {"type": "section", "text": {"type": "mrkdwn", "text": "*hook*: 3 rows"}}


def callback(context: dict[str, Any]) -> None:
    """What many teams paste."""
    dag_id = context["dag"].dag_id
    requests.post(webhook, json={"text": f"callback: {dag_id} failed <!here>"}, timeout=10).raise_for_status()


def post() -> None:
    """A task that posts, as a form, which Slack takes, too."""
    answer = requests.post(webhook, data={"payload": '{"text": "operator: 3 rows"}'}, timeout=10)
    assert (answer.status_code, answer.text) == (200, "ok")


def hook() -> None:
    """A task with the provider's hook."""
    SlackWebhookHook(slack_webhook_conn_id="told").send(text="hook: 3 rows", blocks=[BLOCK])


def fail() -> None:
    """What callbacks are about."""
    raise RuntimeError("on purpose")


notifier = SlackWebhookNotifier(
    slack_webhook_conn_id="told",
    text="notifier: {{ dag.dag_id }} failed",
    attachments=[{"text": "red", "color": "#f00"}],
)

with DAG("told", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), catchup=False):  # noqa: UP017
    PythonOperator(task_id="posts", python_callable=post)
    PythonOperator(task_id="hooks", python_callable=hook)
    SlackWebhookOperator(task_id="operates", slack_webhook_conn_id="told", message="provider: 3 rows")
    PythonOperator(task_id="fails", python_callable=fail, retries=0, on_failure_callback=[callback, notifier])
