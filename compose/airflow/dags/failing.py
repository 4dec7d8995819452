"""A DAG that fails, and has nothing that tells of it: Slack hears of each run nevertheless."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(schedule="@hourly", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, tags=["team:data", "example"])
def failing() -> None:
    """A task that fails at its second try, too."""

    @task(retries=1, retry_delay=timedelta(seconds=5))
    def load() -> None:
        raise RuntimeError("the warehouse refused the orders")

    load()


failing()
