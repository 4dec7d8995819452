"""DAGs whose runs and tries end in every way, each within seconds; they are paused until a test starts them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator  # type: ignore[import-not-found]
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync  # type: ignore[import-not-found]
from airflow.sdk import Asset, dag, get_current_context, task  # type: ignore[import-not-found]
from airflow.sdk.exceptions import AirflowSkipException  # type: ignore[import-not-found]

ORDERS = Asset("orders")


@dag(schedule=None)
def mapped() -> None:
    """Three of a task, as many as another finds; one skips itself. No worker sees what follows these."""

    @task(outlets=[ORDERS])
    def find() -> list[int]:
        return [1, 2, 3]

    @task
    def load(order: int) -> int:
        return order

    @task
    def skip() -> None:
        raise AirflowSkipException

    load.expand(order=find()) >> EmptyOperator(task_id="done")
    skip() >> EmptyOperator(task_id="skipped")


@dag(schedule=None)
def retried() -> None:
    """A task that fails for good at its third try, and one that is never tried."""

    @task(retries=2, retry_delay=timedelta(seconds=1))
    def fail() -> None:
        raise ValueError

    fail() >> EmptyOperator(task_id="never")


@dag(schedule=None)
def mended() -> None:
    """A task that fails at its first try, and succeeds once it is cleared."""

    @task
    def load() -> None:
        if get_current_context()["ti"].try_number == 1:
            raise ValueError

    load()


@dag(schedule=None)
def waiting() -> None:
    """A task that waits in the triggerer, and one that comes back to a worker twice."""

    @task.sensor(mode="reschedule", poke_interval=1)
    def rescheduled() -> bool:
        return bool(get_current_context()["task_reschedule_count"] >= 2)

    DateTimeSensorAsync(
        task_id="deferred", target_time="{{ (ti.start_date + macros.timedelta(seconds=3)).isoformat() }}"
    )
    rescheduled()


@dag(
    schedule="@daily",
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    end_date=datetime(2024, 1, 3, tzinfo=UTC),
    catchup=True,
    max_active_runs=1,
)
def daily() -> None:
    """Three scheduled runs, one after the other; the second one fails."""

    @task
    def close(logical_date: Any = None) -> None:
        if logical_date.day == 2:
            raise ValueError

    close()


@dag(schedule=[ORDERS])
def by_asset() -> None:
    """Runs whenever there are orders."""

    @task
    def report() -> None:
        pass

    report()


mapped()
retried()
mended()
waiting()
daily()
by_asset()
