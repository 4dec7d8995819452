"""With sentinels it is always the master that is read, also after a failover."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from exporter.collectors import broker, queues
from exporter.sources import SourceError
from windsock_demo import servers
from windsock_demo.processes import launched

from .conftest import Watched

Serve = Callable[..., servers.Valkey]
Watch = Callable[..., Awaitable[Watched]]


def administrator(server: servers.Valkey) -> redis.Redis:
    """A connection with all rights."""
    return redis.Redis(server.host, server.port, password="s3cret", decode_responses=True)


@pytest.fixture
def master(redis_server: Serve) -> servers.Valkey:
    """A master that wants a password."""
    return redis_server("--requirepass", "s3cret", "--masterauth", "s3cret", "--repl-diskless-sync-delay", "0")


@pytest.fixture
def replica(redis_server: Serve, master: servers.Valkey) -> servers.Valkey:
    """Its replica."""
    password = ("--requirepass", "s3cret", "--masterauth", "s3cret")
    return redis_server("--replicaof", master.host, str(master.port), *password)


@contextmanager
def sentinel(master: servers.Valkey, directory: Path) -> Iterator[Any]:
    """A sentinel that decides alone, after a second, and wants a password of its own; yields a connection to it."""
    port = servers.free_port()
    file = directory / "sentinel.conf"
    file.write_text(f"""\
port {port}
bind {master.host}
dir {directory}
requirepass s3ntinel
sentinel monitor airflow {master.host} {master.port} 1
sentinel auth-pass airflow s3cret
sentinel down-after-milliseconds airflow 1000
""")
    with administrator(master) as client:
        executable = client.info("server")["executable"]
    with (
        launched([executable, str(file), "--sentinel"], directory / "sentinel.log"),
        redis.Redis(master.host, port, password="s3ntinel", decode_responses=True) as client,
    ):
        yield client


async def until(holds: Callable[[], bool]) -> None:
    """Wait until this holds, or fail after twenty seconds."""
    deadline = time.monotonic() + 20
    while True:
        try:
            if holds():
                return
        except redis.exceptions.ConnectionError:
            pass
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_the_new_master_is_read_at_once(
    master: servers.Valkey, replica: servers.Valkey, tmp_path: Path, watch: Watch
) -> None:
    """A master that hangs is replaced; the first read after that is of the new one, though a connection was open."""
    with sentinel(master, tmp_path) as known, administrator(master) as client, administrator(replica) as copy:
        client.lpush("default", "message")
        await until(lambda: copy.llen("default") == 1)
        await until(lambda: [state["master-link-status"] for state in known.sentinel_slaves("airflow")] == ["ok"])
        port = known.connection_pool.connection_kwargs["port"]
        watched = await watch(
            f"sentinel://:s3cret@127.0.0.1:{servers.free_port()}/0;sentinel://127.0.0.1:{port}",
            master_name="airflow",
            sentinel_password="s3ntinel",
            queues=["default"],
        )
        assert 'airflow_celery_queue_length{queue="default"} 1' in await watched.samples(queues.COLLECTOR)
        assert "airflow_broker_role_master 1" in await watched.samples(broker.COLLECTOR)
        os.kill(master.process.pid, signal.SIGSTOP)
        try:
            await until(lambda: known.sentinel_master("airflow")["port"] == replica.port)
            with administrator(replica) as promoted:
                promoted.lpush("default", "another")
            assert 'airflow_celery_queue_length{queue="default"} 2' in await watched.samples(queues.COLLECTOR)
            assert "airflow_broker_role_master 1" in await watched.samples(broker.COLLECTOR)
        finally:
            os.kill(master.process.pid, signal.SIGCONT)
        known.shutdown()
    assert 'airflow_celery_queue_length{queue="default"} 2' in await watched.samples(queues.COLLECTOR)


async def test_what_is_wrong_with_sentinels_is_told(master: servers.Valkey, tmp_path: Path, watch: Watch) -> None:
    """An unknown master and a refused login fail with a sentence that repeats no password."""
    with sentinel(master, tmp_path) as known:
        await until(known.ping)
        url = f"sentinel://:s3cret@127.0.0.1:{known.connection_pool.connection_kwargs['port']}/0"
        watched = await watch(url, master_name="other", sentinel_password="s3ntinel")
        with pytest.raises(SourceError, match="no sentinel answers and knows") as caught:
            await watched.text(queues.COLLECTOR)
        assert caught.value.reason == "connect"
        watched = await watch(url, master_name="airflow", sentinel_password="wr0ng")
        with pytest.raises(SourceError) as caught:
            await watched.text(queues.COLLECTOR)
        assert (caught.value.reason, "wr0ng" in str(caught.value)) == ("connect", False)
