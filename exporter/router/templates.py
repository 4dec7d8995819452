"""What the configuration may word in a message: sandboxed jinja2, where all that comes from data is escaped."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from itertools import chain
from time import thread_time
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from . import markup
from .incident import Incident, gather
from .model import parse

log = logging.getLogger(__name__)

SLOTS = {"headline": 300, "title": 150, "summary": 700, "alert": 350, "links": 1000, "footer": 400}
"""What may be worded, and how long it may get."""
LONGEST = 2 * max(SLOTS.values())
BUDGET = 0.5
"""Seconds of processor time for one text."""

_HUGE = frozenset({"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"})
"""Methods of a text that make much more of it."""
_ANGLES = re.compile(r"<[^<>]*>?")
_OURS = re.compile(r"<(https?://[^<>]+|!date\^\d+\^[^<>^]+)>")


class Markup(str):
    """What a filter has escaped already."""

    __slots__ = ()


class _Sandbox(ImmutableSandboxedEnvironment):
    """Without what makes something huge out of something small."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise SecurityError(f"{operator} is for numbers only" if operator != "**" else "there is no **")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:
        """No format is safe, not even a wrapped one."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not (isinstance(obj, str) and attr in _HUGE) and super().is_safe_attribute(obj, attr, value)


class Templates:
    """Texts for some of the slots; ValueError, beginning with the slot, for one that fails on an example."""

    def __init__(self, sources: Mapping[str, str], failed: Callable[[str], object] = lambda slot: None) -> None:
        self._failed = failed
        self._sources = dict(sources)
        if unknown := sources.keys() - SLOTS:
            raise ValueError(f"{min(unknown)}: there is no such template, but {', '.join(SLOTS)}")
        self._compiled = {}
        for slot, source in sources.items():
            try:
                self._compiled[slot] = _ENVIRONMENT.from_string(source)
            except TemplateError as error:
                raise ValueError(f"{slot}: {error}") from None
            for name, variables in _EXAMPLES.items():
                try:
                    self.render(slot, variables)
                except Exception as error:  # noqa: BLE001  (a template can raise anything)
                    raise ValueError(f"{slot}: {error}, for {name}") from None

    def fill(self, slot: str, variables: Mapping[str, Any]) -> str | None:
        """Markup within the slot's limit; None, and counted, if this template fails, and None if there is none."""
        if slot not in self._compiled:
            return None
        try:
            return self.render(slot, variables)
        except Exception as error:  # noqa: BLE001  (whatever a template does, the alert is told)
            log.warning("template failed", extra={"slot": slot, "reason": f"{type(error).__name__}: {error}"})
            self._failed(slot)
            return None

    def render(self, slot: str, variables: Mapping[str, Any]) -> str:
        """The same, but raises whatever goes wrong."""
        deadline, parts, size = thread_time() + BUDGET, [], 0
        for part in chain(self._compiled[slot].generate(variables), ("",)):
            if thread_time() > deadline:
                raise TimeoutError(f"takes longer than {BUDGET} s")
            parts.append(part)
            size += len(part)
            if size > 10 * SLOTS[slot]:
                break
        text = _ANGLES.sub(lambda found: self._angles(slot, found[0]), "".join(parts))
        return markup.clip(text.strip(), SLOTS[slot])

    def _angles(self, slot: str, text: str) -> str:
        """Links and dates stay, as does what the template says word for word; data cannot mention from within `<…>`."""
        kept = _OURS.fullmatch(text) or (text.endswith(">") and text in self._sources[slot])
        return text if kept else text.replace("<", "&lt;").replace(">", "&gt;")


def _finalize(value: Any) -> Any:
    return value if isinstance(value, Markup) else markup.escape(str(value)[:LONGEST])


_ENVIRONMENT = _Sandbox(
    undefined=StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True, autoescape=False
)
_ENVIRONMENT.globals.clear()
for _name in ("batch", "center", "format", "indent", "slice", "wordwrap"):
    del _ENVIRONMENT.filters[_name]
_ENVIRONMENT.filters |= {
    "code": lambda value: Markup(markup.code(str(value))),
    "date": lambda value: Markup(markup.date(float(value))),
    "duration": lambda value: markup.duration(float(value)),
    "link": lambda value, label: Markup(markup.link(str(value), str(label))),
}


def _example(body: str, first: float) -> dict[str, Any]:
    snapshot = parse(body.encode(), now=1.8e9)
    facts = gather(Incident(snapshot, "airflow", None, "", first, 1, False, None, "1"))
    return facts.variables() | {"alert": snapshot.alerts[0]}


_FAILED = """{"status": "firing", "labels": {"alertname": "DagFailed", "severity": "critical", "dag_id": "etl_load"},
  "annotations": {"summary": "DAG etl_load failed"}, "startsAt": "2027-01-15T07:00:00Z", "generatorURL": "http://p/"}"""
_EXAMPLES = {
    "a DAG that failed": _example(f'{{"alerts": [{_FAILED}]}}', 1.79999e9),
    "an alert without labels, resolved": _example(
        '{"alerts": [{"status": "resolved", "labels": {}, "startsAt": "", "endsAt": "2027-01-15T07:30:00Z"}]}', 0
    ),
    "several alerts": _example(
        f'{{"alerts": [{_FAILED}, {_FAILED.replace("etl_", "<!here> &")}, {_FAILED.replace("firing", "resolved")}], '
        '"truncatedAlerts": 7}',
        1.79999e9,
    ),
}
