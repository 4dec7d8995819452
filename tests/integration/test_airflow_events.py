"""From a DAG run that fails in a real schema to the look-alike of Slack, through the daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from exporter import airflow_conditions, poller
from tests.airflow import Airflow
from tests.conftest import AirflowDatabase
from tests.failing import begin, clear, end, settings, shown, until, watched
from windsock_demo.slack import Workspace, serve

VERSIONS = ("3.3", "2.11")


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_run_that_fails_is_cleared_and_succeeds(
    airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path, version: str
) -> None:
    """One message, which is red, and then green; 200 mapped tasks that failed are no more than that."""
    database = airflow_database(version)
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, version)
        airflow.dag("etl_load", owners="data, ops", tags=["finance", "tier:1"])
        end(airflow, begin(airflow, "etl_load"), "failed")
        only = {"airflow_events": {"on": ["run_failed"]}}  # a slow machine makes the DAG overdue meanwhile
        async with serve(Workspace(pace=None)) as slack, watched(settings(database, slack, tmp_path, **only)):
            run = begin(airflow, "etl_load", tasks=200)
            end(airflow, run, "failed")
            (text,) = await shown(slack, "ERROR prod: A run of etl_load failed")
            for told in (run["run_id"], "data, ops", "finance,tier:1", "#D72638"):
                assert told in text
            assert "load[0]` try 1 of 3 · BashOperator" in text and "195 more task instances failed" in text
            clear(airflow, run)
            await asyncio.sleep(1.5)
            end(airflow, run, "success")
            (text,) = await shown(slack, "RESOLVED prod: A run of etl_load failed")
            assert "#2EB67D" in text
            async with asyncio.timeout(10):
                while not (lines := slack.replies("data-alerts", slack.messages("data-alerts")[0].ts)):
                    await asyncio.sleep(0.1)
            assert "resolved after" in lines[0].content["text"]
            assert slack.counts == {("chat.postMessage", "ok"): 2, ("chat.update", "ok"): 1}


async def test_what_is_mended_by_hand_or_gone(
    airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path
) -> None:
    """A run that is marked as success, and one that is deleted, are over; one that fails again after a clear is not."""
    database = airflow_database("3.3")
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, "3.3")
        airflow.dag("etl")
        runs = [begin(airflow, "etl", run_id=name) for name in ("marked", "deleted", "repeated")]
        async with serve(Workspace(pace=None)) as slack, watched(settings(database, slack, tmp_path)):
            for run in runs:
                end(airflow, run, "failed")
            await shown(slack, "ERROR", 3)
            connection.execute("UPDATE dag_run SET state = 'success' WHERE run_id = 'marked'")
            connection.execute("DELETE FROM dag_run WHERE run_id = 'deleted'")
            clear(airflow, runs[2])
            end(airflow, runs[2], "failed")
            await shown(slack, "RESOLVED", 2)
            texts = {
                name: text
                for text in await shown(slack, "RESOLVED", 2)
                for name in ("marked", "deleted")
                if name in text
            }
            assert "RESOLVED" in texts["marked"] and "RESOLVED" in texts["deleted"]
            assert "The run was deleted." in texts["deleted"]
            (again,) = [text for text in await shown(slack, "ERROR") if "repeated" in text]
            assert "ERROR" in again


async def test_only_of_these_dags_and_by_the_routes(
    airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path
) -> None:
    """DAGs are chosen by name, owner and tag; routes match on owners, tags and the team, as those of alerts do."""
    database = airflow_database("3.3")
    dags = {"deny": "tmp_.*", "owners": ["data"], "tags": ["tier:1", "tier:2"]}
    with psycopg.connect(database.url) as connection, psycopg.connect(database.url) as other:
        airflow = Airflow(connection, "3.3")
        airflow.bundle("sales", team="sales")
        told = {"dag": ("data, ops", "tier:1"), "sold": ("data", "tier:2")}
        for dag_id, (owners, tag) in told.items():
            airflow.dag(dag_id, owners=owners, tags=[tag, "x"], bundle="sales" if dag_id == "sold" else "dags-folder")
        for dag_id, owners, tag in (
            ("tmp_dag", "data", "tier:1"),
            ("theirs", "ops", "tier:1"),
            ("low", "data", "tier:3"),
        ):
            airflow.dag(dag_id, owners=owners, tags=[tag])
        runs = [begin(airflow, dag_id) for dag_id in ("tmp_dag", "theirs", "low", *told)]
        async with serve(Workspace(pace=None)) as slack:
            channels = {name: {"channel": slack.channel(name).id, "pace": "1ms"} for name in ("data-alerts", "ops")}
            sections = settings(
                database,
                slack,
                tmp_path,
                airflow_events={"on": ["run_failed"], "dags": dags},
                destinations=channels,
                routes=[
                    {"match": ['team="sales"', 'alertname="AirflowRunFailed"'], "to": ["ops"]},
                    {"to": ["data-alerts"]},
                ],
            )
            async with watched(sections):
                with other.transaction():  # in one poll
                    for run in runs:
                        other.execute(
                            "UPDATE dag_run SET state = 'failed', end_date = now() WHERE id = %s", [run["id"]]
                        )
                await shown(slack, "A run of sold failed", channel="ops")
                await shown(slack, "A run of dag failed")
                await asyncio.sleep(1.5)
                assert (len(slack.messages("ops")), len(slack.messages("data-alerts"))) == (1, 1)


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_lasts(
    airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Overdue DAGs, broken files and a silent scheduler are told of once each, and over when they are.

    While the scheduler is silent, no DAG that is overdue for it is told of; a restart tells nothing twice, and a
    database that is away neither.
    """
    monkeypatch.setattr(airflow_conditions, "LOOK", 0.3)
    monkeypatch.setattr(airflow_conditions, "RESTART", 0.0)
    database = airflow_database(version)
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, version)
        scheduler = airflow.job("SchedulerJob", airflow.now)
        airflow.dag("etl", owners="data", next_dagrun_create_after=airflow.ago(-9999))
        for name in ("a.py", "b.py"):
            airflow.import_error(name, airflow.ago(60))
        async with serve(Workspace(pace=None)) as slack:
            sections = settings(database, slack, tmp_path)
            async with watched(sections):
                await shown(slack, r"WARNING prod: DAG files cannot be imported \(2 firing\): .*a.py")
                await beat(connection, scheduler["id"], -120)
                await shown(slack, "CRITICAL prod: The scheduler gives no sign of life")
                connection.execute("UPDATE dag SET next_dagrun_create_after = now() - interval '1 hour'")
                await asyncio.sleep(2.5)
                assert len(slack.messages("data-alerts")) == 2
                await beat(connection, scheduler["id"], 9999)
                await shown(slack, "RESOLVED prod: The scheduler")
                await shown(slack, "WARNING prod: etl lacks a run that is due")
                await shown(slack, "WARNING prod: etl has not succeeded by when it should have")
            async with watched(sections):
                connection.execute("REVOKE SELECT (dag_id) ON dag FROM windsock")
                connection.execute("UPDATE dag SET next_dagrun_create_after = now() + interval '1 hour'")
                await asyncio.sleep(2.5)
                assert len([text for text in await shown(slack, "etl") if "RESOLVED" not in text]) == 3
                connection.execute("GRANT SELECT (dag_id) ON dag TO windsock")
                connection.execute("DELETE FROM import_error WHERE filename = 'a.py'")
                await shown(slack, "RESOLVED prod: etl", 2)
                await shown(slack, 'WARNING prod: DAG files cannot be imported"')
                connection.execute("DELETE FROM import_error")
                await shown(slack, "RESOLVED prod: DAG files cannot be imported")
            assert len(slack.messages("data-alerts")) == 4


async def test_a_scheduler_that_starts_again(
    airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is no incident, nor is one that was never there, or seems to be silent by the daemon's clock alone.

    While it may start again, no DAG is overdue for it; what was told before the daemon's own restart goes on.
    """
    ahead = SimpleNamespace(time=lambda: time.time() + 20_000, monotonic=time.monotonic)
    monkeypatch.setattr(airflow_conditions, "LOOK", 0.3)
    monkeypatch.setattr(airflow_conditions, "RESTART", -inf)
    database = airflow_database("3.3")
    alive = r'airflow_jobs_alive\{.*"SchedulerJob".*\} '
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, "3.3")
        async with serve(Workspace(pace=None)) as slack:
            events = {"airflow_events": {"on": ["scheduler_silent", "dag_overdue"]}}
            sections = settings(database, slack, tmp_path, **events)
            async with watched(sections) as address:
                with monkeypatch.context() as clock:
                    clock.setattr(poller, "time", ahead)
                    await until(address, r'windsock_collector_success\{collector="jobs"\} 1')
                    await asyncio.sleep(1.5)
                    scheduler = airflow.job("SchedulerJob", airflow.ago(-9999))
                    await until(address, f"{alive}1")
                    await asyncio.sleep(1.5)
                assert slack.messages("data-alerts") == []
                monkeypatch.setattr(airflow_conditions, "RESTART", 3600.0)
                await beat(connection, scheduler["id"], -120)
                await until(address, f"{alive}0")
                airflow.dag("etl", next_dagrun_create_after=airflow.ago(3600))
                await asyncio.sleep(2.5)
                assert slack.messages("data-alerts") == []
                await beat(connection, scheduler["id"], 9999)
                await shown(slack, "WARNING prod: etl lacks a run that is due")
                monkeypatch.setattr(airflow_conditions, "RESTART", 0.0)
                await beat(connection, scheduler["id"], -120)
                await shown(slack, "CRITICAL prod: The scheduler gives no sign of life")
            monkeypatch.setattr(airflow_conditions, "RESTART", 3600.0)
            async with watched(sections) as address:
                await until(address, f"{alive}0")
                await asyncio.sleep(1)
                assert len(await shown(slack, "CRITICAL prod: The scheduler gives no sign of life")) == 2


async def test_a_silent_scheduler_of_which_nobody_is_told(
    airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hides no DAG that is overdue."""
    monkeypatch.setattr(airflow_conditions, "LOOK", 0.3)
    database = airflow_database("3.3")
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, "3.3")
        airflow.job("SchedulerJob", airflow.ago(3600))
        airflow.dag("etl", next_dagrun_create_after=airflow.ago(3600))
        events = {"airflow_events": {"on": ["dag_overdue"]}}
        async with (
            serve(Workspace(pace=None)) as slack,
            watched(settings(database, slack, tmp_path, **events)) as address,
        ):
            await shown(slack, "WARNING prod: etl lacks a run that is due")
            assert len(slack.messages("data-alerts")) == 1
            await until(address, r'windsock_alerts_received_total\{source="airflow",status="firing"\} [1-9]')


async def beat(connection: psycopg.Connection[tuple[object, ...]], job: int, seconds: float) -> None:
    """The scheduler's last sign of life was, or will be, so many seconds from now."""
    connection.execute(
        "UPDATE job SET latest_heartbeat = now() + make_interval(secs => %s) WHERE id = %s", (seconds, job)
    )
