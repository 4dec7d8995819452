"""Reads of the metadata database end, whatever the server does, and leave nothing behind in its sessions."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from exporter.sources import Database, SourceError
from tests.conftest import AirflowDatabase, schema_file
from tests.processes import kill
from windsock_demo import servers


@dataclass(frozen=True)
class One:
    """A row with one number."""

    one: int


async def read(database: Database, text: str = "SELECT 1 AS one", timeout: float = 2.0) -> list[One]:
    """One transaction with one query."""
    async with database.transaction(timeout) as transaction:
        return list(await transaction.select(One, text, {}))


@pytest.fixture
async def database(airflow_database: Callable[..., AirflowDatabase]) -> AsyncIterator[Database]:
    """The newest Airflow's database, read as the least-privilege role."""
    made = airflow_database()
    async with Database(lambda: made.reader_url) as opened:
        yield opened


async def test_a_read_cannot_write(airflow_database: Callable[..., AirflowDatabase]) -> None:
    """Even the owner's connection refuses to write, in the transaction and without a session setting."""
    async with Database(lambda: made.url) as database:
        made = airflow_database()
        with pytest.raises(SourceError, match="read-only transaction"):
            await read(
                database,
                "INSERT INTO slot_pool (pool, slots, include_deferred) VALUES ('x', 1, false) RETURNING 1 AS one",
            )
        text = "SELECT count(*)::int AS one FROM pg_settings WHERE source = 'session' AND name ~ 'timeout|read_only'"
        async with database.transaction(2) as transaction:
            await transaction.select(One, "SELECT 1 AS one", {})
        connection = await database._pool.getconn()
        await connection.set_autocommit(True)
        assert await (await connection.execute(text)).fetchone() == (0,)
        await database._pool.putconn(connection)


async def test_a_slow_statement_ends_on_the_server(database: Database) -> None:
    """The server itself stops a statement after the timeout; the connection serves the next read."""
    with pytest.raises(SourceError, match="statement timeout") as caught:
        await read(database, "SELECT 1 AS one FROM pg_sleep(30)", timeout=0.2)
    assert caught.value.reason == "timeout"
    assert [One(1)] == await read(database)


async def test_a_backend_that_stops_answering_costs_one_timeout(
    airflow_database: Callable[..., AirflowDatabase], database: Database
) -> None:
    """A server process that hangs in the middle of a session is cut off, and the next read has another."""
    await read(database)
    async with database.transaction(2) as transaction:
        (backend,) = await transaction.select(One, "SELECT pg_backend_pid() AS one", {})
    os.kill(backend.one, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(SourceError, match="no answer in time") as caught:
            await read(database, timeout=0.3)
        assert caught.value.reason == "timeout"
        assert time.monotonic() - started < 5
        assert [One(1)] == await read(database)
    finally:
        os.kill(backend.one, signal.SIGCONT)


async def test_a_cancelled_read_of_a_hanging_backend_ends(database: Database) -> None:
    """Stopping the daemon does not wait for a server that never answers."""
    async with database.transaction(2) as transaction:
        (backend,) = await transaction.select(One, "SELECT pg_backend_pid() AS one", {})
    task = asyncio.create_task(read(database, timeout=0.5))
    os.kill(backend.one, signal.SIGSTOP)
    try:
        await asyncio.sleep(0.2)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        assert {task} == done
    finally:
        os.kill(backend.one, signal.SIGCONT)


async def test_a_server_that_accepts_and_never_answers() -> None:
    """Connecting to a mute server ends after the timeout."""

    async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hold.wait()
        writer.close()

    hold = asyncio.Event()
    server = await asyncio.start_server(mute, servers.HOST, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Database(lambda: f"postgresql://windsock:secret-word@{servers.HOST}:{port}/airflow") as database:
        with pytest.raises(SourceError) as caught:
            await read(database, timeout=0.5)
        hold.set()
    assert caught.value.reason == "timeout"
    assert "secret-word" not in str(caught.value)


async def test_a_restarted_server_is_read_again(tmp_path: Path) -> None:
    """While the server is away reads fail with `connect`; when it is back the same pool reads it, at the second try."""
    port = servers.free_port()
    with servers.postgres(tmp_path, port=port) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(schema_file("3.3").read_bytes())
            connection.execute("CHECKPOINT")
        url = server.url()
        database = Database(lambda: url)
        await database.__aenter__()
        assert [One(1)] == await read(database)
        kill(server)
        for _ in range(2):
            with pytest.raises(SourceError) as caught:
                await read(database)
            assert caught.value.reason == "connect"
    with servers.postgres(tmp_path, port=port):
        assert [One(1)] in [await read(database) if attempt else await _maybe(database) for attempt in range(2)]
    await database.__aexit__(None, None, None)


async def _maybe(database: Database) -> list[One]:
    try:
        return await read(database)
    except SourceError:
        return []


async def test_credentials_are_asked_for_at_each_connect(airflow_database: Callable[..., AirflowDatabase]) -> None:
    """A password that is wrong is in no message; once the DSN is right, the next connection is made with it."""
    made = airflow_database()
    right = made.reader_url
    dsn = right.replace("@", "hunter2@", 1)
    async with Database(lambda: dsn) as database:
        with pytest.raises(SourceError, match="password authentication failed") as caught:
            await read(database)
        assert caught.value.reason == "connect"
        assert "hunter2" not in str(caught.value)
        dsn = right
        assert [One(1)] == await read(database)


async def test_two_connections_are_the_most(
    airflow_database: Callable[..., AirflowDatabase], database: Database
) -> None:
    """Ten reads at once share two connections, and a read is named windsock."""
    await asyncio.gather(*(read(database, "SELECT 1 AS one FROM pg_sleep(0.05)") for _ in range(10)))
    query = "SELECT count(*)::int AS one FROM pg_stat_activity WHERE datname = current_database()"
    (connections,) = await read(database, query)
    (named,) = await read(database, f"{query} AND pid = pg_backend_pid() AND application_name = 'windsock'")
    assert 1 <= connections.one <= 2
    assert named.one == 1
