"""Which destinations a group of alerts reaches: routes in order, with matchers as Alertmanager writes them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..config import Config

_MATCHER = re.compile(
    r"""\s*(?P<name>"(?:[^"\\]|\\.)+"|[^\s"'`{}=!~,\\]+)\s*(?P<operator>=~|!~|!=|=)"""
    r"""\s*(?P<value>"(?:[^"\\]|\\.)*"|(?![=~])[^"',]*?)\s*""",
    re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


class Matcher(NamedTuple):
    """What a label's value has to be, or must not be; a label that is missing is empty."""

    name: str
    negated: bool
    value: str | re.Pattern[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it holds for these labels."""
        found = labels.get(self.name, "")
        same = found == self.value if isinstance(self.value, str) else bool(self.value.fullmatch(found))
        return same != self.negated

    def __str__(self) -> str:
        """As Alertmanager writes it."""
        value, sign = (self.value, "=") if isinstance(self.value, str) else (self.value.pattern, "~")
        operator = f"!{sign}" if self.negated else sign if sign == "=" else "=~"
        return f"{self.name}{operator}{json.dumps(value, ensure_ascii=False)}"


class Target(NamedTuple):
    """Where a message goes, whom it mentions, and for how many seconds after its end it goes on if it fires again."""

    destination: str
    mention: str
    reopen: float = 1800.0


def route(config: Config, labels: Mapping[str, str], receiver: str = "") -> list[Target]:
    """Where a group goes, each destination once: to the one that its receiver is named like, or as the routes say.

    Of these the first that matches wins; without any, everything goes to the only destination.
    """
    if receiver in config.destinations:
        return [Target(receiver, "")]
    if not config.routes:
        return [Target(name, "") for name in config.destinations]
    found: dict[str, Target] = {}
    for it in config.routes:
        if all(matcher.matches(labels) for matcher in it.match):
            for name in it.to:
                found.setdefault(name, Target(name, it.mention, it.reopen_window))
            if not it.goes_on:
                break
    return list(found.values())


def parse_matcher(text: str) -> Matcher:
    """One matcher, such as `team=~"data|ml"`; ValueError with a sentence if it is none."""
    found = _MATCHER.fullmatch(text)
    if not found:
        raise ValueError('must be one matcher, such as severity="critical" or team=~"data|ml"')
    value: str | re.Pattern[str] = _plain(found["value"])
    if found["operator"].endswith("~"):
        try:
            with warnings.catch_warnings(action="error"):
                value = re.compile(value)
        except (re.error, Warning) as error:
            raise ValueError(f"the regular expression is not valid: {error}") from None
    return Matcher(_plain(found["name"]), found["operator"].startswith("!"), value)


def _plain(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), text[1:-1], flags=re.DOTALL)
