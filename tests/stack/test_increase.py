"""What an alert sees through a real Prometheus that scrapes every minute: no first failure is missed or invented."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.airflow import Airflow
from tests.conftest import AirflowDatabase, tool
from windsock_demo import servers
from windsock_demo.processes import launched

PATIENCE = 200.0
"""Seconds: a scrape before and one after HOLD, and a poll."""

FAILED = 'airflow_dag_runs_finished_total{dag_id="%s",state="failed",run_type="scheduled"}'


def query(port: int, expression: str) -> float | None:
    """What Prometheus answers now; None for nothing."""
    url = f"http://{servers.HOST}:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        result = json.load(response)["data"]["result"]
        return float(result[0]["value"][1]) if result else None
    return None


def wait_for(port: int, expression: str) -> float:
    """Its value, as soon as it has one."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (value := query(port, expression)) is not None:
            return value
        time.sleep(2)
    pytest.fail(f"{expression} has no value after {PATIENCE} s")


def fail(airflow: Airflow, dag_id: str) -> None:
    """A run of this DAG that fails at once."""
    now = airflow.connection.execute("SELECT clock_timestamp()").fetchone()
    assert now
    airflow.run(dag_id, "failed", clear_number=0, run_after=now[0], start_date=now[0], end_date=now[0])


@pytest.mark.system
def test_the_first_failure_is_an_increase(
    airflow_database: Callable[[str], AirflowDatabase], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a brand-new DAG, and one that comes while the daemon restarts; `airflow db clean` is no change at all."""
    prometheus, database, port, web = (
        tool("prometheus"),
        airflow_database("3.3"),
        servers.free_port(),
        servers.free_port(),
    )
    monkeypatch.setenv("WINDSOCK_AIRFLOW__DATABASE_URL", database.reader_url)
    monkeypatch.setenv("WINDSOCK_STATE__DIR", str(tmp_path / "state"))
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "60s"},
                "scrape_configs": [
                    {"job_name": "windsock", "static_configs": [{"targets": [f"{servers.HOST}:{port}"]}]}
                ],
            }
        )
    )
    daemon = [sys.executable, "-m", "exporter", "run", "--listen", f"{servers.HOST}:{port}"]
    server = [
        str(prometheus),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={servers.HOST}:{web}",
    ]
    with psycopg.connect(database.url) as connection, launched(server, tmp_path / "prometheus.log"):
        airflow = Airflow(connection, "3.3")
        with launched(daemon, tmp_path / "first.log") as first:
            airflow.dag("new")
            airflow.dag("restarted")
            assert wait_for(web, FAILED % "new") == 0
            fail(airflow, "new")
            time.sleep(20)  # it is counted, and perhaps shown
            first.send_signal(signal.SIGKILL)
            first.wait()
        fail(airflow, "restarted")
        with launched(daemon, tmp_path / "second.log"):
            assert wait_for(web, f"increase({FAILED % 'new'}[5m]) > 0") > 0
            assert wait_for(web, f"increase({FAILED % 'restarted'}[5m]) > 0") > 0
            connection.execute("DELETE FROM dag_run")
            time.sleep(80)
            for dag_id in ("new", "restarted"):
                assert query(web, FAILED % dag_id) == 1
                assert query(web, f"resets({FAILED % dag_id}[10m])") == 0
