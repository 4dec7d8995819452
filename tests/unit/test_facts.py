"""A DAG's last runs are told in the order in which they were due, and by when the next success is expected."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.accounting.facts import MAX_FAILED, WATCHED_PER_DAG, Facts, Lasts, expected, watched
from exporter.accounting.rows import Dag, Run
from exporter.config import Config
from exporter.config.model import Airflow

DAY = 86400.0
DAG = Dag("etl_daily", False, False, 10 * DAY, 0)


def run(day: int, state: str, *, took: float = 100.0, run_type: str = "scheduled") -> Run:
    """The run that was due on this day."""
    return Run(day, DAG.dag_id, state, run_type, 0, day * DAY, day * DAY + 5, day * DAY + 5 + took, day * DAY)


def facts(*runs: Run) -> Facts:
    """What is known after these."""
    known = Facts()
    for each in runs:
        known.learn(each)
    return known


def airflow(**settings: object) -> Airflow:
    """This section of a configuration."""
    return Config.model_validate({"airflow": {"name": "a", **settings}}).airflow


def test_the_last_run_is_the_one_that_was_due_last() -> None:
    """However long another took; and it may be run again."""
    known = facts(run(3, "failed", took=7), run(2, "success", took=3 * DAY))
    assert (known.succeeded, known.duration, known.success) == (False, 7, 5 * DAY + 5)
    known.learn(run(3, "success", took=8))
    assert (known.succeeded, known.duration, known.interval_end) == (True, 8, 3 * DAY)


@given(st.permutations(range(1, 8)), st.integers(0, 7))
def test_failures_in_a_row(order: list[int], success: int) -> None:
    """Those that were due after the last success, in whatever order they ended."""
    known = facts(*(run(day, "success" if day == success else "failed") for day in order))
    assert len(known.failed) == 7 - success


def test_failures_in_a_row_are_bounded() -> None:
    """A DAG that always fails costs no more and no more memory."""
    assert len(facts(*(run(day, "failed") for day in range(1, 300))).failed) == MAX_FAILED


def test_a_correction_has_no_duration() -> None:
    """A failed run that is marked as success is one from then on; how long it took is not what passed until then."""
    known = facts(run(1, "success", took=100), run(2, "failed", took=7))
    known.learn(run(2, "success", took=9 * DAY), corrected=True)
    assert (known.succeeded, known.duration, known.failed) == (True, 7, [])
    assert (known.success, known.usual) == (11 * DAY + 5, 100)


def test_the_newest_failures_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each DAG's newest first, a few of each, and so many in all; whatever the order in which they ended."""
    many = facts(*(run(day, "failed") for day in (3, 9, 8, 7, 6, 5, 4)))
    cleared = replace(run(20, "failed"), clear_number=3)
    all_of_them = [many, facts(run(1, "success")), facts(run(10, "success"), cleared, run(19, "failed"))]
    assert watched(all_of_them) == {9: 0, 20: 3, 8: 0, 19: 0, 7: 0, 6: 0, 5: 0}
    assert len(many.failed) > WATCHED_PER_DAG
    monkeypatch.setattr("exporter.accounting.facts.WATCHED", 3)
    assert list(watched(all_of_them)) == [9, 20, 8]


def test_success_is_expected_twice_the_usual_time_after_it_was_due() -> None:
    """For the next run, or the oldest that is due and has not succeeded: active, or failed after the last success."""
    known = facts(*(run(day, "success", took=took) for day, took in [(1, 100), (2, 10_000), (3, 200)]))
    assert expected(DAG, known, [], airflow()) == 10 * DAY + 400
    assert expected(DAG, known, [5 * DAY, 4 * DAY], airflow()) == 4 * DAY + 400
    assert expected(DAG, known, [2 * DAY], airflow()) == 10 * DAY + 400, "an old run that is repeated is not late"
    known.learn(run(4, "failed"))
    assert expected(DAG, known, [5 * DAY], airflow()) == 4 * DAY + 400
    known.learn(run(6, "failed", run_type="manual"))
    known.learn(run(5, "success", took=150))
    assert expected(DAG, known, [], airflow()) == 10 * DAY + 350


def test_the_grace_is_the_least() -> None:
    """A DAG that never succeeded, or is quick, has this much time."""
    assert expected(DAG, Facts(), [], airflow(limits={"overdue_grace": "5m"})) == 10 * DAY + 300


def test_what_is_not_expected() -> None:
    """Nothing of a paused DAG, nor of one that nothing schedules; unless it is configured, and succeeded before."""
    known = facts(run(3, "success"))
    paused, unscheduled = DAG._replace(paused=True), DAG._replace(next_due=None)
    assert [expected(dag, known, [], airflow()) for dag in (paused, unscheduled)] == [None, None]
    rules = airflow(expected_by={"other": {"every": "1h"}, "etl_.*": {"every": "26h"}, ".*": {"every": "9h"}})
    assert [expected(dag, known, [], rules) for dag in (paused, unscheduled)] == [3 * DAY + 105 + 26 * 3600] * 2
    assert [expected(dag, Facts(), [], rules) for dag in (paused, DAG)] == [None, expected(DAG, Facts(), [], airflow())]


@pytest.mark.parametrize(
    ("success", "by"),
    [
        ("2024-03-29T06:50", "2024-03-30T07:30"),
        ("2024-03-29T08:10", "2024-03-30T07:30"),
        ("2024-03-30T07:10", "2024-03-31T07:30"),
        ("2024-12-31T23:59", "2025-01-01T07:30"),
    ],
    ids=["in time", "late", "before the clocks change", "the last day"],
)
def test_a_time_of_day(success: str, by: str) -> None:
    """A success counts for its day, in that zone; the next one is expected on the next day."""
    zone = ZoneInfo("Europe/Berlin")
    known = Facts(success=datetime.fromisoformat(success).replace(tzinfo=zone).timestamp())
    rules = airflow(expected_by={".*": {"at": "07:30", "tz": "Europe/Berlin"}})
    assert expected(DAG, known, [], rules) == datetime.fromisoformat(by).replace(tzinfo=zone).timestamp()


@st.composite
def polls(draw: st.DrawFn) -> tuple[dict[str, Dag], set[str], list[Run], set[str]]:
    """What one tells of DAGs: those there are, those that are shown, active runs, and whose runs ended."""
    rare = st.sampled_from([False, False, False, True])
    dags = {name: DAG._replace(dag_id=name, paused=draw(rare)) for name in "abc" if not draw(rare)}
    active = [replace(run(9, "running"), dag_id=name) for name in "abc" if draw(st.booleans())]
    shown, ended = ({name for name in dags if draw(rare) is so} for so in (False, True))
    return dags, shown, active, ended


@given(st.lists(polls(), min_size=2, max_size=6))
def test_what_is_shown_is_what_is_known_now(
    history: list[tuple[dict[str, Dag], set[str], list[Run], set[str]]],
) -> None:
    """However DAGs came, changed, were hidden and went before: as if this poll were the first."""
    lasts, known = Lasts(), dict[str, Facts]()
    rules = airflow(expected_by={"a": {"every": "1h"}})
    for day, (dags, shown, active, ended) in enumerate(history, 1):
        known = {name: facts for name, facts in known.items() if name in dags}
        for name in ended:
            known.setdefault(name, Facts()).learn(run(day, "success" if day % 2 else "failed"))
        lasts.update(dags, shown, active, known, ended, rules)
        first = Lasts()
        first.update(dags, shown, active, known, set(), rules)
        assert [*lasts.families()] == [*first.families()]
        assert {labels[0] for family in lasts.families() for labels in family.samples} <= shown
