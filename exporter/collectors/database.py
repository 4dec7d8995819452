"""The metadata database itself: its schema, its clock, and the limits that the other collectors judge by."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from ..collector import DatabaseCollector, Select
from ..metrics import Metric
from ..sources.schema import REVISIONS


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `now` is the database's clock and `received` the daemon's, in unix time; limits are in seconds."""

    now: float
    revision: str
    component_heartbeat: float
    task_heartbeat: float
    queued: float
    overdue_grace: float
    parallelism: float
    received: float = field(default_factory=time.time)

    @property
    def version(self) -> str:
        """The newest Airflow minor with this schema, or nothing for an unknown one."""
        return REVISIONS.get(self.revision, "")

    @property
    def supported(self) -> str:
        """`true` if this build knows the schema."""
        return "true" if self.version else "false"


DATABASE = Select(
    row=Row,
    sql="""SELECT extract(epoch FROM clock_timestamp())::float8 AS now, version_num AS revision,
        %(component_heartbeat)s::float8 AS component_heartbeat,
        %(task_heartbeat)s::float8 AS task_heartbeat,
        %(queued)s::float8 AS queued, %(overdue_grace)s::float8 AS overdue_grace,
        %(parallelism)s::float8 AS parallelism
      FROM alembic_version""",
    reads={"alembic_version": "version_num"},
    metrics=(
        Metric(
            name="airflow_db_schema_info",
            help="The schema revision, the newest Airflow minor that has it, and whether this build knows it.",
            labels=("revision", "version", "supported"),
            value=lambda row: 1,
        ),
        Metric(
            name="airflow_db_clock_offset_seconds",
            help="The database's clock minus the daemon's.",
            value=lambda row: row.now - row.received,
        ),
        Metric(
            name="airflow_job_heartbeat_limit_seconds",
            help="The age of the last heartbeat beyond which a job counts as stale.",
            value=lambda row: row.component_heartbeat,
        ),
        Metric(
            name="airflow_task_instance_heartbeat_limit_seconds",
            help="The age of the last heartbeat beyond which a running task instance counts as stale.",
            value=lambda row: row.task_heartbeat,
        ),
        Metric(
            name="airflow_task_instance_queued_limit_seconds",
            help="The time in the queue beyond which a task instance counts as stuck.",
            value=lambda row: row.queued,
        ),
        Metric(
            name="airflow_dag_overdue_grace_seconds",
            help="How late the next run may be before its DAG counts as overdue.",
            value=lambda row: row.overdue_grace,
        ),
        Metric(
            name="airflow_executor_parallelism",
            help="How many task instances one scheduler may run at a time, configured; +Inf without a limit.",
            value=lambda row: row.parallelism or math.inf,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="database", selects=(DATABASE,))
