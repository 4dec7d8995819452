"""Which of Airflow's troubles are told of: what may be configured, and which DAGs that means."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config.events import EventDags
from tests.unit.test_config import loaded, problems

WHOLE = """
airflow: {database_url: postgresql://db/airflow}
slack: {token: xoxb-1}
destinations: {ops: {channel: C1}}
airflow_events:
  on: [run_failed]
  dags: {allow: 'etl_.*', deny: '.*_tmp', tags: [finance], owners: [data]}
"""


def test_a_whole_file(tmp_path: Path) -> None:
    """`on` is a key, whatever YAML takes it for; nothing is told by default, nor by one half of the daemon."""
    config = loaded(tmp_path, WHOLE)
    assert config.airflow_events.on == ("run_failed",)
    assert loaded(tmp_path).airflow_events.on == ()
    assert config.half("exporter").airflow_events.on == config.half("router").airflow_events.on == ()


@pytest.mark.parametrize(
    ("taken", "problem"),
    [
        ("airflow: {database_url: postgresql://db/airflow}", "needs airflow.database_url: they are found there"),
        ("destinations: {ops: {channel: C1}}", "needs destinations, to be told at"),
    ],
)
def test_what_it_needs(tmp_path: Path, taken: str, problem: str) -> None:
    """Without a database, or a destination, it is an error that says so."""
    (found,) = problems(tmp_path, WHOLE.replace(taken, "celery: {broker_url: 'redis://redis'}"))
    assert found.startswith(f"airflow_events.on: {problem}")


def test_it_needs_its_collector(tmp_path: Path) -> None:
    """The one that finds it must not be disabled; another one may be."""
    text = f"{WHOLE}\ncollectors: {{accounting: {{enabled: no}}, dags: {{enabled: no}}}}"
    (found,) = [it for it in problems(tmp_path, text) if it.startswith("airflow_events")]
    assert "run_failed needs the collector accounting, which is disabled" in found


@pytest.mark.parametrize(
    ("dag_id", "owners", "tags", "told"),
    [
        ("etl_load", "data, ops", "finance,tier:1", True),
        ("load", "data", "finance", False),
        ("etl_tmp", "data", "finance", False),
        ("etl_load", "database", "finance", False),
        ("etl_load", "data", "tier:1", False),
        ("etl_load", "", "", False),
    ],
)
def test_which_dags(dag_id: str, owners: str, tags: str, told: bool) -> None:
    """All that is configured has to hold: the whole name, one of the owners, one of the tags."""
    dags = EventDags.model_validate({"allow": "etl_.*", "deny": ".*_tmp", "tags": ["finance"], "owners": ["data"]})
    assert dags.include(dag_id, owners.split(", "), tags.split(",")) is told
