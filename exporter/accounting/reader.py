"""One poll: a few rounds of queries in one snapshot. Their cost follows the active work, not the history.

States are literals, in UNION ALL where a partial index must be found; ids are the only arrays that are passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ..collector import Select, Variant
from ..sources.database import Transaction
from .rows import EVENTS, Attempt, Clock, Dag, Problem, Run
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


# What the queries for Airflow 3 and for Airflow 2 do not have in common.
_PARTS = {
    "due": (
        _epoch("r.run_after"),
        _epoch("CASE r.run_type WHEN 'manual' THEN r.queued_at ELSE r.data_interval_end END"),
    ),
    "date": ("logical_date", "execution_date"),
    "touched": ("last_heartbeat_at > to_timestamp(%(since)s)", "job_id > %(job)s"),
    "job": ("0", "coalesce((SELECT max(id) FROM job), 0)"),
    "stale": ("is_stale", "NOT is_active"),
}
_THREE, _TWO = ({name: parts[index] for name, parts in _PARTS.items()} for index in (0, 1))
_RUN_READS = "id dag_id run_id state run_type clear_number start_date end_date data_interval_end"
_ATTEMPT_READS = (
    "dag_id run_id task_id map_index state try_number max_tries start_date duration queued_dttm operator queue pool"
)
_DAG_READS = "dag_id is_paused next_dagrun_create_after max_consecutive_failed_dag_runs"
_READS_3 = {
    "dag": f"{_DAG_READS} is_stale",
    "dag_run": f"{_RUN_READS} run_after logical_date",
    "log": "id event",
    "task_instance": f"{_ATTEMPT_READS} id scheduled_dttm last_heartbeat_at",
    "task_instance_history": f"{_ATTEMPT_READS} task_instance_id scheduled_dttm",
}
_READS_2 = {
    "dag": f"{_DAG_READS} is_active",
    "dag_run": f"{_RUN_READS} queued_at execution_date",
    "job": "id",
    "log": "id event",
    "task_instance": f"{_ATTEMPT_READS} end_date job_id",
    "task_instance_history": f"{_ATTEMPT_READS} end_date",
}


def _select(row: type[Row], text: str) -> Select[Row]:
    return Select(row=row, sql=text.format(**_THREE), reads=_READS_3, older=(Variant(text.format(**_TWO), _READS_2),))


_RUN = f"""r.id, r.dag_id, r.state, r.run_type, r.clear_number, {{due}} AS due, {_epoch("r.start_date")} AS started,
  {_epoch("r.end_date")} AS ended, {_epoch("r.data_interval_end")} AS interval_end, r.run_id"""


CLOCK = _select(
    Clock,
    f"""SELECT {_epoch("clock_timestamp()")} AS now, coalesce((SELECT max(id) FROM dag_run), 0) AS newest_run,
      {{job}} AS newest_job, coalesce((SELECT max(id) FROM log), 0) AS newest_log""",
)
# Runs that are active, that are over while some of their tries are not, and that a worker touched: the trace of an old
# run that was cleared, and over again before the next poll. OFFSET 0 has each looked up by its index.
ACTIVE = _select(
    Run,
    f"""WITH tries AS MATERIALIZED (
        SELECT dag_id, run_id, sum(hashtext(concat_ws(' ', task_id, map_index, try_number, state))) AS digest
        FROM task_instance WHERE state IN ('scheduled', 'queued', 'running', 'restarting', 'deferred', 'up_for_retry',
          'up_for_reschedule', 'awaiting_input') GROUP BY dag_id, run_id
      ), active AS MATERIALIZED (
        SELECT {_RUN} FROM dag_run AS r WHERE state = 'running'
        UNION ALL SELECT {_RUN} FROM dag_run AS r WHERE state = 'queued'
      ), others AS (
        SELECT dag_id, run_id FROM tries UNION SELECT dag_id, run_id FROM task_instance WHERE {{touched}}
        EXCEPT SELECT dag_id, run_id FROM active
      )
      SELECT {", ".join(Run.__match_args__)} FROM (
        SELECT * FROM active UNION ALL SELECT run.* FROM others AS t CROSS JOIN LATERAL (
          SELECT {_RUN} FROM dag_run AS r WHERE r.dag_id = t.dag_id AND r.run_id = t.run_id OFFSET 0) AS run
      ) AS run LEFT JOIN tries USING (dag_id, run_id)
      WHERE digest IS NOT NULL OR state IN ('running', 'queued') OR id <= %(floor)s""",
)
CREATED = _select(Run, f"SELECT {_RUN} FROM dag_run AS r WHERE id > %(floor)s ORDER BY id LIMIT %(page)s")
BY_ID = _select(Run, f"SELECT {_RUN} FROM dag_run AS r WHERE id = ANY(%(ids)s::int[])")
NEWEST = _select(Run, f"SELECT {_RUN} FROM dag_run AS r WHERE id > %(seed)s AND state IN ('success', 'failed')")
NEWEST_PER_DAG = _select(
    Run,
    f"""SELECT r.* FROM dag AS d CROSS JOIN LATERAL (SELECT {_RUN} FROM dag_run AS r
      WHERE r.dag_id = d.dag_id AND r.{{date}} IS NOT NULL ORDER BY r.{{date}} DESC LIMIT 5) AS r
    WHERE r.state IN ('success', 'failed')""",
)
DAGS = _select(
    Dag,
    f"""SELECT dag_id, coalesce({{stale}}, false) AS stale, coalesce(is_paused, false) AS paused,
      {_epoch("next_dagrun_create_after")} AS next_due, max_consecutive_failed_dag_runs AS max_failed FROM dag""",
)
PROBLEMS = _select(Problem, f"SELECT id, event FROM log WHERE id > %(log)s AND event IN {EVENTS}")


def _attempt(key: str, stamp: str, scheduled: str, *, archived: bool) -> str:
    return f"""{key} AS key, t.state, {archived} AS archived, coalesce(t.try_number, 0) AS try_number,
      coalesce(t.max_tries, 0) AS max_tries, {stamp} AS stamp, {_epoch("t.start_date")} AS started, t.duration,
      {_epoch("t.queued_dttm")} AS queued, {scheduled} AS scheduled, t.task_id, t.operator, t.queue, t.pool"""


def _attempt_3(key: str, *, archived: bool) -> str:
    created = f"('x' || left(replace(t.{key}::text, '-', ''), 12))::bit(48)::bigint / 1000.0"  # uuid7
    return _attempt(f"t.{key}::text", f"({created})::float8", _epoch("t.scheduled_dttm"), archived=archived)


def _attempt_2(*, archived: bool) -> str:
    key = "concat_ws(' ', t.task_id, t.map_index, coalesce(t.try_number, 0))"
    return _attempt(key, _epoch("t.end_date"), "NULL::float8", archived=archived)


_KEYS = "k AS MATERIALIZED (SELECT id AS run, dag_id, run_id, clear_number FROM dag_run WHERE id = ANY(%(ids)s::int[]))"
# What was cleared before it was ever tried is archived as failed. Before Airflow 3 the history has no index by run, and
# OFFSET 0 makes the planner use all four columns of the one that it has.
ATTEMPTS = Select(
    row=Attempt,
    sql=f"""WITH {_KEYS}
      SELECT k.run, a.* FROM k CROSS JOIN LATERAL (
        SELECT {_attempt_3("id", archived=False)} FROM task_instance AS t
        WHERE t.dag_id = k.dag_id AND t.run_id = k.run_id
          AND t.state IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed') OFFSET 0) AS a
      UNION ALL SELECT k.run, a.* FROM k CROSS JOIN LATERAL (
        SELECT {_attempt_3("task_instance_id", archived=True)} FROM task_instance_history AS t
        WHERE t.dag_id = k.dag_id AND t.run_id = k.run_id
          AND NOT (t.state = 'failed' AND t.try_number = 0) OFFSET 0) AS a""",
    reads=_READS_3,
    older=(
        Variant(
            f"""WITH {_KEYS}, live AS MATERIALIZED (
              SELECT k.run, k.clear_number, t.dag_id, t.run_id, t.map_index, {_attempt_2(archived=False)}
              FROM k JOIN task_instance AS t USING (dag_id, run_id))
            SELECT run, key, state, archived, try_number, max_tries, stamp, started, duration, queued, scheduled,
              task_id, operator, queue, pool FROM live
            UNION ALL
            SELECT live.run, a.* FROM live CROSS JOIN LATERAL (
              SELECT {_attempt_2(archived=True)} FROM task_instance_history AS t
              WHERE t.dag_id = live.dag_id AND t.task_id = live.task_id AND t.run_id = live.run_id
                AND t.map_index = live.map_index AND NOT (t.state = 'failed' AND t.try_number = 0) OFFSET 0) AS a
            WHERE live.try_number > 1 OR live.state = 'up_for_retry' OR live.clear_number > 0""",
            _READS_2,
        ),
    ),
)
SELECTS = (CLOCK, ACTIVE, CREATED, BY_ID, NEWEST, NEWEST_PER_DAG, ATTEMPTS, DAGS, PROBLEMS)


@dataclass(slots=True)
class Poll:
    """Everything that one snapshot told; `attempts` are those of the runs that had to be read, `past` is old runs."""

    clock: Clock
    runs: dict[int, Run] = field(default_factory=dict)
    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    deleted: list[int] = field(default_factory=list)
    page_end: int | None = None
    dags: Sequence[Dag] = ()
    problems: Sequence[Problem] = ()
    past: list[Run] = field(default_factory=list)


async def read(transaction: Transaction, tracker: Tracker, watched: Mapping[int, int]) -> Poll:
    """What the tracker has to know now; `watched` has the clear_number of old runs to look at. Raises SourceError."""
    clock = (await _rows(transaction, CLOCK))[0]
    tracker.begin(clock, "uuid" if transaction.schema.has({"task_instance": "id"}) else "try", watched)
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
    poll.runs.update((run.id, run) for run in (*created, *await _rows(transaction, ACTIVE, **parameters)))
    poll.page_end = created[-1].id if len(created) == PAGE else None
    for ids in _batches(tracker.missing(poll.runs), COLD_RUNS):
        found = {run.id: run for run in await _rows(transaction, BY_ID, ids=ids)}
        poll.runs.update((run.id, run) for run in found.values() if tracker.news(run))
        poll.deleted += [run for run in ids if run not in found]
    await _read_attempts(transaction, tracker, poll)
    poll.dags = await _rows(transaction, DAGS)
    poll.problems = await _rows(transaction, PROBLEMS, **parameters)
    if tracker.cold:
        past = [*await _rows(transaction, NEWEST, **parameters), *await _rows(transaction, NEWEST_PER_DAG)]
        poll.past = list({run.id: run for run in past}.values())
    return poll


async def _read_attempts(transaction: Transaction, tracker: Tracker, poll: Poll) -> None:
    wanted = sorted((run.id for run in poll.runs.values() if tracker.wants(run)), reverse=True)
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


def _batches(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    return [ids[at : at + size] for at in range(0, len(ids), size)]
