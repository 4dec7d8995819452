"""A database that is not as expected costs the collectors that need what it lacks, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import psycopg
import pytest

from exporter.collector import Context
from exporter.collectors import ALL
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.grants import columns, postgres_grants
from exporter.poller import Poller
from exporter.sources import Database, Sources
from tests.conftest import NEWEST, ROLE, AirflowDatabase

HINT = "(`windsock grants postgres` prints what is needed)"


@dataclass(frozen=True)
class Watched:
    """A database whose owner changes it while all its collectors poll through one pool."""

    owner: psycopg.Connection[tuple[object, ...]]
    pollers: dict[str, Poller]

    def change(self, statement: str) -> None:
        """What an administrator or an upgrade does."""
        self.owner.execute(statement.encode())

    def migrate(self, revision: str) -> None:
        """What an upgrade does last."""
        self.owner.execute("UPDATE alembic_version SET version_num = %s", [revision])

    async def failures(self, *names: str) -> dict[str, tuple[str | None, str]]:
        """Reason and message of those collectors that fail when all (or the named ones) poll once."""
        for name in names or self.pollers:
            await self.pollers[name].poll()
        statuses = [self.pollers[name].status for name in names or self.pollers]
        return {status.collector: (status.reason, status.error) for status in statuses if not status.success}

    def text(self, name: str) -> str:
        """What a collector exports."""
        part = self.pollers[name].part
        return part.text.plain.decode() if part else ""


@pytest.fixture
async def watched(
    request: pytest.FixtureRequest, airflow_database: Callable[..., AirflowDatabase]
) -> AsyncIterator[Watched]:
    """The database of the newest Airflow, or of the version that the test is parametrised with."""
    database = airflow_database(getattr(request, "param", NEWEST))
    config = Config.model_validate({"airflow": {"name": "a"}})
    dags = config.airflow.dags
    context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(()))
    with psycopg.connect(database.url, autocommit=True) as owner:
        async with Database(lambda: database.reader_url) as source:
            yield Watched(
                owner,
                {
                    collector.name: Poller(collector, Sources(source, None), context, Renderer("a"))
                    for collector in ALL
                    if collector.source == "database"
                },
            )


async def test_an_unknown_revision_costs_nothing_while_the_columns_are_there(watched: Watched) -> None:
    """All collectors go on, and the schema says that this build does not know it."""
    watched.migrate("feedfacecafe")
    assert await watched.failures() == {}
    assert 'airflow_db_schema_info{airflow="a",revision="feedfacecafe",version="",supported="false"} 1' in watched.text(
        "database"
    )


@pytest.mark.parametrize("revision", ["feedfacecafe", "d2f4e1b3c5a7"])
async def test_a_missing_column_costs_its_collector(watched: Watched, revision: str) -> None:
    """Whether the revision is known or not, only what reads the column fails, and says so."""
    watched.change("ALTER TABLE slot_pool DROP COLUMN include_deferred")
    watched.migrate(revision)
    message = f"revision {revision} lacks columns that are read from task_instance, slot_pool"
    assert await watched.failures() == {"pools": ("schema", message)}


async def test_a_feature_that_an_unknown_revision_lacks_is_not_taken_for_an_old_airflow(watched: Watched) -> None:
    """Only a known old revision makes its absence silent."""
    watched.change("DROP TABLE backfill CASCADE")
    watched.migrate("feedfacecafe")
    assert {name: reason for name, (reason, _) in (await watched.failures()).items()} == {"backfills": "schema"}


@pytest.mark.parametrize("watched", ["3.1"], indirect=True)
async def test_a_feature_is_expected_from_its_first_version(watched: Watched) -> None:
    """In the version that brought it, a missing column is an error."""
    watched.change("ALTER TABLE deadline DROP COLUMN callback_state")
    assert {name: reason for name, (reason, _) in (await watched.failures()).items()} == {"deadlines": "schema"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "DROP TABLE alembic_version",
            "there is no table alembic_version: is this Airflow's database, and airflow.database_schema its schema?",
        ),
        ("DELETE FROM alembic_version", "alembic_version is empty: has `airflow db migrate` been run?"),
    ],
)
async def test_a_database_without_an_airflow(watched: Watched, change: str, message: str) -> None:
    """Every collector says what is missing, and recovers when it is there."""
    watched.change(f"CREATE TABLE kept AS TABLE alembic_version; {change}")
    assert await watched.failures() == dict.fromkeys(watched.pollers, ("schema", message))
    watched.change("DROP TABLE IF EXISTS alembic_version; ALTER TABLE kept RENAME TO alembic_version")
    watched.change(f"GRANT SELECT ON alembic_version TO {ROLE}")
    assert await watched.failures() == {}


@pytest.mark.parametrize("watched", ["3.1"], indirect=True)
async def test_an_upgrade_while_we_run(watched: Watched) -> None:
    """The next read sees the new columns, may not read them until they are granted, and then has what is new."""
    assert await watched.failures() == {}
    assert "airflow_deadlines_missed{" not in watched.text("deadlines")
    watched.change(
        """
        INSERT INTO dag_bundle (name) VALUES ('b');
        INSERT INTO dag (
          dag_id, max_active_tasks, has_task_concurrency_limits, max_consecutive_failed_dag_runs, bundle_name
        ) VALUES ('etl', 1, false, 0, 'b');
        INSERT INTO dag_run (dag_id, run_id, run_type, run_after) VALUES ('etl', 'r', 'manual', now());
        ALTER TABLE deadline DROP COLUMN callback_state, ADD COLUMN missed boolean NOT NULL DEFAULT true,
          ALTER COLUMN callback DROP NOT NULL;
        INSERT INTO deadline (id, dagrun_id, deadline_time) SELECT gen_random_uuid(), id, now() FROM dag_run
        """
    )
    watched.migrate("1d6611b6ab7c")
    assert await watched.failures() == {"deadlines": ("permission", f"permission denied for table deadline {HINT}")}
    watched.change(postgres_grants(ALL, ROLE))
    assert await watched.failures() == {}
    assert 'airflow_deadlines_missed{airflow="a",dag_id="etl"} 1' in watched.text("deadlines")
    assert 'version="3.2",supported="true"' in watched.text("database")


async def test_a_revoked_permission_costs_its_collector(watched: Watched) -> None:
    """The others go on, and so does it when it may read again."""
    watched.change(f"REVOKE SELECT (slots) ON slot_pool FROM {ROLE}")  # noqa: S608  (no query)
    assert await watched.failures() == {"pools": ("permission", f"permission denied for table slot_pool {HINT}")}
    watched.change(f"GRANT SELECT (slots) ON slot_pool TO {ROLE}")
    assert await watched.failures() == {}


async def test_a_locked_table_costs_its_collector(watched: Watched) -> None:
    """We stop waiting before Airflow would have to wait behind us; what the collector had last read stays."""
    assert await watched.failures() == {}
    with watched.owner.transaction():
        watched.change("LOCK TABLE slot_pool")
        assert await watched.failures() == {"pools": ("timeout", "canceling statement due to lock timeout")}
        assert "airflow_pool_slots_limit" in watched.text("pools")
    assert await watched.failures() == {}


async def test_failed_reads_do_not_fill_the_log(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """A failure that lasts is one line, not one per read: neither ours nor the pool's."""
    watched.change("ALTER TABLE slot_pool DROP COLUMN include_deferred; REVOKE SELECT (job_type) ON job FROM windsock")
    for _ in range(3):
        assert (await watched.failures("pools", "jobs")).keys() == {"pools", "jobs"}
    assert [(record.name, record.message) for record in caplog.records] == [("exporter.poller", "collector failed")] * 2


async def test_the_role_may_read_what_is_declared_and_nothing_else(watched: Watched) -> None:
    """The grants are the collectors' columns, as far as this Airflow has them; none of a table as a whole."""
    cursor = watched.owner.execute("SELECT table_name, column_name FROM information_schema.columns")
    wanted = {(table, column) for table, names in columns(ALL).items() for column in names}
    granted = watched.owner.execute(
        "SELECT table_name, column_name FROM information_schema.column_privileges WHERE grantee = %s", [ROLE]
    )
    assert set(granted.fetchall()) == wanted & set(cursor.fetchall())
    whole = watched.owner.execute("SELECT 1 FROM information_schema.table_privileges WHERE grantee = %s", [ROLE])
    assert whole.fetchall() == []


@pytest.mark.parametrize("role", ["", "Windsock", "windsock; DROP TABLE dag", 'wind"sock', "wïndsock", "1windsock"])
def test_only_a_plain_name_becomes_a_role(role: str) -> None:
    """Nothing else gets into the script."""
    with pytest.raises(ValueError, match="not a plain role name"):
        postgres_grants(ALL, role)
