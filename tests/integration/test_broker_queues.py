"""Queues that real Celery fills are shown with their lengths, at the price of one round trip."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import celery
import hiredis
import kombu
import pytest
import redis
from kombu.pidbox import Mailbox

from exporter.collectors import queue_discovery, queues
from windsock_demo import servers

from .conftest import Watched

Watch = Callable[..., Awaitable[Watched]]


@pytest.fixture
def server(redis_server: Callable[..., servers.Valkey]) -> servers.Valkey:
    """An empty broker."""
    return redis_server()


@contextmanager
def celery_app(url: str, **options: object) -> Iterator[celery.Celery]:
    """An application as Airflow's Celery executor makes one."""
    app = celery.Celery("airflow", broker=url)
    app.conf.update(broker_transport_options={"visibility_timeout": 86400, **options}, task_default_queue="default")
    try:
        yield app
    finally:
        app.close()


@contextmanager
def consumer(url: str, queue: str, messages: int, **options: object) -> Iterator[None]:
    """A consumer that has taken so many messages of a queue and acknowledged none."""
    taken: list[object] = []
    with kombu.Connection(url, transport_options=options) as connection:
        channel = connection.channel()
        channel.basic_qos(0, messages, False)
        with kombu.Consumer(channel, kombu.Queue(queue), callbacks=[lambda body, message: taken.append(message)]):
            while len(taken) < messages:
                connection.drain_events(timeout=5)
            yield


async def test_the_lists_of_all_priorities_add_up(server: servers.Valkey, watch: Watch) -> None:
    """A message counts for its queue whatever its priority; an empty queue shows a zero, and so does an unknown one."""
    with celery_app(server.url) as app:
        for priority in (0, 0, 3, 6, 9):
            app.send_task("execute_workload", ["{}"], queue="default", priority=priority)
        app.send_task("execute_workload", ["{}"], queue="gpu")
    with redis.Redis.from_url(server.url) as client:
        assert client.llen("default") == 2
        client.lpop("gpu")
    watched = await watch(server.url, queues=["default", "gpu", "unknown"], visibility_timeout="6h")
    expected = """\
# HELP airflow_celery_queue_length Messages that wait in a Celery queue, all priorities together.
# TYPE airflow_celery_queue_length gauge
airflow_celery_queue_length{airflow="test",queue="default"} 5
airflow_celery_queue_length{airflow="test",queue="gpu"} 0
airflow_celery_queue_length{airflow="test",queue="unknown"} 0
# HELP airflow_celery_unacked_messages Messages that workers have taken and not acknowledged: tasks that run, and \
tasks that are prefetched.
# TYPE airflow_celery_unacked_messages gauge
airflow_celery_unacked_messages{airflow="test"} 0
# HELP airflow_celery_visibility_timeout_seconds The age at which an unacknowledged message is delivered again, as \
configured.
# TYPE airflow_celery_visibility_timeout_seconds gauge
airflow_celery_visibility_timeout_seconds{airflow="test"} 21600
"""
    assert await watched.text(queues.COLLECTOR) == expected


async def test_taken_messages_count_until_they_are_acknowledged(server: servers.Valkey, watch: Watch) -> None:
    """Messages that a consumer holds leave their queue and are unacknowledged, since the first was delivered."""
    watched = await watch(server.url, queues=["default"])
    with celery_app(server.url) as app:
        for _ in range(3):
            app.send_task("execute_workload", ["{}"], queue="default")
        before = time.time()
        with consumer(server.url, "default", messages=2):
            length, unacked, oldest, _ = await watched.samples(queues.COLLECTOR)
    assert length == 'airflow_celery_queue_length{queue="default"} 1'
    assert unacked == "airflow_celery_unacked_messages 2"
    assert oldest.startswith("airflow_celery_oldest_unacked_timestamp_seconds 1")
    assert before <= float(oldest.split()[1]) <= time.time()


async def test_only_the_keys_of_the_prefix_count(server: servers.Valkey, watch: Watch) -> None:
    """Two Airflows in one database are told apart by their prefix, even if it looks like a pattern."""
    prefix = "[a]*:"
    with celery_app(server.url, global_keyprefix=prefix) as ours, celery_app(server.url) as other:
        ours.send_task("execute_workload", ["{}"], queue="ours", priority=9)
        ours.send_task("execute_workload", ["{}"], queue="ours")
        for _ in range(3):
            other.send_task("execute_workload", ["{}"], queue="other")
        watched = await watch(server.url, queues=["other"], global_keyprefix=prefix)
        await watched.text(queue_discovery.COLLECTOR)
        with consumer(server.url, "ours", 1, global_keyprefix=prefix), consumer(server.url, "other", 2):
            shown = await watched.samples(queues.COLLECTOR)
    assert shown[:3] == [
        'airflow_celery_queue_length{queue="other"} 0',
        'airflow_celery_queue_length{queue="ours"} 1',
        "airflow_celery_unacked_messages 1",
    ]


async def test_bound_queues_are_found_and_nothing_else(server: servers.Valkey, watch: Watch) -> None:
    """A queue that Celery has bound is found, under its own name; what workers talk to each other by is not a queue."""
    with celery_app(server.url) as app, app.connection() as connection:
        app.send_task("execute_workload", ["{}"], queue="default")
        channel = connection.channel()
        kombu.Queue("night", kombu.Exchange("batch"), routing_key="key", channel=channel).declare()
        kombu.Queue("brief", kombu.Exchange("brief"), expires=600, channel=channel).declare()
        node = Mailbox("celery", type="fanout").Node("worker@one", channel=channel)
        node.listen()
        node.mailbox.get_reply_queue()(channel).declare()
        app.events.Receiver(connection).queue(channel).declare()
        with redis.Redis.from_url(server.url) as client:
            keys = {key.decode() for key in client.keys("_kombu.binding*")}
        watched = await watch(server.url)
        await watched.text(queue_discovery.COLLECTOR)
    assert {"_kombu.binding.celeryev", "_kombu.binding.celery.pidbox", "_kombu.binding.reply.celery.pidbox"} < keys
    assert any(key.startswith(("_kombu.binding_permanent.", "_kombu.binding_deadlines")) for key in keys)
    assert watched.context.queues.names() == ["brief", "default", "night"]


async def test_a_server_with_many_keys_is_not_searched(server: servers.Valkey, watch: Watch) -> None:
    """Beyond the limit of keys no SCAN is sent; the queues that are known otherwise are still read."""
    with celery_app(server.url) as app, redis.Redis.from_url(server.url) as client:
        app.send_task("execute_workload", ["{}"], queue="default")
        client.mset({str(number): "" for number in range(queue_discovery.KEYS_LIMIT)})
        watched = await watch(server.url, queues=["mine"])
        await watched.text(queue_discovery.COLLECTOR)
        assert watched.context.queues.names() == ["mine"]
        assert "cmdstat_scan" not in client.info("commandstats")
        client.delete("0", "1", "2", "3")
        await watched.text(queue_discovery.COLLECTOR)
        assert watched.context.queues.names() == ["default", "mine"]


async def test_a_key_that_is_no_queue_costs_only_itself(server: servers.Valkey, watch: Watch) -> None:
    """A queue whose name is another kind of key has no series, and the others keep theirs."""
    with redis.Redis.from_url(server.url) as client:
        client.set("text", "")
        client.hset("part\x06\x166", "field", "")
        client.lpush("list", "message")
    watched = await watch(server.url, queues=["list", "part", "text"])
    assert [line for line in await watched.samples(queues.COLLECTOR) if "queue=" in line] == [
        'airflow_celery_queue_length{queue="list"} 1'
    ]


@asynccontextmanager
async def patient(server: servers.Valkey) -> AsyncIterator[tuple[int, list[list[bytes]], asyncio.Event]]:
    """A way to the server, by port, that notes commands, and holds the answers back until they are allowed."""
    commands: list[list[bytes]] = []
    allowed = asyncio.Event()

    async def answers(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await allowed.wait()
            target.write(data)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(server.host, server.port)
        task = asyncio.create_task(answers(upstream_reader, writer))
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                commands.append(command)
            upstream.write(data)
        upstream.close()
        await task
        writer.close()

    async with await asyncio.start_server(relay, server.host, 0) as listener:
        yield listener.sockets[0].getsockname()[1], commands, allowed


async def test_a_hundred_queues_cost_one_round_trip_and_no_write(server: servers.Valkey, watch: Watch) -> None:
    """All commands of a poll are sent before the first answer has come, and none of them writes."""
    async with patient(server) as (port, commands, allowed):
        watched = await watch(f"redis://127.0.0.1:{port}/0", queues=[f"queue{number}" for number in range(100)])
        reading = asyncio.create_task(watched.samples(queues.COLLECTOR))
        async with asyncio.timeout(10):
            while len(commands) < 402:
                await asyncio.sleep(0.01)
        assert not reading.done()
        allowed.set()
        assert len(await reading) == 102
        await watched.broker.__aexit__(None, None, None)
    assert len(commands) == 402
    assert {command[0] for command in commands} == {b"HLEN", b"ZRANGE", b"LLEN"}
