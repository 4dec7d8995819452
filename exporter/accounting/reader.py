"""One poll: a few rounds of queries in one snapshot. Their cost follows the active work, not the history.

States are literals, in UNION ALL where a partial index must be found; ids are the only arrays that are passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from ..collector import Select, Variant
from ..sources.database import Transaction
from .rows import Attempt, Clock, Dag, Problem, Run
from .tracker import COLD_RUNS, GRACE, MAX_ATTEMPTS, Tracker

Row = TypeVar("Row")

PAGE = 5_000
"""New runs that one poll takes; after a long downtime, the next polls take the next."""

BATCH = 200
SEED = 10_000
HINT_OVERLAP, HINT_LIMIT = 60.0, 86400.0
"""Seconds: how far before the last poll a worker's trace is looked for, and before now at most."""


def _epoch(column: str) -> str:
    return f"extract(epoch FROM {column})::float8"


_RUN = f"""r.id, r.dag_id, r.state, r.run_type, r.clear_number, {{due}} AS due, {_epoch("r.start_date")} AS started,
  {_epoch("r.end_date")} AS ended, {_epoch("r.data_interval_end")} AS interval_end"""
_RUN_3 = _RUN.format(due=_epoch("r.run_after"))
_RUN_2 = _RUN.format(due=_epoch("CASE r.run_type WHEN 'manual' THEN r.queued_at ELSE r.data_interval_end END"))
_RUN_READS = "id dag_id run_id state run_type clear_number start_date end_date data_interval_end"
_READS_3 = {
    "dag_run": f"{_RUN_READS} run_after logical_date",
    "task_instance": "id dag_id run_id state last_heartbeat_at",
}
_READS_2 = {"dag_run": f"{_RUN_READS} queued_at execution_date", "task_instance": "dag_id run_id state job_id"}


def _runs(
    text: str, which: tuple[str, str] = ("", ""), date: tuple[str, str] = ("logical_date", "execution_date")
) -> Select[Run]:
    three = text.format(run=_RUN_3, which=which[0], date=date[0])
    two = text.format(run=_RUN_2, which=which[1], date=date[1])
    return Select(row=Run, variants=(Variant(three, _READS_3), Variant(two, _READS_2)))


_CLOCK = f"""SELECT {_epoch("clock_timestamp()")} AS now, coalesce((SELECT max(id) FROM dag_run), 0) AS newest_run,
  {{job}} AS newest_job, coalesce((SELECT max(id) FROM log), 0) AS newest_log"""
CLOCK = Select(
    row=Clock,
    variants=(
        Variant(_CLOCK.format(job="0"), {**_READS_3, "log": "id"}),
        Variant(_CLOCK.format(job="coalesce((SELECT max(id) FROM job), 0)"), {**_READS_2, "log": "id", "job": "id"}),
    ),
)
ACTIVE = _runs(
    """SELECT {run} FROM dag_run AS r WHERE state = 'running'
    UNION ALL SELECT {run} FROM dag_run AS r WHERE state = 'queued'"""
)
CREATED = _runs("SELECT {run} FROM dag_run AS r WHERE id > %(floor)s ORDER BY id LIMIT %(page)s")
BY_ID = _runs("SELECT {run} FROM dag_run AS r WHERE id = ANY(%(ids)s::int[])")
# OFFSET 0 keeps the planner from reading whole tables: each run is looked up by its unique index.
_NOT_ACTIVE = """SELECT run.* FROM (SELECT dag_id, run_id FROM task_instance WHERE {which}
      EXCEPT (SELECT dag_id, run_id FROM dag_run WHERE state = 'running'
        UNION ALL SELECT dag_id, run_id FROM dag_run WHERE state = 'queued')) AS t
    CROSS JOIN LATERAL (
      SELECT {run} FROM dag_run AS r WHERE r.dag_id = t.dag_id AND r.run_id = t.run_id OFFSET 0) AS run
    """
LIVE = _runs(
    _NOT_ACTIVE + "WHERE run.state IN ('success', 'failed')",
    which=2
    * (
        """state IN ('scheduled', 'queued', 'running', 'restarting', 'deferred', 'up_for_retry',
      'up_for_reschedule', 'awaiting_input')""",
    ),
)
# An old run that was cleared, and over again before the next poll, is found by the trace of its workers.
TOUCHED = _runs(
    _NOT_ACTIVE + "WHERE run.id <= %(floor)s LIMIT %(page)s",
    which=("last_heartbeat_at > to_timestamp(%(since)s)", "job_id > %(job)s"),
)
NEWEST = _runs("SELECT {run} FROM dag_run AS r WHERE id > %(seed)s AND state IN ('success', 'failed')")
NEWEST_PER_DAG = _runs(
    """SELECT r.* FROM dag AS d CROSS JOIN LATERAL (SELECT {run} FROM dag_run AS r
      WHERE r.dag_id = d.dag_id AND r.{date} IS NOT NULL ORDER BY r.{date} DESC LIMIT 5) AS r
    WHERE r.state IN ('success', 'failed')"""
)

_ATTEMPT = f"""{{t}}.state, {{archived}} AS archived, coalesce({{t}}.try_number, 0) AS try_number,
  coalesce({{t}}.max_tries, 0) AS max_tries, {{stamp}} AS stamp, {_epoch("{t}.start_date")} AS started,
  {{t}}.duration, {_epoch("{t}.queued_dttm")} AS queued, {{scheduled}} AS scheduled, {{t}}.operator, {{t}}.queue,
  {{t}}.pool"""
_ATTEMPT_READS = (
    "dag_id run_id task_id map_index state try_number max_tries start_date duration queued_dttm operator queue pool"
)
_OVER = "('success', 'failed', 'skipped', 'upstream_failed', 'removed')"
_KEYS = "k AS MATERIALIZED (SELECT id AS run, dag_id, run_id, clear_number FROM dag_run WHERE id = ANY(%(ids)s::int[]))"


def _attempt_3(table: str, key: str, archived: str) -> str:
    created = f"('x' || left(replace({table}.{key}::text, '-', ''), 12))::bit(48)::bigint / 1000.0"  # uuid7
    columns = _ATTEMPT.format(
        t=table, archived=archived, stamp=f"({created})::float8", scheduled=_epoch(f"{table}.scheduled_dttm")
    )
    return f"{table}.{key}::text AS key, {columns}"


def _attempt_2(table: str, archived: str) -> str:
    columns = _ATTEMPT.format(t=table, archived=archived, stamp=_epoch(f"{table}.end_date"), scheduled="NULL::float8")
    key = f"concat_ws(' ', {table}.task_id, {table}.map_index, coalesce({table}.try_number, 0))"
    return f"{key} AS key, {columns}"


# What was cleared before it was ever tried is archived as failed. Before Airflow 3 the history has no index by run, and
# OFFSET 0 makes the planner use all four columns of the one that it has.
ATTEMPTS = Select(
    row=Attempt,
    variants=(
        Variant(
            f"""WITH {_KEYS}
            SELECT k.run, a.* FROM k CROSS JOIN LATERAL (
              SELECT {_attempt_3("t", "id", "false")} FROM task_instance AS t
              WHERE t.dag_id = k.dag_id AND t.run_id = k.run_id AND t.state IN {_OVER} OFFSET 0) AS a
            UNION ALL SELECT k.run, a.* FROM k CROSS JOIN LATERAL (
              SELECT {_attempt_3("h", "task_instance_id", "true")} FROM task_instance_history AS h
              WHERE h.dag_id = k.dag_id AND h.run_id = k.run_id
                AND NOT (h.state = 'failed' AND h.try_number = 0) OFFSET 0) AS a""",
            {
                "dag_run": "id dag_id run_id clear_number",
                "task_instance": f"id {_ATTEMPT_READS} scheduled_dttm",
                "task_instance_history": f"task_instance_id {_ATTEMPT_READS} scheduled_dttm",
            },
        ),
        Variant(
            f"""WITH {_KEYS}, t AS MATERIALIZED (
              SELECT k.run, k.clear_number, t.dag_id, t.run_id, t.task_id, t.map_index, {_attempt_2("t", "false")}
              FROM k JOIN task_instance AS t USING (dag_id, run_id))
            SELECT run, key, state, archived, try_number, max_tries, stamp, started, duration, queued, scheduled,
              operator, queue, pool FROM t
            UNION ALL
            SELECT t.run, h.* FROM t CROSS JOIN LATERAL (
              SELECT {_attempt_2("h", "true")} FROM task_instance_history AS h
              WHERE h.dag_id = t.dag_id AND h.task_id = t.task_id AND h.run_id = t.run_id AND h.map_index = t.map_index
                AND NOT (h.state = 'failed' AND h.try_number = 0) OFFSET 0) AS h
            WHERE t.try_number > 1 OR t.state = 'up_for_retry' OR t.clear_number > 0""",
            {
                "dag_run": "id dag_id run_id clear_number",
                "task_instance": f"{_ATTEMPT_READS} end_date",
                "task_instance_history": f"{_ATTEMPT_READS} end_date",
            },
        ),
    ),
)
_DAGS = f"""SELECT dag_id, coalesce({{stale}}, false) AS stale, coalesce(is_paused, false) AS paused,
  {_epoch("next_dagrun_create_after")} AS next_due, max_consecutive_failed_dag_runs AS max_failed FROM dag"""
_DAG_READS = "dag_id is_paused next_dagrun_create_after max_consecutive_failed_dag_runs"
DAGS = Select(
    row=Dag,
    variants=(
        Variant(_DAGS.format(stale="is_stale"), {"dag": f"{_DAG_READS} is_stale"}),
        Variant(_DAGS.format(stale="NOT is_active"), {"dag": f"{_DAG_READS} is_active"}),
    ),
)
PROBLEMS = Select(
    row=Problem,
    variants=(
        Variant(
            """SELECT id, event FROM log WHERE id > %(log)s AND event IN ('heartbeat timeout', 'state mismatch',
              'stuck in queued reschedule', 'stuck in queued tries exceeded')""",
            {"log": "id event"},
        ),
    ),
)
SELECTS = (CLOCK, ACTIVE, CREATED, BY_ID, LIVE, TOUCHED, NEWEST, NEWEST_PER_DAG, ATTEMPTS, DAGS, PROBLEMS)


@dataclass(slots=True)
class Poll:
    """Everything that one snapshot told; `attempts` are those of the runs that had to be read, `past` is old runs."""

    clock: Clock
    runs: dict[int, Run] = field(default_factory=dict)
    live: set[int] = field(default_factory=set)
    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    deleted: list[int] = field(default_factory=list)
    page_end: int | None = None
    dags: Sequence[Dag] = ()
    problems: Sequence[Problem] = ()
    past: list[Run] = field(default_factory=list)


async def read(transaction: Transaction, tracker: Tracker) -> Poll:
    """What the tracker has to know now; raises SourceError."""
    clock = (await _rows(transaction, CLOCK))[0]
    tracker.begin(clock, "uuid" if transaction.schema.has({"task_instance": "id"}) else "try")
    poll = Poll(clock)
    since = clock.now - GRACE if tracker.cold else max(tracker.last_poll - HINT_OVERLAP, clock.now - HINT_LIMIT)
    parameters = {
        "floor": tracker.created.floor,
        "page": PAGE,
        "since": since,
        "job": tracker.jobs.floor,
        "log": max(tracker.log.floor, clock.newest_log - 40 * PAGE),
        "seed": clock.newest_run - SEED,
    }
    created = await _rows(transaction, CREATED, **parameters)
    live = await _rows(transaction, LIVE)
    for runs in (created, live, await _rows(transaction, ACTIVE), await _rows(transaction, TOUCHED, **parameters)):
        poll.runs.update((run.id, run) for run in runs)
    poll.live = {run.id for run in live}
    poll.page_end = created[-1].id if len(created) == PAGE else None
    for ids in _batches(tracker.missing(poll.runs), COLD_RUNS):
        found = {run.id: run for run in await _rows(transaction, BY_ID, ids=ids)}
        poll.runs.update(found)
        poll.deleted += [run for run in ids if run not in found]
    await _read_attempts(transaction, tracker, poll)
    poll.dags = await _rows(transaction, DAGS)
    poll.problems = await _rows(transaction, PROBLEMS, **parameters)
    if tracker.cold:
        past = [*await _rows(transaction, NEWEST, **parameters), *await _rows(transaction, NEWEST_PER_DAG)]
        poll.past = list({run.id: run for run in past}.values())
    return poll


async def _read_attempts(transaction: Transaction, tracker: Tracker, poll: Poll) -> None:
    wanted = sorted(
        (run.id for run in poll.runs.values() if tracker.wants(run, live=run.id in poll.live)), reverse=True
    )
    read = 0
    for ids in _batches(wanted, BATCH):
        if read > MAX_ATTEMPTS:
            tracker.truncated = True
            return
        poll.attempts.update((run, []) for run in ids)
        for attempt in await _rows(transaction, ATTEMPTS, ids=ids):
            poll.attempts[attempt.run].append(attempt)
            read += 1


async def _rows(transaction: Transaction, select: Select[Row], **parameters: object) -> Sequence[Row]:
    variant = select.variant(transaction.schema)
    return await transaction.select(select.row, variant.sql, parameters) if variant else ()


def _batches(ids: Sequence[int], size: int) -> Iterator[list[int]]:
    rest = iter(ids)
    while batch := list(islice(rest, size)):
        yield batch
