"""The counters: what they count, what of it is on disk, and what of that may be shown already.

A series that is new shows zeros for HOLD seconds, and a restored one what it showed last, so that every scraper sees
where it stood before it goes on; nothing is shown that `settle` did not hand out to be saved before.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ..discovery import OTHER
from ..metrics import Declared, Family

HOLD = 61.0
"""Seconds: the usual interval of scrapes, and a little."""

MAX_CHILDREN = 100
MAX_BY_TASK = 10_000
"""Series that a family may have, without DAGs or with the labels that a configuration adds: later ones are folded."""

Labels = tuple[str, ...]
Series = tuple[str, Labels]


@dataclass(slots=True)
class Child:
    """One series: what was counted, and what is shown; `until` is None before it is shown for the first time."""

    cells: list[float]
    shown: list[float]
    until: float | None = None


class Ledger:
    """Counters, sums and histograms of these families; a counter has one cell, others those of `Family.samples`.

    `labels` are the names of each family's labels.
    """

    def __init__(self, metrics: Iterable[Declared]) -> None:
        self._families: dict[str, tuple[Declared, dict[Labels, Child]]] = {each.name: (each, {}) for each in metrics}
        self._held: dict[Series, Child] = {}
        self._unsaved: dict[Series, None] = {}
        self._gone: set[Series] = set()
        self._folded: set[Series] = set()
        self._dags: frozenset[str] = frozenset()
        self._shown: dict[str, dict[Labels, float | Sequence[float]]] = {}
        self._shown_dags: Collection[str] = ()
        self.labels = {name: [*metric.labels] for name, (metric, _) in self._families.items()}

    def zero(self, metric: Declared, *labels: str) -> None:
        """This series exists from now on; labels that were added to the family and are left out are `__other__`."""
        self._cells(metric, labels)

    def add(self, metric: Declared, *labels: str, amount: float = 1.0) -> None:
        """Count this much more."""
        self._cells(metric, labels, touch=True)[0] += amount

    def observe(self, metric: Declared, *labels: str, value: float) -> None:
        """Count one value of a histogram or summary."""
        cells = self._cells(metric, labels, touch=True)
        cells[bisect_left(metric.buckets, value)] += 1.0
        cells[-1] += value

    def _cells(self, metric: Declared, labels: Labels, *, touch: bool = False) -> list[float]:
        declared, children = self._families[metric.name]
        size, by_dag = len(declared.labels), _by_dag(metric)
        key, folded = _filled(labels, size), _filled(labels[: len(metric.labels)] if by_dag else (), size)
        if key not in children and len(children) >= (MAX_BY_TASK if by_dag else MAX_CHILDREN) and key != folded:
            if len(self._folded) < MAX_BY_TASK:
                self._folded.add((metric.name, key))
            key = folded
        if new := key not in children:
            cells = [0.0] * _size(metric)
            children[key] = self._held[metric.name, key] = Child(cells, cells.copy())
        if new or touch:
            self._unsaved[metric.name, key] = None
        return children[key].cells

    def keep(self, dag_ids: Collection[str]) -> None:
        """All other DAGs are gone from the database."""
        if dag_ids == self._dags:
            return
        self._dags, kept = frozenset(dag_ids), {*dag_ids, OTHER}
        self._folded.clear()
        for name, (metric, children) in self._families.items():
            for labels in [each for each in children if _by_dag(metric) and each[0] not in kept]:
                del children[labels]
                self._held.pop((name, labels), None)
                self._unsaved.pop((name, labels), None)
                self._gone.add((name, labels))

    def settle(self, now: float) -> Iterator[tuple[str, str, str | None, str | None]]:
        """What has to be saved before `families` is shown: family, labels, cells and shown cells; None for the gone."""
        due = takewhile(lambda held: held[1].until is not None and held[1].until <= now, self._held.items())
        for series, _ in list(due):  # those that were shown first come first
            del self._held[series]
            self._unsaved[series] = None
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
        for name, labels in self._gone if self._shown else ():
            self._shown[name].pop(labels, None)
        for name, labels in self._unsaved if self._shown else ():
            metric, children = self._families[name]
            if not _by_dag(metric) or labels[0] in self._shown_dags:
                self._shown[name][labels] = _value(metric, children[labels])
        self._unsaved.clear()
        self._gone.clear()

    def restore(self, rows: Iterable[tuple[str, str, str, str]], labels: Mapping[str, Sequence[str]]) -> None:
        """What an earlier process saved, with these names of its labels; a family that this one lacks is left alone."""
        for name, key, cells, shown in rows:
            if name in self._families:
                metric, children = self._families[name]
                series, child = (name, tuple(json.loads(key))), Child(json.loads(cells), json.loads(shown))
                if labels.get(name) == self.labels[name] and len(child.cells) == len(child.shown) == _size(metric):
                    children[series[1]] = self._held[series] = child
                else:
                    self._gone.add(series)

    def has(self, metric: Declared, *labels: str) -> bool:
        """Whether this series exists."""
        declared, children = self._families[metric.name]
        return _filled(labels, len(declared.labels)) in children

    def families(self, dags: Collection[str]) -> list[Family]:
        """What may be shown: of these DAGs, and of all others as one."""
        dags, folded = {*dags, OTHER}, Counter(name for name, _ in self._folded)
        if dags != self._shown_dags:  # else `saved` has noted what changed
            self._shown_dags = dags
            for name, (metric, children) in self._families.items():
                self._shown[name] = {
                    labels: _value(metric, child)
                    for labels, child in children.items()
                    if child.until is not None and (not _by_dag(metric) or labels[0] in dags)
                }
        return [Family(metric, self._shown[name], folded[name]) for name, (metric, _) in self._families.items()]


def _value(metric: Declared, child: Child) -> float | list[float]:
    return child.shown[0] if metric.kind == "counter" else child.shown


def _by_dag(metric: Declared) -> bool:
    return metric.labels[:1] == ("dag_id",)


def _size(metric: Declared) -> int:
    return 1 if metric.kind == "counter" else len(metric.buckets) + 2


def _filled(labels: Labels, size: int) -> Labels:
    return labels if len(labels) == size else (*labels, *[OTHER] * (size - len(labels)))
