"""What fired and was over while Windsock was down: no webhook tells of it any more, but Prometheus remembers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from math import ceil
from sqlite3 import Connection
from urllib.parse import urlencode

import msgspec

from ..config import Config
from ..state import Full
from . import store
from .incident import MISSED
from .lane import Shared
from .markup import utc
from .model import KEPT, Alert, Snapshot, common
from .routing import Target, route
from .watchdogs import swallowed

SETTLE = 45.0
"""Seconds in which webhooks bring what is not over, and from one try to the next."""
WAITED = 300.0
"""Seconds within which Alertmanager posts what fires: what fired longer before the gap was not meant for us."""
MOST = 86_400.0
"""Seconds before now that are looked at."""
STEP = 5
"""Seconds; what fires for less may not be seen."""

_FIRING = 'ALERTS{alertstate="firing"}'
Times = dict[frozenset[tuple[str, str]], float]


class _Sample(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct):
    result: list[_Sample]


class _Answer(msgspec.Struct):
    data: _Data


class _Labelled(msgspec.Struct):
    labels: dict[str, str]


class _Group(msgspec.Struct):
    received: float
    alerts: list[_Labelled]


async def run(shared: Shared) -> None:
    """Tell of it after each gap, for as long as this is not cancelled."""
    while True:
        await asyncio.sleep(SETTLE)
        with suppress(Full):  # the gap stays until it is told of
            if gaps := await shared.do(store.heard, store.GAP):
                await _look(shared, gaps[""])


async def _look(shared: Shared, gap: float) -> None:
    config, now = shared.config, shared.clock()
    alerts: list[Alert] = []
    if config.prometheus_url:
        since = max(gap, now - MOST)
        began = await _times(shared, "min", since, now)
        ended = await _times(shared, "max", since, now)
        if began is None or ended is None:
            return
        for labels, end in ended.items():
            told, start = dict(labels), began.get(labels, end)
            name = told.get("alertname", "")
            alerts.append(Alert(f"{name} {start}", False, start, end, told, {"summary": name}, ""))
    await shared.do(tell, alerts, config, gap, now)


async def _times(shared: Shared, edge: str, since: float, now: float) -> Times | None:
    """When what fired since then, and neither fires now nor did before, was first or last seen to fire."""
    span = ceil(now - since)
    query = f"{edge}_over_time(timestamp({_FIRING})[{span}s:{STEP}s]) unless {_FIRING}"
    query += f" unless {_FIRING} offset {span + WAITED:.0f}s"
    config = shared.config
    url = f"{config.prometheus_url}/api/v1/query?{urlencode({'query': query, 'time': f'{now:.3f}'})}"
    return await shared.upstream.get("prometheus", url, _read, config.prometheus_token_file)


def _read(answer: bytes) -> Times:
    found = msgspec.json.decode(answer, type=_Answer).data.result
    return {frozenset(it.metric.items() - {("alertstate", "firing")}): float(it.value[1]) for it in found}


def tell(connection: Connection, alerts: list[Alert], config: Config, gap: float, now: float) -> None:
    """A message for each destination that would have been told of some that are not known; the gap is done with."""
    known = defaultdict(list)
    for over, group in store.known(connection, "alertmanager", _Group):
        for alert in group.alerts if not over or group.received >= gap else ():
            known[alert.labels.get("alertname")].append(alert.labels.items())
    missed: dict[str, list[Alert]] = defaultdict(list)
    for it in alerts:
        ours = all(matcher.matches(it.labels) for matcher in config.prometheus_match)
        is_known = any(it.labels.items() <= labels for labels in known[it.labels.get("alertname")])
        if ours and not is_known and not swallowed(config.watchdogs, it.labels):
            for target in route(config, it.labels):
                missed[target.destination].append(it)
    for destination, found in missed.items():
        snapshot = _snapshot(found, f"missed since {gap:.0f} at {destination}", gap, now)
        store.accept(connection, snapshot, [Target(destination, "")], now)
    store.forget(connection, store.GAP, [""])


def _snapshot(alerts: list[Alert], key: str, gap: float, now: float) -> Snapshot:
    told = f"Windsock was down from {utc(gap)} to {utc(now)}. This began in that time, and is over."
    return Snapshot(
        source="windsock",
        key=key,
        common_labels=common(it.labels for it in alerts),
        common_annotations={"description": told},
        firing=0,
        resolved=len(alerts),
        alerts=tuple(sorted(alerts, key=lambda it: it.starts)[:KEPT]),
        standing=MISSED,
        received=now,
    )
