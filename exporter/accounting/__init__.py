"""What ended: true counters and histograms of runs and tries, and what is known of each DAG's last runs."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ..collector import Context, Select
from ..metrics import Declared, Family, Metric
from ..sources import Sources
from ..state import State
from . import store
from .facts import LAST, Facts, Last, expected
from .families import COUNTED, Accountant
from .ledger import Ledger
from .reader import BATCH, SELECTS, Poll, read
from .store import TABLES
from .tracker import Outcomes, Tracker

__all__ = ["COLLECTOR", "TABLES", "Accounting"]

TRUNCATED: Metric[Tracker] = Metric(
    name="windsock_accounting_truncated",
    help="1 while there is more to track than fits, or to catch up with than one poll can take; else 0.",
    value=lambda tracker: tracker.truncated,
)


@dataclass(slots=True)
class _Memory:
    tracker: Tracker
    ledger: Ledger
    facts: dict[str, Facts]


class Accounting:
    """The collector; without a state its memory ends with it. Reads must not overlap."""

    name = "accounting"
    source: Literal["database"] = "database"
    interval, timeout = 15.0, 5.0
    selects: tuple[Select[Any], ...] = SELECTS
    metrics: tuple[Declared, ...] = (*COUNTED, *LAST, TRUNCATED)

    def __init__(self, state: State | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._state, self._clock = state, clock
        self._memory: _Memory | None = None
        self._changed: set[str] = set()

    async def read(self, sources: Sources, context: Context, timeout: float) -> list[Family]:
        """Fresh families, once what they show is on disk; raises SourceError."""
        assert sources.database
        memory = self._memory = self._memory or await self._load()
        async with sources.database.transaction(timeout) as transaction:
            poll = await read(transaction, memory.tracker)
        context.dags.update(dag.dag_id for dag in poll.dags if not dag.stale)
        accountant = Accountant(memory.ledger, context.dags.label)
        accountant.discover(dag for dag in poll.dags if not dag.stale)
        outcomes = await self._track(memory.tracker, poll)
        accountant.count(outcomes)
        self._learn(memory, poll, outcomes)
        await self._save(memory)
        rows = self._last(memory, poll, context)
        return [
            *memory.ledger.families({row.dag.dag_id for row in rows}),
            *(
                Family(metric, {(row.dag.dag_id,): value for row in rows if (value := metric.value(row)) is not None})
                for metric in LAST
            ),
            TRUNCATED.family([memory.tracker]),
        ]

    async def _load(self) -> _Memory:
        memory = _Memory(Tracker(), Ledger(COUNTED), {})
        if self._state:
            await self._state.run(partial(store.load, tracker=memory.tracker, ledger=memory.ledger, facts=memory.facts))
        return memory

    async def _track(self, tracker: Tracker, poll: Poll) -> Outcomes:
        outcomes = Outcomes()
        for count, (run, attempts) in enumerate(poll.attempts.items()):
            if count % BATCH == 0:
                await asyncio.sleep(0)  # thousands of rows take a while: let others run in between
            tracker.observe(poll.runs[run], attempts, live=run in poll.live, outcomes=outcomes)
        tracker.problems(poll.problems, outcomes)
        tracker.finish(poll.clock, poll.deleted, poll.page_end)
        return outcomes

    def _learn(self, memory: _Memory, poll: Poll, outcomes: Outcomes) -> None:
        present = {dag.dag_id for dag in poll.dags}
        runs = sorted(poll.past, key=lambda run: run.due or 0.0) + outcomes.runs + outcomes.corrected
        for run in runs:
            if run.dag_id in present:
                memory.facts.setdefault(run.dag_id, Facts()).learn(run)
                self._changed.add(run.dag_id)
        gone = {dag_id for dag_id in memory.facts if dag_id not in present}
        for dag_id in gone:
            del memory.facts[dag_id]
        self._changed |= gone
        memory.ledger.keep(present)

    async def _save(self, memory: _Memory) -> None:
        work = store.statements(memory.tracker, memory.ledger, memory.facts, self._changed, self._clock())
        if self._state:
            await self._state.run(partial(store.save, work=work))
        memory.tracker.saved()
        memory.ledger.saved(self._clock())
        self._changed.clear()

    def _last(self, memory: _Memory, poll: Poll, context: Context) -> list[Last]:
        active: defaultdict[str, list[float]] = defaultdict(list)
        for run in poll.runs.values():
            if not run.over and run.run_type == "scheduled" and run.due is not None:
                active[run.dag_id].append(run.due)
        airflow, unknown = context.config.airflow, Facts()
        shown = (dag for dag in poll.dags if context.dags.label(dag.dag_id) == dag.dag_id)
        rows = ((dag, memory.facts.get(dag.dag_id, unknown)) for dag in shown)
        return [Last(dag, facts, expected(dag, facts, active.get(dag.dag_id, []), airflow)) for dag, facts in rows]


COLLECTOR = Accounting()
