"""What a poll reads; every time is unix time by the clock of whoever wrote the row, durations are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

EVENTS = ("heartbeat timeout", "state mismatch", "stuck in queued reschedule", "stuck in queued tries exceeded")
"""What Airflow's schedulers write into its log about task instances in trouble."""

RUN_OVER = frozenset({"success", "failed"})
ATTEMPT_OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class Clock(NamedTuple):
    """The database's clock, and the highest ids that the snapshot shows; 0 for a table that has none."""

    now: float
    newest_run: int
    newest_job: int
    newest_log: int


@dataclass(slots=True)
class Run:
    """A DAG run; `due` is when it should have started; `digest` is of its tries that are under way, None if none is."""

    id: int
    dag_id: str
    state: str | None
    run_type: str
    clear_number: int
    due: float | None
    started: float | None
    ended: float | None
    interval_end: float | None
    run_id: str = ""
    digest: int | None = None

    @property
    def over(self) -> bool:
        """Whether it has an outcome."""
        return self.state in RUN_OVER


@dataclass(slots=True)
class Attempt:
    """A try of a task instance, live or archived by a later one.

    The key stays the same when it is archived. `stamp` is when it was created (Airflow 3) or when it ended (2).
    """

    run: int
    key: str
    state: str | None
    archived: bool
    try_number: int
    max_tries: int
    stamp: float | None
    started: float | None
    duration: float | None
    queued: float | None
    scheduled: float | None
    task_id: str
    operator: str | None
    queue: str | None
    pool: str

    @property
    def retried(self) -> bool:
        """Whether it failed and the task is tried again."""
        return self.archived and self.state == "failed" and self.try_number <= self.max_tries


class Dag(NamedTuple):
    """A DAG; `next_due` is when its next run is to be created."""

    dag_id: str
    stale: bool
    paused: bool
    next_due: float | None
    max_failed: int


class Problem(NamedTuple):
    """Something that Airflow's scheduler noticed and wrote into its log table."""

    id: int
    event: str
