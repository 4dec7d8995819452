"""The catalogue of everything that is exported, from the declarations."""

from __future__ import annotations

import json
from collections.abc import Iterable

from .collectors import ALL
from .poller import STATUS_METRICS
from .telemetry import DECLARATIONS, Declaration


def entries() -> list[Declaration]:
    """Every family, in the order of the collectors."""
    fed = [(metric, collector.name) for collector in ALL for metric in collector.metrics]
    fed += [(metric, "windsock") for metric in STATUS_METRICS]
    found = [Declaration(metric.name, metric.kind, metric.labels, metric.help, name) for metric, name in fed]
    return found + DECLARATIONS


def as_json() -> str:
    """The catalogue as a JSON array."""
    return json.dumps([entry._asdict() for entry in entries()], indent=2) + "\n"


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
    for collector in ALL:
        lines += ["", f"## Collector `{collector.name}`, every {collector.interval:.0f} s", ""]
        found = [entry for entry in entries() if entry.collector == collector.name]
        lines += _table(found) if found else ["It has no metrics of its own: it finds what others read."]
    lines += ["", "## The daemon itself", "", *_table(entry for entry in entries() if entry.collector == "windsock")]
    lines += ["", "Beside these there are the usual `process_*` metrics."]
    return "\n".join(lines) + "\n"


def _table(entries: Iterable[Declaration]) -> list[str]:
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for entry in entries:
        labels = ", ".join(f"`{label}`" for label in entry.labels)
        lines.append(f"| `{entry.name}` | {entry.type} | {labels} | {entry.help} |")
    return lines
