"""Every alert has a case in which it fires, and one in which it does not."""

from __future__ import annotations

from typing import Any

import pytest

from .cases import groups
from .ruleset import NAMES, RULES

GROUPS = groups()
ALWAYS = {"WindsockWatchdog"}


def fires(group: dict[str, Any]) -> bool:
    """Whether it expects an alert, with its labels and texts."""
    tests = group.get("alert_rule_test", [])
    return any(alert.get("exp_annotations") for test in tests for alert in test.get("exp_alerts", []))


def silent(group: dict[str, Any]) -> bool:
    """Whether it expects none, at a time when it might fire."""
    tests = group.get("alert_rule_test", []) + group.get("promql_expr_test", [])
    return bool(tests) and not any(test.get("exp_alerts") or test.get("exp_samples") for test in tests[-1:])


@pytest.mark.parametrize("alert", NAMES)
def test_every_alert_has_cases(alert: str) -> None:
    """At least one in which it fires, with its labels and texts, and one in which it is silent."""
    own = [group for _, group in GROUPS if group["name"].startswith(f"{alert} ")]
    assert any(fires(group) for group in own)
    assert any(silent(group) for group in own) == (alert not in ALWAYS)


@pytest.mark.parametrize(("file", "group"), GROUPS, ids=lambda value: value["name"] if isinstance(value, dict) else "")
def test_a_case_says_what_it_is(file: str, group: dict[str, Any]) -> None:
    """Its name begins with the alert and says fires or is silent, and all it expects is of that alert."""
    if file in ("healthy.test.yml", "days.test.yml") or group["name"].startswith("Each window"):
        return
    alert, verb, *_ = group["name"].split()
    assert alert in NAMES
    assert fires(group) if verb in ("fires", "counts", "always") else verb == "is"
    assert {test["alertname"] for test in group.get("alert_rule_test", [])} <= {alert}


def test_every_family_of_a_rule_is_in_the_healthy_case() -> None:
    """A rule that nothing feeds there would be silent whatever it says."""
    [healthy] = [group for file, group in GROUPS if file == "healthy.test.yml"]
    given = {item["series"].partition("{")[0] for item in healthy["input_series"]}
    recorded = {rule.name for rule in RULES if not rule.is_alert}
    seldom = {"airflow_task_instances_stuck_queued", "airflow_deadline_last_missed_timestamp_seconds"}
    seldom |= {"airflow_dag_overdue_since_timestamp_seconds", "airflow_broker_aof_last_write_ok"}
    assert {name for rule in RULES for name in rule.metrics} - given - recorded == seldom
