"""A whole Airflow with Celery workers: what Windsock counted and told is what Airflow's own REST API says happened."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.airflow_install import AIRFLOWS, installed
from tests.conftest import NEWEST, AirflowDatabase, lacking
from tests.stack.airflow import components
from tests.stack.airflow.api import Api, Row
from tests.stack.airflow.slack import Channel, slack
from tests.stack.airflow.truth import Samples, truth
from windsock_demo import servers
from windsock_demo.processes import launched, wait_for

pytestmark = pytest.mark.system

AIRFLOW = next(airflow for airflow in AIRFLOWS if airflow.minor == NEWEST)

LIMIT = 200.0
"""Seconds for everything, so that an Airflow that hangs does not end the session."""

HURRIED = """
from exporter.accounting import ledger
from exporter.__main__ import main
ledger.HOLD = 2.0
main(["run"])
"""
"""The daemon, whose new series stand at 0 for less than a minute."""

COMPARED = re.compile(
    r"airflow_dag_run(s_finished|s_superseded|_duration|_start_delay)\w*_(total|sum|count)"
    r"|airflow_task_instance(s_finished|_retries|_problems|_state_overrides|_duration)\w*_(total|sum|count)"
    r"|airflow_dag_(last_run|last_success|consecutive)\w*"
)
BY_ASSET = ("by_asset", "success", "asset_triggered")
RUNS: dict[tuple[str, ...], int] = {
    ("mapped", "success", "manual"): 1,
    ("retried", "failed", "manual"): 1,
    ("mended", "failed", "manual"): 1,
    ("waiting", "success", "manual"): 1,
    ("daily", "success", "scheduled"): 2,
    ("daily", "failed", "scheduled"): 1,
    BY_ASSET: 1,
}
TRIES: dict[tuple[str, ...], int] = {
    ("mapped", "success"): 5,
    ("mapped", "skipped"): 2,
    ("retried", "failed"): 3,
    ("retried", "upstream_failed"): 1,
    ("mended", "failed"): 1,
    ("waiting", "success"): 2,
    ("daily", "success"): 2,
    ("daily", "failed"): 1,
    ("by_asset", "success"): 1,
}
CLEARED = ("mapped", "retried", "mended")
AGAIN = ("mapped", "retried", "by_asset")
"""What runs once more when CLEARED are cleared, and ends as it did before."""

LATER = RUNS | {BY_ASSET: 2, ("mended", "failed", "manual"): 0, ("mended", "success", "manual"): 1}
FAILED = ("daily", "mended", "retried")
"""A run of each of these fails."""


@pytest.fixture(scope="module")
def program() -> Path:
    """The `airflow` command of the newest version; without it the tests are skipped, or fail in CI."""
    try:
        return installed(AIRFLOW) / "bin" / "airflow"
    except (OSError, RuntimeError) as error:
        lacking(f"Airflow {AIRFLOW.version} cannot be installed: {error}")


@dataclass(frozen=True)
class Stack:
    """A running Airflow, and Windsock beside it."""

    api: Api
    slack: Channel
    processes: dict[str, Popen[bytes]]
    logs: Path
    port: int
    deadline: float

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        """Returns as soon as it is so."""
        while not until():
            components.check(self.processes, self.logs)
            assert time.monotonic() < self.deadline, f"not within {LIMIT:.0f} s: {what}"
            time.sleep(0.5)

    def ended(self, expected: dict[tuple[str, ...], int]) -> list[Row]:
        """All runs, once they are over as expected."""

        def runs() -> Counter[tuple[str, ...]]:
            return Counter((run["dag_id"], run["state"], run["run_type"]) for run in self.api.runs())

        self.wait(f"runs {expected}", lambda: runs() == Counter(expected))
        return self.api.runs()

    def tries(self) -> list[list[Row]]:
        """All tries of every task instance."""
        return [self.api.tries(task) for task in self.api.tasks()]

    def wrong(self, expected: Samples) -> list[str]:
        """What Windsock exports otherwise; a counter that stands at 0 is as good as none."""
        found = {key: value for key, value in samples(self.port).items() if COMPARED.fullmatch(key[0])}
        wrong = []
        for key in expected | found:
            absent = 0.0 if key[0].endswith(("_total", "_sum", "_count")) else math.nan
            shown, true = found.get(key, absent), expected.get(key, absent)
            if not abs(shown - true) < 0.001:
                wrong.append(f"{key}: {shown}, not {true}")
        return wrong

    def agree(self, expected: Samples) -> None:
        """Windsock comes to export just this."""
        end = time.monotonic() + 20
        self.wait("agreement", lambda: time.monotonic() > end or not self.wrong(expected))
        wrong = self.wrong(expected)
        assert not wrong, "\n".join(wrong)

    def tells(self, **expected: str) -> dict[str, str]:
        """The channel comes to show one message for each of these DAGs, in this mood; gives which one it is."""

        def told() -> list[tuple[str, str]]:
            return [(dag_id, mood) for dag_id, mood, _ in self.slack.runs()]

        self.wait(f"messages {expected}", lambda: told() == sorted(expected.items()))
        return {dag_id: ts for dag_id, _, ts in self.slack.runs()}


def samples(port: int) -> Samples:
    """What Windsock exports, without the label that is the same on all; empty while it does not answer."""
    with suppress(OSError), urllib.request.urlopen(f"http://{servers.HOST}:{port}/metrics", timeout=5) as page:
        found = [each for family in text_string_to_metric_families(page.read().decode()) for each in family.samples]
        return {
            (each.name, *(value for label, value in each.labels.items() if label != "airflow")): each.value
            for each in found
        }
    return {}


def tried(tasks: list[list[Row]]) -> Counter[tuple[str, ...]]:
    """How often tries of a DAG ended in a state."""
    return Counter((each["dag_id"], each["state"]) for tries in tasks for each in tries)


def polled(port: int, after: float) -> bool:
    """Whether the accounting has read the database since then."""
    return samples(port).get(("windsock_collector_last_success_timestamp_seconds", "accounting"), 0.0) > after


@pytest.fixture
def stack(
    program: Path,
    airflow_database: Callable[[str], AirflowDatabase],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Stack]:
    """All of it, healthy, with its DAGs parsed and paused; Windsock was there before anything happened."""
    deadline, log = time.monotonic() + LIMIT, tmp_path / "windsock.log"
    database, port, web = airflow_database(NEWEST), servers.free_port(), servers.free_port()
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WINDSOCK_LISTEN", f"{servers.HOST}:{port}")
    monkeypatch.setenv("WINDSOCK_AIRFLOW__DATABASE_URL", database.reader_url)
    monkeypatch.setenv("WINDSOCK_STATE__DIR", str(tmp_path / "state"))
    monkeypatch.setenv("WINDSOCK_COLLECTORS__ACCOUNTING__INTERVAL", "1s")
    monkeypatch.setenv("WINDSOCK_AIRFLOW_EVENTS__ON", "[run_failed]")
    with servers.valkey(tmp_path) as broker, slack(tmp_path) as channel:
        monkeypatch.setenv("WINDSOCK_SLACK__API_URL", channel.api_url)
        monkeypatch.setenv("WINDSOCK_SLACK__TOKEN", channel.token)
        monkeypatch.setenv("WINDSOCK_DESTINATIONS__DATA__CHANNEL", channel.id)
        for name, value in components.settings(tmp_path / "airflow", database.url, broker.url, web).items():
            monkeypatch.setenv(name, value)
        with (
            launched([sys.executable, "-c", HURRIED], log) as windsock,
            components.running(program, tmp_path) as processes,
        ):
            made = Stack(Api(web), channel, processes, tmp_path, port, deadline)
            wait_for(windsock, log, lambda: polled(port, 0.0))
            made.wait("heartbeats", made.api.alive)
            made.wait("DAGs", lambda: {dag["dag_id"] for dag in made.api.dags()} == {labels[0] for labels in RUNS})
            yield made


def test_the_installation(program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is the version whose schema is committed, and it starts."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    done = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == AIRFLOW.version


def test_what_is_counted_and_told_is_what_airflow_says(stack: Stack, program: Path) -> None:
    """After ends of all kinds, a clear, and an outcome changed by hand; `airflow db clean` changes no counter.

    Each run that fails is one message, red until the run succeeds or is deleted, and then green.
    """
    api = stack.api
    for dag in api.dags():
        api.call(f"/dags/{dag['dag_id']}", {"is_paused": False}, "PATCH")
    for dag_id in (*CLEARED, "waiting"):
        api.call(f"/dags/{dag_id}/dagRuns", {"dag_run_id": dag_id, "logical_date": None})
    ends = stack.ended(RUNS)
    tasks = stack.tries()
    assert tried(tasks) == TRIES
    assert any(each["task_id"] == "deferred" and each["scheduled_when"] > each["start_date"] for (each, *_) in tasks)
    stack.agree(truth(ends, tasks))
    messages = stack.tells(**dict.fromkeys(FAILED, "ERROR"))

    others = [run["dag_run_id"] for run in ends if run["dag_id"] not in CLEARED]
    for dag_id in CLEARED:
        api.call(f"/dags/{dag_id}/dagRuns/{dag_id}/clear", {"dry_run": False})
    ends += [run for run in stack.ended(LATER) if run["dag_run_id"] not in others]
    tasks = stack.tries()
    again = {key: 2 * times if key[0] in AGAIN else times for key, times in TRIES.items()}
    assert tried(tasks) == again | {("mended", "success"): 1}
    stack.agree(truth(ends, tasks))
    assert stack.tells(daily="ERROR", mended="RESOLVED", retried="ERROR") == messages
    stack.wait("its line", lambda: "resolved after" in "".join(stack.slack.thread(messages["mended"])))

    run = "/dags/retried/dagRuns/retried"
    api.call(f"{run}/taskInstances/fail", {"new_state": "success"}, "PATCH")
    stack.wait("the run to succeed", lambda: bool(api.call(run)["state"] == "success"))
    ends.append(api.call(run))
    tasks.append([api.call(f"{run}/taskInstances/never")])
    expected = truth(ends, tasks) | {("airflow_task_instance_state_overrides_total",): 1}
    stack.agree(expected)
    assert stack.tells(daily="ERROR", mended="RESOLVED", retried="RESOLVED") == messages

    clean(stack, program)
    assert (len(api.runs()), api.tasks()) == (2, [])
    cleaned = time.time()
    stack.wait("a poll", lambda: polled(stack.port, cleaned + 1))
    stack.agree(expected)
    assert stack.tells(**dict.fromkeys(FAILED, "RESOLVED")) == messages
    collectors = {key: value for key, value in samples(stack.port).items() if key[0] == "windsock_collector_success"}
    assert collectors
    assert [name for (_, name), success in collectors.items() if not success] == []


def clean(stack: Stack, program: Path) -> None:
    """`airflow db clean` of all that was until now, but for DAGs and components that are still there."""
    now = datetime.now(UTC).isoformat()
    stack.wait("heartbeats", lambda: stack.api.alive(now))
    stack.wait("the DAGs to be parsed again", lambda: all(dag["last_parsed_time"] > now for dag in stack.api.dags()))
    command = [str(program), "db", "clean", "--yes", "--skip-archive", "--error-on-cleanup-failure"]
    subprocess.run([*command, "--clean-before-timestamp", now], capture_output=True, check=True, timeout=60)
