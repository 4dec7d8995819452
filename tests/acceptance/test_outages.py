"""The daemon through outages of its sources: it answers throughout, tells the truth, and recovers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import schema_file
from tests.processes import kill
from windsock_demo import servers
from windsock_demo.processes import launched

INTERVAL = 1.0
PATIENCE = 2 * INTERVAL + 3.0  # two intervals, a timeout of one second, and a busy machine


class Daemon:
    """A running `windsock run`, seen through its /metrics."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url, self.process = f"http://{servers.HOST}:{port}/metrics", process

    def samples(self) -> dict[str, float]:
        """Every sample, each of which must come within two seconds."""
        with urllib.request.urlopen(self.url, timeout=2) as response:  # noqa: S310
            text = response.read().decode()
        return {name: float(value) for name, value in re.findall(r"^([a-z].*) (\S+)$", text, re.MULTILINE)}

    def wait_for(self, name: str, value: float, patience: float = PATIENCE) -> dict[str, float]:
        """The first exposition where a sample has this value; fails after the patience."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            samples = self.samples()
            if samples.get(name) == value:
                return samples
            time.sleep(0.1)
        pytest.fail(f"{name} is {self.samples().get(name)}, not {value}, after {patience} s")


@pytest.fixture
def ports() -> tuple[int, int]:
    """Where PostgreSQL and Valkey listen, over restarts."""
    return servers.free_port(), servers.free_port()


@pytest.fixture
def postgres(tmp_path: Path, ports: tuple[int, int]) -> Iterator[Callable[[], servers.Postgres]]:
    """Starts, and starts again, a PostgreSQL with Airflow's schema on the same port."""
    contexts = []

    def start() -> servers.Postgres:
        context = servers.postgres(tmp_path / "postgres", port=ports[0])
        contexts.append(context)
        return context.__enter__()

    server = start()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(schema_file("3.3").read_bytes())
        connection.execute("CHECKPOINT")
    yield lambda server=server: server if server.process.poll() is None else start()  # type: ignore[misc]
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def valkey(tmp_path: Path, ports: tuple[int, int]) -> Iterator[Callable[[], servers.Valkey]]:
    """Starts, and starts again, a Valkey on the same port."""
    contexts = []

    def start() -> servers.Valkey:
        context = servers.valkey(tmp_path / "valkey", port=ports[1])
        contexts.append(context)
        return context.__enter__()

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def daemon(tmp_path: Path, postgres: Callable[[], servers.Postgres], ports: tuple[int, int]) -> Iterator[Daemon]:
    """`windsock run` with short intervals."""
    port = servers.free_port()
    environment = {
        "WINDSOCK_LISTEN": f"{servers.HOST}:{port}",
        "WINDSOCK_AIRFLOW__NAME": "prod",
        "WINDSOCK_AIRFLOW__DATABASE_URL": postgres().url(),
        "WINDSOCK_STATE__DIR": str(tmp_path / "state"),
        "WINDSOCK_CELERY__BROKER_URL": f"redis://{servers.HOST}:{ports[1]}/0",
        "WINDSOCK_CELERY__QUEUES": "[default]",
    }
    for collector in ("DATABASE", "POOLS", "BROKER", "QUEUES"):
        environment |= {f"WINDSOCK_COLLECTORS__{collector}__{name}": "1s" for name in ("INTERVAL", "TIMEOUT")}
    os.environ.update(environment)
    try:
        with launched([sys.executable, "-m", "exporter", "run"], tmp_path / "windsock.log") as process:
            daemon = Daemon(port, process)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    daemon.samples()
                    break
                except OSError:
                    time.sleep(0.05)
            yield daemon
    finally:
        for name in environment:
            del os.environ[name]


DB_UP = 'airflow_db_up{airflow="prod"}'
BROKER_UP = 'airflow_broker_up{airflow="prod"}'
SLOTS = 'airflow_pool_slots_limit{airflow="prod",pool="default_pool"}'
LENGTH = 'airflow_celery_queue_length{airflow="prod",queue="default"}'


def test_servers_that_die_and_come_back(
    daemon: Daemon, postgres: Callable[[], servers.Postgres], valkey: Callable[[], servers.Valkey]
) -> None:
    """Killed servers are told within two intervals, the other source goes on, known values stay, and all recovers."""
    daemon.wait_for(BROKER_UP, 0)
    running = valkey()
    for known in ((BROKER_UP, 1), (DB_UP, 1), (SLOTS, 128), (LENGTH, 0)):
        daemon.wait_for(*known)

    kill(postgres())
    down = daemon.wait_for(DB_UP, 0)
    assert (down[SLOTS], down[BROKER_UP]) == (128, 1)
    assert down['windsock_collector_errors_total{collector="database",reason="connect"}'] >= 1

    running.process.kill()
    down = daemon.wait_for(BROKER_UP, 0)
    assert (down[SLOTS], down[LENGTH], down[DB_UP]) == (128, 0, 0)

    postgres()
    up = daemon.wait_for(DB_UP, 1)
    assert up[BROKER_UP] == 0
    valkey()
    daemon.wait_for(BROKER_UP, 1)
    daemon.wait_for('windsock_collector_success{collector="queues"}', 1)

    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(10) == 0


def test_servers_that_hang(
    daemon: Daemon, postgres: Callable[[], servers.Postgres], valkey: Callable[[], servers.Valkey]
) -> None:
    """A server that accepts and never answers costs its own collectors, and nothing else."""
    running = valkey()
    daemon.wait_for(DB_UP, 1)
    daemon.wait_for(BROKER_UP, 1)
    processes = _family(postgres().process.pid)
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        down = daemon.wait_for(DB_UP, 0)
        assert down[SLOTS] == 128
        assert daemon.wait_for(BROKER_UP, 1)[LENGTH] == 0
        running.process.send_signal(signal.SIGSTOP)
        daemon.wait_for(BROKER_UP, 0)
    finally:
        for pid in (*processes, running.process.pid):
            os.kill(pid, signal.SIGCONT)
    daemon.wait_for(DB_UP, 1)
    daemon.wait_for(BROKER_UP, 1)


def _family(parent: int) -> list[int]:
    """A process and its children."""
    pids = [parent]
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = path.read_text().rpartition(")")[2].split()
        if int(fields[1]) == parent:
            pids.append(int(path.parent.name))
    return pids
