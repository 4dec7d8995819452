"""PromQL on the exported families: right also while two daemons watch the same Airflow, and while a pod is replaced.

`instance` and `pod` are aggregated away by `max` first, for each set of the family's own labels; only then is summed.
Names that are not exported are a KeyError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from exporter.accounting.families import ATTEMPTS
from exporter.catalogue import entries
from exporter.config.values import TaskLabel

LABELS = {entry.name: entry.labels for entry in entries()}
LABELS[ATTEMPTS.name] += get_args(TaskLabel)  # where airflow.task_labels has them
RATE = "$__rate_interval"


def of(name: str, suffix: str = "", **labels: str) -> str:
    """A selector of the chosen Airflow's series, or, for the daemon's own, of those of the chosen daemons.

    A label's value that begins with `~` is a regular expression.
    """
    LABELS[name]
    scope = {"airflow": "$airflow"} if name.startswith("airflow_") else {"job": "~$job", "instance": "~$instance"}
    return f"{name}{suffix}{{{matchers(scope | labels)}}}"


def matchers(labels: Mapping[str, str]) -> str:
    """What stands in a selector's braces."""
    pairs = ((name, "=~" if value.startswith("~") else "=", value.removeprefix("~")) for name, value in labels.items())
    return ", ".join(f'{name}{operator}"{value}"' for name, operator, value in pairs)


def largest(name: str, by: Sequence[str] | None = None, **where: str) -> str:
    """The largest value for each set of labels, by default for each series."""
    return _aggregate("max", LABELS[name] if by is None else by, of(name, **where))


def smallest(name: str, by: Sequence[str] | None = None, **where: str) -> str:
    """The smallest value for each set of labels, by default for each series."""
    return _aggregate("min", LABELS[name] if by is None else by, of(name, **where))


def total(name: str, by: Sequence[str] = (), **where: str) -> str:
    """A gauge's sum over all other labels."""
    return _summed(name, of(name, **where), LABELS[name], by)


def increase(name: str, by: Sequence[str] = (), window: str = RATE, suffix: str = "", **where: str) -> str:
    """By how much a counter, or the `_sum` or `_count` of a histogram or summary, has grown."""
    return _summed(name, f"increase({of(name, suffix, **where)}[{window}])", LABELS[name], by)


def rate(name: str, by: Sequence[str] = (), **where: str) -> str:
    """How much a counter grows per second."""
    return _summed(name, f"rate({of(name, **where)}[{RATE}])", LABELS[name], by)


def buckets(name: str, by: Sequence[str] = (), **where: str) -> str:
    """By how much a histogram's buckets have grown."""
    grown = f"increase({of(name, '_bucket', **where)}[{RATE}])"
    return _summed(name, grown, (*LABELS[name], "le"), (*by, "le"))


def quantile(share: float, name: str, by: Sequence[str] = (), **where: str) -> str:
    """The value that this share of a histogram's new observations did not exceed."""
    grown = f"rate({of(name, '_bucket', **where)}[{RATE}])"
    return f"histogram_quantile({share}, {_summed(name, grown, (*LABELS[name], 'le'), (*by, 'le'))})"


def mean(name: str, by: Sequence[str] = (), window: str = RATE, **where: str) -> str:
    """The mean of the new observations of a histogram or summary; absent without any."""
    sums, counts = (increase(name, by, window, end, **where) for end in ("_sum", "_count"))
    return f"{sums} / ({counts} > 0)"


def oldest(name: str, by: Sequence[str] = (), **where: str) -> str:
    """Seconds since the earliest of these timestamps."""
    return f"time() - {_aggregate('min', by, of(name, **where))}"


def newest(name: str, by: Sequence[str] = (), **where: str) -> str:
    """Seconds since the latest of these timestamps."""
    return f"time() - {_aggregate('max', by, of(name, **where))}"


def until(name: str, by: Sequence[str] = (), **where: str) -> str:
    """Seconds to the earliest of these timestamps; negative when it has passed."""
    return f"{_aggregate('min', by, of(name, **where))} - time()"


def _summed(name: str, inner: str, labels: Sequence[str], by: Sequence[str]) -> str:
    if unknown := set(by) - {*labels, "instance"}:
        raise KeyError(f"{name} has no label {unknown}")
    if not name.startswith("airflow_"):
        return _aggregate("sum", by, inner)
    each = _aggregate("max", labels, inner)
    return each if set(by) == set(labels) else _aggregate("sum", by, each)


def _aggregate(operator: str, by: Sequence[str], inner: str) -> str:
    return f"{operator} by ({', '.join(by)}) ({inner})" if by else f"{operator} ({inner})"
