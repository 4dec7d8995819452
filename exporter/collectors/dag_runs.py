"""DAG runs that are not over: how many each DAG has, and since when the oldest."""

from __future__ import annotations

from operator import add
from typing import NamedTuple

from ..collector import DatabaseCollector, Select
from ..metrics import Metric


class Row(NamedTuple):
    """The active runs of one DAG in one state; `oldest` is unix time, of queued ones only those of no backfill."""

    dag_id: str
    state: str
    runs: int
    oldest: float | None


RUNS = Select(
    row=Row,
    # Two literals, not IN: only so does the planner use the partial indexes, which hold active runs only.
    sql="""SELECT dag_id, 'running' AS state, count(*) AS runs,
        extract(epoch FROM min(start_date))::float8 AS oldest
      FROM dag_run WHERE state = 'running' GROUP BY 1
      UNION ALL
      SELECT dag_id, 'queued', count(*),
        extract(epoch FROM min(queued_at) FILTER (WHERE run_type <> 'backfill'))::float8
      FROM dag_run WHERE state = 'queued' GROUP BY 1""",
    reads={"dag_run": "dag_id state run_type start_date queued_at"},
    metrics=(
        Metric(
            name="airflow_dag_runs_active",
            help="DAG runs that are queued or running.",
            labels=("dag_id", "state"),
            value=lambda row: row.runs,
            fold=add,
        ),
        Metric(
            name="airflow_dag_run_oldest_active_timestamp_seconds",
            help="When the oldest running DAG run started, or the oldest queued one was queued;"
            " queued runs of backfills do not count.",
            labels=("dag_id", "state"),
            value=lambda row: row.oldest,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="dag_runs", selects=(RUNS,))
