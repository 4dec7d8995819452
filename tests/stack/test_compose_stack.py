"""compose.yaml as it is, with the real programs in containers of their own: what happens in Airflow reaches Slack.

Grafana is the one service that is not started, for no package has it.
"""

from __future__ import annotations

import base64
import faulthandler
import json
import logging
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NEWEST
from tests.stack.compose import stack as compose
from tests.stack.compose.airflow import environment

pytestmark = pytest.mark.system

log = logging.getLogger(__name__)

UP = 420.0
"""Seconds until all is healthy, on a machine that has other things to do."""
PATIENCE = 240.0
"""Seconds for what follows from one cause."""
GIGABYTE = 1 << 30
HURRIED = "AirflowCeleryQueueNotConsumed|AirflowDagImportErrors"
"""Alerts that wait for seconds in the place of minutes."""


@pytest.fixture(autouse=True)
def no_limit_for_a_test() -> None:
    """Every wait here has an end of its own, and together they may take longer than pytest lets a test take."""
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what compose.yaml mounts, initialised for the look-alike of Slack, with two rules hurried."""
    made = compose.prepared(tmp_path_factory.mktemp("stack"))
    for rules in (made.parent / "alerts").glob("*.rules.yml"):
        rules.write_text(re.sub(rf"(alert: ({HURRIED})\n(.*\n)+? +for:) \w+\n", r"\1 5s\n", rules.read_text()))
    return made


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    """All of it, healthy."""
    airflow = environment(NEWEST)
    faulthandler.cancel_dump_traceback_later()
    with compose.up(folder, airflow, time.monotonic() + UP) as running:
        yield Stack(running, folder)


class Stack:
    """The running stack, as its users see it through the published ports."""

    def __init__(self, running: compose.Stack, folder: Path) -> None:
        self.running, self._secrets = running, folder / "secrets"
        self._token = ""
        self.lasting = [name for name in running.containers if running.services[name]["restart"] != "no"]
        self.of_airflow = [name for name in self.lasting if "airflow" in running.services[name]["image"]]

    def secret(self, name: str) -> str:
        """What ./init made."""
        return (self._secrets / name).read_text()

    def ask(
        self, service: str, path: str, body: object = None, method: str | None = None, authorization: str = ""
    ) -> Any:
        """What a service answers on the port that it publishes; raises OSError."""
        headers = {"Content-Type": "application/json", "Authorization": authorization}
        data = None if body is None else json.dumps(body).encode()
        address = f"http://{self.running.address(service)}{path}"
        request = urllib.request.Request(address, data, headers, method=method)
        with self.running.network.entered(), urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            text = response.read().decode()
        return json.loads(text) if response.headers.get_content_type() == "application/json" else text

    def airflow(self, path: str, body: object = None, method: str | None = None) -> Any:
        """What Airflow's API answers its administrator."""
        user = {"username": "admin", "password": self.secret("airflow_password")}
        self._token = self._token or self.ask("airflow-api-server", "/auth/token", user)["access_token"]
        return self.ask("airflow-api-server", f"/api/v2{path}", body, method, f"Bearer {self._token}")

    def trigger(self, dag: str) -> str:
        """The id of a new run."""
        self.airflow(f"/dags/{dag}", {"is_paused": False}, "PATCH")
        run = self.airflow(f"/dags/{dag}/dagRuns", {"logical_date": None})["dag_run_id"]
        return f"/dags/{dag}/dagRuns/{urllib.parse.quote(run, safe='')}"

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Prometheus's answer."""
        found = self.ask("prometheus", f"/api/v1/query?query={urllib.parse.quote(expression)}")["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def slack(self, method: str = "conversations.history", **which: str) -> list[dict[str, Any]]:
        """The channel's messages, or those of a thread; Slack lets a method be called 50 times a minute."""
        channel = re.search(r"C0\w+", (self._secrets.parent / ".env").read_text())
        assert channel
        bearer = f"Bearer {self.secret('slack_token')}"
        found = self.ask("slack", f"/api/{method}", {"channel": channel[0], **which}, authorization=bearer)
        assert found["ok"], found
        return list(found["messages"])

    def shows(self, text: str) -> bool:
        """Whether the channel says so; without its threads."""
        return text in json.dumps(self.slack())

    def joins(self, reply: str, text: str) -> bool:
        """Whether a thread below a message with this text says so."""
        threads = [it["ts"] for it in self.slack() if text in it["text"] and it.get("reply_count")]
        return any(reply in json.dumps(self.slack("conversations.replies", ts=ts)) for ts in threads)

    def wait(self, what: str, holds: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Returns as soon as it is so."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if holds():
                    return
            except OSError as error:
                what = f"{what}; {error}" if str(error) not in what else what
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(2)

    def targets(self) -> dict[str, set[str]]:
        """The health of Prometheus's targets, by job."""
        health: dict[str, set[str]] = {}
        for each in self.ask("prometheus", "/api/v1/targets")["data"]["activeTargets"]:
            health.setdefault(each["labels"]["job"], set()).add(each["health"])
        return health

    def all_targets_up(self) -> bool:
        """Whether each of all jobs has targets, and all of them answer."""
        jobs = {"windsock", "statsd-exporter", "prometheus", "alertmanager", "redis", "postgres"}
        return self.targets() == {job: {"up"} for job in jobs}


def test_all_but_grafana_run_and_their_memory_is_small(stack: Stack) -> None:
    """Each is healthy as the file says, with the user, the rights and the memory that it has there."""
    assert set(stack.running.left_out) == {"grafana"}
    assert len(stack.running.containers) == len(stack.running.services) - 1
    memory = stack.running.memory()
    log.info("%d MB: %s", sum(memory.values()) >> 20, {name: each >> 20 for name, each in memory.items()})
    assert sum(memory.values()) < 4 * GIGABYTE, memory
    assert memory["windsock"] < 95 << 20, memory


def test_every_target_is_up(stack: Stack) -> None:
    """Also those that Prometheus finds by their names, and what they say carries the same name of the Airflow."""
    stack.wait("all targets up", stack.all_targets_up)
    for metric in (
        "airflow_db_up",
        "airflow_broker_up",
        "redis_up",
        "pg_up",
        "airflow_statsd_scheduler_heartbeat_total",
    ):
        stack.wait(metric, partial(stack.query, metric))
        assert {labels["airflow"] for labels, _ in stack.query(metric)} == {"airflow"}
    assert [value for _, value in stack.query("airflow_db_up")] == [1]
    assert stack.query("windsock_collector_success == 0") == []


def test_links_of_alerts_lead_to_this_grafana(stack: Stack) -> None:
    """None is left that leads nowhere."""
    groups = stack.ask("prometheus", "/api/v1/rules?type=alert")["data"]["groups"]
    links = [rule["annotations"]["dashboard_url"] for group in groups for rule in group["rules"]]
    assert links
    assert all(link.startswith("http://localhost:3000/d/") for link in links)
    assert "example.com" not in json.dumps(groups)


def test_exporters_may_read_what_they_ask_for(stack: Stack) -> None:
    """Each has a user with few rights, and these are enough."""
    assert stack.query("redis_exporter_last_scrape_error")[0][1] == 0
    assert stack.query("redis_slowlog_last_id")
    assert stack.query("pg_exporter_last_scrape_error")[0][1] == 0
    assert stack.query("pg_stat_database_deadlocks")


def test_who_need_not_reach_the_database_cannot(stack: Stack) -> None:
    """Prometheus finds neither PostgreSQL's name nor a way to it; a stranger gets nothing from Redis."""
    resolver = stack.running.containers["prometheus"].run("cat", "/etc/resolv.conf")
    assert "nameserver" in resolver
    with pytest.raises(AssertionError):
        stack.running.containers["prometheus"].run("getent", "hosts", "postgres")
    assert stack.running.containers["windsock"].run("getent", "hosts", "postgres")
    assert "NOAUTH" in stack.running.containers["redis"].run("redis-cli", "llen", "default")


def test_flower_shows_the_worker_to_those_who_may_see_it(stack: Stack) -> None:
    """Its health is everybody's; the rest needs a user."""
    assert stack.ask("flower", "/healthcheck") == "OK"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        stack.ask("flower", "/workers?json=1")
    basic = f"Basic {base64.b64encode(stack.secret('flower_users').encode()).decode()}"
    expected = [("celery@airflow-worker", True)]

    def workers() -> list[tuple[str, bool]]:
        found = stack.ask("flower", "/workers?json=1", authorization=basic)["data"]
        return [(each["hostname"], each["status"]) for each in found]

    stack.wait("the worker in Flower", lambda: workers() == expected)


def test_what_dags_say_and_what_befalls_them_reaches_slack(stack: Stack) -> None:
    """An operator's words, a callback's, and a failure of which the DAG does not tell, joined by Prometheus's alert.

    That one comes by way of Alertmanager, as does that of a worker that stopped. StatsD counts a task that finished.
    """
    failing, healthy = stack.trigger("failing"), stack.trigger("healthy")
    posts, calls = stack.trigger("posts"), stack.trigger("posts_on_failure")
    stack.wait("a success", lambda: stack.airflow(healthy)["state"] == "success")
    stack.wait("the operator's success", lambda: stack.airflow(posts)["state"] == "success")
    stack.wait("the callback's failure", lambda: stack.airflow(calls)["state"] == "failed")
    stack.wait("a failure", lambda: stack.airflow(failing)["state"] == "failed")
    stack.wait("the operator's words", lambda: stack.shows("42 orders were loaded"))
    stack.wait("the callback's words", lambda: stack.shows("posts_on_failure says: the warehouse refused the invoices"))
    told, alert = "A run of failing failed", "The last run of failing in airflow failed"
    stack.wait("the failure", lambda: stack.shows(told))
    stack.wait("Prometheus's alert in its thread", lambda: stack.joins(alert, told))
    succeeded = 'airflow_statsd_ti_successes_total{dag_id="healthy"} > 0'
    stack.wait("StatsD's count", lambda: stack.query(succeeded))

    stack.running.stop("airflow-worker")
    waiting = stack.trigger("healthy")
    stack.wait("the queue in Slack", lambda: stack.shows("Messages wait in a queue of which nothing runs"))
    stack.running.start("airflow-worker")
    stack.wait("a success without the failure of a worker", lambda: stack.airflow(waiting)["state"] == "success")


@pytest.mark.parametrize(
    ("dag", "alert"),
    [
        ("late", 'AirflowDagSuccessLate", dag_id="late'),
        ("unconsumed", 'AirflowDagSuccessLate", dag_id="unconsumed'),
        ("unconsumed", 'AirflowCeleryQueueNotConsumed", queue="gpu'),
    ],
)
def test_example_dags_raise_what_the_page_says(stack: Stack, dag: str, alert: str) -> None:
    """Each its alerts; that one is pending suffices."""
    stack.airflow(f"/dags/{dag}", {"is_paused": False}, "PATCH")
    stack.wait(alert, partial(stack.query, f'ALERTS{{alertname="{alert}"}}'))


def test_a_server_that_is_restarted_is_found_again(stack: Stack) -> None:
    """Each that is not Airflow's, one after the other; what ends for the want of it is run again, as engines do."""
    for name in set(stack.lasting) - set(stack.of_airflow):
        stack.running.restart([name], time.monotonic() + PATIENCE)
    for name in stack.of_airflow:
        stack.running.wait(name, time.monotonic() + PATIENCE)
    run = stack.trigger("healthy")
    stack.wait("a success", lambda: stack.airflow(run)["state"] == "success")
    stack.wait("all targets up", stack.all_targets_up)


def test_airflow_is_restarted_and_what_is_wrong_still_reaches_slack(stack: Stack, folder: Path) -> None:
    """All of it at once, with a new DAG that is broken; then another one succeeds. Windsock hears the watchdog, too."""
    (folder / "airflow/dags/broken.py").write_text("from airflow.sdk import dag, no_such_thing\n")
    stack.running.restart(stack.of_airflow, time.monotonic() + PATIENCE)
    run = stack.trigger("healthy")
    stack.wait("a success", lambda: stack.airflow(run)["state"] == "success")
    # As much longer as the alert about the database inhibits it, where the restart of that took long.
    stack.wait("the broken DAG in Slack", lambda: stack.shows("DAG files cannot be imported"), PATIENCE + 300)
    heard = "changes(windsock_watchdog_last_heard_timestamp_seconds[1h]) > 0"
    stack.wait("the watchdog in Windsock", lambda: stack.query(heard), PATIENCE + 300)
    asked = 'windsock_upstream_requests_total{upstream="alertmanager", result="ok"}'
    stack.wait("an answer of Alertmanager's API", lambda: stack.query(asked))
