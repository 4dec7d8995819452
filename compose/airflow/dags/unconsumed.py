"""A DAG whose queue no worker consumes, and AirflowCeleryQueueNotConsumed says so."""

from __future__ import annotations

from datetime import UTC, datetime

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["team:ml", "example"],
)
def unconsumed() -> None:
    """A task for workers with a GPU, of which there are none."""

    @task(queue="gpu")
    def train() -> None:
        pass

    train()


unconsumed()
