"""What Alertmanager's webhooks leave out: a group that is silenced, inhibited, gone, or that it believes to be known.

Its API lists all groups, by receiver and labels. Only a sender of which it has listed a group is believed to be one of
those that are asked, and what does not agree is given time: a webhook may be on its way.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from sqlite3 import Connection
from typing import NamedTuple

import msgspec
from msgspec import field
from msgspec.structs import replace

from ..config import Config
from ..config.router import Watchdog
from ..state import Full
from . import store
from .incident import CLEARED
from .lane import Shared
from .model import Snapshot, common, parse
from .routing import route
from .watchdogs import swallowed

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds from one look to the next."""
INTERVAL = 300.0
"""Seconds of Alertmanager's `group_interval`, where it is not configured."""
SOURCE = "alertmanager"

Where = tuple[str, tuple[tuple[str, str], ...]]
"""A receiver, and the labels of a group."""
_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Standing(msgspec.Struct, rename="camel"):
    """How an alert stands."""

    state: str = ""
    silenced_by: list[str] = []
    inhibited_by: list[str] = []


class Listed(msgspec.Struct, rename="camel"):
    """An alert as Alertmanager lists it."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    fingerprint: str
    url: str = field(name="generatorURL", default="")
    status: Standing = field(default_factory=Standing)


class Group(msgspec.Struct):
    """A group as Alertmanager lists it."""

    labels: dict[str, str]
    receiver: dict[str, str]
    alerts: list[Listed]

    def to_be_told(self, watchdogs: Iterable[Watchdog]) -> list[Listed]:
        """Its alerts but for watchdogs, of which nothing is told."""
        return [it for it in self.alerts if not swallowed(watchdogs, it.labels)]


class Known(msgspec.Struct):
    """What is looked at of a group that is known here."""

    key: str
    received: float
    receiver: str = ""
    external_url: str = ""
    group_labels: dict[str, str] = {}
    standing: str = ""

    @property
    def where(self) -> Where:
        """Where Alertmanager has it."""
        return where(self.receiver, self.group_labels)


class Verdict(NamedTuple):
    """A group that stands otherwise there than here; these alerts of it fire, and are not known here."""

    group: Known
    standing: str
    unknown: Sequence[Listed] = ()


class Judge:
    """It remembers since when something does not agree."""

    def __init__(self) -> None:
        self.since: dict[Where, float] = {}

    def verdicts(
        self,
        there: Mapping[Where, Sequence[Listed]],
        here: Sequence[tuple[bool, Known]],
        senders: set[str],
        now: float,
        patience: float,
    ) -> Iterator[Verdict]:
        """What is to be mended; `senders`, whose groups must be there, gets those of whom one is."""
        before, self.since = self.since, {}
        opened = {group.where: group for over, group in here if not over}
        past = {group.where: group for over, group in here if over}
        urls = {group.receiver: group.external_url for _, group in here}

        def lasts(place: Where, heard: float = 0.0) -> bool:
            self.since[place] = since = before.get(place, now)
            return now - max(since, heard) >= patience

        for place, group in opened.items():
            if place in there:
                senders.add(group.external_url)
                if (found := standing(there[place])) != group.standing:
                    yield Verdict(group, found)
            elif group.external_url in senders and lasts(place, group.received):
                yield Verdict(group, CLEARED)
        for place in there.keys() - opened.keys():
            receiver, alerts = place[0], there[place]
            if receiver in urls and not standing(alerts) and lasts(place):
                unknown = Known("", 0.0, receiver, urls[receiver], dict(place[1]))
                yield Verdict(past.get(place, unknown), "", alerts)


def where(receiver: str, labels: Mapping[str, str]) -> Where:
    """A receiver and labels, cut as those of a snapshot are."""
    return receiver[:4096], tuple(sorted((name[:256], text[:4096]) for name, text in labels.items()))


def standing(alerts: Iterable[Listed]) -> str:
    """How a group stands: empty while one of its alerts is not suppressed."""
    found = [alert.status for alert in alerts]
    if any(it.state != "suppressed" for it in found):
        return ""
    silenced, inhibited = any(it.silenced_by for it in found), any(it.inhibited_by for it in found)
    return "silenced" if silenced else "inhibited" if inhibited else "muted"


async def run(shared: Shared) -> None:
    """Mend it, for as long as this is not cancelled."""
    judge = Judge()
    while True:
        with suppress(Full):  # the next look finds the same
            await _look(shared, judge)
        await asyncio.sleep(EVERY)


async def _look(shared: Shared, judge: Judge) -> None:
    config = shared.config
    there: dict[Where, list[Listed]] = {}
    interval = 0.0
    for url in config.alertmanagers:
        get = partial(shared.upstream.get, SOURCE, token=config.alertmanager_token_file)
        groups = await get(f"{url}/api/v2/alerts/groups", read=_GROUPS.decode)
        longest = await get(f"{url}/api/v2/status", read=group_interval)
        if groups is None or longest is None:
            judge.since.clear()
            return
        interval = max(interval, longest)
        for group in groups:
            if alerts := group.to_be_told(config.watchdogs):
                there.setdefault(where(group.receiver.get("name", ""), group.labels), []).extend(alerts)
    if not config.alertmanagers:
        return
    here = await shared.do(store.known, SOURCE, Known)
    asked = f"{' '.join(sorted(config.alertmanagers))} "
    known = await shared.do(store.heard, store.SENDER)
    senders = {name.removeprefix(asked) for name in known if name.startswith(asked)}
    now, patience = shared.clock(), 2 * EVERY + 2 * interval
    for verdict in await asyncio.to_thread(lambda: [*judge.verdicts(there, here, senders, now, patience)]):
        await shared.do(_mend, verdict, config, now)
    new = {asked + url for url in senders} - known.keys()
    await shared.do(store.hear, store.SENDER, new, now)


def _mend(connection: Connection, verdict: Verdict, config: Config, now: float) -> None:
    group, stands = verdict.group, verdict.standing
    log.info("group mended", extra={"receiver": group.receiver, "standing": stands or "firing"})
    if not verdict.unknown:
        key = (SOURCE, group.receiver, group.key)
        store.amend(connection, key, group.received, lambda it: replace(_changed(it, stands, now), standing=stands))
        return
    snapshot = parse(webhook(group, verdict.unknown), now)
    snapshot = replace(snapshot, receiver=group.receiver, key=group.key or snapshot.nameless)
    targets = route(config, snapshot.labels, snapshot.receiver)
    store.accept(connection, snapshot, targets, now)


def _changed(snapshot: Snapshot, stands: str, now: float) -> Snapshot:
    return snapshot.over(now) if stands == CLEARED else replace(snapshot, received=now)


def webhook(group: Known, alerts: Sequence[Listed]) -> bytes:
    """What Alertmanager would have posted of these alerts."""
    return msgspec.json.encode(
        {
            "externalURL": group.external_url,
            "groupLabels": group.group_labels,
            "commonLabels": common(alert.labels for alert in alerts),
            "commonAnnotations": common(alert.annotations for alert in alerts),
            "alerts": [{**msgspec.to_builtins(alert), "status": "firing"} for alert in alerts],
        }
    )


def group_interval(status: bytes) -> float:
    """The longest in the configuration that Alertmanager's status has as text, in seconds."""
    found = re.findall(rb"\bgroup_interval: (\w+)", status)
    return max((_seconds(text.decode()) for text in found), default=INTERVAL)


def _seconds(duration: str) -> float:
    return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"(\d+)(ms|[wdhms])", duration))


_GROUPS = msgspec.json.Decoder(list[Group])
