"""A poller keeps what it read last, for a while, and tells how its collector fares."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from prometheus_client import generate_latest

from exporter import __version__
from exporter.collector import Context
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.metrics import Family, Metric
from exporter.poller import Poller, status_families
from exporter.sources import SourceError, Sources
from exporter.telemetry import REGISTRY

METRIC: Metric[float] = Metric(name="windsock_test", help="A test.", value=lambda row: row)


@dataclass
class Scripted:
    """A collector whose reads give what the test says next; the last outcome repeats."""

    name: str
    outcomes: list[float | Exception | Callable[[], None]]
    interval: float = 15.0
    timeout: float = 5.0
    source: Literal["database", "broker"] = "database"
    metrics: tuple[Metric[Any], ...] = (METRIC,)
    reads: int = field(default=0, init=False)
    given: float = field(default=0.0, init=False)

    async def read(self, sources: Sources, context: Context, timeout: float) -> list[Family]:  # noqa: ARG002
        """The next outcome."""
        outcome = self.outcomes[min(self.reads, len(self.outcomes) - 1)]
        self.reads += 1
        self.given = timeout
        if isinstance(outcome, Exception):
            raise outcome
        if callable(outcome):
            outcome()
            return []
        return [METRIC.family([outcome])._replace(dropped=2)]


@dataclass
class Clock:
    """A clock that the test turns."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def poller(collector: Scripted, clock: Callable[[], float] = time.monotonic, **schedule: str) -> Poller:
    """A poller of a collector, with the schedule that the configuration has for it."""
    config = Config.model_validate({"collectors": {collector.name: schedule}})
    dags = config.airflow.dags
    context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))
    return Poller(collector, Sources(None, None), context, Renderer("a"), clock)


def text(polled: Poller) -> str:
    """The last line that it exports."""
    return polled.part.text.plain.decode().splitlines()[-1] if polled.part else ""


async def statuses(*polled: Poller) -> list[str]:
    """What is exported about collectors, as sample lines; a time that is about now is the word."""
    part = await Renderer("a").render(status_families(polled))
    lines = [line for line in part.text.plain.decode().splitlines() if not line.startswith("#")]
    return [
        f"{series} now" if "timestamp" in series and abs(float(value) - time.time()) < 60 else line
        for line in lines
        for series, _, value in [line.rpartition(" ")]
    ]


def counted(collector: str) -> list[str]:
    """What the daemon counted of a collector, as sample lines, without zeros."""
    lines = generate_latest(REGISTRY).decode().splitlines()
    return [
        line
        for line in lines
        if f'"{collector}"' in line and "_bucket" not in line and "_sum" not in line and " 0.0" not in line
    ]


async def test_a_success_is_published() -> None:
    """The part is there, the status says when and how much; before the first read nothing is claimed."""
    polled = poller(Scripted("published", [7]))
    assert polled.part is None
    assert await statuses(polled) == []
    await polled.poll()
    assert text(polled) == "windsock_test 7"
    assert await statuses(polled) == [
        'windsock_collector_success{collector="published"} 1',
        'windsock_collector_last_success_timestamp_seconds{collector="published"} now',
        'windsock_collector_series_dropped{collector="published"} 2',
    ]
    assert counted("published") == ['windsock_collector_duration_seconds_count{collector="published"} 1.0']
    assert (polled.status.series, polled.status.dropped, polled.status.error) == (1, 2, "")


async def test_a_failure_keeps_what_was_read() -> None:
    """The values stay, the status has the reason, the error is counted; the next success clears it."""
    polled = poller(Scripted("kept", [7, SourceError("timeout", "no answer in time"), 8]))
    zero = {"collector": "kept", "reason": "timeout"}
    assert REGISTRY.get_sample_value("windsock_collector_errors_total", zero) == 0, (
        "increase() needs a zero to start from"
    )
    await polled.poll()
    succeeded = polled.status.last_success
    await polled.poll()
    assert text(polled) == "windsock_test 7"
    assert (polled.status.success, polled.status.reason, polled.status.error) == (False, "timeout", "no answer in time")
    assert polled.status.last_success == succeeded
    assert 'windsock_collector_success{collector="kept"} 0' in await statuses(polled)
    assert counted("kept") == [
        'windsock_collector_duration_seconds_count{collector="kept"} 2.0',
        'windsock_collector_errors_total{collector="kept",reason="timeout"} 1.0',
    ]
    await polled.poll()
    assert text(polled) == "windsock_test 8"
    assert (polled.status.success, polled.status.reason, polled.status.error) == (True, None, "")


@pytest.mark.parametrize(("interval", "kept"), [("15s", 300.0), ("100s", 300.0), ("5m", 900.0)])
async def test_a_snapshot_goes_stale(interval: str, kept: float) -> None:
    """What was read stays for three intervals and for five minutes, whatever fails meanwhile, and then vanishes."""
    clock = Clock()
    polled = poller(Scripted("stale", [7, SourceError("connect", "refused"), 8]), clock, interval=interval)
    await polled.poll()
    clock.now += kept
    await polled.poll()
    assert text(polled) == "windsock_test 7"
    clock.now += 0.1
    assert polled.part is None
    await polled.poll()
    assert text(polled) == "windsock_test 8"


async def test_a_broken_collector_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is one collector's failure, reason internal; the log says once where it is, the status only its type."""
    broken = poller(Scripted("broken", [ValueError("two rows alike")]))
    sound = poller(Scripted("sound", [7]))
    await asyncio.gather(broken.poll(), sound.poll())
    await broken.poll()
    assert text(sound) == "windsock_test 7"
    assert (broken.status.reason, broken.status.error) == ("internal", "ValueError")
    assert (await statuses(broken, sound))[:2] == [
        'windsock_collector_success{collector="broken"} 0',
        'windsock_collector_success{collector="sound"} 1',
    ]
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_the_log_has_changes_not_repetitions(caplog: pytest.LogCaptureFixture) -> None:
    """One line when it fails, one when the reason changes, one when it recovers."""
    caplog.set_level(logging.INFO)
    timeout, refused = SourceError("timeout", "late"), SourceError("connect", "refused")
    polled = poller(Scripted("logged", [7, timeout, timeout, refused, refused, 8, 8]))
    for _ in range(7):
        await polled.poll()
    assert [(record.message, getattr(record, "reason", "")) for record in caplog.records] == [
        ("collector failed", "timeout"),
        ("collector failed", "connect"),
        ("collector recovered", ""),
    ]


async def test_up_is_what_the_database_and_the_broker_collectors_say() -> None:
    """airflow_db_up and airflow_broker_up are those two's success, and absent before their first read."""
    database = poller(Scripted("database", [7, SourceError("connect", "refused")]))
    broker = poller(Scripted("broker", [7], source="broker"))
    await database.poll()
    assert [line for line in await statuses(database, broker) if "_up" in line] == ['airflow_db_up{airflow="a"} 1']
    await asyncio.gather(database.poll(), broker.poll())
    assert [line for line in await statuses(database, broker) if "_up" in line] == [
        'airflow_db_up{airflow="a"} 0',
        'airflow_broker_up{airflow="a"} 1',
    ]


def test_the_build_says_its_version() -> None:
    """The daemon's own registry has it from the start, and no `_created` samples."""
    exposed = generate_latest(REGISTRY).decode()
    assert f'\nwindsock_build_info{{version="{__version__}"}} 1.0\n' in exposed
    assert "_created" not in exposed


async def test_polls_come_at_the_interval() -> None:
    """The first comes after the delay; a slow read delays the next, but reads never overlap nor catch up."""
    clock = Clock()
    times: list[float] = []

    def read() -> None:
        times.append(clock.now)
        clock.now += 40 if len(times) == 2 else 1
        if len(times) == 4:
            raise asyncio.CancelledError

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    polled = poller(Scripted("steady", [read]), clock, interval="15s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.poller.asyncio.sleep", sleep)
        with pytest.raises(asyncio.CancelledError):
            await polled.run(delay=5)
    assert times == [1005, 1020, 1060, 1075]


async def test_the_configuration_overrides_the_schedule() -> None:
    """Interval and timeout are the collector's own unless configured."""
    collector = Scripted("scheduled", [7])
    own = poller(collector)
    await own.poll()
    assert (own.status.interval, collector.given) == (15, 5)
    configured = poller(collector, interval="1m", timeout="2s")
    await configured.poll()
    assert (configured.status.interval, collector.given) == (60, 2)


@pytest.mark.parametrize(
    ("outcome", "up"),
    [
        (7, "1"),
        (SourceError("connect", "refused"), "0"),
        (SourceError("timeout", "no answer in time"), "0"),
        (SourceError("schema", "alembic_version is empty"), "1"),
        (SourceError("permission", "denied"), "1"),
    ],
)
async def test_a_source_that_answers_is_up(outcome: float | SourceError, up: str) -> None:
    """Also one that answers with an error: only a source that cannot be reached, or is not in time, is down."""
    database, broker = (poller(Scripted(name, [outcome])) for name in ("database", "broker"))
    await asyncio.gather(database.poll(), broker.poll())
    lines = await statuses(database, broker)
    assert [line for line in lines if "_up" in line] == [
        f'airflow_db_up{{airflow="a"}} {up}',
        f'airflow_broker_up{{airflow="a"}} {up}',
    ]


async def test_a_failed_read_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the interval is; a success waits for the whole of it."""
    clock, waits = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds
        if len(waits) == 4:
            raise asyncio.CancelledError

    polled = poller(Scripted("rare", [SourceError("connect", "refused"), 7]), clock, interval="10m")
    monkeypatch.setattr("exporter.poller.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await polled.run(delay=1.0)
    assert waits == [1.0, 15.0, 600.0, 600.0]
