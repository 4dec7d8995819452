"""What a poll of the accounting costs while work goes on, with a short past and with a long one, beside the peer."""

from __future__ import annotations

import asyncio
import gc
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from unittest.mock import patch

import psycopg

from exporter.accounting import TABLES, Accounting, reader, tracker
from exporter.collector import Context
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.sources import Database, Sources
from exporter.state import State

from . import machine, migrated, past
from .cluster import CACHE, LONG, PEER_NAME, SHORT, Cluster, PeerCost, described, instances, running
from .figures import Goal, Result, percentile, table
from .flow import RUNS, Flow

PERIOD = 0.3
SPEED = Accounting.interval / PERIOD
"""Polls come so much faster than in a daemon, and what waits there waits so much shorter here."""

POLLS = 60
WARM_UP = round(tracker.GRACE / Accounting.interval) + 5
"""Polls until runs are forgotten as fast as they end."""

COPY = "flowing"
REMEMBERED = """
SELECT (SELECT count(*) FROM accounting_run WHERE quiet IS NOT NULL), (SELECT count(*) FROM accounting_attempt)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """One poll: milliseconds until it is on disk and has families, and to render these; what it read and wrote."""

    client: float
    rendering: float
    server: float
    buffers: int
    written: int
    series: int


@dataclass(frozen=True, slots=True)
class Measured:
    """The polls in one database; active are runs and their task instances, remembered are runs and tries."""

    what: str
    first: Cost
    steady: Sequence[Cost]
    active: tuple[int, int]
    remembered: tuple[int, int]

    @property
    def figures(self) -> list[float]:
        """The columns of a table."""
        costs = self.steady
        return [
            median(cost.client for cost in costs),
            percentile([cost.client for cost in costs], 0.95),
            median(cost.rendering for cost in costs),
            median(cost.server for cost in costs),
            median(cost.buffers for cost in costs),
            mean(cost.written for cost in costs) / 1000,
            max(cost.written for cost in costs) / 1000,
        ]


def measure() -> Result:
    """All of it: four minutes, and ten more when the databases are not there yet."""
    with running() as (cluster, short, long):
        one = _measured(cluster, instances(SHORT), short)
        ten = _measured(cluster, instances(LONG), long)
        moving = _measured(cluster, instances(LONG), long, still=math.inf)
        theirs = cluster.peer(long)
    client, _, _, _, buffers, _, _ = ten.figures
    goals = [
        Goal(f"one poll of the accounting at {ten.what}, with Python, median", client, 60, " ms"),
        Goal("its buffers (a cycle of all other collectors may have 3,000)", buffers, 9_000),
        Goal(f"its buffers, by those at {one.what}", buffers / one.figures[4], 1.15),
    ]
    return Result(goals, _text(one, ten, moving, theirs))


def _measured(cluster: Cluster, what: str, database: str, still: float = tracker.STILL) -> Measured:
    """Copies the database, lets work go on in it, and polls; `still` is after what time a run is read less often."""
    print(f"copying: {what} task instances", flush=True)
    past.copy(cluster.server, database, COPY)
    url = migrated.reader(cluster.server, COPY)
    waits = {name: getattr(tracker, name) / SPEED for name in ("OVERLAP", "SLACK", "GRACE")}
    with (
        patch.multiple(tracker, **waits, STILL=still / SPEED),
        patch.object(reader, "HINT_OVERLAP", reader.HINT_OVERLAP / SPEED),
        psycopg.connect(cluster.server.url(COPY)) as connection,
        tempfile.TemporaryDirectory(dir=CACHE) as home,  # on a disk, as /tmp need not be
    ):
        print("polling", flush=True)
        measured = asyncio.run(_polls(cluster, what, url, Flow(connection), Path(home)))
    past.drop(cluster.server, COPY)
    return measured


async def _polls(cluster: Cluster, what: str, url: str, flow: Flow, home: Path) -> Measured:
    """A cold start, polls until it is warm, and those that count; between them, work goes on."""
    config = Config.model_validate({"airflow": {"name": "production", "database_url": url}})
    dags = config.airflow.dags
    context, renderer = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(())), Renderer("production")
    state, costs = State(home), []
    assert await state.open([TABLES]) is None
    accounting = Accounting(state, lambda: SPEED * time.monotonic())
    gc.freeze()  # as the daemon does
    async with Database(config.airflow.database_dsn) as database:
        for _ in range(1 + WARM_UP + POLLS):
            due = time.monotonic() + PERIOD
            costs.append(await _poll(cluster, accounting, Sources(database, None), context, renderer))
            flow.step()
            await asyncio.sleep(due - time.monotonic())
    gc.unfreeze()
    remembered = await state.run(lambda file: file.execute(REMEMBERED).fetchone())
    await state.close()
    return Measured(what, costs[0], costs[1 + WARM_UP :], flow.active(), remembered)


async def _poll(
    cluster: Cluster, accounting: Accounting, sources: Sources, context: Context, renderer: Renderer
) -> Cost:
    cluster.reset()
    written, started = machine.written(), time.perf_counter()
    families = await accounting.read(sources, context, accounting.timeout)
    saved, written = time.perf_counter(), machine.written() - written
    part = await renderer.render(families)
    rendered = time.perf_counter()
    server, buffers = cluster.spent()
    return Cost(1000 * (saved - started), 1000 * (rendered - saved), server, buffers, written, part.series)


def _text(one: Measured, ten: Measured, moving: Measured, theirs: PeerCost) -> str:
    (runs, task_instances), (tracked, tries) = ten.active, ten.remembered
    return f"""\
{described()}; medians of {POLLS} polls, but what they write as a mean.
{runs:,} runs are active, with {task_instances:,} task instances; between two polls {RUNS} runs end, {RUNS} start and {RUNS} are created.
The state file holds {tracked:,} runs and {tries:,} tries.

{_by_database(one, ten, moving)}
{_beside_the_peer(ten, theirs)}"""  # noqa: E501  (a line of the page)


def _by_database(one: Measured, ten: Measured, moving: Measured) -> str:
    rows: list[Sequence[object]] = [(f"{each.what} task instances", *each.figures) for each in (one, ten)]
    rows.append(
        ("the latter by the former", *(long / short for short, long in zip(one.figures, ten.figures, strict=True)))
    )
    rows.append((f"{moving.what}, if something moved in every run", *moving.figures))
    for each in (one, ten):
        first = each.first
        times = first.client, "", first.rendering, first.server, first.buffers, first.written / 1000, ""
        rows.append((f"{each.what}, the first poll, which seeds", *times))
    return table("one poll | ms with Python | p95 | rendering | server ms | buffers | kB written | at most", rows)


def _beside_the_peer(ours: Measured, theirs: PeerCost) -> str:
    client, _, _, server, buffers, _, _ = ours.figures
    samples = theirs.scrapes.samples
    return table(
        f"{ours.what} task instances | server ms | buffers | ms with Python | samples",
        [
            ("Windsock, one poll of the accounting", server, buffers, client, ours.steady[-1].series),
            (f"{PEER_NAME}, one scrape", theirs.server, theirs.buffers, theirs.client, samples),
        ],
    )
