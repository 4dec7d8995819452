"""One destination's messages, one by one: claimed, rendered, sent, and settled by what came of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import Concatenate, ParamSpec, TypeVar, get_args

from ..config import Config
from ..config.router import Destination
from ..state import Full, State
from ..telemetry import DELIVERIES, DELIVERY_SECONDS
from . import store
from .incident import Background, Incident
from .lines import render_line
from .message import Level, render
from .model import Snapshot
from .pacing import Budget, Gate, now
from .slack import Outcome, Refused, Retry, Sent, Slack
from .store import LONGEST, Claim, May, Storm
from .summary import render_summary
from .templates import Templates
from .upstream import Upstream

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
LEVELS: tuple[Level, ...] = get_args(Level)

CALLS = 40
"""Updates of messages, and looks for them, in any minute; Slack allows at least 50, in all channels together."""
FAILURES = 5
"""After so many in a row nothing but probes is sent."""
PROBE, PROBE_DESTINATION = 30.0, 300.0
"""Seconds from one probe to the next, and where it is the destination that refuses."""
GIVE_UP = 86400.0
"""Seconds after which a message that fails again is a dead letter."""


@dataclass(slots=True)
class Shared:
    """What all lanes use; configuration and templates may be replaced between two messages.

    `major` gives the version of the Airflow that links lead to, `clock` unix time,
    `background` what else is known of a group: within a second, or nothing.
    """

    state: State
    slack: Slack
    config: Config
    templates: Templates
    major: Callable[[], int]
    clock: Callable[[], float] = time.time
    upstream: Upstream = field(default_factory=Upstream)
    background: Callable[[Snapshot], Awaitable[Background]] | None = None
    updates: Budget = field(default_factory=lambda: Budget(CALLS))
    looks: Budget = field(default_factory=lambda: Budget(CALLS))
    gates: defaultdict[str, Gate] = field(default_factory=lambda: defaultdict(Gate))


class Lane:
    """What waits for a destination; `work` wakes it, and `busy` is held while a message is under way."""

    def __init__(self, name: str, shared: Shared) -> None:
        self.name, self._shared, self._gate = name, shared, Gate()
        self.work, self.busy = asyncio.Event(), asyncio.Lock()
        self.trouble = ""
        """Why nothing but probes is sent; empty while all is well."""
        self._refused: Refused | None = None
        self._failures = 0
        self.probe = 0.0
        """When the next one is due."""

    async def run(self) -> None:
        """Send, for as long as the destination is configured."""
        while destination := self._shared.config.destinations.get(self.name):
            await self.work.wait()
            self._gate = self._shared.gates[destination.channel or self.name]
            async with self._gate.turn(), self.busy:
                try:
                    went_on = await self._next()
                except Full as error:
                    log.warning("message not settled", extra={"destination": self.name, "reason": str(error)})
                    went_on = False
            if not went_on:
                self.work.clear()

    async def _next(self) -> bool:
        """Whether there was a message that may be sent now."""
        shared, destination = self._shared, self._shared.config.destinations.get(self.name)
        if not destination:
            return False
        if self.trouble and now() < self.probe:
            if self._refused and destination.fallback:
                await self._divert(self._refused, destination.fallback)
            return False
        may = May(bool(destination.channel), shared.updates.left(), shared.looks.left(), bool(self.trouble))
        groups = shared.config.storm.groups
        if storm := await self._do(store.due, self.name, groups, shared.clock(), may):
            outcome = await self._summarise(storm, destination)
            self._gate.close(destination.pace)
            await self._settle_summary(storm, outcome)
            return True
        claim = await self._do(store.claim, self.name, shared.clock(), may)
        claim = claim or await self._do(store.claim_line, self.name, shared.clock(), may)
        if not claim:
            return False
        if claim.unsure and claim.sent:
            if destination.channel:
                shared.looks.spend()
            found = await shared.slack.find(destination, claim.key, claim.sent, claim.thread)
            self._gate.close(destination.pace)
            await self._reconcile(claim, found)
        else:
            outcome = await self._send(claim, destination)
            self._gate.close(destination.pace)
            await self._settle(claim, outcome, destination.fallback)
        return True

    async def _send(self, claim: Claim, destination: Destination) -> Outcome:
        shared, airflow = self._shared, self._shared.config.airflow
        elsewhere = claim.destination if claim.destination != self.name else None
        repeat = claim.repeat and (claim.line or not claim.ts)
        told = (claim.mention, claim.first, claim.times, repeat, elsewhere, claim.group, shared.major())
        asks = shared.background if claim.snapshot.firing and claim.level == 0 and not claim.line else None
        more = claim.flapping(shared.clock()), await asks(claim.snapshot) if asks else Background()
        try:
            incident = Incident(claim.snapshot, airflow.name, airflow.base_url, *told, *more)
            if claim.line:
                body = render_line(incident, claim.knew, shared.clock(), reminder=not claim.told)
            else:
                body = await asyncio.to_thread(render, incident, shared.templates, LEVELS[claim.level])
        except Exception:  # whatever is wrong with its looks, the alert is told
            log.exception("message not rendered", extra={"destination": self.name, "level": LEVELS[claim.level]})
            return Refused("it cannot be rendered", "payload")
        if claim.line and claim.thread:
            return await shared.slack.reply(*claim.thread, body, claim.key)
        if claim.ts and claim.channel:
            shared.updates.spend()
            return await shared.slack.update(claim.channel, claim.ts, body)
        if claim.thread:
            body |= {"thread_ts": claim.thread[1], "reply_broadcast": claim.snapshot.severity == "critical"}
        return await shared.slack.post(destination, body, claim.key)

    async def _reconcile(self, claim: Claim, found: Outcome | None) -> None:
        """After a post without an answer: what Slack has is updated, what it has not is posted, else it may repeat."""
        match found:
            case Sent() if claim.line:
                await self._do(store.told, claim, self._shared.clock())
            case Sent(channel, ts):
                await self._do(store.put, claim.id, channel=channel, ts=ts, sent=None)
            case Retry():
                await self._failed(claim, found._replace(unsure=True))
            case _:
                await self._do(store.put, claim.id, sent=None, repeat=isinstance(found, Refused))

    async def _settle(self, claim: Claim, outcome: Outcome, fallback: str | None) -> None:
        match outcome:
            case Sent(channel, ts):
                await self._sent(claim, channel, ts)
                await self._recovered()
            case Retry():
                await self._failed(claim, outcome)
            case Refused(reason, "payload"):
                await self._recovered()
                await self._degrade(claim, reason)
            case Refused(reason, "update" | "destination") if claim.ts:
                await self._lost(claim, reason)
            case Refused(reason, "update") if claim.joined:
                await self._do(store.put, claim.id, parent=None, sent=None, reason=reason)
            case Refused(reason, "update"):
                await self._failed(claim, Retry(reason))
            case Refused(reason, kind):
                self._refused = outcome
                self._warn(reason, PROBE_DESTINATION if kind == "destination" else PROBE)
                if fallback and not claim.ts:
                    await self._do(store.put, claim.id, sent=None, reason=reason)
                else:
                    await self._put_off(claim, Retry(reason))

    async def _sent(self, claim: Claim, channel: str | None, ts: str | None) -> None:
        moment = self._shared.clock()
        if claim.line:
            await self._do(store.told, claim, moment)
            DELIVERIES.labels(claim.destination, "replied").inc()
            return
        await self._do(store.shown, claim, channel, ts, moment)
        DELIVERIES.labels(claim.destination, "updated" if claim.ts else "posted").inc()
        DELIVERY_SECONDS.observe(moment - claim.since)

    async def _lost(self, claim: Claim, reason: str) -> None:
        """A message that cannot be changed, or has no thread any more: a new one takes its place while it matters."""
        if claim.line and claim.over:
            await self._give_up(claim, reason, None)
        else:
            await self._do(store.put, claim.id, channel=None, ts=None, sent=None, shown=0, reason=reason)

    async def _summarise(self, storm: Storm, destination: Destination) -> Outcome | None:
        """Looks for a summary that may be in Slack, or sends it."""
        slack, moment = self._shared.slack, self._shared.clock()
        if storm.sent:
            self._shared.looks.spend()
            return await slack.find(destination, storm.key, storm.sent)
        body = render_summary(storm, self._shared.config.airflow.name, moment)
        if storm.ts and storm.channel:
            self._shared.updates.spend()
            return await slack.update(storm.channel, storm.ts, body)
        return await slack.post(destination, body, storm.key)

    async def _settle_summary(self, storm: Storm, outcome: Outcome | None) -> None:
        shared, moment = self._shared, self._shared.clock()
        match outcome:
            case Sent(channel, ts) if storm.sent:
                await self._do(store.noted, self.name, 0.0, channel=channel, ts=ts, sent=None)
            case Sent(channel, ts):
                await self._do(store.summarised, storm, channel, ts, moment)
                await self._recovered()
            case Retry(reason, after, unsure):
                await self._do(store.noted, self.name, moment, **({} if unsure or storm.sent else {"sent": None}))
                self._delay(reason, after, shared.looks if storm.sent else shared.updates if storm.ts else self._gate)
            case Refused(reason, "destination" | "credential") if not storm.sent:
                self._refused = outcome
                self._warn(reason, PROBE_DESTINATION if outcome.kind == "destination" else PROBE)
                await self._do(store.noted, self.name, moment, sent=None)
            case Refused(reason, "payload"):
                log.error("summary given up", extra={"destination": self.name, "reason": reason})
                await self._do(store.summarised, storm, storm.channel, storm.ts, moment)
            case _:  # there is none to be found, or to be changed
                await self._do(store.noted, self.name, 0.0, channel=None, ts=None, sent=None)

    async def _failed(self, claim: Claim, retry: Retry) -> None:
        posts = self._gate if claim.line or not claim.ts else self._shared.updates
        self._delay(retry.reason, retry.after, self._shared.looks if claim.unsure else posts)
        await self._put_off(claim, retry)

    def _delay(self, reason: str, after: float | None, limit: Gate | Budget) -> None:
        """Slack says when to go on, or fails: then after a while nothing but probes is sent."""
        if after is not None:
            limit.close(after)
            return
        self._failures += 1
        if self._failures >= FAILURES:
            self._warn(reason, PROBE)

    async def _put_off(self, claim: Claim, retry: Retry) -> None:
        moment, sent = self._shared.clock(), claim.sent if retry.unsure else None
        if moment - claim.since > GIVE_UP:
            await self._give_up(claim, retry.reason, sent)
            return
        wait = min(LONGEST, 2.0 ** min(claim.attempts, 10)) if retry.after is None else 0.0
        later = {"attempts": claim.attempts + 1, "not_before": moment + wait}
        await self._do(store.put, claim.id, sent=sent, reason=retry.reason, **later)

    async def _degrade(self, claim: Claim, reason: str) -> None:
        level = claim.level + 1
        if claim.line or level == len(LEVELS):
            await self._give_up(claim, reason, None)
            return
        log.warning("message simplified", extra={"destination": self.name, "reason": reason, "level": LEVELS[level]})
        await self._do(store.put, claim.id, level=level, sent=None, reason=reason)

    async def _give_up(self, claim: Claim, reason: str, sent: float | None) -> None:
        if claim.line:
            log.warning("line given up", extra={"id": claim.id, "destination": claim.destination, "reason": reason})
            await self._do(store.untold, claim, reason)
            return
        log.error("message given up", extra={"id": claim.id, "destination": claim.destination, "reason": reason})
        await self._do(store.give_up, claim, reason, sent, self._shared.clock())
        DELIVERIES.labels(claim.destination, "dead").inc()

    async def _divert(self, refused: Refused, fallback: str) -> None:
        await self._do(store.release, [self.name], self._shared.clock())
        displayed = refused.kind == "destination"  # with a new credential, what Slack shows can be updated again
        if count := await self._do(store.divert, self.name, fallback, displayed=displayed):
            log.warning("messages diverted", extra={"destination": self.name, "to": fallback, "messages": count})
            DELIVERIES.labels(self.name, "diverted").inc(count)

    def _warn(self, reason: str, probe: float) -> None:
        if not self.trouble:
            log.warning("destination does not take messages", extra={"destination": self.name, "reason": reason})
        self.trouble, self.probe = reason, now() + probe

    async def _recovered(self) -> None:
        if self.trouble:
            log.info("destination takes messages again", extra={"destination": self.name})
            await self._do(store.hurry, self.name)
        self.trouble, self._refused, self._failures = "", None, 0

    async def _do(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._shared.state.run(lambda connection: work(connection, *args, **kwargs), patient=True)
