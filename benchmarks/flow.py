"""Work that goes on in a copy of a past: at each step as many runs end as start and are created."""

from __future__ import annotations

from typing import Any

import psycopg

from . import past

RUNS = 8
"""Runs per step: 2,000 DAGs that run every hour make 8.3 in the 15 seconds between two polls."""

_HEARTBEATS = "UPDATE task_instance SET last_heartbeat_at = now() + interval '1 hour' WHERE state = 'running'"
_END = """
WITH run AS (
  UPDATE dag_run SET state = CASE WHEN id % 33 = 0 THEN 'failed' ELSE 'success' END, end_date = clock_timestamp()
  WHERE id IN (SELECT id FROM dag_run WHERE state = 'running' ORDER BY id LIMIT {runs}) RETURNING dag_id, run_id, state)
UPDATE task_instance AS t SET state = run.state, try_number = 1, start_date = coalesce(start_date, clock_timestamp()),
  end_date = clock_timestamp(), duration = 17, last_heartbeat_at = clock_timestamp()
FROM run WHERE t.dag_id = run.dag_id AND t.run_id = run.run_id AND t.state IS DISTINCT FROM 'success'
"""
_START = """
WITH run AS (
  UPDATE dag_run SET state = 'running', start_date = clock_timestamp()
  WHERE id IN (SELECT id FROM dag_run WHERE state = 'queued' ORDER BY id LIMIT {runs}) RETURNING dag_id, run_id)
UPDATE task_instance AS t SET state = CASE WHEN task_id < 'task_3' THEN 'success' ELSE 'running' END, try_number = 1,
  scheduled_dttm = clock_timestamp(), queued_dttm = clock_timestamp(), start_date = clock_timestamp(),
  end_date = CASE WHEN task_id < 'task_3' THEN clock_timestamp() END, duration = 17,
  last_heartbeat_at = clock_timestamp() + CASE WHEN task_id < 'task_3' THEN interval '0' ELSE interval '1 hour' END
FROM run WHERE t.dag_id = run.dag_id AND t.run_id = run.run_id AND task_id < 'task_6'
"""
_CREATE = """
WITH run AS (
  INSERT INTO dag_run SELECT new.* FROM dag_run AS old CROSS JOIN LATERAL jsonb_populate_record(old, jsonb_build_object(
    'id', nextval('dag_run_id_seq'), 'run_id', old.run_id || '~', 'state', 'queued', 'start_date', NULL,
    'end_date', NULL, 'logical_date', clock_timestamp(), 'run_after', clock_timestamp(), 'queued_at', clock_timestamp()
  )) AS new WHERE old.id >= {model} AND old.id < {model} + {runs} RETURNING dag_id, run_id)
INSERT INTO task_instance SELECT new.* FROM run
  JOIN task_instance AS old ON old.dag_id = run.dag_id AND old.run_id = left(run.run_id, -1)
  CROSS JOIN LATERAL jsonb_populate_record(old, jsonb_build_object(
    'id', uuidv7(), 'run_id', run.run_id, 'state', NULL, 'try_number', 0, 'scheduled_dttm', NULL, 'queued_dttm', NULL,
    'start_date', NULL, 'end_date', NULL, 'duration', NULL, 'last_heartbeat_at', NULL)) AS new
"""
_ACTIVE = """
SELECT count(DISTINCT run.id), count(*) FROM dag_run AS run JOIN task_instance USING (dag_id, run_id)
WHERE run.state IN ('running', 'queued')
"""


class Flow:
    """The work in one database, through a superuser's connection; DAGs take turns."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = True
        connection.execute("SET session_replication_role = replica")  # as the past was written
        connection.execute(_HEARTBEATS)
        newest = connection.execute("SELECT max(id) FROM dag_run").fetchone()
        assert newest
        self._connection, self._model = connection, newest[0] - past.DAGS + 1

    def step(self) -> None:
        """What happens between two polls."""
        for statement in (_END, _START, _CREATE):
            self._connection.execute(statement.format(runs=RUNS, model=self._model).encode())
        self._model += RUNS

    def active(self) -> tuple[int, int]:
        """How many runs are active, and how many task instances they have."""
        row = self._connection.execute(_ACTIVE).fetchone()
        assert row
        return row[0], row[1]
