"""What Airflow's database says about that of which a message tells: whose DAG it is, and what failed in its run.

By indexes alone, in a few milliseconds; and a message goes out without it where the database does not answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from .accounting import Facts
from .collector import Select, Variant
from .config.events import EventDags
from .router.incident import Background, FailedTask
from .router.model import Snapshot
from .sources import Database, SourceError

log = logging.getLogger(__name__)

Row = TypeVar("Row")


class About(NamedTuple):
    """A DAG's owners and tags, joined by commas, and its team."""

    dag_id: str
    owners: str | None = None
    team: str | None = None
    tags: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What is known, as an alert has it."""
        known = {"owners": self.owners, "team": self.team, "tags": self.tags}
        return {"dag_id": self.dag_id} | {name: text for name, text in known.items() if text}

    def is_one_of(self, dags: EventDags) -> bool:
        """Whether it is told of."""
        return dags.include(self.dag_id, (self.owners or "").split(", "), (self.tags or "").split(","))


class BrokenFile(NamedTuple):
    """A DAG file that cannot be imported, in a bundle (Airflow 3)."""

    filename: str | None
    bundle: str | None
    since: float | None

    @property
    def labels(self) -> dict[str, str]:
        """As an alert has it."""
        return {name: text for name, text in (("filename", self.filename), ("bundle", self.bundle)) if text}


_ABOUT = """SELECT d.dag_id, d.owners, {team} AS team,
    (SELECT string_agg(t.name, ',' ORDER BY t.name) FROM dag_tag AS t WHERE t.dag_id = d.dag_id) AS tags
  FROM dag AS d WHERE d.dag_id = ANY(%(dags)s)"""
_DAG = {"dag": "dag_id owners", "dag_tag": "dag_id name"}
_BUNDLE = {**_DAG, "dag": "dag_id owners bundle_name"}
ABOUT = Select(
    row=About,
    sql=_ABOUT.format(
        team="(SELECT min(b.team_name) FROM dag_bundle_team AS b WHERE b.dag_bundle_name = d.bundle_name)"
    ),
    reads={**_BUNDLE, "dag_bundle_team": "dag_bundle_name team_name"},
    older=(
        Variant(
            _ABOUT.format(
                team="""(SELECT min(t.name) FROM dag_bundle_team AS b JOIN team AS t ON t.id = b.team_id
                  WHERE b.dag_bundle_name = d.bundle_name)"""
            ),
            {**_BUNDLE, "dag_bundle_team": "dag_bundle_name team_id", "team": "id name"},
        ),
        Variant(_ABOUT.format(team="NULL::text"), _DAG),
    ),
)
_FAILED = """SELECT t.task_id, t.map_index, coalesce(t.try_number, 0) AS try_number,
    coalesce(t.max_tries, 0) + 1 AS tries, t.operator, t.duration, usual.duration AS usual, t.queue, t.pool, t.failures
  FROM (
    SELECT *, count(*) OVER () AS failures FROM (
      SELECT task_id, map_index, try_number, max_tries, operator, duration, queue, pool, end_date
      FROM task_instance WHERE dag_id = %(dag_id)s AND run_id = %(run_id)s AND state = 'failed' OFFSET 0) AS failed
    ORDER BY end_date, task_id, map_index LIMIT 5
  ) AS t CROSS JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY u.duration) AS duration FROM (
      SELECT run_id FROM dag_run WHERE dag_id = %(dag_id)s AND {date} IS NOT NULL ORDER BY {date} DESC LIMIT 10
    ) AS r CROSS JOIN LATERAL (
      SELECT duration FROM task_instance WHERE dag_id = %(dag_id)s AND task_id = t.task_id AND run_id = r.run_id
        AND map_index = t.map_index AND state = 'success' OFFSET 0) AS u
  ) AS usual"""
_TASK = "dag_id run_id task_id map_index state try_number max_tries operator duration queue pool end_date"
FAILED = Select(
    row=FailedTask,
    sql=_FAILED.format(date="logical_date"),
    reads={"task_instance": _TASK, "dag_run": "dag_id run_id logical_date"},
    older=(
        Variant(
            _FAILED.format(date="execution_date"),
            {"task_instance": _TASK, "dag_run": "dag_id run_id execution_date"},
        ),
    ),
)
_BROKEN = """SELECT filename, {bundle} AS bundle, extract(epoch FROM timestamp)::float8 AS since
  FROM import_error ORDER BY id LIMIT 500"""
BROKEN = Select(
    row=BrokenFile,
    sql=_BROKEN.format(bundle="bundle_name"),
    reads={"import_error": "id filename bundle_name timestamp"},
    older=(Variant(_BROKEN.format(bundle="NULL::text"), {"import_error": "id filename timestamp"}),),
)
SELECTS: tuple[Select[Any], ...] = (ABOUT, FAILED, BROKEN)
TIMEOUT = 5.0
"""Seconds in which whose DAG it is has to be known."""
LIMIT, PAUSE = 1.0, 30.0
"""Seconds that a message waits for what else is known, and in which the next ones do not, where that was in vain."""


async def about(database: Database, dags: Iterable[str]) -> dict[str, About]:
    """Of these DAGs, those that are still there; raises SourceError."""
    rows = await _read(database, ABOUT, TIMEOUT, dags=[*dags])
    return {row.dag_id: row for row in rows}


async def broken_files(database: Database) -> Sequence[BrokenFile]:
    """The first of them; raises SourceError."""
    return await _read(database, BROKEN, TIMEOUT)


class IncidentContext:
    """Tells what else is known of an incident of the Airflow that is watched, as far as it can be had in time."""

    def __init__(self, database: Database, facts: Callable[[str], Facts | None], airflow: str) -> None:
        self._database, self._facts, self._airflow = database, facts, airflow
        self._again = 0.0
        self._late: set[asyncio.Task[Sequence[FailedTask]]] = set()

    async def __call__(self, snapshot: Snapshot) -> Background:
        """Within LIMIT, whatever the database does."""
        labels = snapshot.labels
        dag_id, run_id = labels.get("dag_id"), labels.get("run_id")
        if not dag_id or labels.get("airflow") != self._airflow:
            return Background()
        facts = self._facts(dag_id)
        known = Background(facts.success, len(facts.failed)) if facts else Background()
        if not run_id or time.monotonic() < self._again:
            return known
        task = asyncio.create_task(_read(self._database, FAILED, LIMIT, dag_id=dag_id, run_id=run_id))
        self._late.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait({task}, timeout=LIMIT)
        if task.done() and not task.exception():
            return known._replace(failed=task.result())
        self._again = time.monotonic() + PAUSE
        return known

    def _done(self, task: asyncio.Task[Sequence[FailedTask]]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()):
            because = str(error) if isinstance(error, SourceError) else type(error).__name__
            log.warning("a message lacks what the database would add", extra={"because": because})


async def _read(database: Database, select: Select[Row], timeout: float, **parameters: object) -> Sequence[Row]:
    async with database.transaction(timeout) as transaction:
        variant = select.variant(transaction.schema)
        return await transaction.select(select.row, variant.sql, parameters) if variant else ()
