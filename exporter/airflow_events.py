"""DAG runs that failed, as incidents: told by the transaction that counts them, so that none is lost or doubled.

An incident is one DAG run, however many of its tasks failed, and over once that run succeeds or is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from sqlite3 import Connection
from typing import NamedTuple, TypeGuard

from msgspec.structs import replace

from .accounting import Outcomes, Run
from .config import Config
from .incident_context import About, about
from .router import store
from .router.model import Alert, Snapshot
from .router.routing import route
from .sources import Database
from .telemetry import ALERTS_RECEIVED

SOURCE = "airflow"
"""What its groups have in the place of a webhook's sender."""
WATCHED = 2000


class FailedRuns:
    """Told by the accounting what ended; where that goes is up to the configuration as it is `now`."""

    def __init__(self, config: Config, now: Callable[[], Config]) -> None:
        self._now = now
        self._dags, self._airflow = config.airflow_events.dags, config.airflow.name
        self._open: dict[int, tuple[int, str]] = {}  # by a run's id: its clear_number, and the key of its group
        self._ended: dict[int, Run | None] = {}
        self._about: dict[str, About] = {}

    def load(self, connection: Connection) -> None:
        """What an earlier process told of, and is not over."""
        for snapshot in store.unfinished(connection, SOURCE, "run:"):
            number, clear_number = map(int, snapshot.alerts[0].fingerprint.split("."))
            self._open[number] = clear_number, snapshot.key

    def watched(self) -> dict[int, int]:
        """The clear_number of the last runs that were told of, by id: they may be mended long after."""
        last = islice(reversed(self._open.items()), WATCHED)
        return {number: clear_number for number, (clear_number, _) in last}

    async def note(self, database: Database, outcomes: Outcomes, deleted: Iterable[int]) -> None:
        """What a poll found, kept until it is saved; whose it is may have to be read: raises SourceError."""
        told = self._open.keys() | self._ended.keys()
        self._ended |= dict.fromkeys(told & {*deleted})
        for run in sorted((*outcomes.runs, *outcomes.corrected), key=lambda run: run.ended or 0.0):
            if _failed(run) or run.id in told:
                self._ended[run.id] = run
        dags = {run.dag_id for run in self._ended.values() if _failed(run) and self._dags.named(run.dag_id)}
        self._about = await about(database, dags) if dags else {}
        self._ended = {
            number: run
            for number, run in self._ended.items()
            if not _failed(run) or self._whose(run).is_one_of(self._dags)
        }

    def save(self, connection: Connection) -> None:
        """Write it, in the transaction that saves what it counts as; raises Full."""
        now = time.time()
        for number, run in self._ended.items():
            if _failed(run):
                told = self._snapshot(run, now)
                store.accept(connection, told, route(self._now(), told.labels), now)
            elif number in self._open:
                _end(connection, self._open[number][1], number, run, now)

    def saved(self) -> None:
        """It is on disk."""
        for number, run in self._ended.items():
            if _failed(run):
                self._open[number] = run.clear_number, _key(run)
                ALERTS_RECEIVED.labels(SOURCE, "firing").inc()
            elif self._open.pop(number, None):
                ALERTS_RECEIVED.labels(SOURCE, "resolved").inc()
        self._ended.clear()

    def _whose(self, run: Run) -> About:
        return self._about.get(run.dag_id) or About(run.dag_id)

    def _snapshot(self, run: Run, now: float) -> Snapshot:
        labels = {"alertname": "AirflowRunFailed", "severity": "error", "airflow": self._airflow}
        labels |= {**self._whose(run).labels, "run_id": run.run_id, "run_type": run.run_type}
        begun = Begun(f"{run.id}.{run.clear_number}", run.ended, {})
        return incident(_key(run), labels, f"A run of {run.dag_id} failed", [begun], now)


def _failed(run: Run | None) -> TypeGuard[Run]:
    return run is not None and run.state == "failed"


def _key(run: Run) -> str:
    return f"run:{run.dag_id}:{run.run_id}"


def _end(connection: Connection, key: str, number: int, run: Run | None, now: float) -> None:
    """The run of this number succeeded, or is gone, unless another one has its name by now."""
    was = store.newest(connection, SOURCE, key)
    if was and was.alerts[0].fingerprint.partition(".")[0] == str(number):
        finish(connection, was, now, run.ended if run else None, {} if run else {"description": "The run was deleted."})


class Begun(NamedTuple):
    """An alert: what tells it from the others of its incident, since when it fires if that is known, its own labels."""

    fingerprint: str
    since: float | None
    labels: dict[str, str]


def incident(key: str, labels: dict[str, str], summary: str, alerts: Iterable[Begun], now: float) -> Snapshot:
    """A group of ours that fires."""
    texts = {"summary": summary}
    fire = tuple(Alert(it.fingerprint, True, it.since or now, None, labels | it.labels, texts, "") for it in alerts)
    return Snapshot(
        source=SOURCE,
        key=key,
        common_labels=labels,
        common_annotations=texts,
        firing=len(fire),
        resolved=0,
        alerts=fire,
        received=now,
    )


def finish(
    connection: Connection, was: Snapshot, now: float, ended: float | None = None, notes: Mapping[str, str] = {}
) -> None:
    """A group that fired is over, since it `ended`."""
    alerts = tuple(
        replace(alert, firing=False, ends=ended or now, annotations={**alert.annotations, **notes})
        for alert in was.alerts
    )
    texts = {**was.common_annotations, **notes}
    over = replace(was, firing=0, resolved=len(alerts), alerts=alerts, common_annotations=texts, received=now)
    store.accept(connection, over, (), now)
