"""Rules with one thing wrong each: a threshold, an operator, a label, a window, a time to wait."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

Document = dict[str, Any]

SWAPS = {
    ">": [">=", "<"],
    "<": ["<=", ">"],
    ">=": [">", "<"],
    "<=": ["<", ">"],
    "==": ["!="],
    "and": ["unless"],
    "unless": ["and"],
    "or": ["and"],
    "+": ["*"],
    "-": ["+"],
    "*": ["-"],
    "/": ["*"],
}
_TOKEN = re.compile(
    r"(?P<matcher>(?:[\w]+)\s*(?:=~|!~|!=|=)\s*\"[^\"]*\")"
    r"|(?P<grouping>\b(?:by|on|group_left)\s*\([^)]*\))"
    r"|(?P<window>\[\w+\])"
    r"|(?P<operator>>=|<=|==|>|<|\band\b|\bunless\b|\bor\b|(?<=\s)[-+*/](?=\s))"
    r"|(?P<number>(?<![\w.:])\d+(?:\.\d+)?(?:e\d+)?(?![\w.]))"
)


class Mutant(NamedTuple):
    """What was done to which rule, and the rule that it became."""

    name: str
    change: str
    rule: Document


def of(rule: Document) -> Iterator[Mutant]:
    """Every mutant of a rule, one change each."""
    name, text = rule.get("alert") or rule["record"], str(rule["expr"])
    for start, end, replacement in _edits(text):
        change = f"{text[start:end]} -> {replacement or 'nothing'} at {start}"
        yield Mutant(name, change, {**rule, "expr": text[:start] + replacement + text[end:]})
    for key, factors in (("for", (0.5, 2)), ("keep_firing_for", (0.6,))):
        if key in rule:
            for factor in factors:
                value = f"{int(_seconds(rule[key]) * factor)}s"
                yield Mutant(name, f"{key} {rule[key]} -> {value}", {**rule, key: value})
            yield Mutant(name, f"no {key}", {each: value for each, value in rule.items() if each != key})
    for label in rule.get("labels", {}):
        changed = copy.deepcopy(rule)
        changed["labels"][label] = "other"
        yield Mutant(name, f"{label} {rule['labels'][label]} -> other", changed)


def _edits(text: str) -> Iterator[tuple[int, int, str]]:
    """The start and end of what is replaced, and by what."""
    for token in _TOKEN.finditer(text):
        start, end = token.span()
        kind, found = token.lastgroup, token[0]
        if kind == "number":
            for number in _numbers(float(found)):
                yield start, end, f"{number:.12g}"
        elif kind == "operator":
            for other in SWAPS[found]:
                yield start, end, other
        elif kind == "window":
            yield start, end, f"[{int(_seconds(found[1:-1])) // 4}s]"
            yield start, end, f"[{int(_seconds(found[1:-1])) * 4}s]"
        elif kind == "matcher":
            label, operator, value = re.split(r"\s*(=~|!~|!=|=)\s*", found, maxsplit=1)
            yield start, end, f'{label}{operator}"other"'
            yield start, end, f"{label}{_OPPOSITE[operator]}{value}"
        else:
            head, labels = found.rstrip(")").split("(")
            names = [name.strip() for name in labels.split(",") if name.strip()]
            for name in names:
                yield start, end, f"{head}({', '.join(other for other in names if other != name)})"


_OPPOSITE = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}


def _numbers(number: float) -> tuple[float, float]:
    return (number * 2, number / 2) if number else (1.0, -1.0)


def _seconds(duration: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(float(value) * units[unit] for value, unit in re.findall(r"(\d+)([smhd])", duration))
