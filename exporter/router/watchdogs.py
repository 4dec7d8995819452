"""Alerts that always fire: a webhook's are noted and go no further, and where they stop, that is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from sqlite3 import Connection

from msgspec.structs import replace

from ..config import Config
from ..config.router import Watchdog
from ..state import Full
from ..telemetry import WATCHDOG_HEARD
from . import store
from .lane import Shared
from .markup import duration, utc
from .model import Alert, Snapshot
from .routing import route

LOOK = 5.0
"""Seconds from one look at the watchdogs to the next."""
SOURCE, KEY = "windsock", "watchdog "
REFUSED, QUIET = "refused", 3600.0
"""The group that tells of refused webhooks, and seconds without one after which it is over."""


def parted(watchdogs: Iterable[Watchdog], snapshot: Snapshot) -> tuple[set[str], Snapshot]:
    """The names of watchdogs that a webhook tells to fire, and what it tells beside them."""
    heard: set[str] = set()
    rest: list[Alert] = []
    firing = resolved = 0
    for alert in snapshot.alerts:
        if not (names := swallowed(watchdogs, alert.labels)):
            rest.append(alert)
        elif alert.firing:
            heard, firing = heard | names, firing + 1
        else:
            resolved += 1
    counts = {"firing": snapshot.firing - firing, "resolved": snapshot.resolved - resolved}
    return heard, replace(snapshot, alerts=tuple(rest), **counts)


def swallowed(watchdogs: Iterable[Watchdog], labels: Mapping[str, str]) -> set[str]:
    """The names of the watchdogs that an alert with these labels is."""
    return {it.name for it in watchdogs if all(matcher.matches(labels) for matcher in it.match)}


async def run(shared: Shared) -> None:
    """Look after them, for as long as it is not cancelled."""
    while True:
        with suppress(Full):  # the next look finds the same
            heard = await shared.do(look, shared.config, shared.clock())
            WATCHDOG_HEARD.clear()
            for name, time in heard.items():
                WATCHDOG_HEARD.labels(name).set(time)
        await asyncio.sleep(LOOK)


def look(connection: Connection, config: Config, now: float) -> dict[str, float]:
    """When each was last heard, which is now for one that is new; whether it is missing is told if that is news."""
    store.live(connection, now)
    heard = store.heard(connection, store.WATCHDOG)
    known = [it for over, it in store.known(connection, SOURCE, Snapshot) if not over]
    missing = {it.key: it for it in known if it.key.startswith(KEY)}
    quiet = [it for it in known if it.key == REFUSED and now - it.received >= QUIET]
    found: dict[str, float] = {}
    for watchdog in config.watchdogs:
        name, key = watchdog.name, KEY + watchdog.name
        found[name] = last = min(heard.get(name, now), now)
        if heard.get(name) != last:  # new, or the clock was set back
            store.hear(connection, store.WATCHDOG, [name], last)
        is_missing = now - last >= watchdog.every + watchdog.grace
        told = missing.pop(key, None)
        if is_missing and not told:
            snapshot = _missing(watchdog, last, now)
            store.accept(connection, snapshot, route(config, snapshot.labels), now)
        elif told and not is_missing:
            store.accept(connection, told.over(now), (), now)
    for told in (*missing.values(), *quiet):  # those that are missing are no longer configured
        store.accept(connection, told.over(now), (), now)
    store.forget(connection, store.WATCHDOG, heard.keys() - found.keys())
    return found


def _missing(watchdog: Watchdog, last: float, now: float) -> Snapshot:
    labels = {"alertname": "WindsockWatchdogMissing", "severity": "critical", "watchdog": watchdog.name}
    annotations = {
        "summary": f"No alert with {watchdog.name} has arrived since {utc(last)}: others may not arrive either",
        "description": f"One is due every {duration(watchdog.every)}. Prometheus, its rules or Alertmanager may be "
        "down, or cannot reach Windsock.",
    }
    alert = Alert("missing", True, last, None, labels, annotations, "")
    key = KEY + watchdog.name
    return Snapshot(source=SOURCE, key=key, common_labels=labels, firing=1, resolved=0, alerts=(alert,), received=now)
