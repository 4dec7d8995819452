"""What dashboards and rules ask is answered by a real Prometheus that scrapes the daemon over the demo's Airflow."""

from __future__ import annotations

import asyncio
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.boards import of_annotations, of_panels, of_variables
from tests.conftest import tool
from tests.rules.ruleset import RULES, selectors
from tests.stack import watched_demo
from windsock_demo import servers

pytestmark = pytest.mark.system

PATIENCE = 200.0
"""Seconds until what had no answer has none."""

VALUES = {
    "$airflow": "demo",
    "$__rate_interval": "30s",
    "$__range": "2m",
    '="$dag_id"': '=~".+"',  # what is said of one DAG is not said of another
    "$pool": ".+",
    "$queue": ".+",
    "$job": ".+",
    "$instance": ".+",
}

EMPTY = {
    "airflow-celery: Link to the master": "the demo's broker is a master",
    "windsock: Watchdogs": "the demo has none",
    "windsock: Requests to others": "the demo asks neither Alertmanager nor Prometheus",
    "windsock: Heartbeats": "the demo calls nobody",
    'WindsockSchemaUnsupported: airflow_db_schema_info{supported="false"}': "the demo's schema is a known one",
}
"""What is rightly without an answer here, and why."""


def everything() -> dict[tuple[str, int], str]:
    """What boards ask of Windsock's metrics, each recording, and all that an alert compares; by names and numbers."""
    boards = [each for each in (*of_panels(), *of_annotations(), *of_variables()) if each.board != "airflow-statsd"]
    asked = [(str(each), filled(each.expr)) for each in boards]
    for rule in RULES:
        if rule.file in watched_demo.RULES and rule.is_alert:
            parts = [str(part).partition(" offset ")[0] for part in selectors(rule.expr)]  # the demo is young
            asked += [(f"{rule}: {part}", part) for part in parts]
        elif rule.file in watched_demo.RULES:
            asked.append((rule.name, rule.name))
    return {(name, number): expr for number, (name, expr) in enumerate(asked)}


def filled(expr: str) -> str:
    """The expression with a value for each variable."""
    for name, value in VALUES.items():
        expr = expr.replace(name, value)
    return expr


def answer(port: int, expr: str) -> list[dict[str, Any]]:
    """What Prometheus answers; raises with its own words where it refuses."""
    url = f"http://{servers.HOST}:{port}/api/v1/query"
    try:
        with urllib.request.urlopen(url, urllib.parse.urlencode({"query": expr}).encode(), timeout=10) as response:
            answered = json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from None
    assert not answered.get("warnings"), answered
    result = answered["data"]["result"]
    return [{"value": result}] if answered["data"]["resultType"] == "scalar" else list(result)


def numbers(found: list[dict[str, Any]]) -> list[float]:
    """The values of an answer that are numbers."""
    return [value for each in found if not math.isnan(value := float(each["value"][1]))]


def unanswered(port: int, asked: dict[tuple[str, int], str]) -> dict[tuple[str, int], str]:
    """Those that get no number, also while Prometheus has not yet started."""
    try:
        return {name: expr for name, expr in asked.items() if not numbers(answer(port, expr))}
    except urllib.error.URLError:
        return asked


async def test_every_query_is_answered(tmp_path: Path) -> None:
    """Each panel, variable, mark and recording, and what each alert looks at, gets a number sooner or later."""
    tool("prometheus-alertmanager", "alertmanager")
    missing = {(name, number): expr for (name, number), expr in everything().items() if name not in EMPTY}
    (tmp_path / "demo").mkdir()
    async with watched_demo.demo(tmp_path / "demo") as config:
        with watched_demo.prometheus(tmp_path, str(config.listen)) as port:
            deadline = time.monotonic() + PATIENCE
            while missing and time.monotonic() < deadline:
                await asyncio.sleep(5)
                missing = await asyncio.to_thread(unanswered, port, missing)
    assert not missing, "\n".join(f"{name}: {expr}" for (name, _), expr in missing.items())


def test_few_may_be_empty() -> None:
    """What needs no answer is something that is asked."""
    assert len(EMPTY) <= 5
    assert set(EMPTY) <= {name for name, _ in everything()}
