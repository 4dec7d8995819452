"""Counters over ten deaths of the daemon, scraped throughout: none ever falls, and in the end all are true."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import psycopg
import pytest

from exporter.collectors import ALL
from tests.adversary import DAGS, Key, Truth, Writer, surviving
from tests.airflow import Airflow
from tests.conftest import AirflowDatabase
from windsock_demo import servers
from windsock_demo.processes import launched

HURRIED = """
from exporter.accounting import ledger, tracker
from exporter.__main__ import main
ledger.HOLD, tracker.OVERLAP, tracker.SLACK, tracker.GRACE = 0.4, 4.0, 2.0, 5.0
main(["run"])
"""
"""The daemon, with less time to wait for laggards than a test has."""

COUNTERS = re.compile(r"^(airflow_(?:dag_run|task_instance)\S*_(?:total|count|sum|bucket)\{.*\}) (\S+)$", re.MULTILINE)


class Scraper:
    """Scrapes all the time, and notes every counter that fell."""

    def __init__(self, url: str) -> None:
        self._url, self.fallen, self.scrapes = url, [], 0  # type: ignore[var-annotated]
        self.last: dict[str, float] = {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.stop.is_set():
            with suppress(OSError), urllib.request.urlopen(self._url, timeout=2) as response:  # noqa: S310
                self.look(response.read().decode())
            time.sleep(0.1)

    def look(self, text: str) -> None:
        """One scrape."""
        found = {name: float(value) for name, value in COUNTERS.findall(text)}
        self.fallen += [name for name, value in found.items() if value < self.last.get(name, 0.0)]
        self.last.update(found)
        self.scrapes += bool(found)


@pytest.mark.parametrize(
    ("version", "kills", "gap"),
    [pytest.param("3.3", 10, 0.3, marks=pytest.mark.system), pytest.param("2.11", 10, 6.0, marks=pytest.mark.system)],
)
def test_kills(
    airflow_database: Callable[[str], AirflowDatabase],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: str,
    kills: int,
    gap: float,
) -> None:
    """Killed with SIGKILL again and again while writers do their worst: no outcome twice, invented or missing."""
    database, port, state = airflow_database(version), servers.free_port(), tmp_path / "state"
    settings = {
        "LISTEN": f"{servers.HOST}:{port}",
        "AIRFLOW__DATABASE_URL": database.reader_url,
        "STATE__DIR": str(state),
        "COLLECTORS__ACCOUNTING__INTERVAL": "1s",
    } | {f"COLLECTORS__{each.name.upper()}__ENABLED": "no" for each in ALL if each.name != "accounting"}
    for name, value in settings.items():
        monkeypatch.setenv(f"WINDSOCK_{name}", value)
    truth, stop = Truth(), threading.Event()
    writers = [Writer(database.url, version, truth, stop, seed) for seed in (1, 2, 3)]
    scraper = Scraper(f"http://{servers.HOST}:{port}/metrics")
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, version)
        for dag_id in DAGS:
            airflow.dag(dag_id)
        scraper.thread.start()
        for life in range(kills + 1):
            with launched([sys.executable, "-c", HURRIED], tmp_path / f"windsock-{life}.log") as process:
                _await_poll(state, time.time())
                for writer in writers:
                    if life == 0:
                        writer.thread.start()
                time.sleep(gap)
                if life < kills:
                    process.kill()
                    continue
                stop.set()
                for writer in writers:
                    writer.thread.join()
                _await_poll(state, time.time() + 0.1)
                _await_poll(state, time.time() + 0.1)
        scraper.stop.set()
        scraper.thread.join()
        assert [writer.error for writer in writers if writer.error] == []
        assert scraper.fallen == []
        assert scraper.scrapes > kills
        assert sum(value for name, value in scraper.last.items() if "finished_total" in name) > 0, "never shown"
        _compare(truth, state, surviving(connection, version))


def _compare(truth: Truth, state: Path, alive: set[Key]) -> None:
    """What was counted is true, and no more is missing than has no row any more or was overtaken."""
    counted = _cells(state, "airflow_task_instances_finished_total")
    outcomes: Counter[tuple[str, ...]] = Counter(
        (truth.dags[run], each) for (run, _), states in truth.attempts.items() for each in states
    )
    assert counted - outcomes == Counter()
    lost = sum(len(states) - (key in alive) for key, states in truth.attempts.items())
    assert (outcomes - counted).total() <= lost
    ends: Counter[tuple[str, ...]] = Counter((truth.dags[run], state) for run, _, state in truth.runs)
    runs = _cells(state, "airflow_dag_runs_finished_total")
    assert runs - ends == Counter()
    superseded = _cells(state, "airflow_dag_runs_superseded_total").total()
    deleted = sum(run in truth.deleted for run, _, _ in truth.runs)
    assert (ends - runs).total() <= superseded + deleted


def _await_poll(state: Path, after: float) -> None:
    """Until a poll that began after this time is on disk."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(sqlite3.Error, OSError):
            row = _query(state, "SELECT value FROM accounting")
            if row and json.loads(row[0][0])["last_poll"] > after:
                return
        time.sleep(0.05)
    pytest.fail("no poll was saved within ten seconds")


def _query(state: Path, text: str, *values: str) -> list[tuple[str, ...]]:
    """A look at a copy: the file itself is locked by its daemon."""
    copy = state.parent / "copy"
    copy.mkdir(exist_ok=True)
    for name in ("windsock.db-wal", "windsock.db"):
        (copy / name).unlink(missing_ok=True)
        if (state / name).exists():
            (copy / name).write_bytes((state / name).read_bytes())
    connection = sqlite3.connect(copy / "windsock.db")
    try:
        return connection.execute(text, values).fetchall()
    finally:
        connection.close()


def _cells(state: Path, family: str) -> Counter[tuple[str, ...]]:
    """What was counted, by the first two labels."""
    counted: Counter[tuple[str, ...]] = Counter()
    for labels, cells in _query(state, "SELECT labels, cells FROM accounting_series WHERE family = ?", family):
        counted[tuple(json.loads(labels)[:2])] += json.loads(cells)[0]
    return +counted


@pytest.mark.system
def test_a_second_daemon(
    airflow_database: Callable[[str], AirflowDatabase], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It answers, is not ready and says why, for as long as the first one has the state; then it takes over."""
    monkeypatch.setenv("WINDSOCK_AIRFLOW__DATABASE_URL", airflow_database("3.3").reader_url)
    monkeypatch.setenv("WINDSOCK_STATE__DIR", str(tmp_path / "state"))
    ports = servers.free_port(), servers.free_port()
    commands = [[sys.executable, "-m", "exporter", "run", "--listen", f"{servers.HOST}:{port}"] for port in ports]
    with launched(commands[0], tmp_path / "first.log") as first:
        _await_answer(ports[0], "Windsock is ready.\n")
        with launched(commands[1], tmp_path / "second.log") as second:
            because = f"another process uses {tmp_path / 'state'}"
            _await_answer(ports[1], f"Windsock is not ready: {because}.\n")
            first.kill()
            _await_answer(ports[1], "Windsock is ready.\n")
            second.terminate()
            assert second.wait(10) == 0
    assert (tmp_path / "second.log").read_text().count(because) == 1


def test_a_state_that_cannot_be(
    airflow_database: Callable[[str], AirflowDatabase], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The daemon ends with one line that names the setting and the reason."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WINDSOCK_AIRFLOW__DATABASE_URL", airflow_database("3.3").reader_url)
    monkeypatch.setenv("WINDSOCK_STATE__DIR", str(tmp_path / "file" / "state"))
    command = [sys.executable, "-m", "exporter", "run", "--listen", f"{servers.HOST}:{servers.free_port()}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"windsock: state.dir: cannot write to {tmp_path}/file/state: Not a directory\n"


def _await_answer(port: int, answer: str) -> None:
    """Until /-/ready says this."""
    deadline, text = time.monotonic() + 15, ""
    while time.monotonic() < deadline:
        with suppress(OSError), closing(HTTPConnection(servers.HOST, port, timeout=2)) as connection:
            connection.request("GET", "/-/ready")
            if (text := connection.getresponse().read().decode()) == answer:
                return
        time.sleep(0.1)
    pytest.fail(f"/-/ready says {text!r}")
