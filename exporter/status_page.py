"""The status page: what is watched and how each collector fares; text is escaped, and credentials never get here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from jinja2 import Environment, StrictUndefined

from . import __version__
from .config import Config
from .poller import Poller

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}

_TEMPLATE = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
    files(__package__).joinpath("status.html.j2").read_text("utf-8")
)


@dataclass(frozen=True, slots=True)
class Line:
    """One collector, in words."""

    name: str
    state: Literal["ok", "failing", "waiting"]
    problem: str
    last_success: str
    duration: str
    series: str
    interval: str


@dataclass(frozen=True, slots=True)
class Source:
    """What is read, where it is, and its collectors."""

    title: str
    place: str
    lines: Sequence[Line]


def render(config: Config, pollers: Sequence[Poller], not_ready_because: str | None) -> str:
    """The page as HTML."""
    sources = []
    if config.airflow.has_database:
        sources.append(Source("Metadata database", _database(config), _lines(pollers, "database")))
    if config.celery.has_broker:
        sources.append(Source("Celery broker", _broker(config), _lines(pollers, "broker")))
    mood, verdict = _verdict([line for source in sources for line in source.lines])
    return _TEMPLATE.render(
        version=__version__,
        airflow=config.airflow.name,
        not_ready_because=not_ready_because,
        mood=mood,
        verdict=verdict,
        sources=sources,
    )


def _database(config: Config) -> str:
    try:
        dsn = urlsplit(config.airflow.database_dsn())
    except OSError as error:
        return f"not known: {error}"
    arguments = dict(parse_qsl(dsn.query))
    hosts = arguments.get("host") or dsn.netloc.rpartition("@")[2] or "localhost"
    return f"PostgreSQL {hosts}, database {arguments.get('dbname') or unquote(dsn.path[1:])}"


def _broker(config: Config) -> str:
    try:
        broker = config.celery.broker()
    except OSError as error:
        return f"not known: {error}"
    nodes = ", ".join(f"{host}:{port}" for host, port in broker.nodes)
    return f"{f'{broker.master_name} by Sentinel' if broker.master_name else 'Redis'} {nodes}, database {broker.db}"


def _verdict(lines: Sequence[Line]) -> tuple[Literal["good", "bad", "idle"], str]:
    failing = [line.name for line in lines if line.state == "failing"]
    waiting = sum(line.state == "waiting" for line in lines)
    if failing:
        return "bad", f"{len(failing)} of {len(lines)} collectors cannot be read: {', '.join(failing)}."
    if waiting:
        return "idle", f"{waiting} of {len(lines)} collectors have not been read yet."
    return "good", f"All {len(lines)} collectors can be read."


def _lines(pollers: Sequence[Poller], source: Literal["database", "broker"]) -> list[Line]:
    return [_line(poller) for poller in pollers if poller.status.source == source]


def _line(poller: Poller) -> Line:
    status, part = poller.status, poller.part
    return Line(
        name=status.collector,
        state="waiting" if status.success is None else "ok" if status.success else "failing",
        problem=f"{status.reason}: {status.error}" if status.success is False else "",
        last_success="never" if status.last_success is None else f"{span(time.time() - status.last_success)} ago",
        duration="-" if status.duration is None else span(status.duration),
        series=f"{part.series:,}" if part else "-",
        interval=span(status.interval),
    )


def span(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 120 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
