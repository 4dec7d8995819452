"""What a collector is: something that is read at an interval, and the metrics that its rows feed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from .config import Config
from .discovery import Dags, Queues
from .metrics import Declared, Family, Metric
from .sources import Broker, SourceError, Sources
from .sources.schema import Schema

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Context:
    """What a read may know beside its source."""

    config: Config
    dags: Dags
    queues: Queues

    @property
    def parameters(self) -> Mapping[str, object]:
        """What queries may use: the limits, in seconds, under their names, and a little more."""
        airflow = self.config.airflow
        return {**airflow.limits.model_dump(), "parallelism": airflow.parallelism, "tags": list(airflow.dags.tags)}


class Collector(Protocol):
    """A subject of its own: it fails, is timed and goes stale alone."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> Literal["database", "broker"]: ...
    @property
    def interval(self) -> float: ...
    @property
    def timeout(self) -> float: ...
    @property
    def metrics(self) -> tuple[Declared, ...]: ...

    async def read(self, sources: Sources, context: Context, timeout: float) -> list[Family]:
        """Fresh families; raises SourceError."""
        ...


class Variant(NamedTuple):
    """A query for the schemas that have these columns; `reads` maps a table to its columns, with spaces between."""

    sql: str
    reads: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Select(Generic[Row]):
    """One query, the type of its rows, and the metrics that they feed; for older schemas it is written otherwise.

    On an Airflow older than `since` it is left out; on any other schema that fits no variant it is an error.
    """

    row: type[Row]
    sql: str
    reads: Mapping[str, str]
    older: tuple[Variant, ...] = ()
    metrics: tuple[Metric[Row], ...] = ()
    since: tuple[int, int] = (2, 10)
    notice: Callable[[Context, Sequence[Row]], None] | None = None

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every way in which it is written, the newest schema's first."""
        return (Variant(self.sql, self.reads), *self.older)

    def variant(self, schema: Schema) -> Variant | None:
        """The first that fits; None for an Airflow that is too old, SourceError for one that no variant fits."""
        for variant in self.variants:
            if schema.has(variant.reads):
                return variant
        if schema.version and schema.version < self.since:
            return None
        tables = ", ".join(self.reads)
        raise SourceError("schema", f"revision {schema.revision} lacks columns that are read from {tables}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseCollector:
    """Reads the metadata database: all its queries see one snapshot."""

    name: str
    selects: tuple[Select[Any], ...]
    interval: float = 15.0
    timeout: float = 5.0
    source: Literal["database"] = "database"

    @property
    def metrics(self) -> tuple[Metric[Any], ...]:
        """Every metric that its queries can feed."""
        return tuple(metric for select in self.selects for metric in select.metrics)

    async def read(self, sources: Sources, context: Context, timeout: float) -> list[Family]:
        """Run the queries that the schema has; raises SourceError, also where an unknown Airflow took columns away."""
        assert sources.database
        results: list[tuple[Select[Any], Sequence[Any]]] = []
        async with sources.database.transaction(timeout) as transaction:
            for select in self.selects:
                if variant := select.variant(transaction.schema):
                    results.append((select, await transaction.select(select.row, variant.sql, context.parameters)))
        families: list[Family] = []
        for select, rows in results:
            if select.notice:
                select.notice(context, rows)
            for metric in select.metrics:
                families.append(metric.family(rows, context.dags))
                await asyncio.sleep(0)  # a family of thousands takes milliseconds: let others run in between
        return families


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerCollector:
    """Reads the Celery broker in one pipeline."""

    name: str
    metrics: tuple[Metric[Any], ...]
    fetch: Callable[[Broker, Context], Awaitable[list[Family]]]
    interval: float = 15.0
    timeout: float = 5.0
    source: Literal["broker"] = "broker"

    async def read(self, sources: Sources, context: Context, timeout: float) -> list[Family]:
        """Fresh families; raises SourceError."""
        assert sources.broker
        async with sources.broker.deadline(timeout):
            return await self.fetch(sources.broker, context)
