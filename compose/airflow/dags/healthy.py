"""A DAG that succeeds every five minutes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(schedule="*/5 * * * *", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, tags=["team:data", "example"])
def healthy() -> None:
    """Two tasks, one after the other."""

    @task
    def count_orders() -> int:
        return 42

    @task
    def report(orders: int) -> None:
        logging.getLogger(__name__).info("%d orders", orders)

    report(count_orders())


healthy()
