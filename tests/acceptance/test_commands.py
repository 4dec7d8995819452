"""The command line, as scripts use it: what it prints, and with which code it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter import __version__
from exporter.collectors import ALL
from tests.conftest import AirflowDatabase
from windsock_demo import servers
from windsock_demo.processes import launched


def windsock(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end, in an environment without settings of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "WINDSOCK"))}
    return subprocess.run(
        [sys.executable, "-m", "exporter", *arguments],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version() -> None:
    """One line."""
    done = windsock("version")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["windsock", __version__])


def test_the_catalogue_is_json_for_scripts() -> None:
    """Every declared metric is an object with its name, type, labels and help."""
    done = windsock("metrics", "--format", "json")
    entries = json.loads(done.stdout)
    declared = {metric.name for collector in ALL for metric in collector.metrics}
    assert done.returncode == 0
    assert declared < {entry["name"] for entry in entries}
    assert all(entry["help"] and entry["type"] and isinstance(entry["labels"], list) for entry in entries)


def test_grants_for_a_role_of_any_plain_name() -> None:
    """The role's name is in the script; one that would have to be quoted is refused."""
    assert "CREATE ROLE metrics_reader LOGIN" in windsock("grants", "--role", "metrics_reader").stdout
    assert "ACL SETUSER metrics_reader on" in windsock("grants", "redis", "--role", "metrics_reader").stdout
    refused = windsock("grants", "--role", "x; DROP TABLE dag")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "not a plain role name" in refused.stderr


def test_an_invalid_configuration_ends_with_2_and_every_error(tmp_path: Path) -> None:
    """Before anything is opened, for `run` as for `check`; a password is in none of them."""
    (tmp_path / "windsock.yml").write_text(
        "listen: nowhere\nslak: {}\nairflow: {database_url: 'mysql://a:hunter2@h/d'}\n"
    )
    for command in ("run", "check"):
        done = windsock(command, "--config", str(tmp_path / "windsock.yml"))
        assert done.returncode == 2
        assert [line.split(":")[0].strip() for line in done.stderr.splitlines()[1:]] == [
            "airflow.database_url",
            "listen",
            "slak",
        ]
        assert "PostgreSQL 14 to 18" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout


def test_the_probe_says_what_would_be_exported(airflow_database: Callable[..., AirflowDatabase]) -> None:
    """A line per collector with its series and its time; 1 when one fails, with the reason."""
    made = airflow_database()
    settings = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": made.reader_url.replace("postgresql", "postgresql+psycopg2")}
    done = windsock("check", "--probe", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines if len(line) == 3 and line[1].isdecimal()] == [
        collector.name for collector in ALL if collector.source == "database"
    ]
    broker = f"redis://{servers.HOST}:{servers.free_port()}/0"
    done = windsock("check", "--probe", AIRFLOW__CELERY__BROKER_URL=broker, **settings)
    assert done.returncode == 1
    assert "connect: " in done.stdout


def test_a_taken_port_is_a_sentence() -> None:
    """The address is named, and there is no traceback."""
    with socket.create_server((servers.HOST, 0)) as taken:
        address = f"{servers.HOST}:{taken.getsockname()[1]}"
        done = windsock("run", "--listen", address, WINDSOCK_CELERY__BROKER_URL="redis://127.0.0.1:1/0")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"windsock: cannot listen on {address}: Address already in use\n" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_health_check_follows_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """0 while it runs, also without any source to reach; 1 when it has ended, which a signal does with 0."""
    address = f"{servers.HOST}:{servers.free_port()}"
    monkeypatch.setenv("WINDSOCK_LISTEN", address)
    monkeypatch.setenv("WINDSOCK_CELERY__BROKER_URL", "redis://127.0.0.1:1/0")
    url = f"http://{address}/-/healthy"
    with launched([sys.executable, "-m", "exporter", "run"], tmp_path / "windsock.log") as process:
        deadline = time.monotonic() + 20
        while windsock("healthcheck", "--url", url).returncode and time.monotonic() < deadline:
            time.sleep(0.1)
        assert windsock("healthcheck", "--url", url).returncode == 0
        process.send_signal(number)
        assert process.wait(10) == 0
    done = windsock("healthcheck", "--url", url)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in (tmp_path / "windsock.log").read_text()
