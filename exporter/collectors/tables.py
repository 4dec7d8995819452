"""Airflow's large tables: how big they are, and how well they are vacuumed."""

from __future__ import annotations

from typing import NamedTuple

from ..collector import DatabaseCollector, Select
from ..metrics import Metric


class Row(NamedTuple):
    """One table, from the statistics that PostgreSQL keeps; nothing is counted. `vacuumed` is unix time."""

    table: str
    rows: float | None
    bytes: int
    dead: int | None
    vacuumed: float | None


TABLES = Select(
    row=Row,
    sql="""SELECT c.relname AS "table", nullif(c.reltuples, -1)::float8 AS rows,
        pg_total_relation_size(c.oid) AS bytes, s.n_dead_tup AS dead,
        extract(epoch FROM greatest(s.last_vacuum, s.last_autovacuum))::float8 AS vacuumed
      FROM pg_class AS c LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid
      WHERE c.relkind = 'r' AND pg_table_is_visible(c.oid) AND c.relname IN (
        'asset_event', 'celery_taskmeta', 'dag_run', 'dag_version', 'dataset_event', 'deadline',
        'import_error', 'job', 'log', 'rendered_task_instance_fields', 'serialized_dag', 'task_fail',
        'task_instance', 'task_instance_history', 'task_reschedule', 'trigger', 'xcom')""",
    reads={},
    metrics=(
        Metric(
            name="airflow_db_table_rows_estimate",
            help="PostgreSQL's estimate of the table's rows; absent before its first ANALYZE.",
            labels=("table",),
            value=lambda row: row.rows,
        ),
        Metric(
            name="airflow_db_table_size_bytes",
            help="The table's size on disk, with indexes and TOAST.",
            labels=("table",),
            value=lambda row: row.bytes,
        ),
        Metric(
            name="airflow_db_table_dead_rows",
            help="Dead rows that no vacuum has removed yet; reads of active work get slower with them.",
            labels=("table",),
            value=lambda row: row.dead,
        ),
        Metric(
            name="airflow_db_table_last_vacuum_timestamp_seconds",
            help="When the table was last vacuumed; absent when it never was.",
            labels=("table",),
            value=lambda row: row.vacuumed,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="tables", interval=300.0, selects=(TABLES,))
