"""What ended: true counters and histograms of runs and tries, and what is known of each DAG's last runs."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol

from ..collector import Context, Select
from ..metrics import Declared, Family, Metric
from ..sources import Database, SourceError, Sources
from ..state import Full, State
from . import store
from .facts import LAST, Facts, Lasts, watched
from .families import COUNTED, SERIES_PER_DAG, Accountant, counted
from .ledger import Ledger
from .reader import BATCH, SELECTS, Poll, read
from .rows import Run
from .store import TABLES, Memory
from .tracker import Outcomes, Tracker

__all__ = ["COLLECTOR", "TABLES", "Accounting", "Facts", "Outcomes", "Run"]

TRUNCATED: Metric[Tracker] = Metric(
    name="windsock_accounting_truncated",
    help="1 while there is more to track than fits, or to catch up with than one poll can take; else 0.",
    value=lambda tracker: tracker.truncated,
)


class Teller(Protocol):
    """Who tells of what ended: it writes in the transaction that saves what it counts as."""

    def load(self, connection: sqlite3.Connection) -> None: ...
    def watched(self) -> Mapping[int, int]: ...
    async def note(self, database: Database, outcomes: Outcomes, deleted: Iterable[int]) -> None: ...
    def save(self, connection: sqlite3.Connection) -> None: ...
    def saved(self) -> None: ...


class Accounting:
    """The collector; without a state its memory ends with it. Reads must not overlap."""

    name = "accounting"
    source: Literal["database"] = "database"
    interval, timeout = 15.0, 15.0
    selects: tuple[Select[Any], ...] = SELECTS
    metrics: tuple[Declared, ...] = (*COUNTED, *LAST, TRUNCATED)

    def __init__(
        self,
        state: State | None = None,
        clock: Callable[[], float] = time.monotonic,
        teller: Teller | None = None,
    ) -> None:
        self._state, self._clock, self._teller = state, clock, teller
        self._memory: Memory | None = None
        self._lasts = Lasts()

    async def read(self, sources: Sources, context: Context, timeout: float) -> list[Family]:
        """Fresh families, once what they show is on disk; raises SourceError."""
        assert sources.database
        task_labels = context.config.airflow.task_labels
        memory = self._memory = self._memory or await self._load(task_labels)
        async with sources.database.transaction(timeout) as transaction:
            told = self._teller.watched() if self._teller else {}
            poll = await read(transaction, memory.tracker, {**told, **watched(memory.facts.values())})
        dags = {dag.dag_id: dag for dag in poll.dags if not dag.stale}
        context.dags.update(dags)
        shown = {dag_id for dag_id in dags if context.dags.label(dag_id) == dag_id}
        accountant = Accountant(memory.ledger, context.dags.label, task_labels)
        accountant.discover(dags)
        outcomes = await self._track(memory.tracker, poll)
        accountant.count(outcomes)
        self._learn(memory, poll, outcomes)
        self._lasts.update(dags, shown, poll.runs.values(), memory.facts, memory.changed, context.config.airflow)
        if self._teller:
            await self._teller.note(sources.database, outcomes, poll.deleted)
        await self._remember(partial(self._save, work=store.statements(memory, self._clock())))
        memory.saved(self._clock())
        if self._teller:
            self._teller.saved()
        hidden = len(dags) - len(shown)
        return [
            *(
                family._replace(dropped=family.dropped + hidden * SERIES_PER_DAG[family.metric.name])
                for family in memory.ledger.families(shown)
            ),
            *self._lasts.families(),
            TRUNCATED.family([memory.tracker]),
        ]

    def facts(self, dag_id: str) -> Facts | None:
        """What is known of a DAG's last runs."""
        return self._memory.facts.get(dag_id) if self._memory else None

    async def _load(self, task_labels: Sequence[str]) -> Memory:
        memory = Memory(Tracker(), Ledger(counted(task_labels)))
        await self._remember(partial(store.load, memory=memory))
        if self._teller:
            await self._remember(self._teller.load)
        return memory

    def _save(self, connection: sqlite3.Connection, work: Sequence[store.Statement]) -> None:
        store.save(connection, work)
        if self._teller:
            self._teller.save(connection)

    async def _remember(self, work: Callable[[sqlite3.Connection], None]) -> None:
        if self._state:
            try:
                await self._state.run(work, patient=True)
            except Full as error:
                raise SourceError("state", str(error)) from None

    async def _track(self, tracker: Tracker, poll: Poll) -> Outcomes:
        outcomes = Outcomes()
        for count, (run, attempts) in enumerate(poll.attempts.items()):
            if count % BATCH == 0:
                await asyncio.sleep(0)  # thousands of rows take a while: let others run in between
            tracker.observe(poll.runs[run], attempts, outcomes)
        tracker.problems(poll.problems, outcomes)
        tracker.finish(poll.clock, poll.deleted, poll.page_end)
        return outcomes

    def _learn(self, memory: Memory, poll: Poll, outcomes: Outcomes) -> None:
        present = {dag.dag_id for dag in poll.dags}
        ended = [(run, False) for run in (*sorted(poll.past, key=lambda run: run.due or 0.0), *outcomes.runs)]
        for run, corrected in (*ended, *((run, True) for run in outcomes.corrected)):
            if run.dag_id in present:
                memory.facts.setdefault(run.dag_id, Facts()).learn(run, corrected=corrected)
                memory.changed.add(run.dag_id)
        for dag_id in memory.facts.keys() - present:
            del memory.facts[dag_id]
            memory.changed.add(dag_id)
        memory.ledger.keep(present)


COLLECTOR = Accounting()
