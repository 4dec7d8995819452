"""DAG runs that fail while everything around them dies: in the end Slack shows what the database says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import psycopg
import pytest

from exporter.config.values import Address
from tests.airflow import Airflow, Values
from tests.conftest import AirflowDatabase
from tests.delivery import content
from tests.failing import begin, clear, end, settings, until
from windsock_demo.processes import launched
from windsock_demo.slack import Order, Workspace, serve

pytestmark = pytest.mark.system
READ = r'windsock_collector_success\{collector="accounting"\} 1'


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

    async def for_(self, seconds: float) -> None:
        """It runs so long once it has read, and is killed."""
        command = [sys.executable, "-m", "exporter", "run", "--config", str(self._file)]
        with launched(command, self._directory / "windsock.log") as process:
            await until(self.address, READ)
            await asyncio.sleep(seconds)
            process.kill()
            process.wait()

    async def to_the_end(self, is_so: Callable[[], bool]) -> None:
        """It runs until this is so, and nothing waits any more; and then some time on."""
        command = [sys.executable, "-m", "exporter", "run", "--config", str(self._file)]
        with launched(command, self._directory / "windsock.log"):
            async with asyncio.timeout(120):
                while not is_so():
                    await asyncio.sleep(0.2)
            await until(self.address, READ, r'windsock_outbox_messages\{destination="data"\} 0')
            await asyncio.sleep(3.0)


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


async def fail(airflow: Airflow, runs: list[Values], pause: float) -> None:
    """One after the other."""
    for run in runs:
        await asyncio.to_thread(end, airflow, run, "failed")
        await asyncio.sleep(pause)


async def test_killed_while_runs_fail(airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path) -> None:
    """Each of 200 runs is one incident, none is missing, and at most one per death is told again, and marked."""
    database, random = airflow_database("3.3"), Random(7)
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, "3.3")
        runs = backfill(airflow, 200)
        async with serve(Workspace(pace=None)) as slack, asyncio.TaskGroup() as tasks:
            life, deaths = Life(tmp_path, database, slack), 0
            await life.for_(0.5)
            failing = tasks.create_task(fail(airflow, runs, 0.08))
            while not failing.done():
                await life.for_(random.uniform(0.0, 1.5))
                deaths += 1
            await life.to_the_end(lambda: len(told_of(slack)) >= len(runs))
            told = told_of(slack)
            marked = sum("possible repeat" in content(message) for message in slack.messages("data-alerts"))
    assert told.keys() == {(run["run_id"], "ERROR") for run in runs}
    assert told.total() - len(told) <= marked <= deaths
    assert deaths >= 5


@pytest.mark.parametrize("version", ["3.3", "2.11"])
async def test_everything_dies_in_turn(
    airflow_database: Callable[[str], AirflowDatabase], tmp_path: Path, version: str
) -> None:
    """While 100 runs fail and some are mended, the daemon, Slack and the database are away: the end is the truth."""
    database = airflow_database(version)
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, version)
        runs = backfill(airflow, 100)
        async with serve(Workspace(pace=None)) as slack:
            life = Life(tmp_path, database, slack)
            await life.for_(0.5)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail(airflow, runs, 0.1))
                await life.for_(2.0)
                slack.order(Order(status=503, times=0))
                await life.for_(2.0)
                slack.orders.clear()
                tasks.create_task(life.for_(3.0))
                for _ in range(10):
                    connection.execute("SELECT 1")
                    await asyncio.to_thread(_cut, database)
                    await asyncio.sleep(0.2)
            for number, run in enumerate(runs):
                if number % 3 == 0:
                    clear(airflow, run)
            await life.for_(0.3)
            for number, run in enumerate(runs):
                if number % 3 == 0:
                    end(airflow, run, "success")
            truth = {
                (run_id, "RESOLVED" if state == "success" else "ERROR")
                for run_id, state in connection.execute("SELECT run_id, state FROM dag_run").fetchall()
            }
            await life.to_the_end(lambda: told_of(slack).keys() >= truth)
            assert told_of(slack).keys() == truth
            assert told_of(slack).total() <= len(truth) + 4


def _cut(database: AirflowDatabase) -> None:
    """All sessions of the daemon end, as when the server does."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'windsock'")
