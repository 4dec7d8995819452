"""Triggers: how many wait in a triggerer, and how long the oldest has waited for one."""

from __future__ import annotations

from dataclasses import dataclass

from ..collector import DatabaseCollector, Select, Variant
from ..metrics import Metric


@dataclass(frozen=True, slots=True)
class Row:
    """Assigned or unassigned triggers; `oldest` is unix time."""

    assigned: str
    triggers: int
    oldest: float


COLLECTOR = DatabaseCollector(
    name="triggers",
    selects=(
        Select(
            row=Row,
            variants=(
                Variant(
                    """
                    SELECT (triggerer_id IS NOT NULL)::text AS assigned, count(*) AS triggers,
                      extract(epoch FROM min(created_date))::float8 AS oldest
                    FROM trigger GROUP BY 1
                    """,
                    reads={"trigger": "triggerer_id created_date"},
                ),
            ),
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
        ),
    ),
)
