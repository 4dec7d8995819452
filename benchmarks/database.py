"""What reading Airflow's database costs, with a short past and with a long one, beside the most used peer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg

from tests.conftest import ROLE

from . import migrated, past, reads
from .cluster import LONG, PEER_NAME, SHORT, Cluster, PeerCost, described, instances, running
from .figures import Goal, Result, table

ROUNDS = 10
GROWTH = (10, 100)
SPOILT = "spoilt"


@dataclass(frozen=True, slots=True)
class Situation:
    """One state of a database, and what a cycle costs in it."""

    what: str
    runs: int
    task_instances: int
    cycle: reads.Cycle


def measure() -> Result:
    """All of it: a few minutes, and ten more when the databases are not there yet."""
    with running() as (cluster, short, long):
        situations = [
            _situation(cluster, f"{instances(SHORT)} task instances", short),
            _situation(cluster, f"{instances(LONG)} task instances", long),
        ]
        theirs = cluster.peer(long)
        situations += _spoilt(cluster, long)
    return Result(_goals(situations, theirs), _text(situations, theirs))


def _situation(cluster: Cluster, what: str, database: str) -> Situation:
    """Measures cycles of all collectors."""
    print(f"reading: {what}", flush=True)
    with psycopg.connect(cluster.server.url(database)) as connection:
        runs, task_instances = past.active(connection)
    url = migrated.reader(cluster.server, database)
    return Situation(what, runs, task_instances, asyncio.run(reads.cycles(url, cluster.statements, ROLE)))


def _spoilt(cluster: Cluster, database: str) -> Iterator[Situation]:
    """A copy of the database without vacuum, vacuumed again, and with more and more active work."""
    past.copy(cluster.server, database, SPOILT)
    url = cluster.server.url(SPOILT)
    with psycopg.connect(url, autocommit=True) as connection, psycopg.connect(url) as holding:
        holding.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        holding.execute("SELECT FROM dag LIMIT 1")  # from now on, what dies stays
        print("churning", flush=True)
        dead = past.churn(connection, ROUNDS)
        yield _situation(cluster, f"{dead / 1e6:.1f} M dead task instances, an older transaction still open", SPOILT)
        holding.rollback()
        yield _situation(cluster, "the same, that transaction ended", SPOILT)
        connection.execute("VACUUM (ANALYZE) task_instance")
        yield _situation(cluster, "the same, vacuumed", SPOILT)
        for factor in GROWTH:
            past.activate(connection, factor)
            yield _situation(cluster, f"{factor} times the active work", SPOILT)
    past.drop(cluster.server, SPOILT)


def _goals(situations: Sequence[Situation], theirs: PeerCost) -> list[Goal]:
    short, long = (situation.cycle.all for situation in situations[:2])
    growth = f"its buffers, by those at {instances(SHORT)}"
    ratio = f"the peer's server time at {instances(LONG)}, by ours"
    return [
        Goal(f"one cycle of all collectors at {instances(LONG)}, with Python and rendering", long.client, 150, " ms"),
        Goal("its buffers", long.buffers, 12_000),
        Goal(growth, long.buffers / short.buffers, 1.15),
        Goal(ratio, theirs.server / long.server, 100, least=True),
    ]


def _text(situations: Sequence[Situation], theirs: PeerCost) -> str:
    return f"""\
{described()}; medians of {reads.CYCLES} cycles after a first one.

{_by_collector(*situations[:2])}
{_by_situation(situations)}
{_beside_the_peer(situations[1], theirs)}"""


def _by_collector(short: Situation, long: Situation) -> str:
    heading = "collector | {0}: server ms | buffers | {1}: server ms | buffers | ms with Python | series"
    costs = [("all of a cycle", short.cycle.all, long.cycle.all)]
    costs += [(name, cost, long.cycle.collectors[name]) for name, cost in short.cycle.collectors.items()]
    return table(
        heading.format(instances(SHORT), instances(LONG)),
        [
            (name, one.server, int(one.buffers), two.server, int(two.buffers), two.client, int(two.series))
            for name, one, two in costs
        ],
    )


def _by_situation(situations: Sequence[Situation]) -> str:
    usual = situations[1].cycle.all.buffers
    return table(
        "one cycle | active runs | active task instances | server ms | ms with Python | buffers | as a multiple",
        [
            (
                each.what,
                each.runs,
                each.task_instances,
                all_.server,
                all_.client,
                int(all_.buffers),
                all_.buffers / usual,
            )
            for each in situations
            for all_ in [each.cycle.all]
        ],
    )


def _beside_the_peer(ours: Situation, theirs: PeerCost) -> str:
    one, scrapes = ours.cycle.all, theirs.scrapes
    memory = f"{scrapes.loaded:.0f} → {scrapes.peak:.0f}"
    return table(
        f"{instances(LONG)} task instances | server ms | buffers | ms with Python | samples | MB, imported → at most",
        [
            ("Windsock, one cycle", one.server, int(one.buffers), one.client, int(one.series), ""),
            (f"{PEER_NAME}, one scrape", theirs.server, int(theirs.buffers), theirs.client, scrapes.samples, memory),
        ],
    )
