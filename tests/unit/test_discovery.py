"""Which DAGs get series of their own, and which queues the broker is asked about."""

from __future__ import annotations

import re

from exporter.discovery import Dags, Queues


def dags(limit: int = 2, allow: str = ".*", deny: str = "") -> Dags:
    """A choice of DAGs as the configuration would make it."""
    return Dags(re.compile(allow), re.compile(deny), limit)


def test_dags_are_chosen_in_the_order_of_their_names() -> None:
    """The first ones keep their names, the others share one."""
    choice = dags()
    choice.update(["c", "a", "b"])
    assert [choice.label(name) for name in "abc"] == ["a", "b", "__other__"]


def test_a_dag_keeps_its_place() -> None:
    """A new DAG never takes another's series, though its name comes first."""
    choice = dags()
    choice.update(["b", "c"])
    choice.update(["a", "b", "c"])
    assert [choice.label(name) for name in "abc"] == ["__other__", "b", "c"]


def test_the_place_of_a_dag_that_went_is_free() -> None:
    """Stale and deleted DAGs make room for those that wait."""
    choice = dags()
    choice.update(["a", "b", "c", "d"])
    choice.update(["b", "c", "d"])
    assert [choice.label(name) for name in "abcd"] == ["__other__", "b", "c", "__other__"]
    choice.update(["c", "d"])
    assert [choice.label(name) for name in "abcd"] == ["__other__", "__other__", "c", "d"]


def test_a_dag_that_is_gone_has_no_series_of_its_own() -> None:
    """Stale or deleted, not even with room left: its remaining runs count under the common name."""
    choice = dags(limit=10)
    choice.update(["a"])
    assert choice.label("old") == "__other__"
    choice.update(["a", "old"])
    assert choice.label("old") == "old"


def test_a_dag_that_is_seen_before_the_inventory_takes_a_place() -> None:
    """The order in which collectors start costs no DAG its name."""
    choice = dags(limit=1)
    assert choice.label("z") == "z"
    choice.update(["a", "z"])
    assert (choice.label("a"), choice.label("z")) == ("__other__", "z")


def test_patterns_match_whole_names() -> None:
    """allow and deny are anchored, and deny wins."""
    choice = dags(allow="etl_.*", deny="etl_test.*")
    assert choice.label("etl_daily") == "etl_daily"
    assert choice.label("my_etl_daily") is None
    assert choice.label("etl_test_1") is None
    assert dags(allow="etl").label("etl_daily") is None
    assert dags(deny="etl").label("etl_daily") == "etl_daily"


def test_a_limit_of_none_shows_no_dag_by_name() -> None:
    """With max 0 every allowed DAG is folded."""
    choice = dags(limit=0, deny="b")
    choice.update(["a", "b"])
    assert (choice.label("a"), choice.label("b")) == ("__other__", None)


def test_a_queue_is_remembered_for_a_day() -> None:
    """A configured queue stays for ever, a seen one until a day after it was last seen."""
    now = 0.0
    queues = Queues(["default"], clock=lambda: now)
    queues.saw(["gpu", "heavy"])
    now = 50_000.0
    queues.saw(["heavy"])
    assert queues.names() == ["default", "gpu", "heavy"]
    now = 86_400.0
    assert queues.names() == ["default", "heavy"]
    now = 136_400.0
    assert queues.names() == ["default"]


def test_queues_beyond_the_limit_are_ignored() -> None:
    """Strangers' names cannot grow the memory without end; a known queue is still refreshed."""
    now = 0.0
    queues = Queues([], clock=lambda: now)
    queues.saw(f"q{number:04}" for number in range(Queues.LIMIT))
    now = 80_000.0
    queues.saw(["one more", "q0000"])
    assert len(queues.names()) == Queues.LIMIT
    now = 90_000.0
    assert queues.names() == ["q0000"]
