"""Backfills that are not complete."""

from __future__ import annotations

from typing import NamedTuple

from ..collector import DatabaseCollector, Select
from ..metrics import Metric


class Row(NamedTuple):
    """Backfills that are paused, or that are not."""

    paused: str
    backfills: int


BACKFILLS = Select(
    row=Row,
    since=(3, 0),
    sql="""SELECT coalesce(is_paused, false)::text AS paused, count(*) AS backfills
      FROM backfill WHERE completed_at IS NULL GROUP BY 1""",
    reads={"backfill": "is_paused completed_at"},
    metrics=(
        Metric(
            name="airflow_backfills_active",
            help="Backfills that are not complete (Airflow 3).",
            labels=("paused",),
            value=lambda row: row.backfills,
            zeros=(("false",), ("true",)),
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="backfills", interval=60.0, selects=(BACKFILLS,))
