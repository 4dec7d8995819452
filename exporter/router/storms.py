"""The summary of a destination's storm: sent or looked for, and settled by what came of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..config.router import Destination
from . import store
from .circuit import Circuit
from .pacing import Budget, Gate
from .slack import Outcome, Refused, Retry, Sent
from .store import May, Storm
from .summary import render_summary

if TYPE_CHECKING:
    from .lane import Shared

log = logging.getLogger(__name__)


class Storms:
    """Of one destination, one at a time."""

    def __init__(self, name: str, shared: Shared, circuit: Circuit) -> None:
        self._name, self._shared, self._circuit = name, shared, circuit

    async def tell(self, destination: Destination, may: May, gate: Gate) -> bool:
        """Whether there was something to tell of a storm."""
        shared = self._shared
        storm = await shared.do(store.due, self._name, shared.config.storm.groups, shared.clock(), may)
        limit = storm and (shared.looks if storm.sent else shared.updates if storm.ts else None)
        if not storm or (limit and not limit.take()):
            return False
        outcome = await self._send(storm, destination)
        gate.close(destination.pace)
        await self._settle(storm, outcome, limit or gate)
        return True

    async def _send(self, storm: Storm, destination: Destination) -> Outcome | None:
        """Looks for a summary that may be in Slack, or sends it."""
        shared = self._shared
        if storm.sent:
            return await shared.slack.find(destination, storm.key, storm.sent)
        body = render_summary(storm, shared.config.airflow.name, shared.clock())
        if storm.ts and storm.channel:
            return await shared.slack.update(storm.channel, storm.ts, body)
        return await shared.slack.post(destination, body, storm.key)

    async def _settle(self, storm: Storm, outcome: Outcome | None, limit: Gate | Budget) -> None:
        shared, moment = self._shared, self._shared.clock()
        match outcome:
            case Sent(channel, ts) if storm.sent:
                await shared.do(store.noted, self._name, 0.0, channel=channel, ts=ts, sent=None)
            case Sent(channel, ts):
                await shared.do(store.summarised, storm, channel, ts, moment)
                await self._circuit.close(shared)
            case Retry(reason, after, unsure):
                await shared.do(store.noted, self._name, moment, **({} if unsure or storm.sent else {"sent": None}))
                self._circuit.delay(reason, after, limit)
            case Refused(_, "destination" | "credential") if not storm.sent:
                self._circuit.refuse(outcome)
                await shared.do(store.noted, self._name, moment, sent=None)
            case Refused(reason, "payload"):
                log.error("summary given up", extra={"destination": self._name, "reason": reason})
                await shared.do(store.summarised, storm, storm.channel, storm.ts, moment)
            case _:  # there is none to be found, or to be changed
                repeat = storm.sent is not None and isinstance(outcome, Refused)
                await shared.do(store.noted, self._name, 0.0, channel=None, ts=None, sent=None, repeat=repeat)
