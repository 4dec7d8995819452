"""The demo's Airflow with all that can happen to it, a daemon that watches it, and Prometheus with our rules."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import yaml
from redis import Redis

import windsock_demo
from exporter import web_config
from exporter.collectors import ALL
from exporter.config import Config, load
from exporter.daemon import serve
from exporter.webhook import PATH
from tests.conftest import tool
from tests.rules.ruleset import ALERTS
from tests.webhooks import body
from windsock_demo import alerts, servers
from windsock_demo.check import CHANNEL, wait_until_ready
from windsock_demo.http import post
from windsock_demo.processes import launched
from windsock_demo.slack import Order, Workspace
from windsock_demo.slack import serve as open_workspace

RULES = ("airflow.rules.yml", "airflow-optional.rules.yml", "slo.rules.yml")
"""Those that need nothing but Windsock."""

FAILING = "{{ 1 // (alertname != 'AirflowDagFailed') }}"
"""A template that divides by zero for the demo's alert, but not for the examples that a configuration is tried on."""


@asynccontextmanager
async def demo(directory: Path) -> AsyncIterator[Config]:
    """The simulated Airflow, Slack's look-alike, and the daemon between them, which gets the demo's own alerts."""
    stop, end = threading.Event(), asyncio.Event()
    with windsock_demo._airflow(directory) as (simulator, url, environ):
        async with open_workspace(Workspace(CHANNEL)) as slack, asyncio.TaskGroup() as tasks:
            config = _config(environ, directory, slack)
            slack.order(Order(method="chat.postMessage", retry_after=15))  # so that something has to wait
            with everything_happens(url, config, directory):
                tasks.create_task(serve(config, web_config.load(None), end))
                tasks.create_task(windsock_demo._simulate(simulator, stop))
                try:
                    assert await asyncio.to_thread(wait_until_ready, config.listen, stop)
                    told = json.loads(body("ToldTwice", 1))
                    taken = [await asyncio.to_thread(post, config.listen, PATH, each) for each in (told, told, "?")]
                    assert taken == [True, True, False]
                    with alerts.raised(config.listen, directory) as prometheus:
                        assert prometheus
                        yield config
                finally:
                    stop.set()
                    end.set()


def _config(environ: Mapping[str, str], directory: Path, slack: Workspace) -> Config:
    """The demo's settings, a time by which somebody wants success, and a template that fails."""
    settings = {
        **windsock_demo._SETTINGS,
        "airflow.expected_by": {"etl_.*": {"every": "26h"}},
        "state.dir": str(directory / "state"),
        "listen": f"{servers.HOST}:{servers.free_port()}",
        "slack": {"token": slack.token, "api_url": slack.api_url},
        "destinations": {CHANNEL: {"channel": slack.channel(CHANNEL).id}},
        "templates": {"footer": FAILING},
    }
    return load(None, environ, collectors=[collector.name for collector in ALL], overrides=settings)


@contextmanager
def everything_happens(database_url: str, config: Config, directory: Path) -> Iterator[None]:
    """What does not come about in the demo by itself: a limit here, a replica there, a collector that fails once."""
    broker_url = config.celery.broker_url.get_secret_value() if config.celery.broker_url else ""
    address = urllib.parse.urlsplit(broker_url)
    with (
        psycopg.connect(database_url, autocommit=True) as connection,
        psycopg.connect(database_url) as idle,
        Redis(host=address.hostname or "", port=address.port or 0) as broker,
        servers.valkey(directory / "replica") as replica,
        Redis.from_url(replica.url) as follower,
    ):
        connection.execute("GRANT pg_read_all_stats TO windsock")
        connection.execute("UPDATE dag SET max_consecutive_failed_dag_runs = 5")
        connection.execute("CREATE RULE triggerers_are_full AS ON UPDATE TO trigger DO INSTEAD NOTHING")
        connection.execute(  # the last of a backfill that outlasts the test
            "UPDATE dag_run SET run_type = 'manual' "
            "WHERE id = (SELECT max(id) FROM dag_run WHERE backfill_id IS NOT NULL)"
        )
        idle.execute("SELECT txid_current()")
        broker.config_set("maxmemory", "1gb")
        broker.config_set("maxmemory-policy", "allkeys-lru")
        broker.config_set("appendonly", "yes")
        follower.execute_command("REPLICAOF", address.hostname, address.port)
        connection.execute("REVOKE SELECT ON hitl_detail FROM windsock")
        later = threading.Timer(
            20, connection.execute, ["GRANT SELECT ON hitl_detail TO windsock; UPDATE deadline SET missed = true"]
        )
        later.start()
        yield
        later.join()


@contextmanager
def prometheus(directory: Path, target: str) -> Iterator[int]:
    """A Prometheus that scrapes the daemon every two seconds, and has the shipped rules; its port."""
    port = servers.free_port()
    configuration = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "5s"},
        "rule_files": _hurried(directory),
        "scrape_configs": [{"job_name": "windsock", "static_configs": [{"targets": [target]}]}],
    }
    (directory / "prometheus.yml").write_text(json.dumps(configuration))
    command = [
        str(tool("prometheus")),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={servers.HOST}:{port}",
    ]
    with launched(command, directory / "prometheus.log"):
        yield port


def _hurried(directory: Path) -> list[str]:
    """The shipped rules, in a hurry: what would wait before it fires, fires at once."""
    for name in RULES:
        document = yaml.safe_load((ALERTS / name).read_text())
        for group in document["groups"]:
            group["interval"] = "5s"
            for rule in group["rules"]:
                rule.pop("for", None)
        (directory / name).write_text(yaml.safe_dump(document))
    return [str(directory / name) for name in RULES]
