"""What ended between two polls, on every schema: counters, histograms, and what is known of the last runs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.accounting import TABLES, Accounting, tracker
from exporter.accounting.ledger import HOLD
from exporter.collector import Context
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Part, Renderer
from exporter.poller import Poller
from exporter.sources import Database, Sources
from exporter.state import State
from tests.airflow import Airflow, Values
from tests.conftest import AirflowDatabase

Samples = Callable[..., Awaitable[list[str]]]


class Clock:
    """A clock that the test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def context(**settings: object) -> Context:
    """What reads may know, with these settings of the configuration's airflow section."""
    config = Config.model_validate({"airflow": {"name": "a", **settings}})
    dags = config.airflow.dags
    return Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))


def lines(part: Part | None, *families: str) -> list[str]:
    """The samples of these families, or all, without the label `airflow`."""
    assert part
    text = part.text.plain.decode().replace('airflow="a",', "").replace('{airflow="a"}', "")
    return [line for line in text.splitlines() if line.startswith(families or "") and not line.startswith("#")]


@pytest.fixture
async def source(database: AirflowDatabase) -> AsyncIterator[Sources]:
    """This database, and no broker."""
    async with Database(lambda: database.reader_url) as connected:
        yield Sources(connected, None)


@pytest.fixture
async def samples(source: Sources) -> Samples:
    """Polls, then shows the samples of these families, or all, as they are when nothing is held back any more."""
    clock = Clock()
    collector = Accounting(clock=clock)
    seen = context(expected_by={"asked": {"every": "1h"}}, dags={"deny": "denied"})

    async def read(*families: str) -> list[str]:
        await collector.read(source, seen, 5.0)
        clock.now += HOLD
        return lines(await Renderer("a").render(await collector.read(source, seen, 5.0)), *families)

    return read


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
        f'airflow_dag_success_expected_by_timestamp_seconds{{dag_id="report",source="derived"}} {now - 40 + 60}',
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
        await samples(
            "airflow_dag_last", "airflow_dag_usual", "airflow_dag_consec", "airflow_dag_success", "airflow_dag_max"
        )
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
            'airflow_dag_usual_run_duration_seconds{dag_id="etl"} 1000',
            'airflow_dag_usual_run_duration_seconds{dag_id="asked"} 1000',
            'airflow_dag_consecutive_failed_runs{dag_id="etl"} 2',
            'airflow_dag_consecutive_failed_runs{dag_id="asked"} 0',
            f'airflow_dag_success_expected_by_timestamp_seconds{{dag_id="etl",source="derived"}} {now - 28_000}',
            f'airflow_dag_success_expected_by_timestamp_seconds{{dag_id="asked",source="configured"}} {now - 85_400}',
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


async def test_a_failure_that_is_mended_long_after(
    airflow: Airflow, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed run that nothing leads to any more, marked as success, is the last success and no second end.

    Cleared, and over again at once without that a worker had to do with it, it is one.
    """
    monkeypatch.setattr(tracker, "OVERLAP", 0.0)  # what is older than GRACE is forgotten in the poll that finds it
    families = ("airflow_dag_last_run_success", "airflow_dag_consecutive", "airflow_dag_runs", "airflow_task")
    failed = {}
    for dag_id in ("marked", "cleared"):
        airflow.dag(dag_id)
        at = {"start": airflow.ago(9000), "end": airflow.ago(8000)}
        run(airflow, dag_id, "failed", due=airflow.ago(99_000), **at)
        failed[dag_id] = run(airflow, dag_id, "failed", due=airflow.ago(9000), **at)
        task(airflow, failed[dag_id], "failed", airflow.ago(8000), try_number=3)
    before = await samples(*families)
    assert {
        'airflow_dag_last_run_success{dag_id="marked"} 0',
        'airflow_dag_consecutive_failed_runs{dag_id="marked"} 2',
        'airflow_dag_runs_finished_total{dag_id="cleared",state="failed",run_type="scheduled"} 0',
    } <= set(before)
    ended = "UPDATE dag_run SET state = %s, clear_number = clear_number + %s, end_date = now() WHERE id = %s"
    for dag_id, state, cleared in (("marked", "success", 0), ("cleared", "failed", 1)):
        airflow.connection.execute(ended, [state, cleared, failed[dag_id]["id"]])
    airflow.connection.execute("UPDATE task_instance SET state = 'success' WHERE dag_id = 'marked'")
    after = await samples(*families)
    assert sorted(set(after) - set(before)) == [
        'airflow_dag_consecutive_failed_runs{dag_id="marked"} 0',
        'airflow_dag_last_run_success{dag_id="marked"} 1',
        'airflow_dag_runs_finished_total{dag_id="cleared",state="failed",run_type="scheduled"} 1',
    ]
    assert len(after) == len(before)
    assert await samples(*families) == after


async def test_tasks_are_told_apart_where_that_is_configured(airflow: Airflow, source: Sources) -> None:
    """By the labels that are named; DAGs without series of their own have none of these, and are told as dropped."""
    for dag_id in ("denied", "etl", "report"):
        airflow.dag(dag_id)
    clock = Clock()
    settings = context(task_labels=["task_id", "operator"], dags={"deny": "denied", "max": 1})
    polled = Poller(Accounting(clock=clock), source, settings, Renderer("a"), clock)
    await polled.poll()
    facts = {"due": airflow.ago(0), "start": airflow.ago(9), "end": airflow.ago(0)}
    for dag_id in ("denied", "etl", "report"):
        over = run(airflow, dag_id, "failed", **facts)
        task(airflow, over, "success", airflow.ago(0), task_id="load")
        task(airflow, over, "failed", airflow.ago(0), task_id="send", operator=None)
    await polled.poll()
    clock.now += HOLD
    await polled.poll()
    others = 'operator="__other__",task_id="__other__"'
    assert lines(polled.part, "airflow_task_instances_finished", "airflow_dag_runs_finished") == [
        'airflow_dag_runs_finished_total{dag_id="etl",state="success",run_type="scheduled"} 0',
        'airflow_dag_runs_finished_total{dag_id="etl",state="success",run_type="manual"} 0',
        'airflow_dag_runs_finished_total{dag_id="etl",state="failed",run_type="scheduled"} 1',
        'airflow_dag_runs_finished_total{dag_id="etl",state="failed",run_type="manual"} 0',
        'airflow_dag_runs_finished_total{dag_id="__other__",state="success",run_type="scheduled"} 0',
        'airflow_dag_runs_finished_total{dag_id="__other__",state="success",run_type="manual"} 0',
        'airflow_dag_runs_finished_total{dag_id="__other__",state="failed",run_type="scheduled"} 1',
        'airflow_dag_runs_finished_total{dag_id="__other__",state="failed",run_type="manual"} 0',
        *(
            f'airflow_task_instances_finished_total{{dag_id="{dag_id}",state="{state}",{others}}} {count}'
            for dag_id, count in (("etl", 0), ("__other__", 1))
            for state in ("success", "failed")
        ),
        'airflow_task_instances_finished_total{dag_id="etl",state="success",operator="BashOperator",task_id="load"} 1',
        'airflow_task_instances_finished_total{dag_id="etl",state="failed",operator="",task_id="send"} 1',
    ]
    counted, last = 4 + 2 + 1 + 1, len(["run_success", "run_duration", "consecutive_failed", "success_expected_by"])
    assert polled.status.dropped == 2 * (counted + last)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [("max_page_count = 1", "database or disk is full"), ("query_only = on", "attempt to write a readonly database")],
    ids=["full", "read-only"],
)
async def test_a_state_that_cannot_be_written(
    airflow: Airflow, source: Sources, tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str, reason: str
) -> None:
    """What is counted meanwhile is not shown before it is saved, and counts once; one line says what is wrong."""
    caplog.set_level("INFO", "exporter.poller")
    airflow.dag("etl")
    clock, state = Clock(), State(tmp_path)
    assert await state.open([TABLES]) is None

    async def poll() -> list[str]:
        clock.now += HOLD
        await polled.poll()
        return lines(polled.part, "airflow_dag_runs_finished", "airflow_task_instances_finished")

    polled = Poller(Accounting(state, clock), source, context(task_labels=["task_id"]), Renderer("a"), clock)
    await poll()
    before = await poll()
    assert state._connection
    state._connection.execute(f"PRAGMA {trouble}")
    over = run(airflow, "etl", "failed", due=airflow.ago(0), start=airflow.ago(0), end=airflow.ago(0))
    for number in range(200):
        task(airflow, over, "success", airflow.ago(0), task_id=f"load_{number}")
    for _ in range(3):
        assert await poll() == before
        assert (polled.status.success, polled.status.reason) == (False, "state")
    assert polled.status.error == f"the state file cannot be written: {reason}"
    state._connection.executescript("PRAGMA query_only = off; PRAGMA max_page_count = 1000000")
    await poll()
    after = await poll()
    assert polled.status.success
    assert sum(int(line.rpartition(" ")[2]) for line in after) == 201
    await state.close()
    state = State(tmp_path)
    assert await state.open([TABLES]) is None
    polled = Poller(Accounting(state, clock), source, context(task_labels=["task_id"]), Renderer("a"), clock)
    assert sorted(await poll()) == sorted(after)
    await state.close()
    said = [record for record in caplog.records if record.name == "exporter.poller"]
    assert [(record.message, record.exc_info) for record in said] == [
        ("collector failed", None),
        ("collector recovered", None),
    ]
