"""The least-privilege user that Windsock prints is enough for every read of the broker, and for nothing else."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest
import redis

from exporter.collectors import broker, queue_discovery, queues
from exporter.sources import SourceError
from exporter.sources.broker import acl_rule
from windsock_demo import servers

from .conftest import Watched

Watch = Callable[..., Awaitable[Watched]]


@pytest.fixture
def server(redis_server: Callable[..., servers.Valkey]) -> servers.Valkey:
    """A broker with one waiting message, one that is not acknowledged, and one bound queue."""
    server = redis_server()
    with redis.Redis(server.host, server.port, db=1) as client:
        client.lpush("default", "message")
        client.hset("unacked", "tag", "message")
        client.zadd("unacked_index", {"tag": 1700000000})
        client.sadd("_kombu.binding.default", "default\x06\x16\x06\x16default")
    return server


def obey(server: servers.Valkey, rule: str) -> None:
    """Send an administrator's command, its password filled in."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(*rule.replace(">PASSWORD", ">s3cret").split())


def url(server: servers.Valkey) -> str:
    """The address that the user connects to."""
    return f"redis://windsock:s3cret@{server.host}:{server.port}/1"


@pytest.mark.parametrize("redis_6", [False, True])
async def test_every_read_works_and_no_write(server: servers.Valkey, watch: Watch, redis_6: bool) -> None:
    """All collectors succeed as that user and try nothing more; whatever writes or shows messages is refused."""
    obey(server, acl_rule("windsock", redis_6=redis_6))
    watched = await watch(url(server))
    await watched.text(queue_discovery.COLLECTOR)
    assert await watched.samples(queues.COLLECTOR) == [
        'airflow_celery_queue_length{queue="default"} 1',
        "airflow_celery_unacked_messages 1",
        "airflow_celery_oldest_unacked_timestamp_seconds 1700000000",
        "airflow_celery_visibility_timeout_seconds 86400",
    ]
    assert "airflow_broker_role_master 1" in await watched.samples(broker.COLLECTOR)
    with redis.Redis.from_url(server.url) as administrator:
        assert administrator.acl_log() == []
    refused = ["LPUSH default x", "GET default", "LINDEX default 0", "HGETALL unacked", "KEYS *", "DEL default"]
    refused += ["CONFIG SET maxmemory 1", "CONFIG GET *", "FLUSHALL", "PUBLISH x y", "EVAL return 1 0", "ACL LIST"]
    with redis.Redis.from_url(url(server), driver_info=None, protocol=2) as client:
        for command in refused:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())


async def test_a_prefix_narrows_the_keys(server: servers.Valkey, watch: Watch) -> None:
    """A user made for a prefix cannot read keys that do not have it, and those families are absent."""
    obey(server, acl_rule("windsock", "ours[1]"))
    watched = await watch(url(server), queues=["default"], global_keyprefix="ours[1]")
    assert 'airflow_celery_queue_length{queue="default"} 0' in await watched.samples(queues.COLLECTOR)
    watched = await watch(url(server), queues=["default"], global_keyprefix="ours1")
    with pytest.raises(SourceError, match="ermission") as caught:
        await watched.text(queues.COLLECTOR)
    assert caught.value.reason == "permission"


@pytest.mark.parametrize(
    ("command", "families"),
    [
        ("hlen", {"queue_length", "oldest_unacked_timestamp_seconds", "visibility_timeout_seconds"}),
        ("zrange", {"queue_length", "unacked_messages", "visibility_timeout_seconds"}),
        ("llen", {"unacked_messages", "oldest_unacked_timestamp_seconds", "visibility_timeout_seconds"}),
    ],
)
async def test_a_refused_command_costs_its_family(
    server: servers.Valkey, watch: Watch, caplog: pytest.LogCaptureFixture, command: str, families: set[str]
) -> None:
    """Without the right to one command only what it feeds is absent, and that is said once."""
    obey(server, f"{acl_rule('windsock')} -{command}")
    watched = await watch(url(server), queues=["default", "gpu"])
    for _ in range(2):
        shown = {line.split("{")[0].split()[0] for line in await watched.samples(queues.COLLECTOR)}
        assert shown == {f"airflow_celery_{name}" for name in families}
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert vars(record)["command"] == command.upper()


async def test_a_user_without_rights_is_told_so(server: servers.Valkey, watch: Watch) -> None:
    """When everything is refused the collector fails, by permission."""
    obey(server, "ACL SETUSER windsock on >PASSWORD -@all +select")
    watched = await watch(url(server))
    for collector in (broker.COLLECTOR, queues.COLLECTOR, queue_discovery.COLLECTOR):
        with pytest.raises(SourceError, match="no permissions to run") as caught:
            await watched.text(collector)
        assert caught.value.reason == "permission"
