"""Pools: how many slots each has, what uses them, and what is left."""

from __future__ import annotations

from operator import add
from typing import NamedTuple

from ..collector import DatabaseCollector, Select
from ..metrics import Metric


class Row(NamedTuple):
    """The slots of one pool that task instances in one state take; `slots` is infinite for a pool without a limit."""

    pool: str
    state: str
    slots: float
    include_deferred: bool
    used: float

    @property
    def taken(self) -> float:
        """Slots that nobody else can have: Airflow counts deferred ones only where the pool says so."""
        counts = self.state in ("running", "queued") or (self.state == "deferred" and self.include_deferred)
        return self.used if counts else 0.0


POOLS = Select(
    row=Row,
    sql="""WITH active AS MATERIALIZED (
        SELECT pool, state, sum(pool_slots)::float8 AS used FROM task_instance
        WHERE state IN ('running', 'queued', 'scheduled', 'deferred') GROUP BY 1, 2
      )
      SELECT p.pool, s.state,
        CASE p.slots WHEN -1 THEN 'infinity' ELSE coalesce(p.slots, 0)::float8 END AS slots,
        coalesce(p.include_deferred, false) AS include_deferred, coalesce(a.used, 0) AS used
      FROM slot_pool AS p
      CROSS JOIN (VALUES ('running'), ('queued'), ('scheduled'), ('deferred')) AS s (state)
      LEFT JOIN active AS a ON a.pool = p.pool AND a.state = s.state""",
    reads={"task_instance": "pool state pool_slots", "slot_pool": "pool slots include_deferred"},
    metrics=(
        Metric(
            name="airflow_pool_slots_limit",
            help="Slots of the pool; +Inf for a pool without a limit.",
            labels=("pool",),
            value=lambda row: row.slots if row.state == "running" else None,
        ),
        Metric(
            name="airflow_pool_slots_used",
            help="Slots that task instances in this state take or wait for.",
            labels=("pool", "state"),
            value=lambda row: row.used,
        ),
        Metric(
            name="airflow_pool_slots_free",
            help="Slots that are left; deferred task instances take some only where the pool includes them.",
            labels=("pool",),
            value=lambda row: row.slots - row.taken if row.state == "running" else -row.taken,
            fold=add,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="pools", selects=(POOLS,))
