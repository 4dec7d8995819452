"""What is counted is shown late enough that every scraper saw where it stood, and never before it is saved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.accounting.ledger import HOLD, MAX_CHILDREN, Ledger
from exporter.discovery import OTHER
from exporter.metrics import Declared

RUNS = Declared(name="runs_total", help="Runs.", labels=("dag_id", "state"), kind="counter")
BY_TASK = replace(RUNS, labels=("dag_id", "state", "task_id"))
DELAY = Declared(name="delay_seconds", help="Delay.", labels=("queue",), kind="histogram", buckets=(1.0, 60.0))
Rows = dict[tuple[str, str], tuple[str, str]]


class Book:
    """A ledger, a clock, and a disk that keeps what was saved."""

    def __init__(
        self,
        disk: Rows | None = None,
        now: float = 0.0,
        runs: Declared = RUNS,
        labels: dict[str, list[str]] | None = None,
    ) -> None:
        self.disk, self.now = {} if disk is None else disk, now
        self.ledger = Ledger((runs, DELAY))
        self.ledger.restore(((*key, *value) for key, value in self.disk.items()), labels or self.ledger.labels)

    def settle(self) -> None:
        """Save what has to be saved, as a poll does."""
        for family, labels, cells, shown in self.ledger.settle(self.now):
            if cells is None or shown is None:
                self.disk.pop((family, labels), None)
            else:
                self.disk[family, labels] = cells, shown
        self.ledger.saved(self.now)

    def shown(self, after: float = 0.0, hide: Iterable[str] = ()) -> dict[tuple[str, ...], object]:
        """All samples, after a poll so many seconds later."""
        self.now += after
        self.settle()
        families = self.ledger.families({*"abq"} - {*hide})
        return {labels: value for family in families for labels, value in family.samples.items()}


def test_a_new_series_shows_zero_first() -> None:
    """Also one that counts at once; and so long that a scraper that looks once a minute has seen it."""
    book = Book()
    book.ledger.add(RUNS, "a", "failed")
    assert book.shown() == {("a", "failed"): 0}
    book.ledger.add(RUNS, "a", "failed")
    assert book.shown(60) == {("a", "failed"): 0}
    assert book.shown(HOLD - 60) == {("a", "failed"): 2}
    book.ledger.add(RUNS, "a", "failed")
    assert book.shown(15) == {("a", "failed"): 3}


def test_nothing_is_shown_before_it_is_saved() -> None:
    """Neither a series nor a count."""
    book = Book()
    book.ledger.zero(RUNS, "a", "failed")
    assert book.ledger.families("a")[0].samples == {}
    book.shown()
    book.shown(HOLD)
    book.ledger.add(RUNS, "a", "failed")
    assert book.ledger.families("a")[0].samples == {("a", "failed"): 0}
    assert book.shown() == {("a", "failed"): 1}


def test_a_restart() -> None:
    """It shows what was shown last, and later what was counted meanwhile; a zero that was not held, again."""
    book = Book()
    book.ledger.add(RUNS, "a", "failed", amount=5)
    book.shown()
    book.shown(HOLD)
    book.ledger.add(RUNS, "b", "failed")
    book.shown()
    book = Book(book.disk)
    book.ledger.add(RUNS, "a", "failed")
    assert book.shown() == {("a", "failed"): 5, ("b", "failed"): 0}
    assert book.shown(60) == {("a", "failed"): 5, ("b", "failed"): 0}
    assert book.shown(1) == {("a", "failed"): 6, ("b", "failed"): 1}


def test_only_what_changed_is_saved() -> None:
    """A poll in which nothing happened writes nothing."""
    book = Book()
    for name in "abc":
        book.ledger.zero(RUNS, name, "failed")
    assert len(list(book.ledger.settle(0))) == 3
    book.shown()
    book.shown(HOLD)
    assert list(book.ledger.settle(book.now)) == []
    book.ledger.add(RUNS, "b", "failed")
    assert [row[1] for row in book.ledger.settle(book.now)] == ['["b", "failed"]']


def test_what_could_not_be_saved_is_saved_later() -> None:
    """A full disk costs no count."""
    book = Book()
    book.ledger.add(RUNS, "a", "failed")
    list(book.ledger.settle(0))
    book.shown()
    assert Book(book.disk).ledger.families("a")
    assert book.disk == {("runs_total", '["a", "failed"]'): ("[1.0]", "[0.0]")}


def test_dags_that_are_hidden_or_gone() -> None:
    """A DAG without series of its own keeps its counts; one that is gone is forgotten, on the disk too."""
    book = Book()
    for name in ("a", "b", OTHER):
        book.ledger.add(RUNS, name, "failed")
    book.shown()
    book.shown(HOLD)
    assert book.shown(hide="a") == {("b", "failed"): 1, (OTHER, "failed"): 1}
    assert len(book.shown()) == 3
    book.ledger.keep({"a"})
    assert book.shown() == {("a", "failed"): 1, (OTHER, "failed"): 1}
    assert len(book.disk) == 2


def test_a_histogram() -> None:
    """An upper bound belongs to its bucket; after the buckets come +Inf and the sum."""
    book = Book()
    for value in (0.5, 1.0, 60.0, 61.0):
        book.ledger.observe(DELAY, "q", value=value)
    book.shown()
    assert book.shown(HOLD) == {("q",): [2, 1, 1, 122.5]}


def test_the_cap() -> None:
    """A family whose labels are names that users give has a limit, and the rest is counted as one."""
    book = Book()
    for number in range(MAX_CHILDREN + 5):
        book.ledger.observe(DELAY, str(number), value=0)
    book.shown()
    shown = book.shown(HOLD)
    assert (len(shown), shown[OTHER,]) == (MAX_CHILDREN + 1, [5, 0, 0, 0])


def test_the_cap_on_labels_that_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, and where they are left out, they are `__other__`; what is folded is told, and no DAG's own labels."""
    monkeypatch.setattr("exporter.accounting.ledger.MAX_BY_TASK", 4)
    book = Book(runs=BY_TASK)
    for dag_id in "ab":
        book.ledger.zero(RUNS, dag_id, "failed")
    for task_id in ("t1", "t2", "t3", "t4", "t3"):
        book.ledger.add(RUNS, "a", "failed", task_id)
    book.ledger.add(RUNS, "q", "failed", "t1")
    book.shown()
    assert book.shown(HOLD) == {
        ("a", "failed", OTHER): 3,
        ("a", "failed", "t1"): 1,
        ("a", "failed", "t2"): 1,
        ("b", "failed", OTHER): 0,
        ("q", "failed", OTHER): 1,
    }
    assert [family.dropped for family in book.ledger.families("")] == [3, 0]
    book.ledger.keep({"b", "q"})
    book.ledger.add(RUNS, "q", "failed", "t1")
    book.shown()
    assert book.shown(HOLD)["q", "failed", "t1"] == 1, "there is room again"
    assert [family.dropped for family in book.ledger.families("")] == [0, 0]


def test_other_labels_are_a_new_beginning() -> None:
    """What was saved with other labels is not shown under these, and not kept; the other families go on."""
    book = Book()
    book.ledger.add(RUNS, "a", "failed")
    book.ledger.observe(DELAY, "q", value=1)
    book.shown()
    book = Book(book.disk, runs=BY_TASK, labels=book.ledger.labels)
    assert book.shown() == {("q",): [0, 0, 0, 0]}
    assert [family for family, _ in book.disk] == ["delay_seconds"]
    book.ledger.add(RUNS, "a", "failed", "t1")
    book.shown()
    by_operator = replace(RUNS, labels=("dag_id", "state", "operator"))
    assert Book(book.disk, runs=by_operator, labels=book.ledger.labels).shown().keys() == {("q",)}


@given(
    st.lists(st.one_of(st.just("restart"), st.just("crash"), st.sampled_from("ab"), st.integers(1, 100)), max_size=50)
)
def test_nothing_ever_falls(events: list[str | int]) -> None:
    """Counts, polls, restarts, and crashes before a poll was saved: what a scraper saw never gets less."""
    book, last = Book(), dict[tuple[str, ...], float]()
    for event in events:
        if event in ("restart", "crash"):
            if event == "restart":
                book.settle()
            book = Book(dict(book.disk), book.now)
        elif isinstance(event, int):
            for labels, value in book.shown(event).items():
                assert isinstance(value, float)
                assert value >= last.get(labels, 0)
                last[labels] = value
        else:
            book.ledger.add(RUNS, str(event), "failed")
