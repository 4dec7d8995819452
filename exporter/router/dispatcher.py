"""What was accepted becomes what Slack shows: a lane for each destination, and twice a second a look at what waits."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import NamedTuple

from ..config import Config
from ..state import Full
from ..telemetry import CIRCUIT_OPEN, DEAD_LETTERS, OUTBOX, OUTBOX_OLDEST, STORM_ACTIVE
from . import heartbeat, missed, repair, store, watchdogs
from .lane import Lane, Shared
from .pacing import now
from .store import Waiting
from .templates import Templates

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds from one look at what waits to the next."""
GRACE = 10.0
"""Seconds in which what is under way is finished at the end."""
PRUNE = 3600.0
"""Seconds from one clearing of old groups to the next."""
ERRANDS = (watchdogs.run, repair.run, missed.run, heartbeat.run)
"""What is done beside the lanes."""


class Status(NamedTuple):
    """How a destination fares: what waits, and why nothing but probes is sent, or nothing if all is well."""

    destination: str
    fallback: str | None
    waiting: Waiting
    trouble: str


class Dispatcher:
    """Sends for as long as it runs."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._lanes: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        self._waiting: dict[str, Waiting] = {}
        self._storms: set[str] = set()
        self._stopping = asyncio.Event()
        self._prune = 0.0

    def configure(self, config: Config, templates: Templates) -> None:
        """From the next message on; where there was trouble, that is tried at once."""
        self._shared.config, self._shared.templates, self._shared.slack.settings = config, templates, config.slack
        for lane, _ in self._lanes.values():
            lane.circuit.probe = 0.0

    def status(self) -> list[Status]:
        """Each destination, as of the last look."""
        trouble = {name: lane.circuit.trouble for name, (lane, _) in self._lanes.items()}
        return [
            Status(name, destination.fallback, self._waiting.get(name, Waiting()), trouble.get(name, ""))
            for name, destination in self._shared.config.destinations.items()
        ]

    def stop(self) -> None:
        """Let `run` return once what is under way is settled, within GRACE."""
        self._stopping.set()

    async def run(self) -> None:
        """Send until `stop`; if this is cancelled instead, a message that is under way may be repeated later."""
        async with self._shared.slack, asyncio.TaskGroup() as tasks:
            errands = [tasks.create_task(run(self._shared), name=run.__module__) for run in ERRANDS]
            while not self._stopping.is_set():
                with suppress(Full):  # what waits is not lost, and each lane tells
                    await self._look(tasks)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), LOOK)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await asyncio.gather(*(lane.busy.acquire() for lane, _ in self._lanes.values()))
            for task in (*errands, *(task for _, task in self._lanes.values())):
                task.cancel()

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        shared, destinations = self._shared, self._shared.config.destinations
        self._waiting = await shared.do(store.survey, shared.clock())
        self._storms = await shared.do(store.watch, [*destinations], shared.config.storm.groups, shared.clock())
        self._lanes = {name: pair for name, pair in self._lanes.items() if not pair[1].done()}
        for name in destinations.keys() - self._lanes.keys():
            lane = Lane(name, shared)
            self._lanes[name] = lane, tasks.create_task(lane.run(), name=f"lane {name}")
        for name, (lane, _) in self._lanes.items():
            if name not in destinations or name in self._storms or self._waiting.get(name, Waiting()).messages:
                lane.work.set()
        if lost := [name for name, waiting in self._waiting.items() if waiting.messages and name not in destinations]:
            count = await shared.do(store.bury, lost, shared.clock())
            log.error("messages given up: no such destination", extra={"destinations": lost, "messages": count})
        if now() >= self._prune:
            self._prune = now() + PRUNE
            await shared.do(store.prune, shared.clock())
        self._tell()

    def _tell(self) -> None:
        for gauge in (OUTBOX, OUTBOX_OLDEST, DEAD_LETTERS, CIRCUIT_OPEN, STORM_ACTIVE):
            gauge.clear()  # of destinations that are no more
        for name in self._waiting.keys() | self._shared.config.destinations.keys():
            waiting = self._waiting.get(name, Waiting())
            DEAD_LETTERS.labels(name).set(waiting.dead)
            OUTBOX.labels(name).set(waiting.messages)
            if waiting.oldest:
                OUTBOX_OLDEST.labels(name).set(waiting.oldest)
        for name, (lane, _) in self._lanes.items():
            STORM_ACTIVE.labels(name).set(name in self._storms)
            CIRCUIT_OPEN.labels(name).set(bool(lane.circuit.trouble))
