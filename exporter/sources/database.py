"""Airflow's metadata database: short read-only transactions that leave no trace in a shared session.

A pooler in transaction mode hands one server session to many clients, so nothing here outlives its transaction: no
session `SET`, no start-up options, no prepared statements. Errors leave as `SourceError`, its reason from a closed set.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors, sql
from psycopg.rows import RowMaker, args_row, class_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from .errors import Reason, SourceError
from .schema import INTROSPECTION, Schema

Row = TypeVar("Row")

POOL_SIZE = 2
CONNECT_TIMEOUT = 5
LOCK_TIMEOUT = 0.5
BATCH = 250
"""How many rows become objects before the event loop gets its turn."""

GRACE = 1.0
"""Seconds that the server gets, beyond the statement timeout, before the connection is cut from this side."""


class Connection(psycopg.AsyncConnection[Any]):
    """A connection that begins no transaction by itself; a failure to connect is told to `failed`."""

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        failed: Callable[[psycopg.Error], None] = kwargs.pop("failed")
        try:
            return await super().connect(conninfo, autocommit=True, **kwargs)
        except psycopg.Error as error:
            failed(error)
            raise


class Transaction:
    """One read-only snapshot of the database, with the schema that it shows."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], schema: Schema) -> None:
        self._connection = connection
        self.schema = schema

    async def select(self, row: type[Row], text: str, parameters: Mapping[str, object]) -> Sequence[Row]:
        """All rows of a query, as instances of `row`; its fields are named like the query's columns."""
        async with self._connection.cursor(row_factory=_instances(row)) as cursor:
            await cursor.execute(text.encode(), parameters)
            rows: list[Row] = []
            while batch := await cursor.fetchmany(BATCH):
                rows += batch
                await asyncio.sleep(0)
            return rows


class Database:
    """A pool of two connections; the DSN is asked for at each connect, so that rotated credentials are picked up."""

    def __init__(self, dsn: Callable[[], str], schema: str | None = None) -> None:
        self._read_dsn, self._search_path = dsn, schema
        self.schema: Schema | None = None
        """As it was seen last; None before that."""
        self._failure: asyncio.Future[str]
        self._pool = AsyncConnectionPool(
            self._dsn,
            connection_class=Connection,
            kwargs={"connect_timeout": CONNECT_TIMEOUT, "prepare_threshold": None, "failed": self._failed},
            min_size=0,
            max_size=POOL_SIZE,
            reconnect_timeout=1.0,
            open=False,
        )

    async def __aenter__(self) -> Self:
        self._failure = asyncio.get_running_loop().create_future()
        await self._pool.open(wait=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close(timeout=GRACE)

    @asynccontextmanager
    async def transaction(self, timeout: float) -> AsyncIterator[Transaction]:
        """A transaction whose statements may take `timeout` seconds each, and all together hardly more.

        Raises SourceError when the database cannot be reached, does not answer in time, or refuses a statement.
        """
        connection = await self._connect(timeout)
        # Cancelling a read would wait for a server that may never answer again; cutting the socket ends it for certain.
        cut = asyncio.get_running_loop().call_later(timeout + GRACE, _cut, connection)
        try:
            yield await self._begin(connection, timeout)
            await connection.commit()
        except (psycopg.Error, OSError) as error:
            late = cut.when() <= asyncio.get_running_loop().time()
            raise SourceError("timeout", "no answer in time") if late else _source_error(error) from None
        finally:
            with suppress(psycopg.Error, OSError):
                await connection.rollback()  # the pool would do it, too, but with a warning
            await self._pool.putconn(connection)
            cut.cancel()

    def _dsn(self) -> str:
        try:
            return self._read_dsn()
        except OSError as error:
            self._failed(error)
            raise

    def _failed(self, error: psycopg.Error | OSError) -> None:
        self._failure.set_result(_line(error))
        self._failure = asyncio.get_running_loop().create_future()

    async def _connect(self, timeout: float) -> Connection:
        failure = self._failure
        waiting = asyncio.ensure_future(self._pool.getconn(timeout=timeout))
        try:
            either: set[asyncio.Future[Any]] = {waiting, failure}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            raise SourceError("connect", failure.result())  # the pool would try on, and not say why
        except PoolTimeout:
            raise SourceError("timeout", "no connection in time") from None
        finally:
            waiting.cancel()

    async def _begin(self, connection: Connection, timeout: float) -> Transaction:
        statements = [
            sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
            sql.SQL("SET LOCAL application_name = 'windsock'"),
            sql.SQL("SET LOCAL statement_timeout = {}").format(round(timeout * 1000)),
            sql.SQL("SET LOCAL lock_timeout = {}").format(round(LOCK_TIMEOUT * 1000)),
        ]
        if self._search_path:
            statements.append(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(self._search_path)))
        statements.append(sql.SQL("SELECT version_num FROM alembic_version"))
        try:
            cursor = await connection.execute(sql.SQL("; ").join(statements))
            while cursor.nextset():
                pass
            revision = await cursor.fetchone()
        except errors.UndefinedTable:
            hint = "is this Airflow's database, and airflow.database_schema its schema?"
            raise SourceError("schema", f"there is no table alembic_version: {hint}") from None
        if revision is None:
            raise SourceError("schema", "alembic_version is empty: has `airflow db migrate` been run?")
        if self.schema is None or self.schema.revision != revision[0]:
            tables = await (await connection.execute(INTROSPECTION)).fetchall()
            self.schema = Schema(revision[0], {table: frozenset(columns) for table, columns in tables})
        return Transaction(connection, self.schema)


def _instances(row: type[Row]) -> Callable[[psycopg.AsyncCursor[Any]], RowMaker[Row]]:
    """Rows by position where the columns are the first fields in their order, which is six times as fast as by name."""

    def factory(cursor: psycopg.AsyncCursor[Any]) -> RowMaker[Row]:
        columns = tuple(column.name for column in cursor.description or ())
        fields = getattr(row, "__match_args__", ())[: len(columns)]
        return (args_row if columns == fields else class_row)(row)(cursor)

    return factory


def _cut(connection: Connection) -> None:
    """End whatever waits on this connection: its next read sees the end of the stream."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


def _source_error(error: psycopg.Error | OSError) -> SourceError:
    return SourceError(_reason(error), _line(error))


def _reason(error: psycopg.Error | OSError) -> Reason:
    match error:
        case errors.QueryCanceled() | errors.LockNotAvailable():
            return "timeout"
        case errors.InsufficientPrivilege():
            return "permission"
        case errors.UndefinedTable() | errors.UndefinedColumn():
            return "schema"
        case OSError() | psycopg.OperationalError():
            return "connect"
        case _:
            return "query"


def _line(error: psycopg.Error | OSError) -> str:
    if isinstance(error, errors.InsufficientPrivilege):
        return f"{error.diag.message_primary} (`windsock grants postgres` prints what is needed)"
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    return " ".join(str(error).split()) or type(error).__name__
