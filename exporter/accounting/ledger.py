"""The counters: what they count, what of it is on disk, and what of that may be shown already.

A series that is new shows zeros for HOLD seconds, and a restored one what it showed last, so that every scraper sees
where it stood before it goes on; nothing is shown that `settle` did not hand out to be saved before.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

from ..discovery import OTHER
from ..metrics import Declared, Family

HOLD = 61.0
"""Seconds: the usual interval of scrapes, and a little."""

MAX_CHILDREN = 100
"""Series that a family without DAGs may have; what comes later counts as `__other__`."""

Labels = tuple[str, ...]
Series = tuple[str, Labels]


@dataclass(slots=True)
class Child:
    """One series: what was counted, and what is shown; `until` is None before it is shown for the first time."""

    cells: list[float]
    shown: list[float]
    until: float | None = None


class Ledger:
    """Counters, sums and histograms of these families; a counter has one cell, others those of `Family.samples`."""

    def __init__(self, metrics: Iterable[Declared]) -> None:
        self._families: dict[str, tuple[Declared, dict[Labels, Child]]] = {each.name: (each, {}) for each in metrics}
        self._held: dict[Series, Child] = {}
        self._unsaved: set[Series] = set()
        self._gone: set[Series] = set()
        self._dags: frozenset[str] = frozenset()

    def zero(self, metric: Declared, *labels: str) -> list[float]:
        """The cells of a series, which exists from now on."""
        children = self._families[metric.name][1]
        if labels not in children:
            if metric.labels[:1] != ("dag_id",) and len(children) >= MAX_CHILDREN:
                labels = (OTHER,) * len(labels)
            if labels not in children:
                size = 1 if metric.kind == "counter" else len(metric.buckets) + 2
                child = children[labels] = self._held[metric.name, labels] = Child([0.0] * size, [0.0] * size)
                self._unsaved.add((metric.name, labels))
                return child.cells
        return children[labels].cells

    def add(self, metric: Declared, *labels: str, amount: float = 1.0) -> None:
        """Count this much more."""
        self.zero(metric, *labels)[0] += amount
        self._touch(metric, labels)

    def observe(self, metric: Declared, *labels: str, value: float) -> None:
        """Count one value of a histogram or summary."""
        cells = self.zero(metric, *labels)
        cells[bisect_left(metric.buckets, value)] += 1.0
        cells[-1] += value
        self._touch(metric, labels)

    def keep(self, dag_ids: Collection[str]) -> None:
        """All other DAGs are gone from the database."""
        if dag_ids == self._dags:
            return
        self._dags = frozenset(dag_ids)
        for name, (metric, children) in self._families.items():
            if metric.labels[:1] == ("dag_id",):
                for labels in [labels for labels in children if labels[0] not in dag_ids and labels[0] != OTHER]:
                    del children[labels]
                    self._held.pop((name, labels), None)
                    self._unsaved.discard((name, labels))
                    self._gone.add((name, labels))

    def settle(self, now: float) -> Iterator[tuple[str, str, str | None, str | None]]:
        """What has to be saved before `families` is shown: family, labels, cells and shown cells; None for the gone."""
        due = takewhile(lambda held: held[1].until is not None and held[1].until <= now, self._held.items())
        for series, _ in list(due):  # those that were shown first come first
            del self._held[series]
            self._unsaved.add(series)
        for name, labels in self._gone:
            yield name, json.dumps(labels), None, None
        for name, labels in self._unsaved:
            child = self._families[name][1][labels]
            if (name, labels) not in self._held:
                child.shown = child.cells.copy()
            yield name, json.dumps(labels), json.dumps(child.cells), json.dumps(child.shown)

    def saved(self, now: float) -> None:
        """What `settle` handed out is on disk, and about to be shown."""
        for child in takewhile(lambda child: child.until is None, reversed(self._held.values())):
            child.until = now + HOLD
        self._unsaved.clear()
        self._gone.clear()

    def restore(self, rows: Iterable[tuple[str, str, str, str]]) -> None:
        """What was saved by an earlier process; what is no family of this one is left alone."""
        for name, labels, cells, shown in rows:
            if name in self._families:
                metric, children = self._families[name]
                size = 1 if metric.kind == "counter" else len(metric.buckets) + 2
                child = Child(json.loads(cells), json.loads(shown))
                if len(child.cells) == len(child.shown) == size:
                    key = tuple(json.loads(labels))
                    children[key] = self._held[name, key] = child

    def has(self, metric: Declared, *labels: str) -> bool:
        """Whether this series exists."""
        return labels in self._families[metric.name][1]

    def families(self, dags: Collection[str]) -> list[Family]:
        """What may be shown: of these DAGs, and of all others as one."""
        shown = {*dags, OTHER}
        return [Family(metric, _visible(metric, children, shown)) for metric, children in self._families.values()]

    def _touch(self, metric: Declared, labels: Labels) -> None:
        children = self._families[metric.name][1]
        self._unsaved.add((metric.name, labels if labels in children else (OTHER,) * len(labels)))


def _visible(
    metric: Declared, children: Mapping[Labels, Child], dags: Collection[str]
) -> dict[Labels, float | list[float]]:
    by_dag = metric.labels[:1] == ("dag_id",)
    return {
        labels: child.shown[0] if metric.kind == "counter" else child.shown
        for labels, child in children.items()
        if child.until is not None and (not by_dag or labels[0] in dags)
    }
