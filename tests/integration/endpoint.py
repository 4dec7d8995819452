"""An endpoint for tests: collectors whose rows are in memory, real pollers, and a client over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from exporter.collector import Context
from exporter.config import Config
from exporter.config.values import Address
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.metrics import Family, Metric
from exporter.poller import Poller
from exporter.sources import SourceError, Sources
from exporter.web import Readiness, application, listening
from exporter.web_config import WebConfig

LOOPBACK = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the collectors below."""

    dag_id: str
    runs: int


RUNS: Metric[Row] = Metric(name="airflow_dag_runs", help="Runs.", labels=("dag_id",), value=lambda row: row.runs)
STARTED: Metric[Row] = Metric(
    name="airflow_dag_runs_started_total",
    help="Runs that started.",
    labels=("dag_id",),
    kind="counter",
    value=lambda row: row.runs,
)


@dataclass(kw_only=True)
class Rows:
    """A collector whose rows are in memory, which fails with `error`, or waits for `gate`."""

    name: str
    rows: Sequence[Row] = ()
    error: SourceError | None = None
    gate: asyncio.Event | None = None
    source: Literal["database", "broker"] = "database"
    interval: float = 15.0
    timeout: float = 5.0
    metrics: tuple[Metric[Any], ...] = (RUNS, STARTED)
    reads: int = 0

    async def read(self, sources: Sources, context: Context, timeout: float) -> list[Family]:  # noqa: ARG002
        """The families of its rows."""
        self.reads += 1
        if self.gate:
            await self.gate.wait()
        if self.error:
            raise self.error
        return [metric.family(self.rows) for metric in self.metrics]


def configured(**settings: object) -> Config:
    """A configuration with a database, whose password must never be seen."""
    airflow = {
        "name": "prod",
        "database_url": "postgresql+psycopg2://windsock:hunter2@db:5432/airflow?sslpassword=hunter3",
    }
    return Config.model_validate({"airflow": airflow, **settings})


async def polled(*collectors: Rows, config: Config | None = None) -> list[Poller]:
    """A poller for each collector that has read once, unless its gate is shut."""
    config = config or configured()
    dags = config.airflow.dags
    context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))
    pollers = [Poller(collector, Sources(None, None), context, Renderer("prod")) for collector in collectors]
    for poller, collector in zip(pollers, collectors, strict=True):
        if not collector.gate:
            await poller.poll()
    return pollers


@asynccontextmanager
async def served(
    *collectors: Rows, config: Config | None = None, access: WebConfig | None = None, readiness: Readiness | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of an endpoint with these collectors, which shows bodies as they came."""
    config = config or configured()
    access = access or WebConfig()
    pollers = await polled(*collectors, config=config)
    app = application(pollers, config, access, readiness or Readiness(None))
    async with (
        listening(app, LOOPBACK, access) as url,
        aiohttp.ClientSession(url, auto_decompress=False, skip_auto_headers=["Accept", "Accept-Encoding"]) as client,
    ):
        yield client
