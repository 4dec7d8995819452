"""Schedulers, triggerers and DAG processors: when each kind last gave a sign of life, and how many do."""

from __future__ import annotations

from typing import NamedTuple

from ..collector import DatabaseCollector, Select
from ..metrics import Metric


class Row(NamedTuple):
    """One kind of job; `heartbeat` is unix time, None for a kind that never ran."""

    job_type: str
    heartbeat: float | None
    alive: int
    stale: int


JOBS = Select(
    row=Row,
    sql="""SELECT kind.job_type,
        (SELECT extract(epoch FROM max(latest_heartbeat))::float8 FROM job
          WHERE job_type = kind.job_type) AS heartbeat,
        coalesce(alive, 0) AS alive, coalesce(stale, 0) AS stale
      FROM (VALUES ('SchedulerJob'), ('TriggererJob'), ('DagProcessorJob')) AS kind (job_type)
      LEFT JOIN (
        SELECT job_type, count(*) FILTER (WHERE latest_heartbeat >= limits.since) AS alive,
          count(*) FILTER (WHERE latest_heartbeat < limits.since) AS stale
        FROM job, (SELECT now() - make_interval(secs => %(component_heartbeat)s) AS since) AS limits
        WHERE state = 'running' AND job_type IN ('SchedulerJob', 'TriggererJob', 'DagProcessorJob')
        GROUP BY 1
      ) AS running ON running.job_type = kind.job_type""",
    reads={"job": "job_type state latest_heartbeat"},
    metrics=(
        Metric(
            name="airflow_job_latest_heartbeat_timestamp_seconds",
            help="The newest heartbeat of any job of this kind; absent for a kind that never ran.",
            labels=("job_type",),
            value=lambda row: row.heartbeat,
        ),
        Metric(
            name="airflow_jobs_alive",
            help="Running jobs with a heartbeat within airflow_job_heartbeat_limit_seconds.",
            labels=("job_type",),
            value=lambda row: None if row.heartbeat is None else row.alive,
        ),
        Metric(
            name="airflow_jobs_stale",
            help="Jobs that call themselves running but whose heartbeat is older: crashed, and not cleaned up.",
            labels=("job_type",),
            value=lambda row: None if row.heartbeat is None else row.stale,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="jobs", selects=(JOBS,))
