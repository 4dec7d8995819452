"""Through a pooler in transaction mode, another client of the same server session notices nothing of Windsock."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from exporter.collector import Context
from exporter.collectors import ALL
from exporter.config import load
from exporter.discovery import Dags, Queues
from exporter.sources import Database, Sources
from tests.conftest import AirflowDatabase, tool
from windsock_demo import servers
from windsock_demo.processes import launched, wait_for

pytestmark = pytest.mark.system

WATCHED = (
    "application_name",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "search_path",
    "statement_timeout",
    "transaction_read_only",
)


@pytest.fixture
def pgbouncer(
    tmp_path: Path, postgres: servers.Postgres, airflow_database: Callable[..., AirflowDatabase]
) -> Iterator[tuple[str, AirflowDatabase]]:
    """PgBouncer with one server connection, for the database's owner."""
    binary = tool("pgbouncer")
    made = airflow_database()
    user, _, password = made.url.removeprefix("postgresql://").partition("@")[0].partition(":")
    name, port = made.url.rpartition("/")[2], servers.free_port()
    (tmp_path / "users.txt").write_text(f'"{user}" "{password}"\n')
    (tmp_path / "pgbouncer.ini").write_text(f"""\
[databases]
{name} = host={postgres.host} port={postgres.port}
[pgbouncer]
listen_addr = {servers.HOST}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {tmp_path}/users.txt
pool_mode = transaction
default_pool_size = 1
server_reset_query_always = 0
""")
    url = f"postgresql://{user}:{password}@{servers.HOST}:{port}/{name}"
    nobody = servers.NOBODY if os.geteuid() == 0 else None
    if nobody:
        for path in (tmp_path, *tmp_path.iterdir()):
            os.chown(path, nobody, nobody)
        for parent in tmp_path.parents:
            if parent.stat().st_uid == 0 and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
                parent.chmod(0o755)
    log = tmp_path / "pgbouncer.log"
    with launched([str(binary), str(tmp_path / "pgbouncer.ini")], log, user=nobody) as process:
        wait_for(process, log, lambda: _answers(url))
        yield url, made


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _settings(connection: psycopg.Connection[tuple[str, str]]) -> dict[str, str]:
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
    return dict(connection.execute(query, [list(WATCHED)]).fetchall())


async def test_the_other_client_can_write_and_keeps_its_own_timeouts(pgbouncer: tuple[str, AirflowDatabase]) -> None:
    """With every collector polling through its one server session, a writer writes, and its settings do not change."""
    url, made = pgbouncer
    config = load(None, {"WINDSOCK_AIRFLOW__DATABASE_URL": url}, collectors=[collector.name for collector in ALL])
    dags = config.airflow.dags
    context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))
    with psycopg.connect(url, prepare_threshold=None) as writer:
        before = _settings(writer)
        writer.rollback()
        async with Database(config.airflow.database_dsn) as database:
            sources = Sources(database, None)
            for _ in range(3):
                for collector in ALL:
                    if collector.source == "database":
                        await collector.read(sources, context, 5.0)
                        pool = f"pool_{secrets.token_hex(4)}"
                        await asyncio.to_thread(_write, writer, pool)
        assert before == _settings(writer)
        writer.rollback()
    with psycopg.connect(made.url) as direct:
        row = direct.execute("SELECT count(*) FROM slot_pool WHERE pool LIKE 'pool\\_%'").fetchone()
        backends = direct.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert (3 * sum(collector.source == "database" for collector in ALL),) == row
    assert backends == (1,), "not all went through one server session"


def _write(writer: psycopg.Connection[tuple[str, str]], pool: str) -> None:
    writer.execute("INSERT INTO slot_pool (pool, slots, include_deferred) VALUES (%s, 1, false)", [pool])
    writer.commit()
