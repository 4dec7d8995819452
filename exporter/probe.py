"""One read of everything, to see what a configuration would export and what that costs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from .config import Config
from .daemon import watching
from .poller import Status


async def probe(config: Config) -> AsyncIterator[Status]:
    """Each enabled collector's status after one read."""
    async with watching(config) as pollers:
        for poller in pollers:
            await poller.poll()
            yield poller.status
