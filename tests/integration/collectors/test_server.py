"""What depends on the PostgreSQL server more than on Airflow: sessions, tables, another schema than public."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from exporter.collectors import ALL
from exporter.grants import postgres_grants
from exporter.sources import Database
from tests.airflow import Airflow
from tests.conftest import NEWEST, ROLE, VERSIONS, AirflowDatabase, schema_file

from .conftest import COLLECTORS, Expect


@pytest.fixture(params=VERSIONS)
def database(request: pytest.FixtureRequest, airflow_database: Callable[..., AirflowDatabase]) -> AirflowDatabase:
    """A database of the test's own, as statistics last longer than rows."""
    return airflow_database(request.param)


@pytest.fixture
def stranger(database: AirflowDatabase) -> Iterator[str]:
    """The address for a role with the same grants that may not see other sessions."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(postgres_grants(ALL, "stranger").encode())
        connection.execute("REVOKE pg_read_all_stats FROM stranger")
        connection.execute("ALTER ROLE stranger PASSWORD 'stranger'")
        address = psycopg.conninfo.make_conninfo(database.url, user="stranger", password="stranger")
        yield address
        connection.execute("DROP OWNED BY stranger")
        connection.execute("DROP ROLE stranger")


async def test_sessions(airflow: Airflow, expect: Expect, database: AirflowDatabase) -> None:
    """Connections count by state; an open transaction shows since when it is, and what it keeps from vacuum."""
    with psycopg.connect(database.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        (begun,) = connection.execute("SELECT extract(epoch FROM now())::float8").fetchone() or (0,)
        for number in range(3):
            airflow.job(f"Job{number}", None)
        await expect(
            "activity",
            f"""
            airflow_db_connections{{airflow="a",state="active"}} 1
            airflow_db_connections{{airflow="a",state="idle"}} 1
            airflow_db_connections{{airflow="a",state="idle in transaction"}} 1
            airflow_db_max_connections{{airflow="a"}} 100
            airflow_db_oldest_transaction_timestamp_seconds{{airflow="a"}} {begun!r}
            airflow_db_oldest_xmin_age_transactions{{airflow="a"}} any
            """,
        )
        (age,) = [line.split()[1] for line in await expect.samples("activity") if "xmin_age" in line]
        assert float(age) >= 3


@pytest.mark.parametrize("database", [NEWEST], indirect=True)
async def test_sessions_that_the_role_may_not_see(airflow: Airflow, stranger: str) -> None:
    """Without pg_read_all_stats other roles' sessions are counted as hidden."""
    async with Database(lambda: stranger) as source:
        await Expect(source, airflow)(
            "activity",
            """
            airflow_db_connections{airflow="a",state="active"} 1
            airflow_db_connections{airflow="a",state="idle"} 0
            airflow_db_connections{airflow="a",state="idle in transaction"} 0
            airflow_db_connections{airflow="a",state="hidden"} 2
            """,
            families="airflow_db_connections",
        )


async def test_tables(airflow: Airflow, expect: Expect) -> None:
    """Rows are PostgreSQL's estimate, dead ones those since the last vacuum; without a look there is none."""
    for _ in range(5):
        airflow.job("SchedulerJob", airflow.now)
    airflow.connection.execute("VACUUM (ANALYZE) job")
    airflow.connection.execute("DELETE FROM job WHERE id IN (SELECT id FROM job LIMIT 2)")
    airflow.connection.execute("SELECT pg_stat_force_next_flush()")
    seen = "SELECT pg_total_relation_size('job'), extract(epoch FROM last_vacuum)::float8 FROM pg_stat_user_tables"
    (size, vacuumed) = airflow.connection.execute(f"{seen} WHERE relname = 'job'").fetchone() or (0, 0)
    samples = await expect.samples("tables")
    assert [line for line in samples if 'table="job"' in line] == [
        'airflow_db_table_rows_estimate{airflow="a",table="job"} 5',
        f'airflow_db_table_size_bytes{{airflow="a",table="job"}} {size}',
        'airflow_db_table_dead_rows{airflow="a",table="job"} 2',
        f'airflow_db_table_last_vacuum_timestamp_seconds{{airflow="a",table="job"}} {vacuumed!r}',
    ]
    assert [line for line in samples if 'table="log"' in line and "size_bytes" not in line] == [
        'airflow_db_table_dead_rows{airflow="a",table="log"} 0'
    ]


@pytest.mark.parametrize(("version", "elsewhere"), [("2.10", NEWEST), (NEWEST, "2.10")])
async def test_another_schema_than_public(
    airflow_database: Callable[..., AirflowDatabase], version: str, elsewhere: str
) -> None:
    """All is read in the configured schema, which the role's search path does not name; public has another Airflow."""
    made = airflow_database(elsewhere)
    with psycopg.connect(made.url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA af; SET search_path TO af")
        connection.execute(schema_file(version).read_bytes())
        connection.execute(postgres_grants(ALL, ROLE).encode())
        connection.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(sql.Identifier(ROLE)))
        airflow = Airflow(connection, version)
        airflow.dag("etl")
        airflow.run("etl", "running", start_date=airflow.ago(5))
        async with Database(lambda: made.reader_url, "af") as source:
            expect = Expect(source, airflow)
            for name, collector in COLLECTORS.items():
                if collector.source == "database":
                    await expect.samples(name)
            await expect(
                "dag_runs",
                """
                airflow_dag_runs_active{airflow="a",dag_id="etl",state="running"} 1
                airflow_dag_run_oldest_active_timestamp_seconds{airflow="a",dag_id="etl",state="running"} now-5
                """,
            )
            tables = {line.split('"')[3] for line in await expect.samples("tables")}
            assert ("dataset_event" in tables, "asset_event" in tables) == (version == "2.10", version == NEWEST)


@pytest.mark.parametrize("database", [NEWEST], indirect=True)
async def test_one_machine_has_one_clock(expect: Expect) -> None:
    """The offset is about 0 where database and daemon share their clock."""
    (line,) = [line for line in await expect.samples("database") if "clock_offset" in line]
    assert abs(float(line.rpartition(" ")[2])) < 1
