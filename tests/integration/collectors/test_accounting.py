"""What ended between two polls, on every schema: counters, histograms, and what is known of the last runs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from exporter.accounting import Accounting
from exporter.accounting.ledger import HOLD
from exporter.collector import Context
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.sources import Database, Sources
from tests.airflow import Airflow, Values
from tests.conftest import AirflowDatabase

Samples = Callable[..., Awaitable[list[str]]]


@pytest.fixture
async def samples(database: AirflowDatabase) -> AsyncIterator[Samples]:
    """Polls, then shows the samples of these families, or all, as they are when nothing is held back any more."""
    now = [0.0]
    collector = Accounting(clock=lambda: now[0])
    settings = {"name": "a", "expected_by": {"asked": {"every": "1h"}}, "dags": {"deny": "denied"}}
    config = Config.model_validate({"airflow": settings})
    dags = config.airflow.dags
    context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))
    async with Database(lambda: database.reader_url) as source:

        async def read(*families: str) -> list[str]:
            await collector.read(Sources(source, None), context, 5.0)
            now[0] += HOLD
            text = (await Renderer("a").render(await collector.read(Sources(source, None), context, 5.0))).text.plain
            lines = [
                line.replace('airflow="a",', "").replace('{airflow="a"}', "") for line in text.decode().splitlines()
            ]
            return [line for line in lines if line.startswith(families or "") and not line.startswith("#")]

        yield read


def stamp(airflow: Airflow, at: datetime) -> Values:
    """The key of an attempt that was created at this time."""
    if airflow.version < (3, 0):
        return {}
    return {"id": uuid.UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | uuid.uuid4().int & (1 << 76) - 1)}


def run(
    airflow: Airflow, dag_id: str, state: str, *, due: datetime, start: datetime, end: datetime | None, **facts: Any
) -> Values:
    """A scheduled run that was due, started and ended at these times."""
    three = airflow.version >= (3, 0)
    facts |= {"run_after": due, "logical_date": due} if three else {"execution_date": due}
    identity = {"run_id": f"run_{uuid.uuid4().hex}", "clear_number": 0, "data_interval_end": due}
    return airflow.run(dag_id, state, **identity, start_date=start, end_date=end, **facts)


def task(airflow: Airflow, of: Values, state: str | None, at: datetime, **facts: Any) -> Values:
    """A task instance that was scheduled 50, queued 45 and started 40 seconds before it ended."""
    second = airflow.now - airflow.ago(1)
    times: Values = {"queued_dttm": at - 45 * second, "start_date": at - 40 * second, "end_date": at, "duration": 40.0}
    if airflow.version >= (3, 0):
        times["scheduled_dttm"] = at - 50 * second
    usual: Values = {"operator": "BashOperator", "max_tries": 2}
    return airflow.task(of, state, **usual | times | stamp(airflow, at) | facts)


def archive(airflow: Airflow, row: Values, state: str) -> None:
    """An earlier try of this task instance."""
    names = (
        "dag_id task_id run_id map_index max_tries start_date end_date duration queued_dttm operator pool pool_slots"
    )
    key = stamp(airflow, row["end_date"])
    facts = {name: row[name] for name in (*names.split(), "queue")} | ({"task_instance_id": key["id"]} if key else {})
    airflow.insert("task_instance_history", **facts, try_number=row["try_number"] - 1, state=state)


async def test_what_ended(airflow: Airflow, samples: Samples) -> None:
    """A run that succeeded after a retry, and one that failed; what was over before does not count."""
    for dag_id in ("etl", "report", "denied"):
        airflow.dag(dag_id, max_consecutive_failed_dag_runs=3)
    run(airflow, "etl", "failed", due=airflow.ago(9000), start=airflow.ago(9000), end=airflow.ago(8000))
    zeros = await samples("airflow_dag_runs_finished", "airflow_task_instances_finished", "windsock")
    assert sorted(zeros) == sorted(
        [
            *(
                f'airflow_dag_runs_finished_total{{dag_id="{dag}",state="{state}",run_type="{run_type}"}} 0'
                for dag in ("etl", "report")
                for state in ("success", "failed")
                for run_type in ("scheduled", "manual")
            ),
            *(
                f'airflow_task_instances_finished_total{{dag_id="{dag}",state="{state}"}} 0'
                for dag in ("etl", "report")
                for state in ("success", "failed")
            ),
            "windsock_accounting_negative_durations_total 0",
            "windsock_accounting_truncated 0",
        ]
    )
    good = run(airflow, "etl", "success", due=airflow.ago(130), start=airflow.ago(100), end=airflow.ago(0))
    archive(airflow, task(airflow, good, "success", airflow.ago(1), try_number=2), "failed")
    task(airflow, good, "skipped", airflow.ago(1), try_number=0)
    bad = run(airflow, "report", "failed", due=airflow.ago(40), start=airflow.ago(50), end=airflow.ago(20))
    task(airflow, bad, "failed", airflow.ago(1), try_number=3, operator=None)
    task(airflow, bad, "upstream_failed", airflow.ago(1), try_number=0)
    airflow.insert("log", event="heartbeat timeout", dag_id="etl")
    airflow.insert("log", event="success", dag_id="etl")
    denied = run(airflow, "denied", "failed", due=airflow.ago(40), start=airflow.ago(50), end=airflow.ago(20))
    task(airflow, denied, "failed", airflow.ago(1))
    shown = set(await samples())
    now = int(airflow.now.timestamp())
    scheduled = 'airflow_task_instance_scheduled_duration_seconds_sum{pool="default_pool"} 10'
    assert shown >= {
        'airflow_dag_runs_finished_total{dag_id="etl",state="success",run_type="scheduled"} 1',
        'airflow_dag_runs_finished_total{dag_id="etl",state="failed",run_type="scheduled"} 0',
        'airflow_dag_runs_finished_total{dag_id="report",state="failed",run_type="scheduled"} 1',
        'airflow_dag_run_duration_seconds_bucket{state="success",run_type="scheduled",le="60.0"} 0',
        'airflow_dag_run_duration_seconds_bucket{state="success",run_type="scheduled",le="120.0"} 1',
        'airflow_dag_run_duration_seconds_sum{state="success",run_type="scheduled"} 100',
        'airflow_dag_run_duration_per_dag_seconds_sum{dag_id="report"} 30',
        'airflow_dag_run_duration_per_dag_seconds_count{dag_id="report"} 1',
        'airflow_dag_run_start_delay_seconds_bucket{run_type="scheduled",le="0.5"} 1',
        'airflow_dag_run_start_delay_seconds_bucket{run_type="scheduled",le="60.0"} 2',
        'airflow_dag_run_start_delay_seconds_sum{run_type="scheduled"} 30',
        'airflow_task_instances_finished_total{dag_id="etl",state="success"} 1',
        'airflow_task_instances_finished_total{dag_id="etl",state="failed"} 1',
        'airflow_task_instances_finished_total{dag_id="etl",state="skipped"} 1',
        'airflow_task_instances_finished_total{dag_id="report",state="failed"} 1',
        'airflow_task_instances_finished_total{dag_id="report",state="upstream_failed"} 1',
        'airflow_task_instance_retries_total{dag_id="etl"} 1',
        'airflow_task_instance_retries_total{dag_id="report"} 0',
        'airflow_task_instance_duration_seconds_count{operator="BashOperator"} 2',
        'airflow_task_instance_duration_seconds_sum{operator=""} 40',
        'airflow_task_instance_queued_duration_seconds_sum{queue="default"} 15',
        'airflow_task_instance_problems_total{event="heartbeat timeout"} 1',
        'airflow_task_instance_problems_total{event="state mismatch"} 0',
        "airflow_dag_runs_superseded_total 0",
        "airflow_task_instance_state_overrides_total 0",
        "windsock_accounting_negative_durations_total 1",
        f'airflow_dag_last_success_timestamp_seconds{{dag_id="etl"}} {now}',
        f'airflow_dag_last_success_data_interval_end_timestamp_seconds{{dag_id="etl"}} {now - 130}',
        'airflow_dag_last_run_success{dag_id="etl"} 1',
        'airflow_dag_last_run_success{dag_id="report"} 0',
        'airflow_dag_last_run_duration_seconds{dag_id="report"} 30',
        'airflow_dag_consecutive_failed_runs{dag_id="report"} 1',
        'airflow_dag_max_consecutive_failed_runs{dag_id="etl"} 3',
        f'airflow_dag_success_expected_by_timestamp_seconds{{dag_id="report"}} {now - 40 + 60}',
    }
    assert (scheduled in shown) == (airflow.version >= (3, 0))
    assert not any("denied" in line for line in shown)


async def test_the_last_runs_are_known_from_the_start(airflow: Airflow, samples: Samples) -> None:
    """Of runs that ended long before; what nobody knows is absent, as what is not expected of a paused DAG."""
    airflow.dag("etl", next_dagrun_create_after=airflow.ago(-500))
    airflow.dag("asked", paused=True)
    airflow.dag("paused", paused=True, next_dagrun_create_after=airflow.ago(-500))
    airflow.dag("new")
    airflow.dag("gone", stale=True)
    for dag_id in ("etl", "asked", "gone"):
        run(airflow, dag_id, "success", due=airflow.ago(90_000), start=airflow.ago(90_000), end=airflow.ago(89_000))
    for day in (3, 2):
        at = airflow.ago(10_000 * day)
        run(airflow, "etl", "failed", due=at, start=at, end=at)
    now = int(airflow.now.timestamp())
    assert sorted(
        await samples("airflow_dag_last", "airflow_dag_consec", "airflow_dag_success", "airflow_dag_max")
    ) == sorted(
        [
            f'airflow_dag_last_success_timestamp_seconds{{dag_id="etl"}} {now - 89_000}',
            f'airflow_dag_last_success_timestamp_seconds{{dag_id="asked"}} {now - 89_000}',
            f'airflow_dag_last_success_data_interval_end_timestamp_seconds{{dag_id="etl"}} {now - 90_000}',
            f'airflow_dag_last_success_data_interval_end_timestamp_seconds{{dag_id="asked"}} {now - 90_000}',
            'airflow_dag_last_run_success{dag_id="etl"} 0',
            'airflow_dag_last_run_success{dag_id="asked"} 1',
            'airflow_dag_last_run_duration_seconds{dag_id="etl"} 0',
            'airflow_dag_last_run_duration_seconds{dag_id="asked"} 1000',
            'airflow_dag_consecutive_failed_runs{dag_id="etl"} 2',
            'airflow_dag_consecutive_failed_runs{dag_id="asked"} 0',
            f'airflow_dag_success_expected_by_timestamp_seconds{{dag_id="etl"}} {now - 30_000 + 2000}',
            f'airflow_dag_success_expected_by_timestamp_seconds{{dag_id="asked"}} {now - 89_000 + 3600}',
        ]
    )


async def test_db_clean_changes_no_counter(airflow: Airflow, samples: Samples) -> None:
    """Rows that are deleted stay counted."""
    airflow.dag("etl")
    await samples()
    good = run(airflow, "etl", "success", due=airflow.ago(130), start=airflow.ago(100), end=airflow.ago(0))
    task(airflow, good, "success", airflow.ago(1))
    before = await samples()
    airflow.connection.execute("DELETE FROM task_instance")
    airflow.connection.execute("DELETE FROM dag_run")
    assert await samples() == before
