"""One loop per collector: read, render, publish an immutable snapshot. A failed read is data; a snapshot goes stale."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .collector import Collector, Context
from .exposition import Part, Renderer
from .metrics import Family, Metric
from .sources import REASONS, Reason, SourceError, Sources
from .telemetry import COLLECTOR_DURATION, COLLECTOR_ERRORS

log = logging.getLogger(__name__)

RETRY_AFTER = 15.0
"""Seconds, at most, from a failed read to the next one."""

STALE_AFTER = 300.0
"""Seconds that a snapshot is kept at least: a short outage must not resolve an alert."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one successful read gave; `taken` is monotonic."""

    part: Part
    taken: float


@dataclass(frozen=True, slots=True)
class Status:
    """How a collector's last read went; None before the first one. `last_success` is unix time."""

    collector: str
    source: str
    interval: float
    success: bool | None = None
    reason: Reason | None = None
    error: str = ""
    duration: float | None = None
    last_success: float | None = None
    series: int | None = None
    dropped: int | None = None

    @property
    def reachable(self) -> bool | None:
        """Whether the source answered in time, be it with an error."""
        return None if self.success is None else self.success or self.reason not in ("connect", "timeout")


STATUS_METRICS: tuple[Metric[Status], ...] = (
    Metric(
        name="windsock_collector_success",
        help="1 if the collector's last read succeeded, else 0.",
        labels=("collector",),
        value=lambda status: status.success,
    ),
    Metric(
        name="windsock_collector_last_success_timestamp_seconds",
        help="When the collector last succeeded, by the daemon's clock.",
        labels=("collector",),
        value=lambda status: status.last_success,
    ),
    Metric(
        name="windsock_collector_series_dropped",
        help="Series of the last read that were folded or left out, because of airflow.dags or a cap.",
        labels=("collector",),
        value=lambda status: status.dropped,
    ),
    Metric(
        name="airflow_db_up",
        help="1 if the metadata database answered in time when it was last asked, else 0.",
        value=lambda status: status.reachable if status.collector == "database" else None,
    ),
    Metric(
        name="airflow_broker_up",
        help="1 if the Celery broker answered in time when it was last asked, else 0.",
        value=lambda status: status.reachable if status.collector == "broker" else None,
    ),
)


class Poller:
    """Keeps one collector's snapshot and status up to date, one read at a time."""

    def __init__(
        self,
        collector: Collector,
        sources: Sources,
        context: Context,
        renderer: Renderer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        schedule = context.config.schedule(collector.name)
        self._collector, self._sources, self._context, self._renderer, self._clock = (
            collector,
            sources,
            context,
            renderer,
            clock,
        )
        self._interval = schedule.interval or collector.interval
        self._timeout = schedule.timeout or collector.timeout
        self._snapshot: Snapshot | None = None
        self.keep: Collection[str] = ()
        self.kept: dict[str, Mapping[tuple[str, ...], Any]] = {}
        """Of the families that are to be kept, the samples of the last successful read."""
        self.status = Status(collector.name, collector.source, self._interval)
        for reason in REASONS:
            COLLECTOR_ERRORS.labels(collector.name, reason)

    @property
    def name(self) -> str:
        """The collector's name."""
        return self._collector.name

    @property
    def part(self) -> Part | None:
        """The last successful read's families, until they are older than three intervals and five minutes."""
        if self._snapshot and self._clock() - self._snapshot.taken > max(3 * self._interval, STALE_AFTER):
            self._snapshot = None
        return self._snapshot.part if self._snapshot else None

    async def run(self, delay: float = 0.0) -> None:
        """Poll for ever, at a steady interval; after a failure soon again, however long the interval."""
        due = self._clock() + delay
        while True:
            await asyncio.sleep(max(0.0, due - self._clock()))
            await self.poll()
            due = max(
                due + (self._interval if self.status.success else min(self._interval, RETRY_AFTER)), self._clock()
            )

    async def poll(self) -> None:
        """Read once; whatever goes wrong ends in the status."""
        started = self._clock()
        try:
            families = await self._collector.read(self._sources, self._context, self._timeout)
            self._snapshot = Snapshot(await self._renderer.render(families), self._clock())
            self.kept = {it.metric.name: it.samples for it in families if it.metric.name in self.keep}
        except SourceError as error:
            self._failed(started, error, error.reason, str(error))
        except Exception as error:  # noqa: BLE001  (a bug in one collector costs this collector)
            self._failed(started, error, "internal", type(error).__name__)
        else:
            self._succeeded(started, self._snapshot.part)

    def _succeeded(self, started: float, part: Part) -> None:
        if self.status.success is False:
            log.info("collector recovered", extra={"collector": self.name})
        self.status = Status(
            self.name,
            self._collector.source,
            self._interval,
            success=True,
            duration=self._took(started),
            last_success=time.time(),
            series=part.series,
            dropped=part.dropped,
        )

    def _failed(self, started: float, error: Exception, reason: Reason, text: str) -> None:
        if self.status.success is not False or self.status.reason != reason:  # else it has been said
            facts = {"collector": self.name, "reason": reason, "error": text}
            log.warning("collector failed", extra=facts, exc_info=error if reason == "internal" else None)
        COLLECTOR_ERRORS.labels(self.name, reason).inc()
        self.status = replace(self.status, success=False, reason=reason, error=text, duration=self._took(started))

    def _took(self, started: float) -> float:
        duration = self._clock() - started
        COLLECTOR_DURATION.labels(self.name).observe(duration)
        return duration


def status_families(pollers: Iterable[Poller]) -> list[Family]:
    """The families that tell how the collectors fare."""
    statuses = [poller.status for poller in pollers]
    return [metric.family(statuses) for metric in STATUS_METRICS]
