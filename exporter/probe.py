"""One read of everything, to see what a configuration would export and what that costs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from .config import Config
from .daemon import watching
from .poller import Status


async def probe(config: Config) -> AsyncIterator[Status]:
    """Each enabled collector's status after one read; of a source that cannot be reached, only the first one's."""
    unreachable = set()
    async with watching(config) as pollers:
        for poller in pollers:
            if poller.status.source not in unreachable:
                await poller.poll()
                if not poller.status.reachable:
                    unreachable.add(poller.status.source)
                yield poller.status
