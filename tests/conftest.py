"""Real servers for the tests: the wheels' by default, others where the environment names them.

`WINDSOCK_TEST_POSTGRES` is a directory of PostgreSQL's programs, `WINDSOCK_TEST_REDIS` a redis-server or valkey-server.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest
from psycopg import sql

from exporter.collectors import ALL
from exporter.grants import postgres_grants
from windsock_demo import servers

VERSIONS = ("2.10", "2.11", "3.0", "3.1", "3.2", "3.3")
NEWEST = VERSIONS[-1]
ROOT = Path(__file__).parent.parent
ROLE = "windsock"


def schema_file(version: str) -> Path:
    """The dump of an Airflow version's schema."""
    return ROOT / ("windsock_demo" if version == NEWEST else "tests/schemas") / f"airflow-{version}.sql"


def lacking(reason: str) -> NoReturn:
    """Skips the test, or fails it where the tools are required."""
    if os.environ.get("WINDSOCK_REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)


def tool(*names: str) -> Path:
    """A program of a Debian package; the test is skipped without it, or fails where the tools are required."""
    for name in names:
        if found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"):
            return Path(found)
    lacking(f"{names[0]} is not installed")


@dataclass(frozen=True)
class AirflowDatabase:
    """A database with an Airflow's schema: for its owner, and for the least-privilege role."""

    version: str
    url: str
    reader_url: str


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Postgres]:
    """A PostgreSQL server for the whole session."""
    named = os.environ.get("WINDSOCK_TEST_POSTGRES")
    with servers.postgres(tmp_path_factory.mktemp("postgres"), bindir=Path(named) if named else None) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Valkey]:
    """A Valkey or Redis server for the whole session; a test flushes what it uses."""
    named = os.environ.get("WINDSOCK_TEST_REDIS")
    with servers.valkey(tmp_path_factory.mktemp("valkey"), binary=Path(named) if named else None) as server:
        yield server


@pytest.fixture(scope="session")
def airflow_template(postgres: servers.Postgres) -> Callable[[str], str]:
    """Makes, once per session, a database with a version's schema and the grants of the role; returns its name."""
    made: dict[str, str] = {}
    password = secrets.token_hex(8)

    def template(version: str) -> str:
        if version not in made:
            name = f"airflow_{version.replace('.', '_')}"
            with psycopg.connect(postgres.url(), autocommit=True) as connection:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            with psycopg.connect(postgres.url(name), autocommit=True) as connection:
                connection.execute(schema_file(version).read_bytes())
                connection.execute(postgres_grants(ALL, ROLE).encode())
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ROLE), password))
            made[version] = name
        return made[version]

    template.password = password  # type: ignore[attr-defined]
    return template


@pytest.fixture
def airflow_database(
    postgres: servers.Postgres, airflow_template: Callable[[str], str]
) -> Iterator[Callable[..., AirflowDatabase]]:
    """Makes a fresh database with a version's schema; it is dropped after the test."""
    names: list[str] = []

    def make(version: str = NEWEST) -> AirflowDatabase:
        template, name = airflow_template(version), f"test_{secrets.token_hex(6)}"
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        names.append(name)
        password = airflow_template.password  # type: ignore[attr-defined]
        return AirflowDatabase(version, postgres.url(name), postgres.url(name, ROLE, password))

    yield make
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
