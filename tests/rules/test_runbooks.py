"""Every alert has a runbook of one page, and what it says to paste works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promql_parser
import psycopg
import pytest

from exporter.__main__ import _parser as command_line
from tests.conftest import AirflowDatabase

from . import lint
from .promql import Reader
from .ruleset import ALERTS, NAMES
from .test_lint import SERIES

RUNBOOKS = sorted((ALERTS / "runbooks").glob("*.md"))
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
COMMANDS = {
    "airflow",
    "amtool",
    "celery",
    "curl",
    "iostat",
    "journalctl",
    "psql",
    "redis-cli",
    "timedatectl",
    "windsock",
}
AIRFLOW_3 = {
    "AirflowAssetQueueStuck",
    "AirflowDagBundleNotRefreshed",
    "AirflowDeadlineMissed",
    "AirflowDeadlinesUnhandled",
    "AirflowHitlPending",
}
"""The alerts on what Airflow 2 does not have."""


def blocks(path: Path, language: str) -> list[str]:
    """What a runbook has to paste."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def test_every_alert_has_one() -> None:
    """And every runbook has its alert."""
    assert [path.stem for path in RUNBOOKS] == NAMES


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_is_one_page(path: Path) -> None:
    """Its title is the alert's name; it has four sections in order, each with something in it, and no more."""
    title, *parts = re.split(r"^##? ", path.read_text(), flags=re.MULTILINE)[1:]
    assert title.strip() == path.stem
    assert [part.partition("\n")[0] for part in parts] == SECTIONS
    assert all(len(part.partition("\n")[2].strip()) > 20 for part in parts)
    assert len(path.read_text().splitlines()) < 60


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_links_resolve(path: Path) -> None:
    """To other runbooks, and wherever else."""
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        assert (path.parent / target).is_file()


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_queries_are_about_what_is_exported(path: Path) -> None:
    """Each parses, and asks for metrics and labels that there are."""
    texts = blocks(path, "promql")
    assert texts
    for text in texts:
        expr, reader = promql_parser.parse(text), Reader(SERIES)
        reader.labels(expr)
        assert [*reader.findings, *lint.counters(expr, SERIES)] == []


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_commands_are_commands(path: Path) -> None:
    """One of each runbook, of a program that somebody on call has."""
    [text] = blocks(path, "sh")
    assert shlex.split(text)[0] in COMMANDS


def test_windsocks_own_commands_parse() -> None:
    """With the options that are given; those in the text, too."""
    texts = [path.read_text() for path in RUNBOOKS]
    found = {command for text in texts for command in re.findall(r"(?:^|`)windsock ([^`\n]+)", text, re.MULTILINE)}
    assert len(found) > 5
    for command in found:
        assert command_line().parse_args(command.split()).command


@pytest.mark.parametrize("version", ["2.10", "2.11", "3.3"])
def test_sql_runs(version: str, airflow_database: Callable[..., AirflowDatabase]) -> None:
    """Every statement, on the schemas of Airflow 2 and 3, and changes nothing."""
    failed: dict[str, Any] = {}
    with psycopg.connect(airflow_database(version).url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = on")
        for path in RUNBOOKS:
            [text] = blocks(path, "sql")
            if version.startswith("2.") and path.stem in AIRFLOW_3:
                continue
            try:
                connection.execute(text.encode())
            except psycopg.Error as error:
                failed[path.stem] = str(error)
    assert failed == {}
