"""A broker that fails, hangs or returns: each collector says why, holds no secret, and recovers by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import redis

from exporter.collector import BrokerCollector
from exporter.collectors import broker, queue_discovery, queues
from exporter.sources import SourceError
from windsock_demo import servers
from windsock_demo.processes import launched

from .conftest import Watched

Serve = Callable[..., servers.Valkey]
Watch = Callable[..., Awaitable[Watched]]

ALL = (broker.COLLECTOR, queues.COLLECTOR, queue_discovery.COLLECTOR)


async def failure(
    watched: Watched, collector: BrokerCollector = queues.COLLECTOR, timeout: float = 5.0
) -> tuple[str, str]:
    """The reason and the message of a read that must fail."""
    with pytest.raises(SourceError) as caught:
        await watched.text(collector, timeout)
    assert "\n" not in str(caught.value)
    return caught.value.reason, str(caught.value)


async def test_the_wheels_valkey_and_a_plain_redis_show_all_that_they_say(redis_server: Serve, watch: Watch) -> None:
    """A real server's INFO has every field that the families of a lone master without limits need."""
    server = redis_server("--appendonly", "yes")
    watched = await watch(server.url.replace("redis:", "valkey:"))
    shown = {line.split("{")[0].split()[0]: float(line.split()[-1]) for line in await watched.samples(broker.COLLECTOR)}
    absent = {"memory_max_bytes", "replication_lag_bytes", "master_link_up"}
    declared = {metric.name for metric in broker.COLLECTOR.metrics}
    assert shown.keys() == declared - {f"airflow_broker_{name}" for name in absent}
    assert abs(shown["airflow_broker_start_timestamp_seconds"] - time.time()) < 60
    assert 0 < shown["airflow_broker_round_trip_seconds"] < 5
    assert shown["airflow_broker_connected_clients"] == 1
    assert shown["airflow_broker_aof_last_write_ok"] == 1


async def test_a_replica_and_its_master_know_each_other(redis_server: Serve, watch: Watch) -> None:
    """The master shows its replica and how far it is behind, the replica that it is one and its link."""
    master = redis_server("--repl-diskless-sync-delay", "0")
    replica = redis_server("--replicaof", master.host, str(master.port))
    of_master, of_replica = await watch(master.url), await watch(replica.url)
    await of_replica.until(broker.COLLECTOR, "airflow_broker_master_link_up 1")
    assert "airflow_broker_role_master 0" in await of_replica.samples(broker.COLLECTOR)
    await of_master.until(broker.COLLECTOR, "airflow_broker_replication_lag_bytes 0")
    assert "airflow_broker_connected_replicas 1" in await of_master.samples(broker.COLLECTOR)


async def test_a_lonely_replica_says_so(redis_server: Serve, watch: Watch) -> None:
    """A replica that serves nothing without its master is no cluster: its error is passed on, its INFO shown."""
    server = redis_server("--replicaof", "127.0.0.1", str(servers.free_port()))
    with redis.Redis.from_url(server.url) as client:
        client.config_set("replica-serve-stale-data", "no")
    watched = await watch(server.url, queues=["default"])
    reason, message = await failure(watched)
    assert (reason, "Link with MASTER is down" in message) == ("query", True)
    assert "airflow_broker_master_link_up 0" in await watched.samples(broker.COLLECTOR)


async def test_a_server_without_room_for_clients_says_so(redis_server: Serve, watch: Watch) -> None:
    """A connection that is rejected because of maxclients fails with the server's own words."""
    server = redis_server("--maxclients", "1")
    watched = await watch(server.url)
    with redis.Redis.from_url(server.url) as client:
        client.ping()
        assert await failure(watched) == ("connect", "max number of clients reached")
    assert "airflow_broker_max_clients 1" in await watched.samples(broker.COLLECTOR)


async def test_a_full_server_still_shows_its_queues(redis_server: Serve, watch: Watch) -> None:
    """At maxmemory without eviction every write is refused and counted, and every read still answers."""
    server = redis_server("--maxmemory-policy", "noeviction")
    with redis.Redis.from_url(server.url) as client:
        client.lpush("default", *["x" * 100_000] * 50)
        client.config_set("maxmemory", "4mb")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.lpush("default", "x")
    watched = await watch(server.url, queues=["default"])
    assert 'airflow_celery_queue_length{queue="default"} 50' in await watched.samples(queues.COLLECTOR)
    shown = await watched.samples(broker.COLLECTOR)
    assert 'airflow_broker_refused_writes_total{error="OOM"} 1' in shown
    assert "airflow_broker_memory_max_bytes 4194304" in shown
    assert "airflow_broker_maxmemory_policy_noeviction 1" in shown


async def test_the_database_number_of_the_url_counts(redis_server: Serve, watch: Watch) -> None:
    """Queues are read from the database that the URL names."""
    server = redis_server()
    with redis.Redis(server.host, server.port, db=3) as client:
        client.lpush("default", "message")
    watched = await watch(f"redis://{server.host}:{server.port}/3", queues=["default"])
    assert 'airflow_celery_queue_length{queue="default"} 1' in await watched.samples(queues.COLLECTOR)


async def test_nobody_listens(watch: Watch) -> None:
    """A refused connection is told with its address, and within the time that a few tries take."""
    port = servers.free_port()
    watched = await watch(f"redis://user:s3cret@127.0.0.1:{port}/0")
    reason, message = await failure(watched)
    assert (reason, str(port) in message, "s3cret" in message) == ("connect", True, False)


async def test_a_restart_costs_no_read(redis_server: Serve, watch: Watch) -> None:
    """A killed server fails a read; the first one after its return succeeds, though connections had been open."""
    server = redis_server()
    watched = await watch(server.url, queues=["default"])
    for collector in ALL:
        await watched.text(collector)
    server.process.kill()
    server.process.wait()
    assert (await failure(watched, timeout=3))[0] == "connect"
    for _ in range(2):
        returned = redis_server(port=server.port)
        for collector in ALL:
            await watched.text(collector)
        returned.process.kill()
        returned.process.wait()


async def test_a_server_that_hangs_costs_its_timeout(redis_server: Serve, watch: Watch) -> None:
    """A stopped server times out, on the open connection and on a new one, and answers again once it goes on."""
    server = redis_server()
    watched = await watch(server.url, queues=["default"])
    await watched.text(queues.COLLECTOR)
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            started = time.monotonic()
            assert await failure(watched, timeout=0.3) == ("timeout", "no answer in time")
            assert time.monotonic() - started < 2
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert 'airflow_celery_queue_length{queue="default"} 0' in await watched.samples(queues.COLLECTOR)


async def test_a_server_that_loads_its_data_says_so(
    redis_server: Serve, watch: Watch, redis_binary: Path | None, tmp_path: Path
) -> None:
    """While a server loads it is up and loading, and its queues are unknown rather than empty."""
    server = redis_server()
    with redis.Redis.from_url(server.url) as client:
        client.mset({str(number): "x" * 100 for number in range(2000)})
        client.save()
        directory = client.config_get("dir")["dir"]
        executable = client.info("server")["executable"]
    server.process.kill()
    server.process.wait()
    command = [executable, "--port", str(server.port), "--bind", server.host, "--dir", directory]
    slowly = ["--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024"]
    watched = await watch(server.url)
    with launched([*command, *slowly], tmp_path / "loading.log", stop=signal.SIGKILL):
        await watched.until(broker.COLLECTOR, "airflow_broker_loading 1")
        assert await failure(watched) == ("connect", "the server is loading its data")


async def test_a_cluster_is_refused_with_a_sentence(redis_server: Serve, watch: Watch) -> None:
    """A Redis Cluster is recognised by what it says of itself, and by what it answers."""
    server = redis_server("--cluster-enabled", "yes", "--cluster-port", str(servers.free_port()))
    watched = await watch(server.url, queues=["default"])
    expected = ("query", "a Redis Cluster is not supported, nor can it be Celery's broker")
    assert await failure(watched, broker.COLLECTOR) == expected
    assert await failure(watched, queues.COLLECTOR) == expected


async def test_a_wrong_password_is_told_and_a_right_one_picked_up(
    redis_server: Serve, watch: Watch, tmp_path: Path
) -> None:
    """A refused login is a matter of permission and repeats no secret; the file's new password serves the next read."""
    server = redis_server("--requirepass", "s3cret")
    file = tmp_path / "url"
    file.write_text(f"redis://:wr0ng@{server.host}:{server.port}/0")
    watched = await watch(None, broker_url_file=str(file), queues=["default"])
    reason, message = await failure(watched)
    assert (reason, "wr0ng" in message) == ("permission", False)
    file.write_text("")
    reason, message = await failure(watched)
    assert (reason, message) == ("connect", f"{file} is empty")
    file.write_text(f"redis://:s3cret@{server.host}:{server.port}/0")
    assert 'airflow_celery_queue_length{queue="default"} 0' in await watched.samples(queues.COLLECTOR)
    with redis.Redis.from_url(f"redis://:s3cret@{server.host}:{server.port}/0") as client:
        client.config_set("requirepass", "rotat3d")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    file.write_text(f"redis://:rotat3d@{server.host}:{server.port}/0")
    await watched.text(queues.COLLECTOR)


async def test_a_login_without_a_password_is_told(redis_server: Serve, watch: Watch) -> None:
    """A server that wants a password that is not configured is a matter of permission."""
    server = redis_server("--requirepass", "s3cret")
    watched = await watch(server.url)
    assert (await failure(watched))[0] == "permission"


async def test_no_server_can_make_us_repeat_the_password(redis_server: Serve, watch: Watch) -> None:
    """A server without AUTH quotes the arguments of the unknown command; the error does not."""
    server = redis_server("--rename-command", "AUTH", "")
    watched = await watch(f"redis://user:s3cret@{server.host}:{server.port}/0")
    reason, message = await failure(watched)
    assert (reason, message) == ("query", "unknown command 'AUTH'")
