"""The cases of alerts/tests, and what they become when daemons, pods and sources come and go."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml

from .families import BROKER, KNOWN
from .lint import READ
from .ruleset import ALERTS, document, seconds

STEP = 15
"""Seconds between two samples of what is made here: a common interval of scrapes."""

START = 30
"""Seconds that a daemon needs after it was down until it has read everything again, and was scraped."""

DAY = 86400
KEPT = 300
"""Seconds that the daemon keeps showing what it read last."""

Sample = float | None
"""A value; None for a sample that marks the series as gone."""

Source = Literal["daemon", "database", "broker"]

TESTS = sorted((ALERTS / "tests").glob("*.test.yml"))
_ITEM = re.compile(r"([+-]?(?:Inf|[\d.]+(?:e[+-]?\d+)?))(?:([+-][\d.]+(?:e[+-]?\d+)?))?x(\d+)")


@dataclass(frozen=True)
class Series:
    """One input series; a sample every STEP seconds from 0 on."""

    name: str
    labels: dict[str, str]
    samples: list[Sample]

    def relabel(self, **labels: str) -> Series:
        """The same samples under other labels."""
        return replace(self, labels={**self.labels, **labels})

    def selector(self) -> str:
        """As promtool wants it."""
        return self.name + "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in self.labels.items()) + "}"

    def document(self) -> dict[str, str]:
        """As a test file has it."""
        return {"series": self.selector(), "values": " ".join(_text(sample) for sample in self.samples)}


@dataclass(frozen=True)
class Case:
    """What is scraped, and from when on an alert fires, with which labels."""

    alert: str
    series: list[Series]
    fires: float
    labels: dict[str, str]

    def __str__(self) -> str:
        return self.alert


@cache
def groups() -> list[tuple[str, dict[str, Any]]]:
    """Every group of tests that there is, with the name of its file; not to be changed."""
    return [(path.name, group) for path in TESTS for group in document(path)["tests"]]


@cache
def firing() -> list[Case]:
    """For each alert the first case in which it fires within a day."""
    found: dict[str, Case] = {}
    for _, group in groups():
        for test in group.get("alert_rule_test", []):
            known = test["alertname"] in found or seconds(test["eval_time"]) > DAY
            if (alerts := test.get("exp_alerts")) and not known:
                labels = {name: str(value) for name, value in alerts[0]["exp_labels"].items()}
                case = Case(test["alertname"], series_of(group), seconds(test["eval_time"]), labels)
                found[case.alert] = case
    return list(found.values())


def silent(alert: str) -> list[Case]:
    """The cases in which an alert is silent; at `fires` it might fire, but does not."""
    found = []
    for _, group in groups():
        tests = group.get("alert_rule_test", [])
        if group["name"].startswith(f"{alert} is silent") and tests and tests[-1]["alertname"] == alert:
            found.append(Case(alert, series_of(group), seconds(tests[-1]["eval_time"]), {}))
    return found


def series_of(group: dict[str, Any]) -> list[Series]:
    """The input of a group of tests, a sample every STEP seconds, and its last slope continued for two hours."""
    interval = int(seconds(group["interval"]))
    return [_series(item["series"], str(item["values"]), interval) for item in group["input_series"]]


def _series(selector: str, values: str, interval: int) -> Series:
    name, _, labels = selector.rstrip("}").partition("{")
    given = _expand(values)
    slope = given[-1] - given[-2] if len(given) > 1 and math.isfinite(given[-1]) else 0.0
    given += [given[-1] + slope * (step + 1) for step in range(7200 // interval)]
    dense: list[Sample] = []
    for before, after in pairwise(given):
        step = (after - before) * STEP / interval if math.isfinite(before) else 0.0
        dense += [before + step * index for index in range(interval // STEP)]
    return Series(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), dense)


def _expand(values: str) -> list[float]:
    """What the short notation of promtool stands for; the cases that are used here have no gaps."""
    expanded: list[float] = []
    for item in values.split():
        if match := _ITEM.fullmatch(item):
            start, step, times = float(match[1]), float(match[2] or 0), int(match[3])
            expanded += [start + step * index for index in range(times + 1)]
        elif item != "stale":
            expanded.append(float(item))
    return expanded


def _text(sample: Sample) -> str:
    return "stale" if sample is None else "+Inf" if sample == math.inf else f"{sample:.12g}"


def outage(series: Series, source: Source, at: float, duration: float) -> Series:
    """What Prometheus gets of a series when a source does not answer from `at` on."""
    known, end = KNOWN[series.name], at + duration
    if source == "daemon":
        ours = {"windsock", "database", "broker"}
        return _during(series, at, end + START, None) if known.source in ours else _target(series, at, end + START)
    prefix, up = {"database": ("pg_", "airflow_db_up"), "broker": ("redis_", "airflow_broker_up")}[source]
    if series.name == up:
        return _during(series, at, end, 0.0)
    if series.name.startswith(prefix):
        return _during(series, at, end, None)
    if series.name.startswith("windsock_collector_"):
        reads = "broker" if series.labels["collector"] in BROKER else "database"
        return _collector(series, at, end + STEP) if reads == source else series
    if known.source == source:
        return _during(_frozen(series, at, end + STEP), at + KEPT, end + STEP, None)
    return series


def _target(series: Series, at: float, end: float) -> Series:
    return _during(series, at, end, 0.0) if series.name == "up" else series


def _collector(series: Series, at: float, end: float) -> Series:
    if series.name == "windsock_collector_success":
        return _during(series, at, end, 0.0)
    return _frozen(series, at, end) if series.name == READ else series


def _during(series: Series, at: float, end: float, value: Sample) -> Series:
    samples = [value if at <= index * STEP < end else sample for index, sample in enumerate(series.samples)]
    return replace(series, samples=samples)


def _frozen(series: Series, at: float, end: float) -> Series:
    last = series.samples[int(at // STEP) - 1]
    return _during(series, at, end, last)


def write(path: Path, rules: list[Path], groups: list[dict[str, Any]], step: str = f"{STEP}s") -> Path:
    """A test file for promtool."""
    content = {"rule_files": [str(rule) for rule in rules], "evaluation_interval": step, "tests": groups}
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=1_000_000))
    return path
