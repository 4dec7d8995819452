"""What the dashboards ask is answered by a real Prometheus that scrapes the daemon over the demo's Airflow."""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from redis import Redis

import windsock_demo
from exporter import web_config
from exporter.collectors import ALL
from exporter.config import Config, load
from exporter.daemon import serve
from tests.boards import Query, of_annotations, of_panels, of_variables
from tests.conftest import ROOT, tool
from windsock_demo import servers
from windsock_demo.processes import launched
from windsock_demo.simulator import Simulator

pytestmark = pytest.mark.system

PATIENCE = 240.0
"""Seconds until what had no answer has none."""

VALUES = {
    "$airflow": "demo",
    "$__rate_interval": "30s",
    "$__range": "2m",
    '="$dag_id"': '=~".+"',  # what is said of one DAG is not said of another
    "$pool": ".+",
    "$queue": ".+",
    "$job": ".+",
    "$instance": ".+",
}

EMPTY = {
    "airflow-celery: Link to the master": "the demo's broker is a master",
}
"""Queries that are rightly without an answer here."""

ROUTED = re.compile(r"windsock_(webhook|alerts_received|duplicates|outbox|slack|deliver|dead_letters|circuit)")
"""The demo has no destination, and so nothing to tell about one."""


def wanted() -> dict[str, Query]:
    """Everything that the boards ask of Windsock's metrics, by a name of its own."""
    asked = [*of_panels(), *of_annotations(), *of_variables()]
    asked = [each for each in asked if each.board != "airflow-statsd" and not ROUTED.search(each.expr)]
    return {f"{number} {each}": each for number, each in enumerate(asked) if str(each) not in EMPTY}


def filled(expr: str) -> str:
    """The expression with a value for each variable."""
    for name, value in VALUES.items():
        expr = expr.replace(name, value)
    return expr


def answer(port: int, expr: str) -> list[dict[str, Any]]:
    """What Prometheus answers; raises with its own words where it refuses."""
    url = f"http://{servers.HOST}:{port}/api/v1/query"
    try:
        with urllib.request.urlopen(url, urllib.parse.urlencode({"query": expr}).encode(), timeout=10) as response:
            answered = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from None
    assert not answered.get("warnings"), answered
    result = answered["data"]["result"]
    return [{"value": result}] if answered["data"]["resultType"] == "scalar" else list(result)


def has_data(port: int, expr: str) -> bool:
    """Whether there is a series with a number."""
    return any(not math.isnan(float(each["value"][1])) for each in answer(port, expr))


def rules(directory: Path) -> list[str]:
    """The shipped rules, in a hurry: what would wait before it fires, fires at once."""
    names = ("airflow.rules.yml", "airflow-optional.rules.yml", "slo.rules.yml")
    for name in names:
        document = yaml.safe_load((ROOT / "alerts" / name).read_text())
        for group in document["groups"]:
            group["interval"] = "5s"
            for rule in group["rules"]:
                rule.pop("for", None)
        (directory / name).write_text(yaml.safe_dump(document))
    return [str(directory / name) for name in names]


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
        connection.execute(
            "INSERT INTO trigger (id, classpath, kwargs, created_date) VALUES (999999, 'x', '{}', now())"
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
def demo(directory: Path) -> Iterator[Config]:
    """The demo's Airflow, with its daemon, in a thread of this process."""
    stop = threading.Event()
    with ExitStack() as stack:
        simulator, url, environ = stack.enter_context(windsock_demo._airflow(directory))
        places = {"state.dir": str(directory / "state"), "listen": f"{servers.HOST}:{servers.free_port()}"}
        names = [collector.name for collector in ALL]
        config = load(None, environ, collectors=names, overrides={**windsock_demo._SETTINGS, **places})
        stack.enter_context(everything_happens(url, config, directory))
        thread = threading.Thread(target=lambda: asyncio.run(_live(simulator, config, stop)))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        yield config


async def _live(simulator: Simulator, config: Config, stop: threading.Event) -> None:
    """Simulates, and serves what the daemon sees."""
    end = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(config, web_config.load(None), end))
        await windsock_demo._simulate(simulator, stop)
        end.set()


@contextmanager
def prometheus(directory: Path, target: str) -> Iterator[int]:
    """A Prometheus that scrapes the daemon every two seconds, and has the shipped rules; its port."""
    port = servers.free_port()
    configuration = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "5s"},
        "rule_files": rules(directory),
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


def test_every_query_is_answered(tmp_path: Path) -> None:
    """Each panel, variable and mark gets a number sooner or later; so does each recording of the rules."""
    tool("prometheus")
    missing = {name: filled(query.expr) for name, query in wanted().items()}
    for path in rules(tmp_path):
        for group in yaml.safe_load(Path(path).read_text())["groups"]:
            missing |= {rule["record"]: rule["record"] for rule in group["rules"] if "record" in rule}
    (tmp_path / "demo").mkdir()
    with demo(tmp_path / "demo") as config, prometheus(tmp_path, str(config.listen)) as port:
        deadline = time.monotonic() + PATIENCE
        while missing and time.monotonic() < deadline:
            time.sleep(5)
            missing = {name: expr for name, expr in missing.items() if not _answered(port, expr)}
    assert missing == {}
    assert len(EMPTY) <= 5


def _answered(port: int, expr: str) -> bool:
    try:
        return has_data(port, expr)
    except urllib.error.URLError:  # it has only just been started
        return False
