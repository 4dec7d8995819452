"""One read of everything, to see what a configuration would export and what that costs, and whom Slack lets in."""

from __future__ import annotations

from collections.abc import AsyncIterator

from .config import Config
from .daemon import watching
from .poller import Status
from .router.slack import Outcome, Slack


async def probe(config: Config) -> AsyncIterator[Status]:
    """Each enabled collector's status after one read; of a source that cannot be reached, only the first one's."""
    unreachable = set()
    async with watching(config) as (_, pollers):
        for poller in pollers:
            if poller.status.source not in unreachable:
                await poller.poll()
                if not poller.status.reachable:
                    unreachable.add(poller.status.source)
                yield poller.status


async def probe_slack(config: Config) -> AsyncIterator[tuple[str, Outcome]]:
    """Each destination, and what Slack says to its credential; nothing is posted."""
    async with Slack(config.slack) as slack:
        for name, destination in config.destinations.items():
            yield name, await slack.probe(destination)
