"""The rules contradict neither what is exported nor what they promise, and the linter that says so would notice."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import promql_parser
import pytest

from tests.conftest import ROOT

from . import lint
from .families import KNOWN, OPTIONAL, Series
from .promql import NONE, Reader
from .ruleset import ALERT_RULES, ALERTS, DEFAULT, FILES, RULES, Rule, document, read

ANNOTATIONS = ["summary", "description", "runbook_url", "dashboard_url"]
CHOICES = {"airflow", "dag_id", "pool", "queue"}
"""What a link may choose on a dashboard, by the names of labels."""


@cache
def dashboards() -> dict[str, set[str]]:
    """The choices of each dashboard, by its uid."""
    boards = [json.loads(path.read_text()) for path in (ROOT / "dashboards").glob("*.json")]
    return {board["uid"]: {variable["name"] for variable in board["templating"]["list"]} for board in boards}


def known() -> dict[str, Series]:
    """What is declared, and what is recorded."""
    found = dict(KNOWN)
    for rule in RULES:
        if not rule.is_alert:
            before = found[rule.name].labels if rule.name in found else NONE
            labels = Reader(found).labels(rule.expr) or NONE
            found[rule.name] = Series(before | labels | set(rule.labels), counter=False)
    return found


SERIES = known()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_linter_finds_nothing(rule: Rule) -> None:
    """No rule selects what nobody exports, or loses or invents a label."""
    assert lint.findings(rule, SERIES) == []


@pytest.mark.parametrize("rule", ALERT_RULES, ids=str)
def test_alerts_are_labelled_and_outlast_outages(rule: Rule) -> None:
    """Each has its severity and component; a source that is down is told soon, and all others outlast it."""
    assert list(lint.severities(rule)) == []
    assert list(rule.annotations) == ANNOTATIONS


@pytest.mark.parametrize("rule", ALERT_RULES, ids=str)
def test_the_texts_of_alerts(rule: Rule) -> None:
    """The summary is one sentence that never changes, and what changes is in the description."""
    assert re.fullmatch(r"[A-Z][^{}]+[^.{}]\.", rule.annotations["summary"])
    assert re.fullmatch(r"(\{\{|[A-Z]).*[.]", rule.annotations["description"])
    assert len(rule.annotations["description"]) < 250


@pytest.mark.parametrize("rule", ALERT_RULES, ids=str)
def test_links_of_alerts_resolve(rule: Rule) -> None:
    """To a runbook of the alert's name, and to a dashboard, with all that the alert can choose there."""
    assert rule.annotations["runbook_url"] == f"https://windsock.example.com/runbooks/{rule.name}.md"
    assert (ALERTS / "runbooks" / f"{rule.name}.md").is_file()
    link = re.fullmatch(r"https://grafana\.example\.com/d/([\w-]+)(?:\?(.*))?", rule.annotations["dashboard_url"])
    assert link
    labels = Reader(SERIES).labels(rule.expr) or NONE
    variables = dict(part.split("=", 1) for part in link[2].split("&")) if link[2] else {}
    assert set(variables) == {f"var-{name}" for name in dashboards()[link[1]] & labels & CHOICES}
    assert all(value == f"{{{{ $labels.{name[4:]} | urlquery }}}}" for name, value in variables.items())


def test_about_fifteen_alerts_are_for_everybody() -> None:
    """Few enough to be read before they are loaded; none of them needs another exporter or an objective."""
    names = {rule.name for rule in read(ALERTS / DEFAULT) if rule.is_alert}
    assert 13 <= len(names) <= 18


def test_an_alert_is_in_one_file() -> None:
    """Only the alert on budgets is there several times, and tells its windows apart."""
    times = Counter(rule.name for rule in ALERT_RULES)
    assert {name for name, count in times.items() if count > 1} == {"AirflowErrorBudgetBurn"}
    windows = [rule.labels["long_window"] for rule in ALERT_RULES if rule.name == "AirflowErrorBudgetBurn"]
    assert windows == ["1h", "6h", "1d", "3d"]


@pytest.mark.parametrize("exporter", OPTIONAL)
def test_rules_of_optional_exporters_have_their_own_file(exporter: str) -> None:
    """No other file needs one of them, and all that is declared of theirs is used."""
    using = {rule.file for rule in RULES if rule.metrics & set(OPTIONAL[exporter])}
    assert using == {f"{exporter}.rules.yml"}
    assert {name for rule in read(ALERTS / f"{exporter}.rules.yml") for name in rule.metrics} == set(OPTIONAL[exporter])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_have_nothing_that_prometheus_2_42_refuses(path: Any) -> None:
    """Neither labels nor offsets of groups, and no other key that came later."""
    for group in document(path)["groups"]:
        assert set(group) == {"name", "interval", "rules"}
        for rule in group["rules"]:
            alert = {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
            assert set(rule) <= (alert if "alert" in rule else {"record", "expr", "labels"})


def test_the_page_lists_every_alert() -> None:
    """docs/alerts.md has the severity, component and summary of each, under its file."""
    page = (ROOT / "docs/alerts.md").read_text()
    for path in FILES:
        _, _, part = page.partition(f"`{path.name}`\n\n| alert |")
        rows = re.findall(
            r"^\| \[(\w+)\]\(\.\./alerts/runbooks/\1\.md\) \| (.*?) \| (\w+) \| (.*) \|$",
            part.partition("\n\n")[0],
            re.MULTILINE,
        )
        wanted: dict[str, tuple[str, str, str]] = {}
        for rule in read(path):
            if rule.is_alert:
                severity, component = rule.labels["severity"], rule.labels["component"]
                before = wanted[rule.name][0].split(", ") if rule.name in wanted else []
                together = ", ".join(dict.fromkeys([*before, severity]))
                wanted[rule.name] = together, component, rule.annotations["summary"]
        assert {name: (severity, component, summary) for name, severity, component, summary in rows} == wanted


BAD: Mapping[str, str] = {
    "airflow_db_upp == 0": "nobody declares airflow_db_upp",
    'airflow_jobs_alive{job_typ="x"} == 0': "airflow_jobs_alive is matched by job_typ",
    "max by (airflow, queue) (airflow_jobs_alive)": "max groups by queue",
    "max by (airflow) (airflow_db_up) and on (queue) up": "left of and there is no queue",
    "max by (airflow) (airflow_db_up) and on (airflow) up": "right of and there is no airflow",
    "max by (airflow) (airflow_db_up) == 0 and airflow_broker_up * airflow_jobs_alive": "* never matches: ['job_type']",
    "airflow_db_up * on (airflow) group_left (owners) max by (airflow) (airflow_broker_up)": "group_left takes owners",
    "airflow_db_up == 0": "the result has the label instance",
    "max by (job) (airflow_db_up) == 0": "the result does not say which Airflow",
    "max by (airflow, dag_id) (airflow_dag_last_run_success) == 0": "the result does not say whose DAG it is",
    "max by (airflow) (airflow_broker_evicted_keys_total) > 0": "airflow_broker_evicted_keys_total is a counter",
    "max by (airflow) (rate(airflow_db_up[5m])) > 0": "airflow_db_up is not a counter",
    "max by (airflow) (increase(airflow_db_up[5m] offset 1h)) > 0": "airflow_db_up is not a counter",
    "max by (airflow) (time() - airflow_db_oldest_transaction_timestamp_seconds)": "not compared with when it was read",
    'max by (airflow) (windsock_collector_last_success_timestamp_seconds{collector="jobs"} - on (job, instance)'
    " group_right () airflow_hitl_oldest_pending_timestamp_seconds)": "is read by hitl, not by jobs",
    'max by (collector) (windsock_collector_success{collector=~"broker|queue"})': "the collectors of the broker are",
    'max by (airflow) (rate(airflow_dag_run_start_delay_seconds_bucket{le="45.0"}[5m]))': "has no bucket 45.0",
    "histogram_quantile(0.9, max by (airflow) (rate(airflow_dag_run_start_delay_seconds_bucket[5m])))": "needs le",
}


@pytest.mark.parametrize("text", BAD)
def test_the_linter_notices(text: str) -> None:
    """Each of these mistakes, by its own finding."""
    assert any(BAD[text] in finding for finding in lint.findings(rule(text), SERIES))


@pytest.mark.parametrize(
    ("annotation", "finding"),
    [
        ("In {{ $labels.dag_id }}.", "asks for the label dag_id"),
        ("For {{ $labels.severity }}.", "asks for the label severity"),
        ("It is {{ $value }}.", "has a bare {{ $value }}"),
    ],
)
def test_the_linter_notices_in_texts(annotation: str, finding: str) -> None:
    """Labels that the expression does not give, those of the rule itself among them, and numbers without a unit."""
    bad = rule("max by (airflow) (airflow_db_up) == 0", description=annotation)
    assert any(finding in found for found in lint.findings(bad, SERIES))


@pytest.mark.parametrize(
    ("labels", "keep", "finding"),
    [
        ({"severity": "high", "component": "dag"}, 900, "the severity is high"),
        ({"severity": "info", "component": "dags"}, 900, "the component is dags"),
        ({"severity": "info", "component": "windsock"}, 900, "the name and the component disagree"),
        ({"severity": "info", "component": "dag"}, 600, "an outage of ten minutes would resolve it"),
    ],
)
def test_the_linter_notices_in_labels(labels: dict[str, str], keep: float, finding: str) -> None:
    """Severities and components that no route knows, and alerts that an outage resolves."""
    bad = rule("max by (airflow) (airflow_jobs_alive) == 0", keep=keep, labels=labels)
    assert any(finding in found for found in lint.severities(bad))


def rule(text: str, *, keep: float = 900, labels: dict[str, str] | None = None, **annotations: str) -> Rule:
    """An alert that no file has."""
    expr = promql_parser.parse(text)
    return Rule("f", "g", "AirflowX", expr, text, True, labels or {}, annotations, 0, keep)
