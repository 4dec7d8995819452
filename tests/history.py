"""Fills a database with an Airflow's past: any amount of finished work, and active work that does not depend on it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from .airflow import NEUTRAL, columns

TABLES = ("dag", "dag_run", "job", "log", "slot_pool", "task_instance", "task_instance_history")

# The newest hour began ten minutes ago or before, or what ended in it would not be past yet.
RUNS = """
    (SELECT d, hour, 'team' || d % 20 || '_pipeline_' || lpad(d::text, 5, '0') AS name,
       date_trunc('hour', now() - interval '10 min') - hour * interval '1 hour' AS at,
       CASE WHEN hour = 0 AND d < {running} THEN 'running'
         WHEN hour = 0 AND d < {running} + {queued} THEN 'queued'
         WHEN (d + 7 * hour) % 33 = 0 THEN 'failed' ELSE 'success' END AS outcome
     FROM generate_series({hours} - 1, 0, -1) AS hour, generate_series(0, {dags} - 1) AS d) AS run
"""
# A running run has three tasks done, three active and four that wait; of a finished one's, 94 in 100 succeeded.
ATTEMPTS = """
    (SELECT r.id AS run, r.dag_id AS name, r.run_id AS of_run, t, r.queued_at + t * interval '25 s' AS at,
       r.state = 'running' AND t BETWEEN 3 AND 5 AS active,
       CASE WHEN r.state = 'running' AND t BETWEEN 3 AND 5 THEN coalesce((ARRAY['deferred', 'up_for_retry',
             'up_for_reschedule', 'scheduled', 'scheduled', 'queued', 'queued', 'queued']
           )[1 + (r.id + 7 * t) % 20], 'running')
         WHEN r.state = 'queued' OR r.state = 'running' AND t > 5 THEN NULL
         WHEN r.state = 'running' THEN 'success'
         ELSE coalesce((ARRAY['failed', 'failed', 'skipped', 'skipped', 'skipped', 'upstream_failed'])
             [1 + (11 * r.id + 7 * t) % 100], 'success') END AS outcome
     FROM dag_run AS r, generate_series(0, 9) AS t ORDER BY r.id, t) AS attempt
"""


def fill(connection: psycopg.Connection[Any], dags: int, hours: int, *, running: int = 500, queued: int = 50) -> None:
    """Writes a run per DAG and hour, those of the newest hour still active in the first DAGs; then vacuums.

    The connection is a superuser's in autocommit, the database as `db migrate` left it. A run has ten task instances:
    2,000 DAGs and 50 hours make a million.
    """
    runs = RUNS.format(dags=dags, hours=hours, running=running, queued=queued)
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")  # no foreign key is looked up row by row
        later = _drop_indexes(connection)
        _write_dags(connection, dags)
        _write_runs(connection, runs)
        _write_task_instances(connection)
        _write_jobs(connection)
        for statement in later:
            connection.execute(statement.encode())
    for table in TABLES:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))


def _write_dags(connection: psycopg.Connection[Any], dags: int) -> None:
    source = RUNS.format(dags=dags, hours=1, running=0, queued=0)
    if columns(connection, "dag").keys() >= {"bundle_name"}:
        connection.execute("INSERT INTO dag_bundle (name, active) VALUES ('dags-folder', true)")
    _insert(
        connection,
        "dag",
        source,
        dag_id="name",
        is_paused="d % 10 = 9",
        is_stale="d % 50 = 49",
        is_active="d % 50 <> 49",
        bundle_name="'dags-folder'",
        owners="'owner' || d % 20",
        timetable_summary="'0 * * * *'",
        schedule_interval="""'"0 * * * *"'""",
        max_active_runs="16",
        next_dagrun_create_after="at + interval '1 hour'",
        last_parsed_time="now()",
        last_parse_duration="0.5",
    )
    _insert(connection, "slot_pool", "generate_series(0, 9) AS n", pool="'pool_' || n", slots="64")


def _write_runs(connection: psycopg.Connection[Any], runs: str) -> None:
    _insert(
        connection,
        "dag_run",
        runs,
        dag_id="name",
        run_id="'scheduled__' || to_char(at, 'YYYY-MM-DD\"T\"HH24:MI:SS+00:00')",
        run_type="'scheduled'",
        state="outcome",
        logical_date="at - interval '1 hour'",
        execution_date="at - interval '1 hour'",
        data_interval_start="at - interval '1 hour'",
        data_interval_end="at",
        run_after="at",
        queued_at="at + interval '1 s'",
        start_date="CASE WHEN outcome <> 'queued' THEN at + interval '2 s' END",
        end_date="CASE WHEN outcome IN ('success', 'failed') THEN at + interval '5 min' END",
        updated_at="at + interval '5 min'",
        log_template_id="1",
        conf="'{}'",
    )


def _write_task_instances(connection: psycopg.Connection[Any]) -> None:
    facts = {
        "dag_id": "name",
        "run_id": "of_run",
        "task_id": "'task_' || t",
        "map_index": "-1",
        "max_tries": "1",
        "pool": "CASE t WHEN 3 THEN 'pool_' || run % 10 ELSE 'default_pool' END",
        "pool_slots": "1",
        "queue": "CASE t WHEN 4 THEN 'heavy' ELSE 'default' END",
        "operator": "'PythonOperator'",
        "hostname": "'worker-' || run % 50",
        "executor_config": "'\\x80057d942e'",
        "scheduled_dttm": "at",
        "queued_dttm": "CASE WHEN outcome <> 'scheduled' THEN at + interval '1 s' END",
        "start_date": "CASE WHEN outcome NOT IN ('scheduled', 'queued') THEN at + interval '3 s' END",
    }
    _insert(
        connection,
        "task_instance",
        ATTEMPTS,
        **facts,
        # As Airflow's own ids, these begin with the time: new rows are neighbours in the index.
        id="(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')"
        " || substr(replace(gen_random_uuid()::text, '-', ''), 13))::uuid",
        state="outcome",
        try_number="1",
        end_date="CASE WHEN NOT active OR outcome LIKE 'up%' THEN at + interval '20 s' END",
        duration="CASE WHEN NOT active THEN 17 END",
        updated_at="at + interval '20 s'",
        last_heartbeat_at="CASE WHEN active THEN now() ELSE at + interval '19 s' END",
        job_id="CASE WHEN outcome IS NOT NULL THEN run * 10 + t END",
        external_executor_id="CASE WHEN outcome IS NOT NULL THEN gen_random_uuid()::text END",
    )
    _insert(
        connection,
        "task_instance_history",
        f"{ATTEMPTS} WHERE outcome = 'success' AND (run + t) % 33 = 0",
        **facts,
        task_instance_id="gen_random_uuid()",
        state="'failed'",
        try_number="0",
        end_date="at + interval '10 s'",
        duration="10",
    )
    _insert(
        connection,
        "log",
        "task_instance AS t WHERE state IS NOT NULL AND task_id < 'task_3'",
        dttm="queued_dttm",
        dag_id="dag_id",
        task_id="task_id",
        run_id="run_id",
        event="'running'",
        owner="'airflow'",
        extra="""'{"host_name": "worker"}'""",
    )


def _write_jobs(connection: psycopg.Connection[Any]) -> None:
    if "job_id" in columns(connection, "task_instance"):  # before Airflow 3 each attempt has a job
        _insert(
            connection,
            "job",
            "task_instance WHERE job_id IS NOT NULL",
            id="job_id",
            job_type="'LocalTaskJob'",
            state="CASE state WHEN 'running' THEN 'running' ELSE 'success' END",
            latest_heartbeat="coalesce(end_date, now())",
        )
        connection.execute("SELECT setval('job_id_seq', (SELECT max(id) FROM job))")
    _insert(
        connection,
        "job",
        "generate_series(0, 4999) AS n",
        job_type="(ARRAY['SchedulerJob', 'TriggererJob', 'DagProcessorJob'])[1 + n % 3]",
        state="CASE WHEN n < 4 THEN 'running' ELSE 'success' END",
        latest_heartbeat="now() - CASE WHEN n < 4 THEN interval '2 s' ELSE n * interval '1 hour' END",
    )


def _insert(connection: psycopg.Connection[Any], table: str, source: str, **expressions: str) -> None:
    """Inserts what the expressions give where this version has the column, and neutral values in the rest."""
    known = columns(connection, table)
    neutral = {"timestamptz": "now()"} | {
        kind: sql.Literal(value).as_string(connection) for kind, value in NEUTRAL.items()
    }
    for name, column in known.items():
        if column.required and name not in expressions:
            expressions[name] = neutral[column.type]
    names = [name for name in expressions if name in known]
    listed = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(expressions[name] for name in names)
    connection.execute(f"INSERT INTO {table} ({listed}) SELECT {values} FROM {source}".encode())  # noqa: S608  (ours)


def _drop_indexes(connection: psycopg.Connection[Any]) -> list[str]:
    """Drops all indexes, and the constraints that need them; returns what makes them again, faster at the end."""
    constraints = connection.execute(
        """
        SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint
        WHERE contype IN ('p', 'u') AND conrelid = ANY (%(tables)s::regclass[])
          OR contype = 'f' AND confrelid = ANY (%(tables)s::regclass[])
        ORDER BY contype
        """,
        {"tables": list(TABLES)},
    ).fetchall()
    for table, name, _ in constraints:  # foreign keys come first
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    indexes = connection.execute(
        """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
        WHERE indrelid = ANY (%(tables)s::regclass[])
        """,
        {"tables": list(TABLES)},
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}".encode())
    again = [
        f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}" for table, name, definition in reversed(constraints)
    ]
    return [definition for _, definition in indexes] + again
