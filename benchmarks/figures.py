"""Figures, their goals, and the Markdown that shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """A measured number and the limit that it must keep: at most, or at least where `least` is set."""

    what: str
    measured: float
    limit: float
    unit: str = ""
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether it keeps the limit."""
        return self.measured >= self.limit if self.least else self.measured <= self.limit

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Its line in a table of goals."""
        limit = f"{'≥' if self.least else '≤'} {number(self.limit)}{self.unit}"
        return self.what, f"{number(self.measured)}{self.unit}", limit, "yes" if self.met else "**no**"


@dataclass(frozen=True, slots=True)
class Result:
    """What one part measured: its goals, and the rest as Markdown."""

    goals: Sequence[Goal]
    text: str


def goals(of: Iterable[Goal]) -> str:
    """The goals as a table."""
    return table("what | measured | goal | met", (goal.row for goal in of))


def table(heading: str, rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table under a heading with ` | ` in between; all but the first column are aligned right."""
    names = heading.split(" | ")
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def number(value: float) -> str:
    """Three significant digits, or all before the point, with a separator of thousands."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _cell(value: object) -> str:
    return number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
