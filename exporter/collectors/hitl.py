"""Human in the loop: what waits for somebody's answer."""

from __future__ import annotations

from typing import NamedTuple

from ..collector import DatabaseCollector, Select
from ..metrics import Metric


class Row(NamedTuple):
    """All requests without an answer; `oldest` is unix time."""

    pending: int
    oldest: float | None


QUESTIONS = Select(
    row=Row,
    since=(3, 1),
    # From the active task instances: hitl_detail keeps what was answered, and has no index for the rest.
    sql="""SELECT count(*) AS pending, extract(epoch FROM min(asked.created_at))::float8 AS oldest
      FROM task_instance AS t
      CROSS JOIN LATERAL (
        SELECT h.created_at FROM hitl_detail AS h WHERE h.ti_id = t.id AND h.responded_at IS NULL OFFSET 0
      ) AS asked
      WHERE t.state IN ('deferred', 'awaiting_input')""",
    reads={"task_instance": "id state", "hitl_detail": "ti_id created_at responded_at"},
    metrics=(
        Metric(
            name="airflow_hitl_pending",
            help="Task instances that wait for a person's answer (Airflow 3.1).",
            value=lambda row: row.pending,
        ),
        Metric(
            name="airflow_hitl_oldest_pending_timestamp_seconds",
            help="When the oldest unanswered question was asked; absent when there is none (Airflow 3.1).",
            value=lambda row: row.oldest,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="hitl", selects=(QUESTIONS,))
