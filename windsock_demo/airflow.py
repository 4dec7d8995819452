"""Airflow's state: what is active in memory, and all of it in the tables, as Airflow 3.3 writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from psycopg import ClientCursor, Connection

from .dags import Dag, Task

FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed"})
_WRITES = Path(__file__).with_name("writes.sql")


@dataclass(eq=False)
class Run:
    """A DAG run that is not over; `version` is the DAG's."""

    run_key: int
    dag: Dag
    run_id: str
    version: UUID
    run_state: str = "queued"
    instances: list[Instance] = field(default_factory=list)


@dataclass(eq=False)
class Instance:
    """A task instance; `id` is that of its try, `message` Celery's, and `until` is when what it does is over."""

    run: Run
    task: Task
    id: UUID
    until: datetime
    map_index: int = -1
    state: str | None = None
    try_number: int = 0
    message: UUID | None = None
    waited: bool = False

    @property
    def columns(self) -> dict[str, object]:
        """All that is known of it, by the names that statements use."""
        return {**vars(self), **vars(self.task), **vars(self.run.dag), **vars(self.run)}


class Airflow:
    """The active runs and the tables at the time `now`; chance and identifiers come from `rng` alone."""

    def __init__(self, connection: Connection[Any], seed: int, now: datetime) -> None:
        parts = re.split(r"^-- (\w+)\n", _WRITES.read_text(), flags=re.MULTILINE)
        self._writes = dict(zip(parts[1::2], parts[2::2], strict=True))
        self._cursor = ClientCursor(connection)
        self.rng = Random(seed)
        self.now = now
        self.runs: list[Run] = []

    def uuid7(self) -> UUID:
        """A new identifier, which begins with the time."""
        milliseconds, chance = int(self.now.timestamp() * 1000), self.rng.getrandbits(74)
        return UUID(int=milliseconds << 80 | 7 << 76 | chance >> 62 << 64 | 2 << 62 | chance & (1 << 62) - 1)

    def after(self, seconds: float) -> datetime:
        """The time so many seconds from now."""
        return self.now + timedelta(seconds=seconds)

    def instances(self, *states: str) -> list[Instance]:
        """The instances of active runs that are in one of these states, those of the oldest run first."""
        return [instance for run in self.runs for instance in run.instances if instance.state in states]

    def write(self, name: str, instance: Instance | None = None, /, **values: object) -> Any:
        """Run a statement of writes.sql; returns the first value that it gives, if any."""
        columns = instance.columns if instance else {}
        self._cursor.execute(self._writes[name].encode(), {"now": self.now, **columns, **values})
        row = self._cursor.fetchone() if self._cursor.description else None
        return row[0] if row else None

    def change(self, instance: Instance, state: str, write: str, **values: object) -> None:
        """Put a task instance into a state by a statement."""
        instance.state = state
        self.write(write, instance, **values)
