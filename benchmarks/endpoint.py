"""GET /metrics under change, beside prometheus_client on the same families; and what the daemon weighs."""

from __future__ import annotations

import gzip
import http.client
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from windsock_demo import servers
from windsock_demo.processes import launched

from . import changing, machine, migrated
from .figures import Goal, Result, percentile, table

SCRAPES = 1000
STARTS = 5
CALLS = 20
IDLE_SECONDS = 40.0
HEADERS = {  # as Prometheus sends them
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding": "gzip",
}


def measure() -> Result:
    """All of it, about two minutes."""
    with tempfile.TemporaryDirectory() as folder:
        times, body, most = _scrapes(Path(folder))
        starts, idle = _small_installation(Path(folder))
    theirs, their_size = _prometheus_client()
    series = gzip.decompress(body).count(b"\nairflow_dag_benchmark_")
    goals = [
        Goal(f"`GET /metrics`, {series:,} series, gzip, under change, p99", percentile(times, 0.99), 15, " ms"),
        Goal(f"resident memory, {changing.DAGS:,} DAGs, {series:,} series, at most", most, 150, " MB"),
        Goal("resident memory, idle, small installation", idle, 95, " MB"),
        Goal("start to `/metrics` answering, slowest", max(starts), 3, " s"),
    ]
    text = table(
        f"{series:,} series | calls | p50 ms | p99 ms | max ms | gzip kB",
        [
            _row("Windsock: a scrape over HTTP, under change", times, len(body)),
            _row("prometheus_client: a call of its WSGI application, without change", theirs, their_size),
        ],
    )
    return Result(goals, text)


def _row(what: str, times: list[float], size: int) -> tuple[object, ...]:
    return what, len(times), percentile(times, 0.5), percentile(times, 0.99), max(times), size / 1000


def _scrapes(folder: Path) -> tuple[list[float], bytes, float]:
    """Milliseconds per scrape, the last body, and the daemon's peak memory in MB."""
    port = servers.free_port()
    with launched([sys.executable, changing.__file__, str(port)], folder / "changing.log") as process:
        _first_answer(port)
        time.sleep(2 * changing.Changing.interval)  # each collector has then read at least once
        times, body = [], b""
        client = http.client.HTTPConnection(servers.HOST, port, timeout=10)
        for _ in range(SCRAPES):
            time.sleep(0.04 * random.random())
            started = time.perf_counter()
            client.request("GET", "/metrics", headers=HEADERS)
            body = client.getresponse().read()
            times.append(1000 * (time.perf_counter() - started))
        client.close()
        return times, body, machine.peak(process.pid)


def _small_installation(folder: Path) -> tuple[list[float], float]:
    """Seconds from each start to the first page, and the resident memory in MB of a daemon that has run for a while."""
    with servers.postgres(folder) as database, servers.valkey(folder) as broker:
        config = {
            "airflow": {"database_url": migrated.create(database, "small")},
            "celery": {"broker_url": broker.url},
            "state": {"dir": str(folder / "state")},
        }
        file = folder / "windsock.yml"
        file.write_text(json.dumps(config))
        seconds, resident = [], 0.0
        for start in range(STARTS):
            port = servers.free_port()
            command = [sys.executable, "-m", "exporter", "run", "--config", str(file), "--listen", f"127.0.0.1:{port}"]
            started = time.perf_counter()
            with launched(command, folder / "windsock.log") as process:
                _first_answer(port)
                seconds.append(time.perf_counter() - started)
                if start == STARTS - 1:
                    time.sleep(IDLE_SECONDS)
                    resident = machine.resident(process.pid)
        return seconds, resident


def _first_answer(port: int) -> None:
    """Returns once /metrics answers; raises TimeoutError after half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            client = http.client.HTTPConnection(servers.HOST, port, timeout=5)
            client.request("GET", "/metrics", headers=HEADERS)
            if client.getresponse().status == 200:
                return
        time.sleep(0.01)
    raise TimeoutError("the daemon does not answer")


class _Ready(Collector):
    """The same families for prometheus_client, which has nothing to do but write them."""

    def __init__(self) -> None:
        rows = changing.rows()
        self._families: list[Metric] = []
        for collector in changing.ALL:
            for metric in collector.metrics:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.name, metric.help, labels=("airflow", *metric.labels))
                for row in rows:
                    family.add_metric(("airflow", row.dag_id, row.state), metric.value(row) or 0.0)
                self._families.append(family)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _prometheus_client() -> tuple[list[float], int]:
    """Milliseconds per call of its WSGI application, and the size of what it answers."""
    registry = CollectorRegistry()
    registry.register(_Ready())
    app = make_wsgi_app(registry)
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()}
    times, size = [], 0
    for _ in range(CALLS):
        started = time.perf_counter()
        size = sum(map(len, app(environ, lambda *_: None)))
        times.append(1000 * (time.perf_counter() - started))
    return times, size
