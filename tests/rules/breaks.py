"""Tests for promtool that an alert goes on firing, whatever comes and goes around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import yaml

from .cases import STEP, Case, Series, Source, outage, silent
from .ruleset import FILES, document

SOURCES: tuple[Source, ...] = get_args(Source)
DURATIONS = (30, 120, 600)
MARGIN = 300
"""Seconds that an alert has fired when something changes."""

COUNTS_TARGETS = "WindsockTargetDown"
"""Where daemons do matter, however many there are."""

Change = Callable[[Series], list[Series]]
SECOND = {"instance": "10.0.0.2:9780", "pod": "windsock-1"}


def alone(alert: str, path: Path) -> Path:
    """A file with one alert and the recordings beside it."""
    for file in FILES:
        content = document(file)
        for group in content["groups"]:
            group["rules"] = [rule for rule in group["rules"] if rule.get("alert", alert) == alert]
        if any("alert" in rule for group in content["groups"] for rule in group["rules"]):
            content["groups"] = [group for group in content["groups"] if group["rules"]]
            path.write_text(yaml.safe_dump(content))
            return path
    raise AssertionError(alert)


def steady(case: Case, name: str, change: Change, until: float, **labels: str) -> dict[str, Any]:
    """The alert fires without a break, with these labels besides its own, and with no others.

    Other Airflows have alerts of their own, and other windows of the same objective, too.
    """
    series = [changed for each in case.series for changed in change(each)]
    series = [replace(each, samples=each.samples[: int(until // STEP) + 2]) for each in series]
    wanted = {**case.labels, **labels}
    exactly = "".join(f', {label}="{value}"' for label, value in wanted.items())
    same = "".join(f', {label}="{wanted[label]}"' for label in ("airflow", "job", "long_window") if label in wanted)
    alerts = f'ALERTS{{alertname="{case.alert}", alertstate="firing"'
    window = f"[{until - case.fires:.0f}s:{STEP}s]"
    return {
        "name": name,
        "interval": f"{STEP}s",
        "input_series": [each.document() for each in series],
        "promql_expr_test": [
            {"eval_time": f"{until:.0f}s", "expr": f"count_over_time(absent({alerts}{exactly}}}){window})"},
            {"eval_time": f"{until:.0f}s", "expr": f"count({alerts}{same}}} unless {alerts}{exactly}}})"},
        ],
    }


def outages(case: Case, sources: tuple[Source, ...] = SOURCES, durations: tuple[int, ...] = DURATIONS) -> list[Any]:
    """Outages of the daemon, the database and the broker, until all is read again."""
    at = case.fires + MARGIN
    return [
        steady(case, f"{source}, {duration} s", _down(source, at, duration), at + duration + 120)
        for source in sources
        for duration in durations
    ]


def _down(source: Source, at: float, duration: float) -> Change:
    return lambda series: [outage(series, source, at, duration)]


def moves(case: Case) -> list[dict[str, Any]]:
    """A second daemon raises no second alert; a pod that moves ends none; another Airflow has alerts of its own."""
    at = case.fires + MARGIN
    groups = [
        steady(case, "two daemons", _doubled, at),
        steady(case, "one daemon, scraped by two jobs", _scraped_twice, at),
        steady(case, "a pod that moves", _moved(at), at + 180),
    ]
    if "airflow" in case.labels:
        groups += [steady(case, name, _another, at, airflow=name) for name in ("prod", "other")]
    return groups


def _doubled(series: Series) -> list[Series]:
    return [series, series.relabel(**SECOND)]


def _scraped_twice(series: Series) -> list[Series]:
    return [series, series.relabel(job="windsock-too")] if series.labels.get("job") == "windsock" else [series]


def _moved(at: float) -> Change:
    """The daemon ends, and three scrapes later goes on elsewhere."""

    def change(series: Series) -> list[Series]:
        if series.labels.get("job") != "windsock":
            return [series]
        step, gap = int(at // STEP), 3
        gone = replace(series, samples=[*series.samples[:step], *[None] * (len(series.samples) - step)])
        came = replace(series, samples=[*[None] * (step + gap), *series.samples[step + gap :]])
        return [gone, came.relabel(**SECOND)]

    return change


def _another(series: Series) -> list[Series]:
    return [series, series.relabel(**SECOND, **({"airflow": "other"} if "airflow" in series.labels else {}))]


def neighbours(case: Case) -> list[dict[str, Any]]:
    """What is well beside what is not, in another Airflow and in another DAG, queue or pool of the same one."""
    groups = []
    for number, calm in enumerate(silent(case.alert)):
        for label in NEIGHBOURS & set(case.labels):
            noise = {label: "other"} | (SECOND if label == "airflow" else {})
            name = f"{label}, {number}"
            groups.append(_beside(f"calm beside noise: {name}", calm, _with(case, label, noise), case, label, 0))
            groups.append(_beside(f"noise beside calm: {name}", case, _with(calm, label, noise), case, label, 1))
    return groups


NEIGHBOURS = {"airflow", "dag_id", "pool", "queue"}


def _with(case: Case, label: str, labels: dict[str, str]) -> list[Series]:
    """What another Airflow, DAG, queue or pool would add to a case; a daemon belongs to one Airflow."""
    if label == "airflow":
        return [each.relabel(**{name: labels[name] for name in labels if name in each.labels}) for each in case.series]
    return [each.relabel(**labels) for each in case.series if label in each.labels]


def _beside(name: str, case: Case, added: list[Series], alert: Case, label: str, times: int) -> dict[str, Any]:
    """Whether the alert about what was there first fires, so many times, whatever is added."""
    series = [replace(each, samples=each.samples[: int(case.fires // STEP) + 2]) for each in [*case.series, *added]]
    own = f'{label}="{alert.labels[label]}"'
    expression = f'count(ALERTS{{alertname="{alert.alert}", alertstate="firing", {own}}})'
    expected = {"exp_samples": [{"labels": "{}", "value": times}]} if times else {}
    return {
        "name": name,
        "interval": f"{STEP}s",
        "input_series": [each.document() for each in series],
        "promql_expr_test": [{"eval_time": f"{case.fires:.0f}s", "expr": expression, **expected}],
    }
