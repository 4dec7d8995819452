"""docs/benchmarks.md: its prose is written by hand, what stands between a part's two markers is measured."""

from __future__ import annotations

import re
from pathlib import Path

from .figures import Result, goals

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def section(name: str, result: Result, facts: str, seconds: float) -> str:
    """A part's figures, under the command that measures them anew."""
    heading = f"`make bench ARGS={name}`: {facts}; it took {seconds:.0f} s."
    return f"{heading}\n\n{goals(result.goals)}\n{result.text.strip()}\n"


def write(name: str, text: str) -> None:
    """Puts a part's text into the page; raises ValueError when the page has no place for it."""
    pattern = re.compile(rf"(<!-- measured: {name} -->\n).*(?=<!-- end of {name} -->)", re.DOTALL)
    page, found = pattern.subn(lambda match: f"{match[1]}\n{text}\n", PAGE.read_text())
    if found != 1:
        raise ValueError(f"{PAGE.name} has no place for {name}")
    PAGE.write_text(page)
