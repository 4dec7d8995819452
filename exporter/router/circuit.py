"""Whether a destination takes messages: while it refuses or fails, nothing but probes is sent there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from . import store
from .pacing import Budget, Gate, now
from .slack import Refused

if TYPE_CHECKING:
    from .lane import Shared

log = logging.getLogger(__name__)

FAILURES = 5
"""After so many in a row nothing but probes is sent."""
PROBE, PROBE_DESTINATION = 30.0, 300.0
"""Seconds from one probe to the next, and where it is the destination that refuses."""


class Circuit:
    """Of one destination; `refused` is why its fallback may have what waits, if it is what Slack said."""

    def __init__(self, destination: str) -> None:
        self.destination = destination
        self.trouble = ""
        """Why nothing but probes is sent; empty while all is well."""
        self.probe = 0.0
        """When the next one is due."""
        self.refused: Refused | None = None
        self._failures = 0

    def refuse(self, refused: Refused) -> None:
        """Slack takes nothing for this destination."""
        self.refused = refused
        self._open(refused.reason, PROBE_DESTINATION if refused.kind == "destination" else PROBE)

    def delay(self, reason: str, after: float | None, limit: Gate | Budget) -> None:
        """Slack says when to go on, or fails: then after a while nothing but probes is sent."""
        if after is not None:
            limit.close(after)
            return
        self._failures += 1
        if self._failures >= FAILURES:
            self._open(reason, PROBE)

    async def close(self, shared: Shared) -> None:
        """Slack took something: what was put off need wait no longer."""
        if self.trouble:
            log.info("destination takes messages again", extra={"destination": self.destination})
            await shared.do(store.hurry, self.destination)
        self.trouble, self.refused, self._failures = "", None, 0

    def _open(self, reason: str, probe: float) -> None:
        if not self.trouble:
            log.warning("destination does not take messages", extra={"destination": self.destination, "reason": reason})
        self.trouble, self.probe = reason, now() + probe
