"""The status page: what is watched and how each collector fares; text is escaped, and credentials never get here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from jinja2 import Environment, StrictUndefined

from . import __version__
from .config import Config
from .poller import Poller, Status
from .router import dispatcher

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


def render(
    config: Config, pollers: Sequence[Poller], destinations: Sequence[dispatcher.Status], not_ready_because: str | None
) -> str:
    """The page as HTML."""
    sources = []
    if config.airflow.has_database:
        sources.append(("database", "Metadata database", _database(config)))
    if config.celery.has_broker:
        sources.append(("broker", "Celery broker", _broker(config)))
    mood, verdict = _verdict([poller.status for poller in pollers], destinations)
    return _TEMPLATE.render(
        version=__version__,
        airflow=config.airflow.name,
        base_url=config.airflow.base_url,
        not_ready_because=not_ready_because,
        mood=mood,
        verdict=verdict,
        sources=sources,
        pollers=pollers,
        destinations=destinations,
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


def _verdict(
    statuses: Sequence[Status], destinations: Sequence[dispatcher.Status]
) -> tuple[Literal["good", "bad", "idle"], str]:
    failing = [status.collector for status in statuses if status.success is False]
    troubled = [status.destination for status in destinations if status.trouble or status.waiting.dead]
    waiting = sum(status.success is None for status in statuses)
    sentences = []
    if failing:
        sentences.append(f"{len(failing)} of {len(statuses)} collectors cannot be read: {', '.join(failing)}.")
    if troubled:
        sentences.append(f"Not all messages arrive at {', '.join(troubled)}.")
    if sentences:
        return "bad", " ".join(sentences)
    if waiting:
        return "idle", f"{waiting} of {len(statuses)} collectors have not been read yet."
    return "good", f"All {len(statuses)} collectors can be read." if statuses else "Nothing keeps messages waiting."


def span(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 120 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _ago(unix_time: float) -> str:
    return f"{span(time.time() - unix_time)} ago"


_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters |= {"span": span, "ago": _ago}
_TEMPLATE = _ENVIRONMENT.from_string(files(__package__).joinpath("status.html.j2").read_text("utf-8"))
