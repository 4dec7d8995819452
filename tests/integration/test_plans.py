"""The database's work depends on what is active, never on the history: asserted from the plans of the real queries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from exporter import incident_context
from exporter.accounting import Accounting
from exporter.accounting import reader as accounting
from exporter.collector import Context, DatabaseCollector
from exporter.collectors import ALL
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.sources.schema import INTROSPECTION, Schema
from tests.conftest import NEWEST, AirflowDatabase
from tests.history import fill

LARGE = {"dag_run", "job", "log", "task_instance", "task_instance_history"}
"""Tables that grow with the history; job does before Airflow 3, with a row per attempt."""

ACTIVE_ONLY = {"idx_dag_run_running_dags", "idx_dag_run_queued_dags"}
"""Indexes that hold no more than what is active."""

BUFFERS = 12_000


@dataclass(frozen=True)
class Query:
    """One statement of a collector, as it is sent to this schema."""

    collector: str
    text: str

    def explain(self, connection: psycopg.Connection[Any], options: str = "FORMAT JSON") -> dict[str, Any]:
        """Its plan."""
        config = Config.model_validate({"airflow": {"dags": {"tags": ["team"]}}})
        dags = config.airflow.dags
        context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))
        parameters = {**context.parameters, **_accounting(connection)}
        row = connection.execute(f"EXPLAIN ({options}) {self.text}".encode(), parameters).fetchone()
        assert row
        plan: dict[str, Any] = row[0][0]
        return plan


def _accounting(connection: psycopg.Connection[Any]) -> dict[str, object]:
    """What a poll asks for: what is new since five minutes, and the attempts of all active runs."""
    active = connection.execute(
        "SELECT id FROM dag_run WHERE state = 'running' UNION SELECT id FROM dag_run WHERE state = 'queued'"
    )
    newest, line, job = connection.execute(
        "SELECT (SELECT max(id) FROM dag_run), (SELECT max(id) FROM log), (SELECT max(id) FROM job)"
    ).fetchone() or (0, 0, 0)
    ids = [run for (run,) in active]
    return {
        "ids": ids,
        "floor": newest - 300,
        "page": 100,
        "since": time.time() - 75,
        "job": job - 300,
        "log": (line or 0) - 99,
    }


def queries(connection: psycopg.Connection[Any]) -> list[Query]:
    """Everything that one cycle of all collectors asks this database."""
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    schema = Schema(revision, {table: frozenset(names) for table, names in connection.execute(INTROSPECTION)})
    found: list[Query] = []
    for collector in ALL:
        if isinstance(collector, DatabaseCollector | Accounting):
            for select in collector.selects:
                if select in (accounting.CLOCK, accounting.NEWEST, accounting.NEWEST_PER_DAG):
                    continue  # the ends of indexes; what is asked once, at the first start
                fitting = [variant for variant in select.variants if schema.has(variant.reads)]
                found += [Query(collector.name, variant.sql) for variant in fitting[:1]]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, from the top."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan reads from end to end, or a whole index of them."""
    return {
        node["Relation Name"]
        for node in nodes(plan["Plan"])
        if "Relation Name" in node
        and (node["Node Type"] == "Seq Scan" or not {"Index Cond", "Recheck Cond"} & node.keys())
        and node.get("Index Name") not in ACTIVE_ONLY
    }


def buffers(plan: dict[str, Any]) -> int:
    """Pages that were asked for, cached or not, planning included."""
    parts = (plan["Plan"], plan.get("Planning", {}))
    return sum(part.get(f"Shared {kind} Blocks", 0) for part in parts for kind in ("Hit", "Read"))


@pytest.mark.parametrize("version", ["2.11", NEWEST])
def test_no_large_table_is_read_from_end_to_end(airflow_database: Callable[..., AirflowDatabase], version: str) -> None:
    """At 100,000 task instances, and before Airflow 3 as many jobs, indexes lead to all that is active."""
    database = airflow_database(version)
    with psycopg.connect(database.url, autocommit=True) as owner:
        fill(owner, dags=200, hours=50, running=50, queued=10)
        for text in ("SELECT count(hostname) FROM task_instance", "SELECT count(state) FROM task_instance"):
            assert scanned(Query("", text).explain(owner)) == {"task_instance"}, "this test would not notice"
    with psycopg.connect(database.reader_url) as reader:
        found = {query.collector: scanned(query.explain(reader)) & LARGE for query in queries(reader)}
    assert len(found) >= 11
    assert {name: tables for name, tables in found.items() if tables} == {}


@pytest.mark.parametrize("version", ["2.11", NEWEST])
def test_what_messages_add_is_found_by_indexes(airflow_database: Callable[..., AirflowDatabase], version: str) -> None:
    """Whose DAGs they are, and what failed in a run of ten thousand: 1,000 pages at most."""
    database = airflow_database(version)
    with psycopg.connect(database.url, autocommit=True) as owner:
        fill(owner, dags=200, hours=50, running=50, queued=10)
        found = owner.execute("SELECT dag_id, run_id FROM task_instance WHERE state = 'failed' LIMIT 1").fetchone()
    assert found
    parameters = {"dags": [found[0]], "dag_id": found[0], "run_id": found[1]}
    with psycopg.connect(database.reader_url, autocommit=True) as reader:
        (revision,) = reader.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        schema = Schema(revision, {table: frozenset(names) for table, names in reader.execute(INTROSPECTION)})
        for select in incident_context.SELECTS:
            variant = select.variant(schema)
            assert variant
            row = reader.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {variant.sql}".encode(), parameters)
            ((plan,),) = row.fetchone() or ((),)
            assert not scanned(plan) & LARGE
            assert buffers(plan) <= 1000


@pytest.mark.system
def test_a_cycle_at_a_million_task_instances(airflow_database: Callable[..., AirflowDatabase]) -> None:
    """All collectors of one cycle together ask for 12,000 pages at most, and read no large table from end to end."""
    database = airflow_database()
    with psycopg.connect(database.url, autocommit=True) as owner:
        fill(owner, dags=2000, hours=50)
    with psycopg.connect(database.reader_url, autocommit=True) as reader:
        used: dict[str, int] = {}
        for query in queries(reader):
            plan = query.explain(reader, "ANALYZE, BUFFERS, FORMAT JSON")
            assert not scanned(plan) & LARGE, query.collector
            used[query.collector] = used.get(query.collector, 0) + buffers(plan)
    assert sum(used.values()) <= BUFFERS, used
