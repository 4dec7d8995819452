"""airflow-2.yaml runs a real Airflow 2.11: its tasks reach a worker, and Windsock reads what became of them."""

from __future__ import annotations

import faulthandler
import time
import urllib.request
from pathlib import Path

import pytest

from tests.stack.compose import stack as compose
from tests.stack.compose.airflow import environment

pytestmark = pytest.mark.system

UP = 420.0
"""Seconds until all is healthy, on a machine that has other things to do."""
PATIENCE = 200.0
WITHOUT = ("prometheus", "alertmanager", "slack", "redis-exporter", "postgres-exporter")
"""What does not care which Airflow it is."""


def page(stack: compose.Stack) -> str:
    """What Windsock exports."""
    address = f"http://{stack.address('windsock')}/metrics"
    with stack.network.entered(), urllib.request.urlopen(address, timeout=10) as response:
        return str(response.read().decode())


def test_a_task_succeeds_and_windsock_knows_it(tmp_path: Path) -> None:
    """All of it is healthy as the files say, the metrics say 2.11, and all that can be read there is read."""
    folder, airflow = compose.prepared(tmp_path), environment("2.11")
    faulthandler.cancel_dump_traceback_later()  # each wait below has an end of its own
    with compose.up(folder, airflow, time.monotonic() + UP, ("compose.yaml", "airflow-2.yaml"), WITHOUT) as stack:
        scheduler = stack.containers["airflow-scheduler"]
        scheduler.run("airflow", "dags", "unpause", "healthy")
        deadline = time.monotonic() + PATIENCE
        while 'airflow_dag_last_run_success{airflow="airflow",dag_id="healthy"} 1' not in (said := page(stack)):
            assert time.monotonic() < deadline, said
            time.sleep(2)
        assert scheduler.run("pgrep", "--count", "--full", "airflow scheduler") == "1\n"  # none shares its connection
        assert 'version="2.11"' in said
        assert not [
            line for line in said.splitlines() if line.startswith("windsock_collector_success") and line[-1] == "0"
        ]
