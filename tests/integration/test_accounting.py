"""The tracker against writers that do their worst, on real schemas: nothing twice, invented, wrong or missing."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from collections.abc import Callable

import psycopg
import pytest

from exporter.accounting import Accounting, reader, tracker
from exporter.accounting.reader import Poll
from exporter.accounting.tracker import Outcomes, Tracker
from exporter.collector import Context
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.sources import Database, Sources
from tests.adversary import DAGS, Key, Truth, Writer, last_runs, mark_all, surviving
from tests.airflow import Airflow
from tests.conftest import AirflowDatabase


class Recording(Accounting):
    """The collector, and everything that it counted."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: defaultdict[Key, list[str]] = defaultdict(list)
        self.runs: Counter[tuple[int, int, str]] = Counter()
        self.superseded = 0
        self.retried: set[Key] = set()

    async def _track(self, tracker: Tracker, poll: Poll) -> Outcomes:
        outcomes = await super()._track(tracker, poll)
        for run, attempt in outcomes.attempts:
            self.attempts[run.id, attempt.key].append(str(attempt.state))
            if attempt.retried:
                self.retried.add((run.id, attempt.key))
        self.runs.update((run.id, run.clear_number, str(run.state)) for run in outcomes.runs)
        self.superseded += outcomes.superseded
        return outcomes


def context() -> Context:
    """A context without limits."""
    config = Config.model_validate({"airflow": {"name": "a"}})
    dags = config.airflow.dags
    return Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))


@pytest.mark.parametrize(
    ("version", "seconds"),
    [
        ("3.3", 6.0),
        ("2.11", 6.0),
        pytest.param("3.3", 60.0, marks=pytest.mark.system),
        pytest.param("2.11", 60.0, marks=pytest.mark.system),
    ],
)
async def test_adversary(
    airflow_database: Callable[[str], AirflowDatabase], monkeypatch: pytest.MonkeyPatch, version: str, seconds: float
) -> None:
    """Four writers while it polls: every outcome once, but those whose rows are gone or that a clear overtook.

    And the outcome of each DAG's last run is known, whoever changed it, and however late.
    """
    for name, value in {"OVERLAP": 2.0, "SLACK": 1.5, "GRACE": 3.0, "STILL": 0.0}.items():  # forgotten within the test
        monkeypatch.setattr(tracker, name, value)
    monkeypatch.setattr(reader, "HINT_OVERLAP", 1.0)
    database = airflow_database(version)
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, version)
        for dag_id in DAGS:
            airflow.dag(dag_id)
        truth, stop, counted = Truth(), threading.Event(), Recording()
        writers = [Writer(database.url, version, truth, stop, seed) for seed in range(1, 5)]
        async with Database(lambda: database.reader_url) as source:
            seen = context()

            async def poll() -> None:
                await counted.read(Sources(source, None), seen, 5.0)

            await poll()
            for writer in writers:
                writer.thread.start()
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                await poll()
                await asyncio.sleep(0.3)
            stop.set()
            assert counted._memory
            while any(writer.thread.is_alive() for writer in writers) or counted._memory.tracker.runs:
                await poll()
                await asyncio.sleep(0.1)
            mark_all(connection)
            await poll()
        assert [writer.error for writer in writers if writer.error] == []
        compare(truth, counted, surviving(connection, version))
        facts = {dag_id: (each.due, each.succeeded) for dag_id, each in counted._memory.facts.items()}
        lasts = {dag_id: last for dag_id, last in last_runs(connection, version).items() if last[0] == facts[dag_id][0]}
        assert lasts, "no DAG's last run is over and still there"
        assert lasts == {dag_id: facts[dag_id] for dag_id in lasts}


def compare(truth: Truth, counted: Recording, alive: set[Key]) -> None:
    """Nothing beyond the truth; what is missing has no row any more, or had a later outcome under the same key."""
    wrong = {
        key: (states, truth.attempts[key])
        for key, states in counted.attempts.items()
        if Counter(states) - Counter(truth.attempts[key])
    }
    assert wrong == {}
    missing = {key: states for key, states in truth.attempts.items() if key not in counted.attempts and key in alive}
    assert missing == {}
    assert {run: times for run, times in counted.runs.items() if times != truth.runs[run]} == {}
    overtaken = [run for run in truth.runs if run not in counted.runs and run[0] not in truth.deleted]
    assert len(overtaken) <= counted.superseded, overtaken
    assert counted.retried == truth.retried & counted.attempts.keys()
