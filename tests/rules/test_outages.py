"""Alerts outlast outages and moves of what they depend on: they neither resolve nor fire for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .breaks import COUNTS_TARGETS, DURATIONS, NEIGHBOURS, SOURCES, alone, moves, neighbours, outages
from .cases import STEP, Case, Series, Source, firing, groups, outage, series_of, write
from .lint import SOURCE_DOWN
from .promtool import failures, program
from .ruleset import ALERTS, DEFAULT, FILES

pytestmark = pytest.mark.system

CASES = [case for case in firing() if case.alert not in {*SOURCE_DOWN, "WindsockWatchdog"}]

OWN = {
    "daemon": {"WindsockDown", "WindsockAbsent", "WindsockRouterDown", "WindsockTargetDown"},
    "database": {"AirflowMetadataDatabaseDown"},
    "broker": {"AirflowBrokerDown"},
}
"""What an outage itself raises; the others of the daemon's are inhibited."""


def broken(cases: list[Case], breaks: Callable[[Case], list[dict[str, Any]]], folder: Path) -> list[str]:
    """Those of which an alert does not go on as it should while something comes or goes."""
    made = []
    for case in cases:
        rules = [alone(case.alert, folder / f"{case}.rules.yml")]
        made.append(write(folder / f"{case}.test.yml", rules, breaks(case)))
    return failures(program("installed", "promtool"), made)


def test_no_outage_resolves_an_alert(tmp_path: Path) -> None:
    """Of the daemon, the database and the broker, for half a minute, two and ten, until all is read again."""
    assert broken(CASES, outages, tmp_path) == []


def test_daemons_and_pods_do_not_matter(tmp_path: Path) -> None:
    """A second daemon raises no second alert; a pod that moves ends none; another Airflow has alerts of its own."""
    assert broken([case for case in CASES if case.alert != COUNTS_TARGETS], moves, tmp_path) == []


def test_neighbours_do_not_matter(tmp_path: Path) -> None:
    """What is well in one Airflow, DAG, queue or pool mutes nothing in another; what is not raises nothing there."""
    assert broken([case for case in CASES if NEIGHBOURS & set(case.labels)], neighbours, tmp_path) == []


@pytest.mark.parametrize("alert", ["AirflowMetadataDatabaseDown", "AirflowBrokerDown"])
def test_a_source_that_is_down_stays_so_without_the_daemon(alert: str, tmp_path: Path) -> None:
    """Its alert outlasts a short outage of the daemon, and in a long one ends only once WindsockDown inhibits it."""
    [case] = [case for case in firing() if case.alert == alert]
    tests = outages(case, sources=("daemon",))
    [test, _] = tests[-1]["promql_expr_test"]
    test["expr"] = test["expr"].replace("[", ' unless on () ALERTS{alertname="WindsockDown"})[', 1)
    test["expr"] = test["expr"].replace("(absent", "((absent", 1)
    rules = [ALERTS / DEFAULT]
    assert failures(program("installed", "promtool"), [write(tmp_path / "down.yml", rules, tests)]) == []


def test_an_outage_raises_nothing_but_its_own_alert(tmp_path: Path) -> None:
    """Where all was well before and after, and that one within a minute, the daemon's own interval included."""
    [healthy] = [test for file, test in groups() if file == "healthy.test.yml"]
    made = [
        write(tmp_path / f"{source}-{duration}.yml", FILES, [_around(series_of(healthy), source, duration)])
        for source in SOURCES
        for duration in DURATIONS
    ]
    assert failures(program("installed", "promtool"), made) == []


def _around(healthy: list[Series], source: Source, duration: int) -> dict[str, Any]:
    at, until = 1200, 1200 + duration + 1800
    series = [outage(each, source, at, duration) for each in healthy]
    series = [replace(each, samples=each.samples[: until // STEP + 2]) for each in series]
    own = "|".join(sorted(OWN[source]))
    others = f'ALERTS{{alertstate="firing", alertname!~"{own}|WindsockWatchdog"}}[{until}s]'
    expressions: list[dict[str, Any]] = [
        {"eval_time": f"{until}s", "expr": f"count by (alertname) (count_over_time({others}))"}
    ]
    if duration > 60:
        first = {"daemon": "WindsockDown"}.get(source, own)
        unseen = STEP * (2 if source == "daemon" else 3)  # by reads, scrapes and evaluations that had just been
        expressions.append(
            {
                "eval_time": f"{at + 60 - unseen}s",
                "expr": 'count by (alertname) (ALERTS{alertstate="firing", alertname!="WindsockWatchdog"})',
                "exp_samples": [{"labels": f'{{alertname="{first}"}}', "value": 1}],
            }
        )
    inputs = [each.document() for each in series]
    return {"name": source, "interval": f"{STEP}s", "input_series": inputs, "promql_expr_test": expressions}
