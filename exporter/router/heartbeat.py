"""A sign of life for someone else to miss: it is given only while Slack takes what we send."""

from __future__ import annotations

import asyncio
import logging

from ..telemetry import HEARTBEATS
from .lane import Shared
from .pacing import now
from .slack import Sent

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds from one to the next."""
PROBE, STALE = 300.0, 600.0
"""Seconds without a request that Slack granted, after which it is asked, and after which none is given."""


async def run(shared: Shared) -> None:
    """Give it, for as long as it is not cancelled."""
    while True:
        if shared.config.has_heartbeat:
            HEARTBEATS.labels(await _beat(shared)).inc()
        await asyncio.sleep(EVERY)


async def _beat(shared: Shared) -> str:
    if now() - shared.slack.answered > PROBE:
        for destination in shared.config.destinations.values():
            if isinstance(await shared.slack.probe(destination), Sent):
                break
    if now() - shared.slack.answered > STALE:
        log.warning("no heartbeat: Slack grants nothing")
        return "withheld"
    try:
        url = shared.config.heartbeat()
    except OSError as error:
        log.warning("no heartbeat", extra={"reason": str(error)})
        return "failed"
    answer = await shared.upstream.get("heartbeat", url, len, proxy=True)
    return "failed" if answer is None else "sent"
