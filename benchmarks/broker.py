"""A read of 100 Celery queues: how long, how many round trips, how many writes."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis import Redis

from exporter.collector import Context
from exporter.collectors import queues
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.poller import Poller
from exporter.sources import Broker, Sources
from windsock_demo import servers

from .figures import Goal, Result, percentile, table

QUEUES = 100
MESSAGES = 100
POLLS = 500
DELAY = 0.2
NAMES = [f"queue_{number:03}" for number in range(QUEUES)]


def measure() -> Result:
    """All of it, a few seconds."""
    with tempfile.TemporaryDirectory() as folder, servers.valkey(Path(folder)) as server:
        with Redis.from_url(server.url) as client:
            pipeline = client.pipeline(transaction=False)
            for name in NAMES:
                pipeline.rpush(name, *["x" * 1000] * MESSAGES)
            pipeline.hset("unacked", mapping={str(tag): "x" * 1000 for tag in range(1000)})
            pipeline.zadd("unacked_index", {str(tag): tag for tag in range(1000)})
            pipeline.execute()
            before = client.info()
            client.config_resetstat()
            times = asyncio.run(_polls(server.port, POLLS))
            commands = {name.removeprefix("cmdstat_").upper() for name in client.info("commandstats")}
            writes = client.info()["rdb_changes_since_last_save"] - before["rdb_changes_since_last_save"]
        trips = asyncio.run(_round_trips(server.port))
    text = table(
        f"Valkey {before['valkey_version']} | polls | p50 ms | p99 ms | max ms | commands that it ran",
        [
            (
                f"{QUEUES} queues",
                len(times),
                percentile(times, 0.5),
                percentile(times, 0.99),
                max(times),
                ", ".join(sorted(commands - {"CONFIG|RESETSTAT", "INFO"})),
            )
        ],
    )
    goals = [
        Goal(f"broker read, {QUEUES} queues, p99", percentile(times, 0.99), 30, " ms"),
        Goal("round trips of a poll", trips, 1),
        Goal(f"changes of the data by {POLLS} polls", writes, 0),
    ]
    return Result(goals, text)


async def _polls(port: int, count: int) -> list[float]:
    """Milliseconds per poll, the first one left out, which connects."""
    config = Config.model_validate({"celery": {"broker_url": f"redis://127.0.0.1:{port}/0", "queues": NAMES}})
    dags = config.airflow.dags
    context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(config.celery.queues))
    async with Broker(config.celery) as broker:
        poller = Poller(queues.COLLECTOR, Sources(None, broker), context, Renderer("production"))
        times = []
        for _ in range(count + 1):
            started = time.perf_counter()
            await poller.poll()
            times.append(1000 * (time.perf_counter() - started))
            assert poller.part and poller.part.series == QUEUES + 3, poller.status.error
        return times[1:]


async def _round_trips(port: int) -> int:
    """How often a poll waits for an answer."""
    async with _slow_link(port) as slow:
        return int(min(await _polls(slow, 3)) / 1000 / DELAY)


@asynccontextmanager
async def _slow_link(port: int) -> AsyncIterator[int]:
    """A way to the server, by port, on which all answers come later."""
    loop = asyncio.get_running_loop()

    async def answers(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            loop.call_later(DELAY, target.write, data)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source, upstream = await asyncio.open_connection(servers.HOST, port)
        task = asyncio.create_task(answers(source, writer))
        while data := await reader.read(65536):
            upstream.write(data)
        upstream.close()
        await task
        writer.close()

    async with await asyncio.start_server(relay, servers.HOST, 0) as listener:
        yield listener.sockets[0].getsockname()[1]
        await asyncio.sleep(2 * DELAY)  # until the last connection is closed
