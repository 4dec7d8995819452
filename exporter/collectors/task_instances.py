"""Task instances that are not over: how many in which state, since when the oldest, and which are in trouble."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add
from typing import NamedTuple

from ..collector import Context, DatabaseCollector, Select, Variant
from ..metrics import Metric


class Row(NamedTuple):
    """Active task instances that are alike in all labels; `oldest` is unix time."""

    dag_id: str
    state: str
    pool: str
    queue: str | None
    executor: str | None
    instances: int
    oldest: float | None
    stuck: int
    heartbeat_stale: int
    deferred_overdue: int


_COLUMNS = "dag_id state pool queue executor queued_dttm start_date end_date trigger_timeout"


# Rows of a new attempt still carry the times of the last one, so each state has its own clock. The states are literals:
# with a parameter, PostgreSQL may read the whole table instead of the index.
_ACTIVE = """
    SELECT dag_id, state, pool, queue, executor, count(*) AS instances,
      extract(epoch FROM min(CASE state WHEN 'scheduled' THEN {scheduled} WHEN 'queued' THEN queued_dttm
        WHEN 'up_for_retry' THEN end_date WHEN 'up_for_reschedule' THEN end_date ELSE start_date END))::float8
        AS oldest,
      count(*) FILTER (WHERE state = 'queued' AND queued_dttm < now() - make_interval(secs => %(queued)s)) AS stuck,
      count(*) FILTER (WHERE state IN ('running', 'restarting')
        AND {heartbeat} < now() - make_interval(secs => %(task_heartbeat)s)) AS heartbeat_stale,
      count(*) FILTER (WHERE state = 'deferred' AND trigger_timeout < now()) AS deferred_overdue
    FROM task_instance AS t
    WHERE state IN ('scheduled', 'queued', 'running', 'restarting', 'deferred', 'up_for_retry', 'up_for_reschedule',
      'awaiting_input')
    GROUP BY 1, 2, 3, 4, 5
    """


def _notice(context: Context, rows: Sequence[Row]) -> None:
    celery = (row for row in rows if not row.executor or "Celery" in row.executor)
    context.queues.saw(row.queue for row in celery if row.queue)


INSTANCES = Select(
    row=Row,
    notice=_notice,
    sql=_ACTIVE.format(scheduled="scheduled_dttm", heartbeat="last_heartbeat_at"),
    reads={"task_instance": f"{_COLUMNS} scheduled_dttm last_heartbeat_at"},
    older=(
        Variant(
            _ACTIVE.format(
                scheduled="NULL",
                heartbeat="(SELECT CASE j.state WHEN 'running' THEN j.latest_heartbeat ELSE '-infinity' END"
                " FROM job AS j WHERE j.id = t.job_id)",
            ),
            reads={"task_instance": f"{_COLUMNS} job_id", "job": "id state latest_heartbeat"},
        ),
    ),
    metrics=(
        Metric(
            name="airflow_task_instances_active",
            help="Task instances that are neither over nor still without a state.",
            labels=("state", "pool", "queue", "executor"),
            value=lambda row: row.instances,
            fold=add,
        ),
        Metric(
            name="airflow_dag_task_instances_active",
            help="The same, by DAG.",
            labels=("dag_id", "state"),
            value=lambda row: row.instances,
            fold=add,
        ),
        Metric(
            name="airflow_task_instance_oldest_timestamp_seconds",
            help="Since when the oldest is in this state: scheduled (Airflow 3), queued, else started;"
            " up for retry or reschedule since its last try ended.",
            labels=("state", "queue"),
            value=lambda row: row.oldest,
            fold=min,
        ),
        Metric(
            name="airflow_task_instances_stuck_queued",
            help="Those queued longer than airflow_task_instance_queued_limit_seconds; absent where none is.",
            labels=("queue",),
            value=lambda row: row.stuck if row.state == "queued" else None,
            fold=add,
        ),
        Metric(
            name="airflow_task_instances_heartbeat_stale",
            help="Running ones whose heartbeat is older than airflow_task_instance_heartbeat_limit_seconds.",
            value=lambda row: row.heartbeat_stale,
            fold=add,
            zeros=((),),
        ),
        Metric(
            name="airflow_task_instances_deferred_overdue",
            help="Deferred task instances whose trigger should have timed out already.",
            value=lambda row: row.deferred_overdue,
            fold=add,
            zeros=((),),
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="task_instances", selects=(INSTANCES,))
