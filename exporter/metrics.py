"""A metric family is declared once, as data, and fed by typed rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Generic, Literal, NamedTuple, TypeVar

from .discovery import Dags

Row = TypeVar("Row")
Kind = Literal["gauge", "counter", "histogram", "summary"]
Samples = Mapping[tuple[str, ...], float | Sequence[float]]


class Family(NamedTuple):
    """The samples of one metric at one moment: label values to value, and how many series a cap took away.

    A histogram or summary has, instead of a value, a count for each bucket, one for +Inf, and the sum.
    """

    metric: Declared
    samples: Samples
    dropped: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """One metric family; `buckets` are a histogram's finite upper bounds."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = "gauge"
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric(Declared, Generic[Row]):
    """One metric family, fed by rows of one type.

    A label is an attribute of the row; None becomes the empty string. A value of None gives no sample.
    Rows with the same labels are joined by `fold` (`add` for amounts, `min` or `max` for times); without one they are
    an error. `zeros` are label values that show 0 also when no row has them.
    """

    value: Callable[[Row], float | None]
    fold: Callable[[float, float], float] | None = None
    zeros: tuple[tuple[str, ...], ...] = ()

    def family(self, rows: Iterable[Row], dags: Dags | None = None) -> Family:
        """The samples of these rows; DAGs beyond the cap are summed where values add up, and left out elsewhere."""
        samples: dict[tuple[str, ...], float] = {}
        dropped: set[tuple[str, ...]] = set()
        dag = self.labels.index("dag_id") if "dag_id" in self.labels else -1
        for row in rows:
            value = self.value(row)
            if value is None:
                continue
            labels = tuple(["" if (text := getattr(row, name)) is None else str(text) for name in self.labels])
            if dags and dag >= 0:
                shown = dags.label(labels[dag])
                if shown != labels[dag]:
                    dropped.add(labels)
                    if shown is None or self.fold is not add:
                        continue
                    labels = (*labels[:dag], shown, *labels[dag + 1 :])
            if labels not in samples:
                samples[labels] = value
            elif self.fold is None:
                raise ValueError(f"{self.name}: two rows have the labels {labels}")
            else:
                samples[labels] = self.fold(samples[labels], value)
        for labels in self.zeros:
            samples.setdefault(labels, 0.0)
        return Family(self, samples, len(dropped))
