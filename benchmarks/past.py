"""Databases with a long past, kept between runs, and what happens in them: more active work, churn without vacuum."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests import history
from tests.conftest import NEWEST, schema_file
from windsock_demo import servers

from . import migrated

DAGS = 2000
TASKS = 10
BESIDE = Path(__file__).with_name("beside.sql")
CHURNING = 50_000
STATES = ("scheduled", "queued", "running", "success")

_ACTIVATE_RUNS = """
UPDATE dag_run SET state = CASE WHEN right(dag_id, 5)::int < 500 THEN 'running' ELSE 'queued' END, end_date = NULL
WHERE run_after > (SELECT max(run_after) FROM dag_run) - %s * interval '1 hour' AND right(dag_id, 5)::int < 550
RETURNING id
"""
_ACTIVATE_TASK_INSTANCES = f"""
UPDATE task_instance AS t SET state = outcome, last_heartbeat_at = now(), end_date = NULL
FROM {history.ATTEMPTS.replace("%", "%%")}
WHERE run >= %s AND t.dag_id = name AND t.run_id = of_run AND t.task_id = 'task_' || attempt.t
  AND t.state IS DISTINCT FROM outcome
"""  # noqa: S608


def kept(server: servers.Postgres, hours: int) -> str:
    """The name of a database with a run per DAG and hour, and ten task instances each; filled once."""
    name, wanted = f"past_{hours}", _fingerprint()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        found = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name]
        ).fetchone()
        if found == (wanted,):
            return name
        if found:
            drop(server, name)
    print(f"filling {name}: {DAGS * hours * TASKS:,} task instances", flush=True)
    started = time.monotonic()
    migrated.create(server, name)
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        history.fill(connection, DAGS, hours)
        for statement in BESIDE.read_text().split(";\n")[:-1]:
            connection.execute(statement.encode())
        connection.execute("VACUUM (ANALYZE)")
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), wanted))
    print(f"filled in {time.monotonic() - started:.0f} s", flush=True)
    return name


def copy(server: servers.Postgres, source: str, target: str) -> None:
    """A database to be spoilt."""
    drop(server, target)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        connection.execute(statement.format(sql.Identifier(target), sql.Identifier(source)))


def drop(server: servers.Postgres, name: str) -> None:
    """Removes a database, if it is there."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def activate(connection: psycopg.Connection[Any], hours: int) -> None:
    """Makes the runs of the newest hours as active as those of the newest one; vacuums and analyses."""
    runs = connection.execute(_ACTIVATE_RUNS, [hours]).fetchall()
    connection.execute(_ACTIVATE_TASK_INSTANCES.encode(), [min(run for (run,) in runs)])
    connection.execute("VACUUM (ANALYZE) dag_run, task_instance")


def active(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """How many runs, and how many task instances, are active."""
    row = connection.execute(
        """
        SELECT (SELECT count(*) FROM dag_run WHERE state IN ('running', 'queued')),
          (SELECT count(*) FROM task_instance WHERE state NOT IN ('success', 'failed', 'skipped', 'upstream_failed'))
        """
    ).fetchone()
    assert row
    return row[0], row[1]


def churn(connection: psycopg.Connection[Any], rounds: int) -> int:
    """Takes the newest successes through all states so many times, unvacuumed; returns how many rows are dead then."""
    connection.execute(
        "CREATE TEMP TABLE churning AS SELECT id FROM task_instance WHERE state = 'success' ORDER BY id DESC LIMIT %s",
        [CHURNING],
    )
    update = "UPDATE task_instance SET state = %s, last_heartbeat_at = now() WHERE id IN (SELECT id FROM churning)"
    for state in STATES * rounds:
        connection.execute(update, [state])
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'task_instance'").fetchone()
    assert row
    return int(row[0])


def _fingerprint() -> str:
    sources = (Path(history.__file__), schema_file(NEWEST), BESIDE)
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
