"""A DAG that is late: what it waits for does not come, and AirflowDagSuccessLate says so."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["team:data", "example"],
)
def late() -> None:
    """A sensor that looks for a file of a partner's, and leaves its worker in between."""

    @task.sensor(mode="reschedule", poke_interval=60, timeout=12 * 3600)
    def delivery() -> bool:
        return Path("/opt/airflow/dags/delivery.csv").exists()

    delivery()


late()
