"""The core of the accounting without a database: whatever happens in whatever order, each outcome counts once."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.accounting import store
from exporter.accounting.facts import WATCHED_PER_DAG, Facts, watched
from exporter.accounting.ledger import Ledger
from exporter.accounting.rows import ATTEMPT_OVER, Attempt, Clock, Problem, Run
from exporter.accounting.store import Memory
from exporter.accounting.tracker import (
    GRACE,
    OVERLAP,
    SLACK,
    STILL,
    TURNS,
    WATCHED_AT_ONCE,
    Outcomes,
    Tracked,
    Tracker,
    Watermark,
)

START = 1_700_000_000.0
POLL = 15.0


def run(number: int, state: str = "success", *, at: float = START, clear: int = 0) -> Run:
    """A run that ended, or began, at this time."""
    over = state in ("success", "failed")
    return Run(number, "dag", state, "scheduled", clear, at, at, at if over else None, at)


def attempt(
    number: int, key: str, state: str | None = "success", *, at: float = START, archived: bool = False
) -> Attempt:
    """An attempt of a run, created at this time."""
    return Attempt(number, key, state, archived, 1, 1, at, at, 1.0, at, at, "task", "op", "default", "pool")


@dataclass
class World:
    """One DAG's rows in an Airflow's tables, what a poll sees of them, and the truth about what ended."""

    now: float = START
    runs: dict[int, Run] = field(default_factory=dict)
    attempts: defaultdict[int, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    hidden: dict[int, Run] = field(default_factory=dict)
    touched: dict[int, float] = field(default_factory=dict)
    truth: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    ends: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    counted: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    counted_ends: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    superseded: int = 0
    tracker: Tracker = field(default_factory=Tracker)
    facts: Facts = field(default_factory=Facts)
    numbers: int = 0
    keys: int = 0

    def poll(self) -> Outcomes:
        """What the reader would find, by its rules, taken by the tracker."""
        tracker = self.tracker
        clock = Clock(self.now, max(self.runs, default=0), 0, 0)
        tracker.begin(clock, "uuid", watched([self.facts]))
        past = [each for each in self.runs.values() if each.over] if tracker.cold else []
        since = self.now - GRACE if tracker.cold else tracker.last_poll - 60
        live = {
            each.id
            for each in self.runs.values()
            if each.over and any(a.state not in ATTEMPT_OVER and a.state for a in self.attempts[each.id])
        }
        found = {
            number: replace(each, digest=1 if number in live else None)
            for number, each in self.runs.items()
            if not each.over or number > tracker.created.floor or number in live or self.touched.get(number, 0) > since
        }
        missing = tracker.missing(found)
        looked_up = [replace(self.runs[number]) for number in missing if number in self.runs]
        found.update((each.id, each) for each in looked_up if tracker.news(each))
        outcomes = Outcomes()
        for number, each in found.items():
            if tracker.wants(each):
                rows = [replace(a) for a in self.attempts[number] if a.state in ATTEMPT_OVER]
                tracker.observe(each, rows, outcomes)
        tracker.finish(clock, [number for number in missing if number not in self.runs], None)
        self.counted.update((each.id, a.key, str(a.state)) for each, a in outcomes.attempts)
        self.counted_ends.update((each.id, each.clear_number, str(each.state)) for each in outcomes.runs)
        self.superseded += outcomes.superseded
        for each in past + outcomes.runs + outcomes.corrected:
            self.facts.learn(each)
        return outcomes

    def restart(self) -> None:
        """Save, and continue from what was saved."""
        connection = sqlite3.connect(":memory:")
        connection.executescript(store.TABLES)
        tracker = self.tracker
        tracker.changes.runs.update(tracker.runs)
        tracker.changes.gone.update(tracker.forgotten)
        tracker.changes.attempts.update((number, dict(it.seen)) for number, it in tracker.runs.items())
        store.save(connection, store.statements(Memory(tracker, Ledger(()), {"dag": self.facts}, {"dag"}), 0.0))
        memory = Memory(Tracker(), Ledger(()))
        store.load(connection, memory)
        self.tracker, self.facts = memory.tracker, memory.facts.get("dag", Facts())
        connection.close()

    def create(self, *, hidden: bool = False) -> None:
        """A run with three tasks; a hidden one has its id, but is not committed."""
        self.numbers += 1
        self.now += 0.001  # no two are due at the same time
        created = run(self.numbers, "running", at=self.now)
        (self.hidden if hidden else self.runs)[self.numbers] = created
        self.attempts[self.numbers] = [self._attempt(self.numbers) for _ in range(3)]

    def commit(self) -> None:
        """All transactions that are open."""
        self.runs |= self.hidden
        self.hidden.clear()

    def end(self, which: int, state: str, *, retried: bool = False) -> None:
        """One attempt of a run ends; one that is retried is archived, and another takes its place."""
        if each := self._some(which, over=False):
            for index, it in enumerate(self.attempts[each.id]):
                if it.state is None:
                    it.state, it.archived = state, retried
                    self.truth[each.id, it.key, state] += 1
                    self.touched[each.id] = self.now
                    if retried:
                        self.attempts[each.id].insert(index, self._attempt(each.id))
                    return

    def finish(self, which: int, state: str) -> None:
        """All that a run still has to do is done at once."""
        if each := self._some(which, over=False):
            self._finish(each, state)
            self.touched[each.id] = self.now

    def clear(self, which: int, index: int) -> None:
        """A task of a run that is over shall run again."""
        if each := self._some(which, over=True):
            self._clear(each, index)

    def flip(self, which: int) -> None:
        """Somebody marks the failed attempts of a run as success."""
        if each := self._some(which, over=True):
            for it in self.attempts[each.id]:
                if it.state == "failed" and not it.archived and (each.id, it.key, "failed") in self.counted:
                    it.state = "success"

    def mark(self, which: int) -> None:
        """Somebody marks a failed run that was counted, or is older than the memory, as success."""
        if each := self._failure(which):
            each.state, each.ended = "success", self.now

    def rerun(self, which: int, state: str) -> None:
        """Such a run is cleared and over again at once, and no worker has to do with it."""
        if each := self._failure(which):
            self._clear(each, 0)
            self._finish(each, state)

    def delete(self, which: int) -> None:
        """A run's rows are removed."""
        if each := self._some(which, over=None):
            del self.runs[each.id]

    def _some(self, which: int, *, over: bool | None) -> Run | None:
        runs = [each for each in self.runs.values() if over in (None, each.over)]
        return runs[which % len(runs)] if runs else None

    def _failure(self, which: int) -> Run | None:
        known = {number: clear for _, number, clear, _ in self.facts.failed[-WATCHED_PER_DAG:]}
        runs = [
            each for each in self.runs.values() if (each.state, each.clear_number) == ("failed", known.get(each.id))
        ]
        return runs[which % len(runs)] if runs else None

    def _finish(self, each: Run, state: str) -> None:
        for it in self.attempts[each.id]:
            if it.state is None:
                it.state = "success"
                self.truth[each.id, it.key, "success"] += 1
        each.state, each.ended = state, self.now
        self.ends[each.id, each.clear_number, state] += 1

    def _clear(self, each: Run, index: int) -> None:
        live = [it for it in self.attempts[each.id] if not it.archived]
        live[index % len(live)].archived = True
        self.attempts[each.id].append(self._attempt(each.id))
        each.state, each.clear_number, each.started, each.ended = "running", each.clear_number + 1, self.now, None

    def _attempt(self, number: int) -> Attempt:
        self.keys += 1
        return attempt(number, str(self.keys), None, at=self.now)


STEPS = st.one_of(
    st.tuples(st.just("create")),
    st.tuples(st.just("hide")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("poll")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("wait"), st.sampled_from((1, 16, 200, 700))),
    st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from(sorted(ATTEMPT_OVER))),
    st.tuples(st.just("retry"), st.integers(0, 9)),
    st.tuples(st.just("finish"), st.integers(0, 9), st.sampled_from(("success", "failed"))),
    st.tuples(st.just("clear"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("flip"), st.integers(0, 9)),
    st.tuples(st.just("mark"), st.integers(0, 9)),
    st.tuples(st.just("rerun"), st.integers(0, 9), st.sampled_from(("success", "failed"))),
    st.tuples(st.just("delete"), st.integers(0, 9)),
)


def step(world: World, name: str, *arguments: object) -> None:
    """One thing happens; time passes in polls, and transactions end within OVERLAP."""
    world.now += 0.01
    match name, arguments:
        case "hide", _:
            world.create(hidden=True)
        case "wait", (int(seconds),):
            for _ in range(int(seconds // POLL)):
                world.commit()
                world.now += POLL
                world.poll()
            world.now += seconds % POLL
        case "retry", (int(which),):
            world.end(which, "failed", retried=True)
        case _:
            getattr(world, name)(*arguments)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEPS, max_size=50))
def test_whatever_happens(steps: list[tuple[str, *tuple[object, ...]]]) -> None:
    """Each outcome counts at most once and truly; what does not is deleted, or was overtaken by a clear and is told.

    The last run's outcome is told as it is now, whoever made it so, and no run is held as failed that is not any more.
    """
    world = World()
    world.create()
    world.create()
    world.finish(0, "failed")
    world.poll()
    step(world, "wait", 700)  # it is forgotten
    before = world.truth.copy(), world.ends.copy()
    for name, *arguments in steps:
        step(world, str(name), *arguments)
    world.commit()
    for _ in range(TURNS):  # no digest tells that a try ended here: each run is read in its turn
        world.poll()
    truth, ends = world.truth - before[0], world.ends - before[1]
    assert world.counted - truth == Counter()
    assert world.counted_ends - ends == Counter()
    assert {outcome for outcome in truth - world.counted if outcome[0] in world.runs} == set()
    lost = [end for end in ends - world.counted_ends if end[0] in world.runs]
    assert len(lost) <= world.superseded
    last = max(world.runs.values(), key=lambda run: run.id, default=None)
    if last and last.over and last.due == world.facts.due:
        assert world.facts.succeeded == (last.state == "success")
    held = {number for _, number, *_ in world.facts.failed[-WATCHED_PER_DAG:]}
    assert [each for each in world.runs.values() if each.id in held and each.state == "success"] == []


def observe(tracker: Tracker, now: float, *rows: tuple[Run, list[Attempt]], newest: int = 10) -> Outcomes:
    """A poll that finds these runs."""
    clock, outcomes = Clock(now, newest, 0, 0), Outcomes()
    tracker.begin(clock, "uuid", {})
    for each, attempts in rows:
        if tracker.wants(each):
            tracker.observe(each, attempts, outcomes)
    tracker.finish(clock, [], None)
    return outcomes


def test_the_floor_never_falls() -> None:
    """With no new run for a long time, a run that was counted and forgotten does not count again when it shows up."""
    mark = Watermark(0)
    for at in range(0, 2000, 15):
        mark.advance(START + at, 7)
    assert mark.floor == 7

    tracker, now = Tracker(), START
    observe(tracker, now, newest=0)
    ended = (run(1, at=START + 10), [attempt(1, "a", at=START + 10)])
    assert observe(tracker, now + 15, ended, newest=1).attempts
    for _ in range(200):
        now += 15
        observe(tracker, now, newest=1)
    assert not tracker.runs
    again = observe(tracker, now + 15, ended, newest=1)
    assert (again.attempts, again.runs) == ([], [])


@pytest.mark.parametrize("number", [1, 5000], ids=["old", "recent"])
def test_what_ended_before_the_start_is_not_news(number: int) -> None:
    """Whether the first poll saw it or not."""
    tracker = Tracker()
    ended = (run(number, at=START - 3), [attempt(number, "a", at=START - 5)])
    first = observe(tracker, START, *([ended] if number > 1000 else []), newest=5000)
    later = observe(tracker, START + 15, ended, newest=5000)
    assert [each.attempts + each.runs for each in (first, later)] == [[], []]


def test_a_new_end_renews_the_grace() -> None:
    """A run is not forgotten while one of its outcomes is younger than GRACE, however old the first is."""
    tracker = Tracker()
    observe(tracker, START, newest=0)
    first = (run(1, at=START + 10), [attempt(1, "a", at=START + 5)])
    observe(tracker, START + 15, first, newest=1)
    cleared = START + OVERLAP + GRACE - 30
    again = run(1, at=cleared + 10, clear=1), [*first[1], attempt(1, "b", at=cleared)]
    assert [a.key for _, a in observe(tracker, cleared + 15, again, newest=1).attempts] == ["b"]
    for seconds in range(30, int(GRACE), 30):
        outcomes = observe(tracker, cleared + seconds, again, newest=1)
        assert (outcomes.attempts, outcomes.runs, list(tracker.runs)) == ([], [], [1])
    observe(tracker, cleared + GRACE + 60, again, newest=1)
    assert not tracker.runs


def test_a_poll_that_fails_counts_nothing() -> None:
    """Not even the first one: what it saw is not news to the next."""
    tracker = Tracker()
    tracker.begin(Clock(START, 10, 0, 0), "uuid", {})
    ended = (run(9, at=START - 60), [attempt(9, "a", at=START - 60)])
    assert observe(tracker, START + 15, ended).attempts == []


def test_what_stands_still_is_read_in_turn() -> None:
    """A running run is read while its digest changes and a while after, then by each of TURNS polls."""
    tracker, now = Tracker(), START
    read: list[bool] = []
    for digest in [1, 1, 2, *[2] * 30]:
        now += POLL
        tracker.begin(Clock(now, 10, 0, 0), "uuid", {})
        moving = replace(run(1, "running"), digest=digest)
        if wanted := tracker.wants(moving):
            tracker.observe(moving, [], Outcomes())
        read.append(wanted)
        tracker.finish(Clock(now, 10, 0, 0), [], None)
    soon = 3 + int(STILL / POLL)
    assert all(read[:soon])
    assert 2 <= sum(read[-2 * TURNS :]) <= 3
    tracker.begin(Clock(now + POLL, 10, 0, 0), "uuid", {})
    assert tracker.wants(run(1))
    assert tracker.wants(replace(run(1, "running"), digest=3))


def test_a_restored_run_is_read_at_once() -> None:
    """Whatever ended in it meanwhile, and though nothing in it is under way."""
    tracker = Tracker()
    observe(tracker, START, (run(1, "running"), []))
    tracker.restore({1: Tracked(0, "running", START, counted=False)})
    tracker.begin(Clock(START + 2 * STILL, 10, 0, 0), "uuid", {})
    assert tracker.wants(run(1, "running"))


def test_other_keys_are_a_new_beginning() -> None:
    """Airflow 2 became 3: every attempt has another key, and none of them is news."""
    tracker = Tracker()
    observe(tracker, START)
    tracker.begin(Clock(START + 15, 10, 0, 0), "try", {})
    assert tracker.cold


def test_a_key_that_is_used_again() -> None:
    """In Airflow 2 what was skipped, cleared and skipped again has one key, and two outcomes; its archive adds none."""
    tracker = Tracker()
    observe(tracker, START)
    for row, counted in [("skipped", 1), (None, 0), ("skipped", 1)]:
        rows = [attempt(11, "a", row), attempt(11, "a", "skipped", archived=True)][: 1 if not counted else 2]
        found = observe(tracker, START + 15, (run(11, "running"), rows), newest=11)
        assert len(found.attempts) == counted, row


def test_overrides_and_retries() -> None:
    """A state that is changed by hand is told and counts once; a retry is what was archived with tries left."""
    tracker = Tracker()
    observe(tracker, START)
    active = run(11, "running")
    first = observe(
        tracker, START + 15, (active, [attempt(11, "a", "failed"), attempt(11, "b", "failed", archived=True)])
    )
    assert [a.retried for _, a in first.attempts] == [False, True]
    second = observe(tracker, START + 30, (active, [attempt(11, "a", "success")]))
    assert (second.attempts, second.overrides) == ([], 1)


def test_a_clear_while_it_runs_hides_nothing() -> None:
    """Airflow 3.3 counts such clears, too; only those after an end that was not seen may have hidden one."""
    tracker = Tracker()
    observe(tracker, START)
    assert observe(tracker, START + 15, (run(11, "running"), []), newest=11).superseded == 0
    assert observe(tracker, START + 30, (run(11, "running", clear=1), []), newest=11).superseded == 0
    cleared = run(11, "running", clear=2, at=START + 40)
    assert observe(tracker, START + 45, (cleared, []), newest=11).superseded == 1


def test_problems_count_once() -> None:
    """Lines of the log table are read again until no older one can appear."""
    tracker = Tracker()
    line, counted = Problem(5, "state mismatch"), 0
    for seconds in range(0, 900, 15):
        clock, outcomes = Clock(START + seconds, 0, 0, 5 if seconds else 4), Outcomes()
        tracker.begin(clock, "uuid", {})
        tracker.problems([line] if seconds and line.id > tracker.log.floor else [], outcomes)
        tracker.finish(clock, [], None)
        counted += len(outcomes.problems)
    assert (counted, tracker.logged, tracker.log.floor) == (1, set(), 5)


def test_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many attempts no further run is taken, and that is told; those that are tracked go on."""
    monkeypatch.setattr("exporter.accounting.tracker.MAX_ATTEMPTS", 2)
    tracker = Tracker()
    observe(tracker, START)
    full = (run(11, "running"), [attempt(11, "a"), attempt(11, "b")])
    observe(tracker, START + 15, full, newest=11)
    outcomes = observe(tracker, START + 30, full, (run(12), [attempt(12, "c")]), newest=12)
    assert (outcomes.attempts, tracker.truncated, list(tracker.runs)) == ([], True, [11])


def test_a_first_poll_that_cannot_take_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had to leave out is not news later, when there is room."""
    monkeypatch.setattr("exporter.accounting.tracker.MAX_ATTEMPTS", 2)
    tracker = Tracker()
    old = [(run(number, at=START - 60), [attempt(number, key, at=START - 60) for key in "ab"]) for number in (11, 12)]
    observe(tracker, START, *old, newest=12)
    assert (tracker.truncated, list(tracker.runs)) == (True, [11])
    monkeypatch.setattr("exporter.accounting.tracker.MAX_ATTEMPTS", 9)
    outcomes = observe(tracker, START + 15, *old, newest=12)
    assert (outcomes.attempts, outcomes.runs, list(tracker.runs)) == ([], [], [11, 12])


def test_the_clocks_may_differ() -> None:
    """GRACE is longer than SLACK, and SLACK is what hosts' clocks may differ by: else outcomes would count twice."""
    assert GRACE >= 2 * SLACK


def test_failures_are_looked_at_in_turn() -> None:
    """Of many old failures a poll looks up a bounded number, and of all of them each within a few polls."""
    tracker, seen = Tracker(), Counter[int]()
    watched = dict.fromkeys(range(1, 501), 0)
    for number in range(6):
        tracker.begin(Clock(START + number * POLL, 10_000, 0, 0), "uuid", watched)
        ids = tracker.missing({})
        assert len(ids) <= WATCHED_AT_ONCE
        seen.update(ids)
    assert set(seen.values()) == {2}
    assert seen.keys() == watched.keys()
