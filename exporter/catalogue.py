"""The catalogue of everything that is exported, from the declarations."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from .collectors import ALL
from .metrics import Metric
from .poller import STATUS_METRICS
from .telemetry import DECLARATIONS


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric family; `collector` is the collector that feeds it, or `windsock` for the daemon itself."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    collector: str


def entries() -> list[Entry]:
    """Every family, in the order of the collectors."""
    found = [_declared(metric, collector.name) for collector in ALL for metric in collector.metrics]
    found += [_declared(metric, "windsock") for metric in STATUS_METRICS]
    found += [Entry(*declaration, "windsock") for declaration in DECLARATIONS]
    return found


def as_json() -> str:
    """The catalogue as a JSON array."""
    return json.dumps([asdict(entry) for entry in entries()], indent=2) + "\n"


def as_markdown() -> str:
    """The catalogue as a page."""
    lines = [
        "# Metrics",
        "",
        "Made by `windsock metrics`: edit the declarations in `exporter/collectors/`, then run `make docs`.",
        "",
        "Every `airflow_*` family also has the label `airflow`, the configured name of the Airflow. Timestamps are",
        "unix time in seconds: an age is `time() - x`. A value that is not known is absent, never -1. What a collector",
        "read last stays for three of its intervals, five minutes at least, and then vanishes.",
    ]
    for collector, group in groupby(entries(), key=lambda entry: entry.collector):
        title = "The daemon itself" if collector == "windsock" else f"Collector `{collector}`"
        lines += ["", f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        for entry in group:
            labels = ", ".join(f"`{label}`" for label in entry.labels)
            lines.append(f"| `{entry.name}` | {entry.type} | {labels} | {entry.help} |")
    return "\n".join(lines) + "\n"


def _declared(metric: Metric[Any], collector: str) -> Entry:
    return Entry(metric.name, metric.kind, metric.labels, metric.help, collector)
