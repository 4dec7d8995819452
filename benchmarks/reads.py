"""What our reads cost: the server's side as pg_stat_statements has it, ours by the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

import psycopg

from exporter.accounting import Accounting
from exporter.collector import Collector, Context
from exporter.collectors import ALL
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.poller import Poller
from exporter.sources import Database, Sources

CYCLES = 60

RESET = "SELECT pg_stat_statements_reset()"
STATEMENTS = """
SELECT coalesce(sum(total_plan_time + total_exec_time), 0)::float8,
  coalesce(sum(shared_blks_hit + shared_blks_read), 0)::int
FROM pg_stat_statements WHERE userid = %s::regrole
"""
"""Milliseconds and buffers of all statements of one role; planning, BEGIN, SET and COMMIT are statements, too."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds in the server, milliseconds from before the read until its text is ready, buffers, and series."""

    server: float
    client: float
    buffers: float
    series: float

    @classmethod
    def median(cls, costs: Sequence[Self]) -> Self:
        """The median of each figure for itself."""
        return cls(
            *(median(getattr(cost, name) for cost in costs) for name in ("server", "client", "buffers", "series"))
        )

    @classmethod
    def sum(cls, costs: Sequence[Self]) -> Self:
        """All of them together."""
        return cls(*(sum(getattr(cost, name) for cost in costs) for name in ("server", "client", "buffers", "series")))


@dataclass(frozen=True, slots=True)
class Cycle:
    """The medians of many cycles, by collector and for all of a cycle together."""

    collectors: Mapping[str, Cost]
    all: Cost


def collectors() -> list[Collector]:
    """Those that read the database, without the accounting: what that costs shows only while work goes on."""
    return [each for each in ALL if each.source == "database" and not isinstance(each, Accounting)]


async def cycles(url: str, statements: psycopg.Connection[Any], role: str) -> Cycle:
    """Polls every collector so many times by way of our real code; the first cycle is left out, which connects."""
    config = Config.model_validate({"airflow": {"name": "production", "database_url": url, "dags": {"tags": ["tier"]}}})
    dags = config.airflow.dags
    context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))
    async with Database(config.airflow.database_dsn) as database:
        sources, renderer = Sources(database, None), Renderer(config.airflow.name)
        pollers = [Poller(collector, sources, context, renderer) for collector in collectors()]
        measured: list[dict[str, Cost]] = []
        for _ in range(CYCLES + 1):
            measured.append({poller.name: await _poll(poller, statements, role) for poller in pollers})
    by_collector = {name: Cost.median([cycle[name] for cycle in measured[1:]]) for name in measured[0]}
    return Cycle(by_collector, Cost.median([Cost.sum(list(cycle.values())) for cycle in measured[1:]]))


async def _poll(poller: Poller, statements: psycopg.Connection[Any], role: str) -> Cost:
    statements.execute(RESET)
    started = time.perf_counter()
    await poller.poll()
    client = 1000 * (time.perf_counter() - started)
    assert poller.status.success and poller.part, f"{poller.name}: {poller.status.error}"
    server, buffers = spent(statements, role)
    return Cost(server, client, buffers, poller.part.series)


def spent(statements: psycopg.Connection[Any], role: str) -> tuple[float, int]:
    """The role's milliseconds and buffers in the server since RESET."""
    row = statements.execute(STATEMENTS, [role]).fetchone()
    assert row
    return row[0], row[1]
