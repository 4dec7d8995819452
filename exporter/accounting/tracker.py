"""What ended, each once: rows of active and recent runs go in, outcomes come out. No I/O, and no clock but the rows'.

A run is tracked from its first sight until it is long over. An outcome counts when its key is seen over for the first
time. Of a run that shows up again after it was forgotten, only what is newer than the last poll counts: nothing is
forgotten that is younger than GRACE, and GRACE is longer than SLACK, so nothing counts twice.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from .rows import ATTEMPT_OVER, Attempt, Clock, Problem, Run

OVERLAP = 300.0
"""Seconds that a transaction may stay open after it took an id."""

SLACK = 300.0
"""Seconds that the clocks of Airflow's hosts may differ from the database's."""

GRACE = 600.0
STILL = 60.0
"""Seconds without a visible change after which a run's attempts are not read by every poll, but by each of TURNS."""

TURNS = 8
COLD_RUNS = 1000
"""How many of the newest runs are looked at when there is no memory, to know what is over already."""

MAX_ATTEMPTS = 200_000
MAX_FORGOTTEN = 10_000
WATCHED_AT_ONCE = 200
_UNSEEN = "unseen"
_EVERYTHING = -math.inf


class Watermark:
    """An id below which nothing new can appear; it never falls, except with the table's own highest id."""

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._marks: deque[tuple[float, int]] = deque()

    def advance(self, now: float, newest: int) -> None:
        """Take note of the highest id that was seen; it becomes the floor OVERLAP seconds later."""
        if newest > (self._marks[-1][1] if self._marks else self.floor):
            self._marks.append((now, newest))
        while self._marks and self._marks[0][0] <= now - OVERLAP:
            self.floor = max(self.floor, self._marks.popleft()[1])


@dataclass(slots=True)
class Tracked:
    """A run as it was seen last, and its attempts that are over: key to state, None for one that was reopened."""

    clear_number: int
    state: str | None
    started: float | None
    counted: bool
    quiet: float = 0.0
    settled: bool = False
    digest: int | None = 0
    moved: float = 0.0
    seen: dict[str, str | None] = field(default_factory=dict)


@dataclass(slots=True)
class Outcomes:
    """What a poll found to be over."""

    runs: list[Run] = field(default_factory=list)
    corrected: list[Run] = field(default_factory=list)
    attempts: list[tuple[Run, Attempt]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    superseded: int = 0
    overrides: int = 0


@dataclass(slots=True)
class Changes:
    """What is not yet saved: ids of runs, and attempts by run."""

    runs: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    attempts: dict[int, dict[str, str | None]] = field(default_factory=dict)


class Tracker:
    """The memory between polls; `since` is when it began."""

    def __init__(self) -> None:
        self.since = 0.0
        self.last_poll = 0.0
        self.scheme = ""
        self.created, self.jobs, self.log = Watermark(0), Watermark(0), Watermark(0)
        self.logged: set[int] = set()
        self.runs: dict[int, Tracked] = {}
        self.size = 0
        self.truncated = False
        self.changes = Changes()
        self.forgotten: dict[int, int] = {}
        self.watched: Mapping[int, int] = {}
        self._turn = 0
        self._polls, self._now = 0, 0.0
        self._threshold = math.inf

    def begin(self, clock: Clock, scheme: str, watched: Mapping[int, int]) -> None:
        """A poll starts, and may fail; `scheme` names the kind of keys: of another kind, all old ones are worthless.

        `watched` has the clear_number of runs that failed and may be mended long after.
        """
        if not self.last_poll or scheme != self.scheme:
            self.changes = Changes(gone={*self.changes.gone, *self.runs})
            self.runs, self.size, self.since, self.last_poll, self.scheme = {}, 0, clock.now, 0.0, scheme
            self.created = Watermark(max(0, clock.newest_run - COLD_RUNS))
            self.jobs, self.log = Watermark(max(0, clock.newest_job - COLD_RUNS)), Watermark(clock.newest_log)
            self._threshold = math.inf
        else:
            self._threshold = max(self.since, self.last_poll - SLACK)
        for mark, newest in ((self.created, clock.newest_run), (self.log, clock.newest_log)):
            mark.floor = min(mark.floor, newest)  # only a restored database has lost the ids above
        self.truncated, self.watched = False, watched
        self._polls, self._now = self._polls + 1, clock.now

    @property
    def cold(self) -> bool:
        """Whether this poll counts nothing, for everything that it sees is older than the memory."""
        return self._threshold == math.inf

    def missing(self, found: Collection[int]) -> list[int]:
        """Runs that a poll has to look up: the tracked that it did not find, and some of the watched, each in turn."""
        watched = sorted(run for run in self.watched if run > self._turn and run not in self.runs and run not in found)
        self._turn = watched[WATCHED_AT_ONCE - 1] if len(watched) > WATCHED_AT_ONCE else 0
        return [run for run in self.runs if run not in found] + watched[:WATCHED_AT_ONCE]

    def news(self, run: Run) -> bool:
        """Whether one that was looked up is tracked, or is not what it was when it was forgotten."""
        return run.id in self.runs or (run.state, run.clear_number) != ("failed", self.watched[run.id])

    def wants(self, run: Run) -> bool:
        """Whether the run's attempts have to be read: not those of one that is unchanged and quiet, or not its turn."""
        if tracked := self.runs.get(run.id):
            same = (tracked.state, tracked.clear_number, tracked.digest) == (run.state, run.clear_number, run.digest)
            still = tracked.moved < self._now - STILL and (run.id + self._polls) % TURNS
            return not (same and (tracked.settled if run.over else still))
        if self.size >= MAX_ATTEMPTS:
            self.truncated = True
        return not self.truncated

    def observe(self, run: Run, attempts: Iterable[Attempt], outcomes: Outcomes) -> None:
        """A run with all its attempts that are over."""
        tracked, since = self.runs.get(run.id), _EVERYTHING
        if tracked is None:
            if self.cold or run.id <= self.created.floor:
                since = self._threshold
            tracked = self.runs[run.id] = self._first_sight(run, since)
            self.changes.runs.add(run.id)
        if (tracked.state, tracked.digest) != (run.state, run.digest):
            tracked.digest, tracked.moved = run.digest, self._now
        self._observe_run(run, tracked, outcomes)
        tracked.settled = run.over and run.digest is None
        for attempt in attempts:
            self._observe_attempt(run, tracked, attempt, since, outcomes)

    def problems(self, rows: Iterable[Problem], outcomes: Outcomes) -> None:
        """Lines of Airflow's log table."""
        outcomes.problems += [row for row in rows if row.id not in self.logged]
        self.logged.update(row.id for row in outcomes.problems)

    def finish(self, clock: Clock, deleted: Iterable[int], page_end: int | None) -> None:
        """The poll ends; `page_end` is the last run that it took of more that were created than it could."""
        for run in self.runs.keys() & deleted:
            self._forget(run)
        if self.cold and self.truncated:
            self.created.floor = clock.newest_run  # what was not taken is no news later
        self.created.advance(clock.now, clock.newest_run if page_end is None else page_end)
        if page_end is not None:
            self.created.floor, self.truncated = max(self.created.floor, page_end), True
        self.jobs.advance(clock.now, clock.newest_job)
        self.log.advance(clock.now, clock.newest_log)
        self.logged = {line for line in self.logged if line > self.log.floor}
        old = clock.now - GRACE
        for run in [
            run for run, it in self.runs.items() if it.settled and it.quiet < old and run <= self.created.floor
        ]:
            self._forget(run)
        self.last_poll = clock.now

    def saved(self) -> None:
        """All changes are on disk."""
        self.changes = Changes()

    def restore(self, runs: Mapping[int, Tracked]) -> None:
        """What was saved, by an earlier process."""
        self.runs = dict(runs)
        self.size = sum(len(run.seen) for run in runs.values())

    def _first_sight(self, run: Run, since: float) -> Tracked:
        if since == _EVERYTHING:  # it cannot have been seen before, so whatever happened to it is news
            return Tracked(0, None, None, counted=False)
        clear_number = self.forgotten.pop(run.id, self.watched.get(run.id))
        if clear_number is not None:
            return Tracked(clear_number, None, None, counted=True)
        known = run.over and (run.ended or 0.0) <= since
        return Tracked(run.clear_number, run.state, run.started, counted=known)

    def _observe_run(self, run: Run, tracked: Tracked, outcomes: Outcomes) -> None:
        before = (tracked.clear_number, tracked.state, tracked.counted)
        if run.clear_number > tracked.clear_number:
            # Airflow 3.3 counts clears of running runs, too; those keep their start.
            if tracked.started is None or run.started != tracked.started:
                outcomes.superseded += run.clear_number - tracked.clear_number - tracked.counted
            tracked.counted = False
        if not run.over:
            tracked.counted = False
        elif not tracked.counted:
            tracked.counted = True
            outcomes.runs.append(run)
        elif run.state != tracked.state:
            outcomes.corrected.append(run)
        tracked.clear_number, tracked.state, tracked.started = run.clear_number, run.state, run.started
        tracked.quiet = max(tracked.quiet, run.ended or 0.0)
        if before != (tracked.clear_number, tracked.state, tracked.counted):
            self.changes.runs.add(run.id)

    def _observe_attempt(self, run: Run, tracked: Tracked, attempt: Attempt, since: float, outcomes: Outcomes) -> None:
        known = tracked.seen.get(attempt.key, _UNSEEN)
        if attempt.state not in ATTEMPT_OVER:
            if known is not None and known is not _UNSEEN:
                self._remember(run.id, tracked, attempt.key, None)  # Airflow 2 keeps the key of what was never tried
            return
        tracked.quiet = max(tracked.quiet, attempt.stamp or 0.0)
        if known is _UNSEEN or (known is None and not attempt.archived):
            self._remember(run.id, tracked, attempt.key, attempt.state)
            if since == _EVERYTHING or (attempt.stamp or 0.0) > since:
                outcomes.attempts.append((run, attempt))
        elif known is not None and known != attempt.state and not attempt.archived:
            self._remember(run.id, tracked, attempt.key, attempt.state)
            outcomes.overrides += 1

    def _remember(self, run: int, tracked: Tracked, key: str, state: str | None) -> None:
        self.size += key not in tracked.seen
        tracked.seen[key], tracked.moved = state, self._now
        self.changes.attempts.setdefault(run, {})[key] = state

    def _forget(self, run: int) -> None:
        tracked = self.runs.pop(run)
        self.size -= len(tracked.seen)
        self.forgotten[run] = tracked.clear_number
        if len(self.forgotten) > MAX_FORGOTTEN:
            oldest = next(iter(self.forgotten))
            del self.forgotten[oldest]
            self.changes.gone.add(oldest)
        self.changes.runs.discard(run)
        self.changes.attempts.pop(run, None)
        self.changes.gone.add(run)
