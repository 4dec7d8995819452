"""Triggers: how many wait in a triggerer, and how long the oldest has waited for one."""

from __future__ import annotations

from typing import NamedTuple

from ..collector import DatabaseCollector, Select
from ..metrics import Metric


class Row(NamedTuple):
    """Assigned or unassigned triggers; `oldest` is unix time."""

    assigned: str
    triggers: int
    oldest: float


TRIGGERS = Select(
    row=Row,
    sql="""SELECT (triggerer_id IS NOT NULL)::text AS assigned, count(*) AS triggers,
        extract(epoch FROM min(created_date))::float8 AS oldest
      FROM trigger GROUP BY 1""",
    reads={"trigger": "triggerer_id created_date"},
    metrics=(
        Metric(
            name="airflow_triggers",
            help="Triggers, by whether a triggerer runs them.",
            labels=("assigned",),
            value=lambda row: row.triggers,
            zeros=(("false",), ("true",)),
        ),
        Metric(
            name="airflow_trigger_oldest_unassigned_timestamp_seconds",
            help="When the oldest trigger without a triggerer was created; absent when there is none.",
            value=lambda row: row.oldest if row.assigned == "false" else None,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="triggers", selects=(TRIGGERS,))
