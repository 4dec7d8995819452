"""Deadline alerts: which are still to come, which have passed."""

from __future__ import annotations

from operator import add
from typing import NamedTuple

from ..collector import DatabaseCollector, Select, Variant
from ..metrics import Metric


class Pending(NamedTuple):
    """The deadlines that Airflow has not yet marked; `next` is unix time."""

    pending: int
    next: float | None
    unhandled: int


class Missed(NamedTuple):
    """The deadlines that one DAG missed; `last` is unix time."""

    dag_id: str
    missed: int
    last: float


_PENDING = """
    SELECT count(*) AS pending, extract(epoch FROM min(deadline_time))::float8 AS next,
      count(*) FILTER (WHERE deadline_time < now()) AS unhandled
    FROM deadline WHERE {condition}
    """
# The runs are looked up as one array: neighbours in the index share its pages (from PostgreSQL 17).
_MISSED = """
    WITH late AS MATERIALIZED (
      SELECT dagrun_id, deadline_time FROM deadline WHERE {condition} AND deadline_time > now() - interval '1 day')
    SELECT coalesce(r.dag_id, '') AS dag_id, count(*) AS missed,
      extract(epoch FROM max(late.deadline_time))::float8 AS last
    FROM late
    LEFT JOIN (SELECT id, dag_id FROM dag_run WHERE id = ANY (ARRAY(SELECT dagrun_id FROM late))) AS r
      ON r.id = late.dagrun_id
    GROUP BY 1
    """

PENDING = Select(
    row=Pending,
    since=(3, 1),
    sql=_PENDING.format(condition="NOT missed"),
    reads={"deadline": "deadline_time missed"},
    older=(
        Variant(
            _PENDING.format(condition="callback_state IS NULL"), reads={"deadline": "deadline_time callback_state"}
        ),
    ),
    metrics=(
        Metric(
            name="airflow_deadlines_pending",
            help="Deadlines of DAG runs that are neither kept nor marked as missed (Airflow 3.1).",
            value=lambda row: row.pending,
        ),
        Metric(
            name="airflow_deadline_next_timestamp_seconds",
            help="The earliest pending deadline; absent when there is none (Airflow 3.1).",
            value=lambda row: row.next,
        ),
        Metric(
            name="airflow_deadlines_unhandled",
            help="Deadlines that have passed without the scheduler marking them as missed (Airflow 3.1).",
            value=lambda row: row.unhandled,
        ),
    ),
)
MISSED = Select(
    row=Missed,
    since=(3, 1),
    sql=_MISSED.format(condition="missed"),
    reads={"deadline": "deadline_time dagrun_id missed", "dag_run": "id dag_id"},
    older=(
        Variant(
            _MISSED.format(condition="callback_state IS NOT NULL"),
            reads={"deadline": "deadline_time dagrun_id callback_state", "dag_run": "id dag_id"},
        ),
    ),
    metrics=(
        Metric(
            name="airflow_deadlines_missed",
            help="Deadlines of the last 24 hours that were marked as missed (Airflow 3.1).",
            labels=("dag_id",),
            value=lambda row: row.missed,
            fold=add,
        ),
        Metric(
            name="airflow_deadline_last_missed_timestamp_seconds",
            help="The last of these deadlines (Airflow 3.1).",
            labels=("dag_id",),
            value=lambda row: row.last,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="deadlines", selects=(PENDING, MISSED))
