"""DAG runs that failed, told by the accounting's transaction, on every schema."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from exporter.accounting import Accounting, Facts
from exporter.airflow_events import FailedRuns
from exporter.collector import Context
from exporter.config import Config
from exporter.daemon import FORMATS
from exporter.discovery import Dags, Queues
from exporter.incident_context import LIMIT, About, IncidentContext, about
from exporter.router import store
from exporter.router.incident import Background, FailedTask
from exporter.router.model import Snapshot
from exporter.sources import Database, SourceError, Sources
from exporter.state import State
from tests.airflow import Airflow
from tests.conftest import AirflowDatabase
from tests.failing import begin, clear, end

CONFIG = Config.model_validate(
    {
        "airflow": {"name": "prod"},
        "destinations": {"ops": {"webhook_url": "http://127.0.0.1:9/services/T/B/x"}},
        "airflow_events": {"on": ["run_failed"]},
    }
)

EDITOR = store.May(edit=True, look=False)


@pytest.fixture
async def source(database: AirflowDatabase) -> AsyncIterator[Database]:
    """This database, for the least-privilege role."""
    async with Database(lambda: database.reader_url) as connected:
        yield connected


class Life:
    """One process: it polls, and knows what the file has of Airflow's incidents."""

    def __init__(self, source: Database, state: State) -> None:
        dags = CONFIG.airflow.dags
        self._context = Context(CONFIG, Dags(dags.allow, dags.deny, dags.max), Queues(()))
        self._sources, self._state = Sources(source, None), state
        self._accounting = Accounting(state, teller=FailedRuns(CONFIG, lambda: CONFIG))

    async def poll(self) -> list[Snapshot]:
        """What fires after it."""
        await self._accounting.read(self._sources, self._context, 5.0)
        return await self._state.run(lambda connection: store.unfinished(connection, "airflow", "run:"))


async def opened(directory: Path) -> State:
    """The state file."""
    state = State(directory)
    assert await state.open(FORMATS) is None
    return state


async def test_whose_a_dag_is(airflow: Airflow, source: Database) -> None:
    """Its owners, tags and, from Airflow 3.1, its team; a DAG that is gone is left out."""
    airflow.bundle("sales", team="people")
    airflow.dag("etl", owners="data, ops", tags=["tier:1", "finance"], bundle="sales")
    airflow.dag("bare", owners=None)
    team = "people" if airflow.version >= (3, 1) else None
    found = await about(source, ["etl", "bare", "gone"])
    assert found == {"etl": About("etl", "data, ops", team, "finance,tier:1"), "bare": About("bare")}


def incident(**labels: str) -> Snapshot:
    """A group with these labels."""
    return Snapshot(source="airflow", key="x", common_labels=labels, firing=1, resolved=0, alerts=(), received=0.0)


async def test_what_failed_in_a_run(airflow: Airflow, source: Database) -> None:
    """The first five of its task instances that failed, how often the tasks may try, and what they usually take."""
    airflow.dag("etl")
    for seconds in (10.0, 20.0, 60.0):
        airflow.task(airflow.run("etl"), "success", task_id="load", duration=seconds)
    run = airflow.run("etl", "failed")
    late: dict[str, Any] = {
        "operator": "BashOperator",
        "max_tries": 2,
        "try_number": 3,
        "duration": 99.0,
        "end_date": airflow.ago(5),
    }
    airflow.task(run, "failed", task_id="load", **late)
    for index in range(6):
        airflow.task(run, "failed", task_id="mapped", map_index=index, end_date=airflow.ago(4), queue="heavy")
    for state in ("success", "upstream_failed"):
        airflow.task(run, state)
    known = IncidentContext(source, lambda dag_id: Facts(success=7.0, failed=[(1.0, 1, 0, True)]), "prod")
    told = await known(incident(airflow="prod", dag_id="etl", run_id=run["run_id"]))
    assert (told.last_success, told.failed_in_a_row) == (7.0, 1)
    assert told.failed[0] == FailedTask("load", -1, 3, 3, "BashOperator", 99.0, 20.0, "default", "default_pool", 7)
    assert [(task.task_id, task.map_index, task.usual) for task in told.failed[1:]] == [
        ("mapped", index, None) for index in range(4)
    ]
    assert await known(incident(airflow="other", dag_id="etl", run_id=run["run_id"])) == Background()
    assert await known(incident(airflow="prod", dag_id="etl")) == Background(7.0, 1)


async def test_a_message_does_not_wait_for_the_database(
    airflow: Airflow, source: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """While a table is locked the rest is known at once, or after LIMIT; what comes next does not even ask."""
    asked = incident(airflow="prod", dag_id="etl", run_id="gone")
    known = IncidentContext(source, lambda dag_id: None, "prod")
    assert await known(asked) == Background(failed=[])
    with airflow.connection.transaction():
        airflow.connection.execute("LOCK TABLE task_instance")
        began = time.monotonic()
        assert await known(asked) == Background()
        assert time.monotonic() - began < LIMIT + 5
    assert "a message lacks" in caplog.text
    caplog.clear()
    assert await known(asked) == Background()
    assert caplog.text == ""


async def test_neither_lost_nor_doubled_by_a_state_that_cannot_be_written(
    airflow: Airflow, source: Database, tmp_path: Path
) -> None:
    """What fails, and what is mended, while nothing can be stored is told of once it can; and a new process goes on."""
    airflow.dag("etl", owners="data")
    state = await opened(tmp_path)
    life = Life(source, state)
    assert await life.poll() == []
    runs = [begin(airflow, "etl", run_id=name) for name in ("lasting", "passing", "mended")]
    end(airflow, runs[2], "failed")
    assert [it.labels["run_id"] for it in await life.poll()] == ["mended"]
    assert state._connection
    state._connection.execute("PRAGMA query_only = on")
    for run in runs[:2]:
        end(airflow, run, "failed")
    end(airflow, runs[2], "success")
    for _ in range(2):
        with pytest.raises(SourceError, match="cannot be written"):
            await life.poll()
    airflow.connection.execute("DELETE FROM dag_run WHERE run_id = 'passing'")
    with pytest.raises(SourceError, match="cannot be written"):
        await life.poll()
    state._connection.execute("PRAGMA query_only = off")
    (told,) = await life.poll()
    assert (told.labels["run_id"], told.labels["owners"], told.firing) == ("lasting", "data", 1)
    assert await life.poll() == [told]
    await state.close()
    state = await opened(tmp_path)
    life = Life(source, state)
    assert await life.poll() == [told]
    clear(airflow, runs[0])
    assert await life.poll() == [told]
    end(airflow, runs[0], "success")
    assert await life.poll() == []
    over = await state.run(lambda connection: store.newest(connection, "airflow", "run:etl:lasting"))
    assert over and (over.status, over.resolved) == ("resolved", 1)
    await state.close()


async def test_what_cannot_be_told_is_not_counted(airflow: Airflow, source: Database, tmp_path: Path) -> None:
    """Where there is room for the counts, but none for an alert, a process that comes later finds both."""
    airflow.dag("etl")
    run, state = begin(airflow, "etl", run_id="failed"), await opened(tmp_path)
    life = Life(source, state)
    assert await life.poll() == []
    end(airflow, run, "failed")
    assert state._connection
    (pages,) = state._connection.execute("PRAGMA page_count").fetchone()
    state._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SourceError, match=r"state\.max_size"):
        await life.poll()
    await state.close()
    state = await opened(tmp_path)
    assert [it.labels["run_id"] for it in await Life(source, state).poll()] == ["failed"]
    await state.close()


async def test_what_failed_before_is_not_told(airflow: Airflow, source: Database, tmp_path: Path) -> None:
    """A first start tells nothing of runs that are over by then, but of those that run on."""
    airflow.dag("etl")
    end(airflow, begin(airflow, "etl"), "failed")
    running = begin(airflow, "etl", run_id="running")
    state = await opened(tmp_path)
    life = Life(source, state)
    assert await life.poll() == []
    end(airflow, running, "failed")
    assert [it.labels["run_id"] for it in await life.poll()] == ["running"]
    await state.close()


async def test_what_failed_first_is_told_first(airflow: Airflow, source: Database, tmp_path: Path) -> None:
    """Of all that a poll finds, so that who waited for it already does not wait for the others, too."""
    airflow.dag("etl")
    state = await opened(tmp_path)
    life = Life(source, state)
    await life.poll()
    runs = {name: begin(airflow, "etl", run_id=name) for name in ("third", "first", "second")}
    for name in ("first", "second", "third"):
        end(airflow, runs[name], "failed")
    await life.poll()
    claimed = [await state.run(lambda connection: store.claim(connection, "ops", time.time(), EDITOR)) for _ in runs]
    assert [it.snapshot.labels["run_id"] for it in claimed if it] == ["first", "second", "third"]
    await state.close()
