"""Databases with Airflow 3.3's schema, read under the least-privilege role."""

from __future__ import annotations

import secrets

import psycopg
from psycopg import sql

from exporter.collectors import ALL
from exporter.grants import postgres_grants
from tests.conftest import NEWEST, ROLE, schema_file
from windsock_demo import servers


def create(server: servers.Postgres, name: str) -> str:
    """Makes a database as `db migrate` leaves it; returns its URL for Windsock's role."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        connection.execute(schema_file(NEWEST).read_bytes())
    return reader(server, name)


def reader(server: servers.Postgres, name: str) -> str:
    """Lets the role read what collectors declare, with a new password; returns its URL."""
    password = secrets.token_hex(16)
    with psycopg.connect(server.url(name), autocommit=True) as connection:
        connection.execute(postgres_grants(ALL, ROLE).encode())
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ROLE), password))
    return server.url(name, ROLE, password)
