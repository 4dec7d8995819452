"""DAG runs that fail while everything around them dies: in the end Slack shows what the database says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

import psycopg
import pytest

from exporter.config.values import Address
from tests.airflow import Airflow, Values
from tests.conftest import AirflowDatabase, schema_file
from tests.delivery import content
from tests.failing import begin, clear, end, settings, until
from tests.processes import kill
from windsock_demo import servers
from windsock_demo.processes import launched
from windsock_demo.slack import Workspace, serve

pytestmark = pytest.mark.system
READ = r'windsock_collector_success\{collector="accounting"\} 1'
BLIND = r'windsock_collector_success\{collector="accounting"\} 0'
WAITING = r'windsock_outbox_messages\{destination="data"\} [1-9]'
Dies = Callable[[Awaitable[object]], Awaitable[None]]


class Life:
    """`windsock run`, time and again; without the right to look into the channel."""

    def __init__(self, directory: Path, database: AirflowDatabase, slack: Workspace) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)
        events, storm = {"on": ["run_failed"]}, {"groups": 0}  # each run has a message, however many wait
        told = settings(database, slack, directory / "state", airflow_events=events, storm=storm)
        told["slack"]["token"] = slack.grant("chat:write")
        host, _, port = told["listen"].partition(":")
        self.address = Address(host, int(port))
        self._file = directory / "windsock.yml"
        self._file.write_text(json.dumps(told))

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """It runs, and has read; in the end it is killed."""
        command = [sys.executable, "-m", "exporter", "run", "--config", str(self._file)]
        with launched(command, self._directory / "windsock.log") as process:
            await until(self.address, READ)
            yield
            process.kill()
            process.wait()

    async def for_(self, seconds: float) -> None:
        """It runs so long once it has read, and is killed."""
        async with self.going_on():
            await asyncio.sleep(seconds)

    async def to_the_end(self, is_so: Callable[[], bool]) -> None:
        """It runs until this is so, and nothing waits any more; and then some time on."""
        command = [sys.executable, "-m", "exporter", "run", "--config", str(self._file)]
        with launched(command, self._directory / "windsock.log"):
            await until_so(is_so)
            await until(self.address, READ, r'windsock_outbox_messages\{destination="data"\} 0')
            await asyncio.sleep(3.0)


async def until_so(is_so: Callable[[], bool]) -> None:
    """Returns once it is, within two minutes."""
    async with asyncio.timeout(120):
        while not is_so():
            await asyncio.sleep(0.2)


def told_of(slack: Workspace) -> Counter[tuple[str, str]]:
    """The runs that the channel's messages are about, and whether they have failed or are mended."""
    told: Counter[tuple[str, str]] = Counter()
    for message in slack.messages("data-alerts"):
        run = re.search(r"run_\d+", content(message))
        assert run
        told[run[0], "RESOLVED" if "RESOLVED" in str(message.content["text"]) else "ERROR"] += 1
    return told


def backfill(airflow: Airflow, count: int) -> list[Values]:
    """So many runs of ten DAGs, which run."""
    for number in range(10):
        airflow.dag(f"etl_{number}", owners="data")
    return [begin(airflow, f"etl_{number % 10}", run_id=f"run_{number}", tasks=2) for number in range(count)]


async def fail(database: AirflowDatabase, runs: list[Values], pause: float) -> None:
    """One after the other."""
    for run in runs:
        await asyncio.to_thread(_fail, database, run)
        await asyncio.sleep(pause)


def _fail(database: AirflowDatabase, run: Values) -> None:
    """Where the database is away, once it is back."""
    for _ in range(300):
        with suppress(psycopg.OperationalError), psycopg.connect(database.url) as connection:
            end(Airflow(connection, database.version), run, "failed")
            return
        time.sleep(0.1)
    raise TimeoutError


async def test_killed_while_runs_fail(airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path) -> None:
    """Each of 200 runs is one incident, none is missing, and at most one per death is told again, and marked."""
    database, random = airflow_database("3.3"), Random(7)
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, "3.3")
        runs = backfill(airflow, 200)
        async with serve(Workspace(pace=None)) as slack, asyncio.TaskGroup() as tasks:
            life, deaths = Life(tmp_path, database, slack), 0
            await life.for_(0.5)
            failing = tasks.create_task(fail(database, runs, 0.06))
            while not failing.done():
                await life.for_(random.uniform(0.0, 1.5))
                deaths += 1
            await life.to_the_end(lambda: len(told_of(slack)) >= len(runs))
            told = told_of(slack)
            marked = sum("possible repeat" in content(message) for message in slack.messages("data-alerts"))
    assert told.keys() == {(run["run_id"], "ERROR") for run in runs}
    assert told.total() - len(told) <= marked <= deaths
    assert deaths >= 5


@contextmanager
def mortal(directory: Path, version: str) -> Iterator[tuple[AirflowDatabase, Dies]]:
    """A database on a server of its own, and what kills that until something has happened."""
    with ExitStack() as stack:
        start = partial(servers.postgres, directory / "postgres", port=servers.free_port())
        server = stack.enter_context(start())
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(schema_file(version).read_bytes())
            connection.execute("CHECKPOINT")

        async def dies(until_then: Awaitable[object]) -> None:
            kill(server)
            await until_then
            stack.enter_context(start())

        yield AirflowDatabase(version, server.url(), server.url()), dies


@pytest.mark.parametrize("version", ["3.3", "2.11"])
async def test_everything_dies_in_turn(tmp_path: Path, version: str) -> None:
    """While 100 runs fail and some are mended, daemon, Slack and database are killed: the end is the truth."""
    slack, port = Workspace(pace=None), servers.free_port()
    with mortal(tmp_path, version) as (database, dies):
        with psycopg.connect(database.url) as connection:
            runs = backfill(Airflow(connection, version), 100)
        async with AsyncExitStack() as lives, asyncio.TaskGroup() as tasks:
            async with serve(slack, port=port):
                life = Life(tmp_path / "windsock", database, slack)
                await life.for_(0.5)
                tasks.create_task(fail(database, runs[:40], 0.05))
                await life.for_(1.0)
                await lives.enter_async_context(life.going_on())
                tasks.create_task(fail(database, runs[40:70], 0.05))
                await asyncio.sleep(0.5)
                await dies(until(life.address, BLIND))
                await until(life.address, READ)
                tasks.create_task(fail(database, runs[70:], 0.05))
                await asyncio.sleep(0.5)
            await until(life.address, WAITING)
        async with serve(slack, port=port):
            async with life.going_on():
                await until_so(lambda: len(told_of(slack)) == len(runs))
            with psycopg.connect(database.url) as connection:
                truth = await mend(Airflow(connection, version), runs, life)
            await life.to_the_end(lambda: told_of(slack).keys() >= truth)
        told = told_of(slack)
    assert told.keys() == truth
    assert Counter(mood for _, mood in truth) == {"RESOLVED": 34, "ERROR": 66}
    assert told.total() <= len(truth) + 4


async def mend(airflow: Airflow, runs: list[Values], life: Life) -> set[tuple[str, str]]:
    """Every third run is cleared, and succeeds once the daemon has died again; what the database then says of all."""
    for run in runs[::3]:
        clear(airflow, run)
    await life.for_(0.3)
    for run in runs[::3]:
        end(airflow, run, "success")
    rows = airflow.connection.execute("SELECT run_id, state FROM dag_run").fetchall()
    return {(run_id, {"success": "RESOLVED", "failed": "ERROR"}[state]) for run_id, state in rows}
