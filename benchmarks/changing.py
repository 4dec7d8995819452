"""The daemon that the endpoint's measurement scrapes: real but for its collectors, whose 50,000 series are in memory.

Usage: python changing.py PORT; it ends at SIGTERM.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from exporter import daemon
from exporter.collector import Context
from exporter.config import Config
from exporter.metrics import Family, Metric
from exporter.sources import Sources
from exporter.sources.database import BATCH
from exporter.web_config import WebConfig

DAGS = 2000
COLLECTORS = 5
METRICS = 5
SERIES = DAGS * COLLECTORS * METRICS
STEPS = (0.123457, 1.618034, 2.718282, 3.141593, 9.869604)


@dataclass(frozen=True, slots=True)
class Row:
    """What one read gives about one DAG."""

    dag_id: str
    state: str
    value0: float
    value1: float
    value2: float
    value3: float
    value4: float


def rows(first: int = 0, last: int = DAGS) -> list[Row]:
    """A row for each of these DAGs, none like one before: times with microseconds, as a database has them."""
    now = time.time()
    return [
        Row(f"team{dag % 20}_pipeline_{dag:05}", "running", *(now - dag * step for step in STEPS))
        for dag in range(first, last)
    ]


class Changing:
    """A collector that has a series per DAG and metric, all of them new each second; the last one has counters."""

    source: Literal["database"] = "database"
    interval = 1.0
    timeout = 5.0

    def __init__(self, number: int) -> None:
        self.name = f"changing_{number}"
        counters = number == COLLECTORS - 1
        self.metrics: tuple[Metric[Any], ...] = tuple(
            Metric(
                name=f"airflow_dag_benchmark_{number}_{metric}_{'total' if counters else 'timestamp_seconds'}",
                help="A series per DAG.",
                labels=("dag_id", "state"),
                kind="counter" if counters else "gauge",
                value=attrgetter(f"value{metric}"),
            )
            for metric in range(METRICS)
        )

    async def read(self, sources: Sources, context: Context, timeout: float) -> list[Family]:  # noqa: ARG002
        """Fresh families; as in a real read, the event loop runs between batches of rows and between families."""
        fresh: list[Row] = []
        for first in range(0, DAGS, BATCH):
            fresh += rows(first, first + BATCH)
            await asyncio.sleep(0)
        families = []
        for metric in self.metrics:
            families.append(metric.family(fresh, context.dags))
            await asyncio.sleep(0)
        return families


ALL = tuple(Changing(number) for number in range(COLLECTORS))


def main(port: str) -> None:
    """Run the daemon; the database that its configuration needs is never asked."""
    daemon.ALL = ALL  # type: ignore[attr-defined]
    database = {"database_url": "postgresql://nobody@127.0.0.1:9/none"}
    config = Config.model_validate({"listen": f"127.0.0.1:{port}", "airflow": database, "log": {"level": "warning"}})
    asyncio.run(daemon.run(config, WebConfig(), lambda: config))


if __name__ == "__main__":
    main(sys.argv[1])
