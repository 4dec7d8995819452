"""The image, as `scripts/container-test` builds it, does its work with no right that it does not need."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter import __version__
from tests.airflow import Airflow
from tests.conftest import AirflowDatabase
from windsock_demo import servers

pytestmark = pytest.mark.system

log = logging.getLogger(__name__)

T = TypeVar("T")

HARDENED = (
    "--network=host",
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=192m",
)
START_SECONDS = 30.0
STOP_SECONDS = 10.0
MEMORY = "/var/lib/windsock"
HURRIED = "from exporter import __main__, accounting; accounting.ledger.HOLD = 1.0; __main__.main(['run'])"
"""The daemon, but a counter is shown a second after its zero and not a minute."""

FINISHED = "airflow_dag_runs_finished_total"


@pytest.fixture(scope="session")
def image() -> str:
    """The image's name; the tests are skipped where nobody built it."""
    if named := os.environ.get("WINDSOCK_TEST_IMAGE"):
        return named
    pytest.skip("scripts/container-test builds the image and runs these tests")


def _podman(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, timeout=60, check=False)


def _inspect(name: str, what: str) -> str:
    return _podman("container", "inspect", "--format", what, name).stdout.strip()


@contextmanager
def _container(*arguments: str) -> Iterator[str]:
    """A container in the background; yields its name, and leaves nothing of it."""
    name = f"windsock-{secrets.token_hex(4)}"
    started = _podman("run", "--detach", "--pull=never", f"--name={name}", *arguments)
    try:
        assert started.returncode == 0, started.stderr
        yield name
    finally:
        _podman("rm", "--force", "--time=1", name)


@pytest.fixture
def volume(image: str) -> Iterator[str]:
    """A new volume, for what the image keeps: an option that mounts it."""
    name = f"windsock-{secrets.token_hex(4)}"
    yield f"--volume={name}:{MEMORY}"
    _podman("volume", "rm", "--force", name)


@pytest.fixture
def daemon(
    image: str, airflow_database: Callable[..., AirflowDatabase], valkey: servers.Valkey
) -> Iterator[tuple[str, float]]:
    """Windsock under the least rights, configured by Airflow's own variables; and when it was started."""
    variables = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow_database().reader_url.replace("://", "+psycopg2://", 1),
        "AIRFLOW__CELERY__BROKER_URL": valkey.url,
    }
    started = time.monotonic()
    with _container(*HARDENED, *(f"--env={name}={value}" for name, value in variables.items()), image) as name:
        yield name, started


def _get(path: str, port: int = 9780) -> str:
    """What the daemon answers, be it an error; nothing before it does."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except urllib.error.URLError:
        return ""


def _scrape() -> dict[str, float]:
    """The sum of each metric's samples; nothing before the daemon answers."""
    sums: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(_get("/metrics")):
        for sample in family.samples:
            sums[sample.name] += sample.value
    return sums


def _wait_until(name: str, holds: Callable[[], T]) -> T:
    """The first truthy answer, while the container runs."""
    deadline = time.monotonic() + START_SECONDS
    while not (answer := holds()):
        running = _inspect(name, "{{.State.Running}}") == "true"
        assert running and time.monotonic() < deadline, _podman("logs", "--tail=20", name).stderr
        time.sleep(0.1)
    return answer


def _process(name: str) -> dict[str, str]:
    status = Path("/proc", _inspect(name, "{{.State.Pid}}"), "status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in status.splitlines())}


def test_reads_both_sources_and_stops_when_asked(daemon: tuple[str, float]) -> None:
    """Unprivileged, on a read-only root, it exports both sources and is healthy; SIGTERM ends it with 0."""
    name, started = daemon
    _wait_until(name, lambda: bool(_scrape()))
    answered = time.monotonic() - started
    _wait_until(name, lambda: {"airflow_db_up": 1, "airflow_broker_up": 1}.items() <= _scrape().items())
    process = _process(name)
    assert process["Uid"].split() == ["10001"] * 4
    assert process["Gid"].split() == ["10001"] * 4
    assert int(process["CapEff"], 16) == 0
    assert process["NoNewPrivs"] == "1"
    assert _podman("healthcheck", "run", name).returncode == 0
    stopping = time.monotonic()
    _podman("kill", "--signal=TERM", name)
    assert _podman("wait", name).stdout.strip() == "0", _podman("logs", "--tail=20", name).stderr
    stopped = time.monotonic() - stopping
    assert stopped < STOP_SECONDS
    log.info("/metrics after %.1f s, %s of memory at most, ended in %.1f s", answered, process["VmHWM"], stopped)


def test_counters_outlive_their_container(
    image: str, airflow_database: Callable[..., AirflowDatabase], volume: str
) -> None:
    """A new container on the volume of one that was stopped shows what that one counted, from its first count on."""
    database = airflow_database()
    settings = {"AIRFLOW__DATABASE_URL": database.reader_url, "COLLECTORS__ACCOUNTING__INTERVAL": "1s"}
    hurried = [*HARDENED, volume, *(f"--env=WINDSOCK_{name}={value}" for name, value in settings.items())]
    hurried += ["--entrypoint=python", image, "-c", HURRIED]
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, database.version)
        airflow.dag("etl")
        with _container(*hurried) as name:
            _wait_until(name, lambda: FINISHED in _scrape())
            now = datetime.now(UTC)
            airflow.run("etl", "failed", clear_number=0, run_after=now, start_date=now, end_date=now)
            _wait_until(name, lambda: _scrape().get(FINISHED) == 1)
            _podman("stop", name)
            assert _inspect(name, "{{.State.ExitCode}}") == "0", _podman("logs", "--tail=20", name).stderr
        connection.execute("DELETE FROM dag_run")
        with _container(*hurried) as name:
            assert _wait_until(name, lambda: [value for key, value in _scrape().items() if key == FINISHED]) == [1]


def test_a_second_container_waits(image: str, airflow_database: Callable[..., AirflowDatabase], volume: str) -> None:
    """On the same volume it is not ready and says why, until the first one has ended."""
    settings = (*HARDENED, volume, f"--env=WINDSOCK_AIRFLOW__DATABASE_URL={airflow_database().reader_url}")
    with _container(*settings, image) as first:
        _wait_until(first, lambda: _get("/-/ready") == "Windsock is ready.\n")
        with _container(*settings, "--env=WINDSOCK_LISTEN=0.0.0.0:9781", image) as second:
            because = f"another process uses {MEMORY}"
            _wait_until(second, lambda: _get("/-/ready", 9781) == f"Windsock is not ready: {because}.\n")
            assert because in _podman("logs", second).stderr
            _podman("stop", first)
            _wait_until(second, lambda: _get("/-/ready", 9781) == "Windsock is ready.\n")


def test_health_check_fails_without_a_daemon(image: str) -> None:
    """The image's health check says so when nothing answers."""
    with _container("--network=host", "--entrypoint=sleep", image, "60") as name:
        assert _podman("healthcheck", "run", name).returncode == 1


def test_says_its_version(image: str) -> None:
    """The image holds this checkout's version, in the Python that its tag names."""
    ran = _podman("run", "--rm", "--pull=never", image, "version")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"windsock {__version__} (Python 3.13.")


def test_refuses_a_bad_configuration(image: str) -> None:
    """A wrong setting ends the container with 2, and the reason names the setting."""
    ran = _podman(
        "run", "--rm", "--pull=never", *HARDENED, "--env=WINDSOCK_AIRFLOW__DATABASE_URL=mysql://db/airflow", image
    )
    assert ran.returncode == 2, ran.stderr
    assert "airflow.database_url: " in ran.stderr
    assert "PostgreSQL" in ran.stderr
