"""The demo's own check: what its /metrics says over HTTP, until all that should be seen was seen."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import psycopg

from exporter.collectors import ALL
from exporter.config.values import Address

from .http import get
from .slack import Workspace

CHANNEL = "data-alerts"
PATIENCE = 50.0
"""Seconds until a check that did not hold has failed."""

_FINISHED = "SELECT 'dag_run, finished ' || count(*) FROM dag_run WHERE state IN ('success', 'failed')"
_CHECKS = {
    "the database answers": ("airflow_db_up", 1),
    "the broker answers": ("airflow_broker_up", 1),
    "all collectors succeed": ("windsock_collector_success", len(ALL)),
    "DAG runs are active": ('airflow_dag_runs_active{.*state="running"', 1),
    "tasks are running": ('airflow_task_instances_active{.*state="running"', 1),
    "messages wait in a queue": ("airflow_celery_queue_length", 1),
    "workers hold messages": ("airflow_celery_unacked_messages", 1),
    "an overdue DAG is found": ("airflow_dag_overdue_since_timestamp_seconds", 1),
    "last runs are known": ("airflow_dag_last_run_success", 1),
    "DAG runs come to their end": ("dag_run, finished", 1),
    "an alert reaches Slack": (r"slack.*: \S+ WARNING demo: .*vendor_", 1),
    "a failed run reaches Slack": (r"slack.*: \S+ ERROR demo: A run of .* failed", 1),
    "its message is updated": (r"slack, edited: ", 1),
    "its message turns green": (r"slack.*: \S+ RESOLVED demo: ", 1),
}
"""What must be seen, as a pattern and how many lines above 0 it must match at once."""


async def check(address: Address, database_url: str, slack: Workspace, stop: threading.Event) -> bool:
    """Prints a line for each check as soon as it holds; False if one does not in time, or not before `stop`."""
    deadline, pending = time.monotonic() + PATIENCE, dict(_CHECKS)
    while pending and not stop.is_set() and time.monotonic() < deadline:
        lines = [line for line in await asyncio.to_thread(_look, address, database_url) if not line.endswith(" 0")]
        for message in slack.messages(CHANNEL):
            for shown in (message, *slack.replies(CHANNEL, message.ts)):  # alerts may have joined a run's thread
                lines += [
                    f"slack{', edited' if number else ''}: {content['text']}"
                    for number, (_, content) in enumerate(shown.versions)
                ]
        for what, (pattern, least) in tuple(pending.items()):
            found = [line for line in lines if re.match(pattern, line)]
            if len(found) >= least:
                del pending[what]
                print(f"  ✓ {what:<26}  {found[0]}")
        await asyncio.to_thread(stop.wait, 0.5)
    for what in pending:
        print(f"  ✗ {what}")
    return not pending


def wait_until_ready(address: Address, stop: threading.Event) -> bool:
    """True once the daemon is ready; False at the end."""
    while not stop.wait(0.05):
        if get(address, "/-/ready"):
            return True
    return False


def _look(address: Address, database_url: str) -> list[str]:
    """The lines of /metrics, and one about the database itself."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(_FINISHED).fetchone()
    return [*get(address, "/metrics").splitlines(), *(row or ())]
