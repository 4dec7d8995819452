"""What is wrong with an Airflow for as long as it lasts, as incidents: overdue DAGs, broken files, a silent scheduler.

Looked for in what the collectors read last. What cannot be read changes nothing: neither is anything found, nor over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from sqlite3 import Connection

from .airflow_events import SOURCE, Begun, finish, incident
from .config import Config
from .config.events import NEEDS
from .incident_context import About, about, broken_files
from .poller import Poller
from .router import store
from .router.model import Snapshot
from .router.routing import route
from .sources import Database, SourceError
from .state import Full, State
from .telemetry import ALERTS_RECEIVED

LOOK = 5.0
"""Seconds from one look to the next."""
RESTART = 60.0
"""Seconds for which no scheduler has to be alive before that is told: it may just start again."""

TOLD: Mapping[str, tuple[str, str, str]] = {
    "success_overdue": ("AirflowSuccessOverdue", "warning", "{} has not succeeded by when it should have"),
    "dag_overdue": ("AirflowDagOverdue", "warning", "{} lacks a run that is due"),
    "import_error": ("AirflowImportError", "warning", "DAG files cannot be imported"),
    "scheduler_silent": ("AirflowSchedulerSilent", "critical", "The scheduler gives no sign of life"),
}
"""The alert that each kind becomes: its name, how bad it is, and what it says."""
FOUND_IN = {
    "success_overdue": "airflow_dag_success_expected_by_timestamp_seconds",
    "dag_overdue": "airflow_dag_overdue_since_timestamp_seconds",
    "import_error": "airflow_import_errors",
    "scheduler_silent": "airflow_jobs_alive",
}
"""The family in which each kind is seen."""


class Conditions:
    """Told of while it runs; where that goes is up to the configuration as it is `now`."""

    def __init__(
        self, config: Config, now: Callable[[], Config], state: State, database: Database, pollers: Iterable[Poller]
    ) -> None:
        self._config, self._now, self._state, self._database = config, now, state, database
        self._pollers = {poller.name: poller for poller in pollers}
        self._open: dict[str, set[str]] = {}  # the fingerprints of their alerts
        self._others: set[str] = set()
        self._silent = inf  # since when no scheduler has been alive
        for poller in self._pollers.values():
            poller.keep = FOUND_IN.values()

    async def run(self) -> None:
        """Look for ever; what cannot be read or stored now is told of later."""
        unknown = [*TOLD]
        while True:
            with suppress(SourceError, Full):
                while unknown:
                    unfinished = partial(store.unfinished, source=SOURCE, prefix=f"{unknown[-1]}:")
                    self._open |= {it.key: it.fires for it in await self._state.run(unfinished, patient=True)}
                    unknown.pop()
                await self.look()
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Compare what is found with what is told; raises SourceError or Full."""
        found: dict[str, float] = {}
        silent = self._seen("scheduler_silent") if "scheduler_silent" in self._config.airflow_events.on else None
        self._silent = silent[""] if silent else inf
        for kind in set(self._config.airflow_events.on) & TOLD.keys():
            seen = self._seen(kind)
            if seen is None or (silent and "overdue" in kind):  # the scheduler's fault, which is told in time
                seen = {key.partition(":")[2]: 0.0 for key in self._open if key.startswith(f"{kind}:")}
            found |= {f"{kind}:{name}": since for name, since in seen.items()}
        self._others &= found.keys()
        new = {key: found[key] for key in found.keys() - self._open.keys() - self._others}
        if time.time() - new.get("scheduler_silent:", 0.0) < RESTART:
            del new["scheduler_silent:"]
        told = await self._told(new)
        if "import_error:" in found and (files := await broken_files(self._database)):
            broken = self._incident("import_error:", {}, [(it.labels, it.since) for it in files])
            told |= {broken.key: broken} if broken.fires != self._open.get(broken.key) else {}
        over = self._open.keys() - found.keys()
        if told or over:
            await self._state.run(partial(self._write, told=told.values(), over=over), patient=True)
            ALERTS_RECEIVED.labels(SOURCE, "firing").inc(sum(it.firing for it in told.values()))
            ALERTS_RECEIVED.labels(SOURCE, "resolved").inc(sum(len(self._open[key]) for key in over))
        self._open |= {key: snapshot.fires for key, snapshot in told.items()}
        self._open = {key: self._open[key] for key in self._open.keys() - over}

    async def _told(self, found: Mapping[str, float]) -> dict[str, Snapshot]:
        """What is to be told of these keys; of other DAGs than those that are configured it is not."""
        dags, told = self._config.airflow_events.dags, {}
        named = {dag_id for key in found if (dag_id := key.partition(":")[2]) and dags.named(dag_id)}
        known = await about(self._database, named) if named else {}
        for key, since in found.items():
            dag_id = key.partition(":")[2]
            owner = known.get(dag_id) or About(dag_id)
            if dag_id and not owner.is_one_of(dags):
                self._others.add(key)
            elif key != "import_error:":
                told[key] = self._incident(key, owner.labels if dag_id else {}, [({}, since)])
        return told

    def _incident(
        self, key: str, labels: dict[str, str], alerts: Sequence[tuple[dict[str, str], float | None]]
    ) -> Snapshot:
        kind, _, dag_id = key.partition(":")
        name, severity, summary = TOLD[kind]
        named = {"alertname": name, "severity": severity, "airflow": self._config.airflow.name}
        begun = [Begun(" ".join((key, *own.values())), since, own) for own, since in alerts]
        return incident(key, named | labels, summary.format(dag_id), begun, time.time())

    def _write(self, connection: Connection, told: Iterable[Snapshot], over: Iterable[str]) -> None:
        for snapshot in told:
            store.accept(connection, snapshot, route(self._now(), snapshot.labels), snapshot.received)
        for key in over:
            if was := store.newest(connection, SOURCE, key):
                finish(connection, was, time.time())

    def _seen(self, kind: str) -> Mapping[str, float] | None:
        """Since when, by DAG where it is about one; None if it is not known."""
        poller = self._pollers.get(NEEDS[kind])
        if not poller or not poller.status.success:
            return None
        now, kept = poller.status.last_success or 0.0, poller.kept.get(FOUND_IN[kind], {})
        match kind:
            case "success_overdue":
                return {labels[0]: by for labels, by in kept.items() if by < now}
            case "dag_overdue":
                return {labels[0]: since for labels, since in kept.items()}
            case "import_error":
                return dict.fromkeys([""] if any(kept.values()) else [], now)
        return {"": min(self._silent, now)} if kept.get(("SchedulerJob",)) == 0 else {}
