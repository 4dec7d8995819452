"""alertmanager.yml sends every alert where it belongs, and mutes what is only a consequence."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from windsock_demo import servers
from windsock_demo.processes import launched, wait_for

from .cases import Case, firing
from .lint import COMPONENTS
from .promql import NONE, Reader
from .promtool import VERSIONS, program, run
from .ruleset import ALERT_RULES, ALERTS, NAMES, document
from .test_lint import SERIES

FILE = ALERTS / "alertmanager.yml"
CONFIG = document(FILE)
CASES = {case.alert: case for case in firing()}
PACKAGE = "prometheus-alertmanager"


def alternatives(matcher: str) -> tuple[str, set[str]]:
    """The label of a matcher, and all names that it stands for; a pattern stands for what it matches."""
    label, operator, value = re.fullmatch(r'(\w+)(!?=~?)"([^"]*)"', matcher).groups()  # type: ignore[union-attr]
    known = NAMES if label == "alertname" else sorted(COMPONENTS) if label == "component" else [value]
    found = {name for name in known if (re.fullmatch(value, name) if "~" in operator else name == value)}
    return label, set(known) - found if operator.startswith("!") else found


def labels(alert: str) -> frozenset[str]:
    """Of the result of its rule."""
    [rule, *_] = [rule for rule in ALERT_RULES if rule.name == alert]
    return (Reader(SERIES).labels(rule.expr) or NONE) | set(rule.labels)


@pytest.mark.parametrize("rule", CONFIG["inhibit_rules"], ids=lambda rule: " ".join(rule["source_matchers"]))
def test_inhibitions_are_about_alerts_that_there_are(rule: dict[str, Any]) -> None:
    """Both sides match some, whole words of a pattern are names, and all of them have the labels that must be equal."""
    for side in ("source_matchers", "target_matchers"):
        chosen = set(NAMES)
        for matcher in rule[side]:
            label, values = alternatives(matcher)
            assert values, matcher
            if label in ("alertname", "component"):
                chosen = {name for name in chosen if ({name} if label == "alertname" else component(name)) & values}
            for word in re.findall(r"\b(?:Airflow|Windsock)\w+", matcher):
                assert word in NAMES or "(" in matcher or "." in matcher, word
        assert chosen
        assert all(labels(alert) >= set(rule.get("equal", [])) for alert in chosen)


def test_of_the_alerts_about_windsock_two_inhibit() -> None:
    """Only where nobody watches at all; a collector that fails says nothing about what others read."""
    sources = [matcher for rule in CONFIG["inhibit_rules"] for matcher in rule["source_matchers"]]
    names = {
        name
        for matcher in sources
        for label, values in [alternatives(matcher)]
        if label == "alertname"
        for name in values
    }
    assert {name for name in names if component(name) == {"windsock"}} == {"WindsockDown", "WindsockAbsent"}


def component(alert: str) -> set[str]:
    """What an alert says that it is about."""
    return {rule.labels["component"] for rule in ALERT_RULES if rule.name == alert}


def test_webhooks_are_whole_and_go_where_they_are_sent() -> None:
    """No list of alerts is cut, no redirect is followed, and every webhook has credentials, from a file."""
    hooks = [hook for receiver in CONFIG["receivers"] for hook in receiver.get("webhook_configs", [])]
    assert len(hooks) == 2
    for hook in hooks:
        assert hook["max_alerts"] == 0
        assert hook["http_config"]["follow_redirects"] is False
        assert list(hook["http_config"]["authorization"]) == ["credentials_file"]


@pytest.mark.system
@pytest.mark.parametrize("version", VERSIONS)
def test_alertmanager_accepts_it(version: str) -> None:
    """Amtool finds no fault with it."""
    good, said = run(program(version, "amtool", PACKAGE), "check-config", FILE)
    assert good, said


@pytest.mark.system
@pytest.mark.parametrize("version", VERSIONS)
def test_alerts_about_windsock_go_past_it(version: str) -> None:
    """All others go to Windsock; the watchdog goes to the dead man's switch, and to Windsock, which is one, too."""
    amtool = program(version, "amtool", PACKAGE)
    for rule in ALERT_RULES:
        wanted = "slack" if rule.labels["component"] == "windsock" else "windsock"
        wanted = "dead-mans-switch,windsock" if rule.name == "WindsockWatchdog" else wanted
        test = [f"alertname={rule.name}", *(f"{name}={value}" for name, value in rule.labels.items())]
        good, said = run(
            amtool, "config", "routes", "test", f"--config.file={FILE}", f"--verify.receivers={wanted}", *test
        )
        assert good, (rule.name, said)


@contextmanager
def alertmanager(version: str, folder: Path) -> Iterator[str]:
    """A real one with this configuration, and its address."""
    url, log = f"http://{servers.HOST}:{servers.free_port()}", folder / "alertmanager.log"
    command = [
        str(program(version, "prometheus-alertmanager")),
        f"--config.file={FILE}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]

    def answers() -> bool:
        try:
            return bool(urllib.request.urlopen(f"{url}/-/ready", timeout=1).status == 200)  # noqa: S310
        except OSError:
            return False

    with launched(command, log) as process:
        wait_for(process, log, answers)
        yield url


def post(url: str, alerts: list[dict[str, str]]) -> None:
    """Alerts as Prometheus sends them."""
    body = json.dumps([{"labels": each} for each in alerts]).encode()
    request = urllib.request.Request(f"{url}/api/v2/alerts", body, {"Content-Type": "application/json"})  # noqa: S310
    urllib.request.urlopen(request, timeout=5).close()  # noqa: S310


def told(url: str, airflow: str) -> set[str]:
    """The alerts about an Airflow that are not inhibited."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as response:  # noqa: S310
        alerts = json.load(response)
    assert len(alerts) > 100
    return {
        alert["labels"]["alertname"]
        for alert in alerts
        if not alert["status"]["inhibitedBy"] and alert["labels"].get("airflow") == airflow
    }


def named(*names: str, components: tuple[str, ...] = ()) -> set[str]:
    """These alerts, and those about these components, as far as they are about one Airflow."""
    return {*names} | {case.alert for case in CASES.values() if case.labels["component"] in components and of_one(case)}


def of_one(case: Case) -> bool:
    """Whether an alert names an Airflow."""
    return "airflow" in case.labels


EVERYTHING = {case.alert for case in CASES.values() if of_one(case)}
WINDSOCK = named(components=("windsock",)) - {"WindsockDown"}
LATE = {
    "AirflowDagOverdue",
    "AirflowDagRunStuck",
    "AirflowDagSuccessLate",
    "AirflowDagSuccessOverdue",
    "AirflowDeadlineMissed",
}
WORSE = {"AirflowDagFailed", "AirflowDagSuccessLate", "AirflowDagOverdue"}
"""Alerts about a DAG of which another alert tells something worse."""

SCENARIOS = {
    "WindsockDown": {"WindsockDown"}
    | WINDSOCK - {"WindsockCollectorFailing", "WindsockCollectorSlow", "WindsockDataStale"},
    "AirflowMetadataDatabaseDown": named("AirflowMetadataDatabaseDown", components=("broker",)) | WINDSOCK,
    "AirflowBrokerDown": EVERYTHING - named(components=("broker", "celery", "task")) - WORSE | {"AirflowBrokerDown"},
    "AirflowSchedulerDown": EVERYTHING
    - LATE
    - WORSE
    - named(components=("scheduler", "task", "celery", "pool", "triggerer"))
    | {"AirflowSchedulerDown"},
}
"""What is told when this is down, and all else fires as well, but for what is down in another scenario."""


@pytest.mark.system
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("down", SCENARIOS)
def test_consequences_are_inhibited(version: str, down: str, tmp_path: Path) -> None:
    """Of the same Airflow; another's alerts are told as if nothing were."""
    absent = set(SCENARIOS) - {down}
    prod = [{**case.labels, "alertname": name} for name, case in CASES.items() if name not in absent]
    other = [{**each, "airflow": "other"} for each in prod if "airflow" in each and each["alertname"] != down]
    with alertmanager(version, tmp_path) as url:
        post(url, [each for each in prod + other if each["alertname"] not in ("WindsockAbsent", "WindsockWatchdog")])
        time.sleep(1)  # it takes them in the background
        assert told(url, "prod") == SCENARIOS[down] - absent
        assert told(url, "other") == EVERYTHING - set(SCENARIOS) - WORSE
