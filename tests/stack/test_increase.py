"""What an alert sees through a real Prometheus that scrapes every minute: no first failure is missed or invented."""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.airflow import Airflow
from tests.conftest import AirflowDatabase, tool
from windsock_demo import servers
from windsock_demo.processes import launched

PATIENCE = 150.0
"""Seconds: what a ledger holds back, then a poll and a scrape."""

TIMEOUT = 5.0
"""Seconds that a poll may take: one that ends so long after a fact has seen it."""

JOBS = ("running", "restarting")
DAGS = ("before", "meanwhile")
# Of a job and a DAG.
FAILED = 'airflow_dag_runs_finished_total{job="%s",dag_id="%s",state="failed",run_type="scheduled"}'
FAILED_TRIES = 'airflow_task_instances_finished_total{job="%s",dag_id="%s",state="failed"}'
COUNTERS = '{__name__=~"airflow_.+_(total|count|sum|bucket)"}[15m]'
POLLED = re.compile(
    r'^windsock_collector_last_success_timestamp_seconds\{collector="accounting"\} (\S+)$', re.MULTILINE
)


def ask(port: int, expression: str) -> list[Any]:
    """What Prometheus answers now; nothing while it starts."""
    url = f"http://{servers.HOST}:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return list(json.load(response)["data"]["result"])
    except urllib.error.HTTPError:
        raise  # it does not understand
    except OSError:
        return []


def query(port: int, expression: str) -> float | None:
    """The value of the one series; None for nothing."""
    result = ask(port, expression)
    return float(result[0]["value"][1]) if result else None


def fallen(port: int) -> list[dict[str, str]]:
    """The counters that ever fell."""
    counters = ask(port, COUNTERS)
    assert counters
    return [
        series["metric"]
        for series in counters
        if any(float(later) < float(sooner) for (_, sooner), (_, later) in pairwise(series["values"]))
    ]


def wait_for(port: int, expression: str) -> float:
    """Its value, as soon as it has one."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (value := query(port, expression)) is not None:
            return value
        time.sleep(2)
    pytest.fail(f"{expression} has no value after {PATIENCE} s")


def await_polls(ports: tuple[int, ...], after: float) -> None:
    """Until each of these daemons has seen in its accounting what was there at that time."""
    for port in ports:
        deadline, last = time.monotonic() + PATIENCE, 0.0
        while last <= after:
            assert time.monotonic() < deadline, f"no poll within {PATIENCE} s"
            time.sleep(0.5)
            with suppress(OSError), urllib.request.urlopen(f"http://{servers.HOST}:{port}/metrics") as response:
                last = max(map(float, POLLED.findall(response.read().decode())), default=0.0)


def fail(airflow: Airflow, dag_id: str) -> None:
    """A run of this DAG with one task, which fail at once."""
    now = airflow.connection.execute("SELECT clock_timestamp()").fetchone()
    assert now
    run = airflow.run(dag_id, "failed", clear_number=0, run_after=now[0], start_date=now[0], end_date=now[0])
    airflow.task(run, "failed", heartbeat=now[0], start_date=now[0], end_date=now[0], duration=0)


def prometheus(folder: Path, web: int, ports: tuple[int, ...]) -> list[str]:
    """The command that runs it: a job for each daemon."""
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [f"{servers.HOST}:{port}"]}]}
        for job, port in zip(JOBS, ports, strict=True)
    ]
    configuration = folder / "prometheus.yml"
    configuration.write_text(json.dumps({"global": {"scrape_interval": "60s"}, "scrape_configs": jobs}))
    settings = {"config.file": configuration, "storage.tsdb.path": folder / "data"}
    settings |= {"web.listen-address": f"{servers.HOST}:{web}"}  # type: ignore[dict-item]
    return [str(tool("prometheus")), *(f"--{name}={value}" for name, value in settings.items())]


def daemon(state: Path, port: int) -> list[str]:
    """The command that runs Windsock."""
    arguments = "run", "--listen", f"{servers.HOST}:{port}"
    return ["env", f"WINDSOCK_STATE__DIR={state}", sys.executable, "-m", "exporter", *arguments]


@pytest.mark.system
def test_the_first_failure_is_an_increase(
    airflow_database: Callable[[str], AirflowDatabase], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a brand-new DAG, and one that comes while the daemon restarts; `airflow db clean` is no change at all."""
    database, web, ports = airflow_database("3.3"), servers.free_port(), (servers.free_port(), servers.free_port())
    monkeypatch.setenv("WINDSOCK_AIRFLOW__DATABASE_URL", database.reader_url)
    running, restarting = (daemon(tmp_path / job, port) for job, port in zip(JOBS, ports, strict=True))
    with (
        psycopg.connect(database.url) as connection,
        launched(prometheus(tmp_path, web, ports), tmp_path / "prometheus.log"),
        launched(running, tmp_path / "running.log"),
    ):
        airflow = Airflow(connection, "3.3")
        with launched(restarting, tmp_path / "first.log") as first:
            await_polls(ports, 0)
            for dag_id in DAGS:
                airflow.dag(dag_id)
            for each in product(JOBS, DAGS):
                assert wait_for(web, FAILED % each) == 0
            fail(airflow, "before")
            await_polls(ports, time.time() + TIMEOUT)
            first.kill()  # it has counted, and shows 0 for some time still
            first.wait()
        fail(airflow, "meanwhile")
        with launched(restarting, tmp_path / "second.log"):
            await_polls(ports, time.time() + TIMEOUT)
            clean(connection)
            for each in product(JOBS, DAGS):
                assert wait_for(web, f"increase({FAILED % each}[5m]) > 0") > 0
                assert query(web, FAILED % each) == query(web, FAILED_TRIES % each) == 1
            assert fallen(web) == []


def clean(connection: psycopg.Connection[object]) -> None:
    """As `airflow db clean`, which spares the last run of each DAG, and more."""
    for table in ("log", "task_instance_history", "task_instance", "dag_run"):
        connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
