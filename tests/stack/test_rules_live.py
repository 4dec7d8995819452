"""What is told when something is down, by a real Prometheus and Alertmanager over real daemons."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any, Self

import psycopg
import pytest
import yaml

from tests.airflow import Airflow
from tests.conftest import schema_file, tool
from tests.rules.ruleset import ALERTS, FILES
from windsock_demo import servers
from windsock_demo.processes import launched

pytestmark = pytest.mark.system

SCHEMA = schema_file("3.3")
COLLECTORS = ("database", "dags", "jobs", "dag_runs", "task_instances", "accounting", "broker", "queues")
PATIENCE = 120.0
STEADY = 20.0
"""Seconds that a picture must not change once it is right."""

LATE = 100
"""DAGs that get late without a scheduler."""

DOWN = {
    "database": ("AirflowMetadataDatabaseDown", "AirflowDagFailed"),
    "broker": ("AirflowBrokerDown", "AirflowTasksStuckQueued"),
    "daemon": ("WindsockDown", "AirflowDagFailed"),
    "scheduler": ("AirflowSchedulerDown", "AirflowDagSuccessLate"),
}
"""Four Airflows, each named after what goes down: the one alert that is told, and one that is inhibited."""


class Heart:
    """The components of all Airflows: they beat until their database is gone, or a scheduler is stopped."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls, self.stopped, self._end = dict(urls), set[str](), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.wait(1):
            for name, url in self._urls.items():
                dead = "SchedulerJob" if name in self.stopped else ""
                with suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
                    connection.execute(
                        "UPDATE job SET latest_heartbeat = clock_timestamp() WHERE job_type <> %s", [dead]
                    )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def fill(name: str, url: str) -> None:
    """An Airflow with a scheduler, and what makes the alert that is to be inhibited."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA.read_bytes())
        airflow = Airflow(connection, "3.3")
        for kind in ("SchedulerJob", "TriggererJob", "DagProcessorJob"):
            airflow.job(kind, airflow.now)
        airflow.dag("failing", owners="data", last_parsed_time=airflow.now)
        if name in ("database", "daemon"):
            at = {"run_after": airflow.ago(60), "start_date": airflow.ago(50), "end_date": airflow.ago(40)}
            airflow.run("failing", "failed", clear_number=0, **at)
        elif name == "broker":
            at = {"run_after": airflow.ago(9), "start_date": airflow.ago(9)}
            run = airflow.run("failing", "running", run_type="manual", clear_number=0, **at)
            airflow.task(run, "queued", queued_dttm=airflow.ago(600))
        else:
            for number in range(LATE):
                soon = airflow.ago(-45)
                airflow.dag(
                    f"late_{number}", owners="data", next_dagrun_create_after=soon, last_parsed_time=airflow.now
                )


def windsock(name: str, folder: Path, database: str, broker: str) -> tuple[list[str], str]:
    """How a daemon is started, and where it listens."""
    address = f"{servers.HOST}:{servers.free_port()}"
    limits = {"component_heartbeat": "10s", "queued": "1m", "overdue_grace": "1s"}
    settings = {
        "listen": address,
        "airflow": {"name": name, "database_url": database, "limits": limits},
        "celery": {"broker_url": broker},
        "collectors": {each: {"interval": "2s", "timeout": "2s"} for each in COLLECTORS},
        "state": {"dir": str(folder / "state")},
    }
    folder.mkdir()
    (folder / "windsock.yml").write_text(yaml.safe_dump(settings))
    return [sys.executable, "-m", "exporter", "run", "--config", str(folder / "windsock.yml")], address


def hurried(folder: Path) -> list[str]:
    """The rules, but that alerts wait for ten seconds where they wait for minutes, and are evaluated every five."""
    made = []
    for file in FILES:
        text = re.sub(r"^( +for): \d+[mh]$", r"\1: 10s", file.read_text(), flags=re.MULTILINE)
        (folder / file.name).write_text(re.sub(r"interval: \d+s", "interval: 5s", text))
        made.append(str(folder / file.name))
    return made


@contextmanager
def watched(folder: Path, targets: list[str]) -> Iterator[str]:
    """A Prometheus and an Alertmanager over these targets; the address of the latter."""
    web, alertmanager = (f"{servers.HOST}:{servers.free_port()}" for _ in range(2))
    configuration = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": hurried(folder),
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [{"job_name": "windsock", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    prometheus = [
        str(tool("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={web}",
        "--rules.alert.resend-delay=2s",
    ]
    manager = [
        str(tool("prometheus-alertmanager", "alertmanager")),
        f"--config.file={ALERTS / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={alertmanager}",
        "--cluster.listen-address=",
    ]
    with launched(manager, folder / "alertmanager.log"), launched(prometheus, folder / "prometheus.log"):
        yield f"http://{alertmanager}"


def picture(url: str) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """By Airflow, the alerts that are told, and those that are inhibited, each with how many there are."""
    alerts: list[dict[str, Any]] = []
    with suppress(OSError), urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as response:  # noqa: S310
        alerts = json.load(response)
    told, muted = defaultdict[str, Counter[str]](Counter), defaultdict[str, Counter[str]](Counter)
    for alert in alerts:
        name, labels = alert["labels"]["alertname"], alert["labels"]
        if name != "WindsockWatchdog":
            (muted if alert["status"]["inhibitedBy"] else told)[labels.get("airflow", "")][name] += 1
    return told, muted


def wait_until(holds: Callable[[], bool], url: str) -> None:
    """Fails with the last picture when it does not hold in time."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, picture(url)
        time.sleep(2)


def test_only_the_cause_is_told(tmp_path: Path) -> None:
    """PostgreSQL, the broker, a daemon and a scheduler go down, each of another Airflow."""
    tmp_path.chmod(0o755)
    with ExitStack() as stack:
        doomed, shared = (stack.enter_context(servers.postgres(tmp_path / name)) for name in ("doomed", "shared"))
        mortal, other = (stack.enter_context(servers.valkey(tmp_path / name)) for name in ("mortal", "other"))
        urls = {name: (doomed if name == "database" else shared).url(name) for name in DOWN}
        for name, url in urls.items():
            with psycopg.connect((doomed if name == "database" else shared).url(), autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
            fill(name, url)
        daemons: dict[str, Popen[bytes]] = {}
        targets = []
        heart = stack.enter_context(Heart(urls))
        for name, url in urls.items():
            command, address = windsock(name, tmp_path / name, url, (mortal if name == "broker" else other).url)
            daemons[name] = stack.enter_context(launched(command, tmp_path / f"{name}.log"))
            targets.append(address)
        alerts = stack.enter_context(watched(tmp_path, targets))

        soon = {name: consequence for name, (_, consequence) in DOWN.items() if name != "scheduler"}
        wait_until(lambda: all(soon[name] in picture(alerts)[0][name] for name in soon), alerts)
        assert not {cause for cause, _ in DOWN.values()} & {
            name for each in picture(alerts)[0].values() for name in each
        }

        heart.stopped.add("scheduler")
        for process in (doomed.process, mortal.process, daemons["daemon"]):
            process.kill()
        after = {name: {cause: 1} for name, (cause, _) in DOWN.items()}
        wait_until(lambda: picture(alerts)[0] == after, alerts)
        wanted = [(name, consequence, LATE if name == "scheduler" else 1) for name, (_, consequence) in DOWN.items()]
        wait_until(lambda: all(picture(alerts)[1][name][which] == count for name, which, count in wanted), alerts)
        steady = time.monotonic() + STEADY
        while time.monotonic() < steady:
            assert picture(alerts)[0] == after
            time.sleep(3)
