"""Writes rows as an Airflow of a given version does: a fact has one name here, whatever its column is called there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

Values = dict[str, Any]

COLUMNS = """
SELECT a.attname AS name, t.typname AS type,
  a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
NEUTRAL: Values = {
    "bool": False,
    "bytea": b"",
    "float8": 0.0,
    "int4": 0,
    "interval": timedelta(),
    "json": "{}",
    "jsonb": "{}",
    "text": "",
    "varchar": "",
}
"""What a column without a default must hold when a test does not care, by its type."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's type, and whether a row must give it a value."""

    type: str
    required: bool


def columns(connection: psycopg.Connection[Any], table: str) -> dict[str, Column]:
    """The columns that a table really has."""
    found = connection.execute(COLUMNS, [table]).fetchall()
    return {name: Column(type_, required) for name, type_, required in found}


class Airflow:
    """Rows are committed as they are written; `now` is a whole second, taken when the first could be."""

    def __init__(self, connection: psycopg.Connection[Any], version: str) -> None:
        connection.autocommit = True
        self.connection = connection
        self.version = tuple(map(int, version.split(".")))
        self.now = datetime.now(UTC).replace(microsecond=0)
        self._columns: dict[str, dict[str, Column]] = {}
        self._written: set[str] = set()
        self._first = self._transaction_id()
        self._runs = 0

    def ago(self, seconds: float) -> datetime:
        """An instant before `now`; a negative one is still to come."""
        return self.now - timedelta(seconds=seconds)

    def insert(self, table: str, **values: Any) -> Values:
        """Writes a row and returns it as it is now; what it must have beyond `values` is neutral."""
        for name, column in self._known(table).items():
            if column.required and name not in values:
                values[name] = self._neutral(column)
        with self.connection.cursor(row_factory=dict_row) as cursor:
            statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING *").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(sql.Placeholder() * len(values)),
            )
            self._written.add(table)
            return cursor.execute(statement, list(values.values())).fetchone() or {}

    def clear(self) -> None:
        """Removes every row that was written or changed here; its tables are found again as they were."""
        with self.connection.transaction():
            self.connection.execute("SET LOCAL session_replication_role = replica")  # rows go in any order
            for table in self._written:
                statement = sql.SQL("DELETE FROM {} WHERE xmin::text::bigint >= %s").format(sql.Identifier(table))
                self.connection.execute(statement, [self._first])

    def has(self, table: str, column: str) -> bool:
        """Whether this version has the column."""
        return column in self._known(table)

    def bundle(
        self, name: str, *, team: str | None = None, active: bool = True, refreshed: datetime | None = None
    ) -> None:
        """A DAG bundle, from Airflow 3; its team from 3.1."""
        if self.version < (3, 0):
            return
        self.insert("dag_bundle", name=name, active=active, last_refreshed=refreshed)
        if team and self.version >= (3, 2):
            self.insert("team", name=team)
            self.insert("dag_bundle_team", dag_bundle_name=name, team_name=team)
        elif team and self.version >= (3, 1):
            self.insert("dag_bundle_team", dag_bundle_name=name, team_id=self.insert("team", name=team)["id"])

    def dag(
        self,
        dag_id: str,
        *,
        paused: bool | None = False,
        stale: bool = False,
        bundle: str | None = "dags-folder",
        timetable: str | None = None,
        tags: Iterable[str] = (),
        **facts: Any,
    ) -> None:
        """A DAG; facts that only newer versions have (a parse duration) are left out in older ones."""
        facts |= {"dag_id": dag_id, "is_paused": paused}
        if self.version >= (3, 0):
            self._ensure_bundle(bundle)
            facts |= {"is_stale": stale, "bundle_name": bundle, "timetable_summary": timetable}
        else:
            facts |= {"is_active": not stale, "schedule_interval": json.dumps(timetable)}
        self.insert("dag", **self._had("dag", facts))
        for tag in tags:
            self.insert("dag_tag", dag_id=dag_id, name=tag)

    def run(self, dag_id: str, state: str = "success", **facts: Any) -> Values:
        """A DAG run, an hour older than the one before it."""
        self._runs += 1
        date = self.ago(3600 * self._runs)
        logical = "logical_date" if self.version >= (3, 0) else "execution_date"
        return self.insert(
            "dag_run",
            **{"run_id": f"scheduled__{date:%FT%T}", "run_type": "scheduled", logical: date} | facts,
            dag_id=dag_id,
            state=state,
        )

    def task(self, run: Values, state: str | None, *, heartbeat: datetime | None = None, **facts: Any) -> Values:
        """A task instance of a run; before Airflow 3 its heartbeat is that of a LocalTaskJob."""
        if self.version >= (3, 0):
            facts |= {"last_heartbeat_at": heartbeat}
        elif heartbeat:
            facts |= {"job_id": self.job("LocalTaskJob", heartbeat)["id"]}
        identity = {"dag_id": run["dag_id"], "run_id": run["run_id"], "task_id": f"task_{uuid.uuid4().hex[:6]}"}
        usual = {"pool": "default_pool", "pool_slots": 1, "queue": "default", "try_number": 1}
        return self.insert("task_instance", **self._had("task_instance", identity | usual | facts), state=state)

    def job(self, job_type: str, heartbeat: datetime | None, state: str = "running") -> Values:
        """A scheduler, triggerer, DAG processor, or (before Airflow 3) one attempt of a task."""
        return self.insert("job", job_type=job_type, state=state, latest_heartbeat=heartbeat)

    def pool(self, name: str, slots: int | None, *, include_deferred: bool = False) -> None:
        """A pool beside the default one."""
        self.insert("slot_pool", pool=name, slots=slots, include_deferred=include_deferred)

    def import_error(self, filename: str, timestamp: datetime, *, bundle: str | None = "dags-folder") -> None:
        """A DAG file that cannot be imported."""
        if self.version >= (3, 0):
            self._ensure_bundle(bundle)
        facts = {"filename": filename, "timestamp": timestamp, "bundle_name": bundle, "stacktrace": "SyntaxError"}
        self.insert("import_error", **self._had("import_error", facts))

    def trigger(self, created: datetime, *, triggerer: int | None = None) -> Values:
        """What a deferred task instance waits for."""
        return self.insert("trigger", created_date=created, triggerer_id=triggerer)

    def asset(self, name: str, *, uri: str | None = None, active: bool = True) -> int:
        """An asset, or a dataset, which has no name, before Airflow 3; returns its id."""
        uri = uri or f"s3://{name}"
        if self.version < (3, 0):
            return int(self.insert("dataset", uri=uri, is_orphaned=not active)["id"])
        if active:
            asset = self.insert("asset", name=name, uri=uri)
            self.insert("asset_active", name=name, uri=uri)
            return int(asset["id"])
        return int(self.insert("asset", name=name, uri=uri)["id"])

    def asset_event(self, asset: int, timestamp: datetime) -> None:
        """Something wrote the asset."""
        kind = "asset" if self.version >= (3, 0) else "dataset"
        self.insert(f"{kind}_event", **{f"{kind}_id": asset}, timestamp=timestamp)

    def asset_queue(self, asset: int, dag_id: str, created: datetime) -> None:
        """A DAG has this asset's event, and waits for others'."""
        kind = "asset" if self.version >= (3, 0) else "dataset"
        self.insert(f"{kind}_dag_run_queue", **{f"{kind}_id": asset}, target_dag_id=dag_id, created_at=created)

    def deadline(self, run: Values | None, time: datetime, *, missed: bool = False) -> None:
        """A deadline of a run, from Airflow 3.1; before 3.2 a missed one has the state of its callback."""
        facts: Values = {"dagrun_id": run["id"] if run else None, "deadline_time": time}
        if self.version >= (3, 2):
            facts |= {"missed": missed, "callback_id": self.insert("callback")["id"]}
        elif self.version >= (3, 1):
            facts |= {"callback_state": "queued" if missed else None}
        else:
            return
        self.insert("deadline", **facts)

    def backfill(self, dag_id: str, *, paused: bool | None = False, completed: datetime | None = None) -> None:
        """A backfill, from Airflow 3."""
        if self.version >= (3, 0):
            self.insert("backfill", dag_id=dag_id, is_paused=paused, completed_at=completed)

    def question(self, task: Values, created: datetime, *, answered: datetime | None = None) -> None:
        """What a person is asked by a task instance, from Airflow 3.1."""
        if self.version >= (3, 1):
            self.insert("hitl_detail", ti_id=task["id"], created_at=created, responded_at=answered)

    def _ensure_bundle(self, name: str | None) -> None:
        if name and not self.connection.execute("SELECT 1 FROM dag_bundle WHERE name = %s", [name]).fetchone():
            self.bundle(name)

    def _transaction_id(self) -> int:
        (number,) = self.connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone() or (0,)
        return int(number)

    def _known(self, table: str) -> dict[str, Column]:
        if table not in self._columns:
            self._columns[table] = columns(self.connection, table)
        return self._columns[table]

    def _had(self, table: str, facts: Values) -> Values:
        return {name: value for name, value in facts.items() if self.has(table, name)}

    def _neutral(self, column: Column) -> Any:
        if column.type == "uuid":
            return uuid.uuid4()
        return self.now if column.type == "timestamptz" else NEUTRAL[column.type]
