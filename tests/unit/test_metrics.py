"""Rows become samples: labels, folding, zeros, and what a cap on DAGs does to both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import add
from typing import Any

import pytest

from exporter.discovery import Dags
from exporter.metrics import Metric


@dataclass(frozen=True)
class Row:
    """Something of a DAG in a state."""

    dag_id: str
    state: str | None = None
    number: float | None = 1


def metric(*labels: str, **declared: Any) -> Metric[Row]:
    """A gauge that shows the row's number."""
    return Metric(name="windsock_test", help="A test.", value=lambda row: row.number, labels=labels, **declared)


def capped(limit: int, deny: str = "") -> Dags:
    """A choice of the first DAGs, up to a limit."""
    return Dags(re.compile(".*"), re.compile(deny), limit)


def test_labels_are_the_rows_attributes_in_the_declared_order() -> None:
    """A label reads the attribute of its name; None becomes the empty string."""
    samples = metric("state", "dag_id").family([Row("a", "queued", 2), Row("b", None, 3)]).samples
    assert samples == {("queued", "a"): 2, ("", "b"): 3}


def test_an_unknown_value_is_absent() -> None:
    """None gives no sample, not even where others are folded into one; 0 gives one."""
    rows = [Row("a", number=None), Row("b", number=0), Row("b", number=None)]
    assert metric("dag_id", fold=add).family(rows).samples == {("b",): 0}


@pytest.mark.parametrize(("fold", "result"), [(add, 6), (min, 1), (max, 3)])
def test_rows_with_the_same_labels_are_folded(fold: Any, result: float) -> None:
    """Amounts add up, times keep the oldest or newest."""
    rows = [Row("a", number=number) for number in (2, 1, 3)]
    assert metric("dag_id", fold=fold).family(rows).samples == {("a",): result}


def test_rows_with_the_same_labels_are_an_error_without_a_fold() -> None:
    """A duplicate series would make Prometheus refuse the whole page: its collector fails instead, with the name."""
    with pytest.raises(ValueError, match=r"windsock_test: two rows have the labels \('a',\)"):
        metric("dag_id").family([Row("a"), Row("a")])


def test_zeros_show_where_no_row_is() -> None:
    """A declared zero never overwrites a value."""
    gauge = metric("state", fold=add, zeros=(("queued",), ("running",)))
    assert gauge.family([Row("a", "queued")]).samples == {("queued",): 1, ("running",): 0}
    assert metric(fold=add, zeros=((),)).family([]).samples == {(): 0}


def test_amounts_of_dags_beyond_the_cap_are_summed() -> None:
    """They add up under dag_id="__other__", per remaining labels; each series that lost its name is counted once."""
    rows = [
        Row("a", "queued"),
        Row("b", "queued", 2),
        Row("c", "queued", 3),
        Row("c", "running", 4),
        Row("c", "running", 5),
    ]
    family = metric("dag_id", "state", fold=add).family(rows, capped(1))
    assert family.samples == {("a", "queued"): 1, ("__other__", "queued"): 5, ("__other__", "running"): 9}
    assert family.dropped == 3


@pytest.mark.parametrize("fold", [None, min, max])
def test_times_of_dags_beyond_the_cap_are_left_out(fold: Any) -> None:
    """A time of many DAGs together would tell nothing; it is counted as dropped."""
    family = metric("dag_id", fold=fold).family([Row("a", number=10), Row("b", number=5)], capped(1))
    assert family.samples == {("a",): 10}
    assert family.dropped == 1


def test_a_denied_dag_is_not_even_summed() -> None:
    """What the configuration denies is shown under no name, but counted as dropped."""
    family = metric("dag_id", fold=add).family([Row("a"), Row("secret"), Row("b")], capped(1, deny="sec.*"))
    assert family.samples == {("a",): 1, ("__other__",): 1}
    assert family.dropped == 2


def test_a_cap_on_dags_does_not_touch_other_labels() -> None:
    """A metric without a dag_id counts every DAG."""
    family = metric("state", fold=add).family([Row("a", "paused"), Row("b", "paused")], capped(0))
    assert family.samples == {("paused",): 2}
    assert family.dropped == 0
