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
from .circuit import Circuit
from .incident import Background, Incident
from .lines import render_line
from .message import Level, render
from .model import Snapshot
from .pacing import Budget, Gate, now
from .slack import Outcome, Refused, Retry, Sent, Slack
from .store import LONGEST, Claim, May
from .storms import Storms
from .templates import Templates
from .upstream import Upstream

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
LEVELS: tuple[Level, ...] = get_args(Level)

CALLS = 40
"""Updates of messages, and looks for them, in any minute; Slack allows at least 50, in all channels together."""
THREAD_CLOSED = "cannot_reply_to_message"
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

    async def do(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What this does with the state file; it waits for its turn."""
        return await self.state.run(lambda connection: work(connection, *args, **kwargs), patient=True)


class Lane:
    """What waits for a destination; `work` wakes it, and `busy` is held while a message is under way."""

    def __init__(self, name: str, shared: Shared) -> None:
        self.name, self._shared, self._gate = name, shared, Gate()
        self.work, self.busy = asyncio.Event(), asyncio.Lock()
        self.circuit = Circuit(name)
        self._storms = Storms(name, shared, self.circuit)

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
        refused, trouble = self.circuit.refused, self.circuit.trouble
        if trouble and now() < self.circuit.probe:
            if refused and destination.fallback:
                await self._divert(refused, destination.fallback)
            return False
        may = May(bool(destination.channel), shared.updates.left(), shared.looks.left(), bool(trouble))
        if await self._storms.tell(destination, may, self._gate):
            return True
        claim = await self._shared.do(store.claim, self.name, shared.clock(), may)
        claim = claim or await self._shared.do(store.claim_line, self.name, shared.clock(), may)
        if not claim:
            return False
        limit = shared.looks if claim.unsure else shared.updates if claim.ts and not claim.line else None
        if destination.channel and limit and not limit.take():
            return False  # another lane was faster
        if claim.unsure and claim.sent:
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
            return await shared.slack.update(claim.channel, claim.ts, body)
        if claim.thread:
            body |= {"thread_ts": claim.thread[1], "reply_broadcast": claim.snapshot.critical}
        return await shared.slack.post(destination, body, claim.key)

    async def _reconcile(self, claim: Claim, found: Outcome | None) -> None:
        """After a post without an answer: what Slack has is updated, what it has not is posted, else it may repeat."""
        match found:
            case Sent() if claim.line:
                await self._shared.do(store.told, claim, self._shared.clock())
            case Sent(channel, ts):
                await self._shared.do(store.put, claim.id, channel=channel, ts=ts, sent=None)
            case Retry():
                await self._failed(claim, found._replace(unsure=True))
            case _:
                await self._shared.do(store.put, claim.id, sent=None, repeat=isinstance(found, Refused))

    async def _settle(self, claim: Claim, outcome: Outcome, fallback: str | None) -> None:
        match outcome:
            case Sent():
                await self._sent(claim, outcome)
                await self.circuit.close(self._shared)
            case Retry():
                await self._failed(claim, outcome)
            case Refused(reason, "payload"):
                await self.circuit.close(self._shared)
                await self._degrade(claim, reason)
            case Refused(reason, "update" | "destination") if claim.ts:
                await self._lost(claim, reason)
            case Refused(reason, "update" | "destination") if claim.joined:
                await self._shared.do(store.put, claim.id, parent=None, sent=None, reason=reason)
            case Refused(reason, "update"):
                await self._failed(claim, Retry(reason))
            case Refused(reason):
                self.circuit.refuse(outcome)
                if fallback and not claim.ts:
                    await self._shared.do(store.put, claim.id, sent=None, reason=reason)
                else:
                    await self._put_off(claim, Retry(reason))

    async def _sent(self, claim: Claim, sent: Sent) -> None:
        moment = self._shared.clock()
        if claim.line:
            await self._shared.do(store.told, claim, moment)
            DELIVERIES.labels(claim.destination, "replied").inc()
            return
        if claim.joined and not claim.ts and not sent.threaded:  # what it was to join is gone
            await self._shared.do(store.put, claim.id, parent=None)
        await self._shared.do(store.shown, claim, sent.channel, sent.ts, moment)
        DELIVERIES.labels(claim.destination, "updated" if claim.ts else "posted").inc()
        DELIVERY_SECONDS.observe(max(moment - claim.since, 0.0))

    async def _lost(self, claim: Claim, reason: str) -> None:
        """A message that cannot be changed, or is gone, so that it has no thread: a new one takes its place."""
        if claim.line and (claim.over or claim.joined or reason == THREAD_CLOSED):  # the message says it all
            await self._give_up(claim, reason, None)
        else:
            await self._shared.do(store.put, claim.id, channel=None, ts=None, sent=None, shown=0, reason=reason)

    async def _failed(self, claim: Claim, retry: Retry) -> None:
        posts = self._gate if claim.line or not claim.ts else self._shared.updates
        self.circuit.delay(retry.reason, retry.after, self._shared.looks if claim.unsure else posts)
        await self._put_off(claim, retry)

    async def _put_off(self, claim: Claim, retry: Retry) -> None:
        moment, sent = self._shared.clock(), claim.sent if retry.unsure else None
        if moment - claim.since > GIVE_UP:
            await self._give_up(claim, retry.reason, sent)
            return
        wait = min(LONGEST, 2.0 ** min(claim.attempts, 10)) if retry.after is None else 0.0
        later = {"attempts": claim.attempts + 1, "not_before": moment + wait}
        await self._shared.do(store.put, claim.id, sent=sent, reason=retry.reason, **later)

    async def _degrade(self, claim: Claim, reason: str) -> None:
        level = claim.level + 1
        if claim.line or level == len(LEVELS):
            await self._give_up(claim, reason, None)
            return
        log.warning("message simplified", extra={"destination": self.name, "reason": reason, "level": LEVELS[level]})
        await self._shared.do(store.put, claim.id, level=level, sent=None, reason=reason)

    async def _give_up(self, claim: Claim, reason: str, sent: float | None) -> None:
        if claim.line:
            log.warning("line given up", extra={"id": claim.id, "destination": claim.destination, "reason": reason})
            await self._shared.do(store.untold, claim, reason)
            return
        log.error("message given up", extra={"id": claim.id, "destination": claim.destination, "reason": reason})
        await self._shared.do(store.give_up, claim, reason, sent, self._shared.clock())
        DELIVERIES.labels(claim.destination, "dead").inc()

    async def _divert(self, refused: Refused, fallback: str) -> None:
        await self._shared.do(store.release, [self.name], self._shared.clock())
        displayed = refused.kind == "destination"  # with a new credential, what Slack shows can be updated again
        if count := await self._shared.do(store.divert, self.name, fallback, displayed=displayed):
            log.warning("messages diverted", extra={"destination": self.name, "to": fallback, "messages": count})
            DELIVERIES.labels(self.name, "diverted").inc(count)
