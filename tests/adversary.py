"""Does to the tables what Airflow does at its worst, from several threads, and keeps the truth about what ended."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg

from .airflow import Airflow, Values

OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
DAGS = [f"dag_{number}" for number in range(6)]

_DATES = "start_date = clock_timestamp(), end_date = clock_timestamp()"
_SAME = "dag_id = %s AND task_id = %s AND run_id = %s AND map_index = %s"
_COPIED = "dag_id, task_id, run_id, map_index, try_number, max_tries, start_date, duration, pool, pool_slots"

MARK = "UPDATE dag_run SET state = 'success', end_date = clock_timestamp() WHERE state = 'failed'"

Key = tuple[int, str]
"""A run's id, and an attempt's key in it."""


@dataclass
class Truth:
    """What ended: each attempt's outcomes in their order, each end of a run, and the runs whose rows were deleted."""

    attempts: defaultdict[Key, list[str]] = field(default_factory=lambda: defaultdict(list))
    runs: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    dags: dict[int, str] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    retried: set[Key] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


def uuid7() -> uuid.UUID:
    """A time-ordered key, as Airflow 3 makes them."""
    value = int(time.time() * 1000) << 80 | random.getrandbits(80)
    return uuid.UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


class Writer:
    """One scheduler with its workers and impatient users; its runs are its own. Ends when `stop` is set."""

    def __init__(
        self, url: str, version: str, truth: Truth, stop: threading.Event, seed: int, pause: float = 0.05
    ) -> None:
        self.thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None
        self._url, self._version, self._truth, self._stopping = url, version, truth, stop
        self._seed, self._rng, self._pause = seed, random.Random(seed), pause
        self._done: list[tuple[Values, float]] = []
        self._count = 0

    def _run(self) -> None:
        try:
            with psycopg.connect(self._url) as connection:
                self._airflow = Airflow(connection, self._version)
                self._three = self._airflow.version >= (3, 0)
                while not self._stopping.is_set():
                    self._act()
                    time.sleep(self._rng.random() * self._pause)
        except BaseException as error:  # noqa: BLE001
            self.error = error

    def _act(self) -> None:
        old, older = ([run for run, at in self._done if at < time.monotonic() - age] for age in (2.0, 5.0))
        match self._rng.random():
            case x if x < 0.06:
                self._new(slow=True)
            case x if x < 0.30:
                self._new(fast=True)
            case x if x < 0.36:
                self._new(delete=True)
            case x if x < 0.50 and self._done:
                self._clear(self._rng.choice(self._done)[0])
            case x if x < 0.62 and self._done:
                self._clear(self._rng.choice(self._done)[0], fast=True)
            case x if x < 0.70 and old:
                run = self._rng.choice(old)
                self._sql(
                    "UPDATE task_instance SET state = 'success' WHERE dag_id = %s AND run_id = %s AND state = 'failed'",
                    *_key(run),
                )
            case x if x < 0.73 and old:
                self._delete(self._rng.choice(old))  # airflow db clean
            case x if x < 0.80 and older:
                self._mark(self._rng.choice(older))
            case _:
                self._new()

    def _sql(self, text: str, *values: Any) -> list[Any]:
        cursor = self._airflow.connection.execute(text.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def _over(self, run: Values, key: str, state: str) -> None:
        with self._truth.lock:
            self._truth.attempts[run["id"], key].append(state)

    def _run_over(self, run: Values, state: str) -> None:
        with self._truth.lock:
            self._truth.runs[run["id"], run["clear_number"], state] += 1

    def _new(self, *, slow: bool = False, fast: bool = False, delete: bool = False) -> None:
        self._count += 1
        with self._airflow.connection.transaction():
            date = self._airflow.ago(self._seed * 1e6 - self._count)
            run = self._airflow.run(
                self._rng.choice(DAGS),
                "queued",
                run_id=f"run_{self._seed}_{self._count}",
                clear_number=0,
                queued_at=date,
                data_interval_end=date,
                **({"run_after": date, "logical_date": date} if self._three else {"execution_date": date}),
            )
            with self._truth.lock:
                self._truth.dags[run["id"]] = run["dag_id"]
            tasks = [self._task(run, f"t{index}", -1) for index in range(self._rng.randint(1, 4))]
            tasks += [self._task(run, "mapped", index) for index in range(self._rng.choice((0, 0, 3)))]
            if slow:
                time.sleep(self._rng.uniform(0.5, 1.5))
            if fast:
                self._instantly(run, tasks)
        if fast:
            self._done.append((run, time.monotonic()))
        else:
            self._sql("UPDATE dag_run SET state = 'running', start_date = clock_timestamp() WHERE id = %s", run["id"])
            self._play(run, tasks, delete=delete)

    def _task(self, run: Values, task_id: str, map_index: int) -> Values:
        key: Values = {"id": uuid7()} if self._three else {}
        return self._airflow.task(run, None, task_id=task_id, map_index=map_index, try_number=0, max_tries=1, **key)

    def _key_of(self, task: Values) -> str:
        return str(task["id"]) if self._three else f"{task['task_id']} {task['map_index']} {task['try_number']}"

    def _set(self, task: Values, text: str, *values: Any) -> None:
        self._sql(f"UPDATE task_instance SET {text} WHERE {_SAME}", *values, *_identity(task))

    def _trace(self) -> str:
        """What a worker leaves in the row when it starts."""
        return (
            "last_heartbeat_at = clock_timestamp()"
            if self._three
            else f"job_id = {self._airflow.job('LocalTaskJob', self._airflow.now)['id']}"
        )

    def _instantly(self, run: Values, tasks: list[Values]) -> None:
        for task in tasks:
            task["try_number"] += 1
            self._set(
                task,
                f"state = 'success', try_number = %s, duration = 0, {_DATES}, {self._trace()}",
                task["try_number"],
            )
            self._over(run, self._key_of(task), "success")
        self._sql(
            f"UPDATE dag_run SET state = 'success', {_DATES} WHERE id = %s",
            run["id"],
        )
        self._run_over(run, "success")

    def _play(self, run: Values, tasks: list[Values], *, delete: bool = False, again: bool = False) -> None:
        failed = False
        for index, task in enumerate(tasks):
            if failed:
                self._skip(run, task, "upstream_failed")
                continue
            match self._rng.random():
                case x if x < 0.1 and not (again and index == 0):  # else no worker leaves a trace
                    self._skip(run, task, "skipped")
                case x if x < 0.3:
                    self._try(run, task, "up_for_retry")
                    self._try(run, task, "success")
                case x if x < 0.4:
                    self._try(run, task, "failed")
                    failed = True
                case _:
                    self._try(run, task, "success")
            if delete and index == 0:
                return self._delete(run)
            if self._rng.random() < 0.03:
                self._sql("UPDATE dag_run SET clear_number = clear_number + 1 WHERE id = %s", run["id"])  # as 3.3 does
                run["clear_number"] += 1
        state = "failed" if failed else "success"
        self._sql("UPDATE dag_run SET state = %s, end_date = clock_timestamp() WHERE id = %s", state, run["id"])
        self._run_over(run, state)
        self._done.append((run, time.monotonic()))
        return None

    def _skip(self, run: Values, task: Values, state: str) -> None:
        self._set(task, f"state = %s, {_DATES}", state)
        self._over(run, self._key_of(task), state)

    def _try(self, run: Values, task: Values, outcome: str) -> None:
        task["try_number"] += 1
        self._set(task, "state = 'scheduled', try_number = %s, max_tries = %s", task["try_number"], task["try_number"])
        self._set(task, "state = 'queued', queued_dttm = clock_timestamp()")
        self._set(task, f"state = 'running', start_date = clock_timestamp(), end_date = NULL, {self._trace()}")
        time.sleep(self._rng.choice((0, 0, 0.05, 0.4)))
        if outcome == "up_for_retry":
            with self._airflow.connection.transaction():
                name = self._key_of(task)
                self._archive(task, "failed")
                self._set(task, "state = 'up_for_retry', end_date = clock_timestamp()")
            self._over(run, name, "failed")
            with self._truth.lock:
                self._truth.retried.add((run["id"], name))
        else:
            retries = task["try_number"] - (outcome == "failed")  # it fails for good when there are none left
            self._set(task, "state = %s, max_tries = %s, end_date = clock_timestamp(), duration = 1", outcome, retries)
            self._over(run, self._key_of(task), outcome)

    def _archive(self, task: Values, state: str) -> None:
        """Airflow's record_ti, which keeps one row for a try number, and the new key of Airflow 3."""
        self._sql(
            f"""INSERT INTO task_instance_history
            ({"task_instance_id, " if self._three else ""}{_COPIED}, state, end_date)
            SELECT {"id, " if self._three else ""}{_COPIED}, %s, coalesce(end_date, clock_timestamp())
            FROM task_instance AS t WHERE {_SAME} AND NOT EXISTS (
              SELECT FROM task_instance_history AS h WHERE {_SAME} AND h.try_number = t.try_number)""",
            state,
            *_identity(task),
            *_identity(task),
        )
        if self._three:
            new = uuid7()
            self._set(task, "id = %s", new)
            task["id"] = new

    def _clear(self, run: Values, *, fast: bool = False) -> None:
        with self._airflow.connection.transaction():
            if not self._sql("SELECT 1 FROM dag_run WHERE id = %s FOR UPDATE", run["id"]):
                return
            self._done = [each for each in self._done if each[0] is not run]
            cleared: list[Values] = []
            names = ["dag_id", "task_id", "run_id", "map_index", "try_number", "state"] + ["id"] * self._three
            for row in self._sql(
                f"SELECT {', '.join(names)} FROM task_instance WHERE dag_id = %s AND run_id = %s", *_key(run)
            ):
                task = dict(zip(names, row, strict=True))
                if not cleared or self._rng.random() < 0.5:
                    self._archive(task, task["state"] if task["state"] in OVER else "failed")
                    self._set(task, "state = NULL")
                    cleared.append(task)
            (run["clear_number"],) = self._sql(
                """UPDATE dag_run SET state = 'queued', clear_number = clear_number + 1, queued_at = now(),
                start_date = NULL, end_date = NULL WHERE id = %s RETURNING clear_number""",
                run["id"],
            )[0]
            if fast:
                self._instantly(run, cleared)
        if fast:
            self._done.append((run, time.monotonic()))
        else:
            self._sql("UPDATE dag_run SET state = 'running', start_date = clock_timestamp() WHERE id = %s", run["id"])
            self._play(run, cleared, again=True)

    def _mark(self, run: Values) -> None:
        """A failed run that may be forgotten by now is marked as success: nothing ends by that."""
        if self._sql(f"{MARK} AND id = %s RETURNING id", run["id"]):
            self._sql(
                "UPDATE task_instance SET state = 'success' WHERE dag_id = %s AND run_id = %s AND state = 'failed'",
                *_key(run),
            )

    def _delete(self, run: Values) -> None:
        with self._truth.lock:
            self._truth.deleted.add(run["id"])
        self._done = [each for each in self._done if each[0] is not run]
        with self._airflow.connection.transaction():
            for table in ("task_instance_history", "task_instance", "dag_run"):
                self._sql(f"DELETE FROM {table} WHERE dag_id = %s AND run_id = %s", *_key(run))


def _identity(task: Values) -> tuple[Any, ...]:
    return task["dag_id"], task["task_id"], task["run_id"], task["map_index"]


def _key(run: Values) -> tuple[str, str]:
    return run["dag_id"], run["run_id"]


def surviving(connection: psycopg.Connection[Any], version: str) -> set[Key]:
    """The attempts that are over and whose rows are still there."""
    three = version.startswith("3")
    name = "concat_ws(' ', t.task_id, t.map_index, t.try_number)"
    live, archived = ("t.id::text", "t.task_instance_id::text") if three else (name, name)
    rows = connection.execute(
        f"""SELECT r.id, {live} FROM dag_run AS r JOIN task_instance AS t USING (dag_id, run_id) WHERE t.state = ANY(%s)
        UNION SELECT r.id, {archived} FROM dag_run AS r JOIN task_instance_history AS t USING (dag_id, run_id)
        WHERE t.try_number > 0 OR t.state <> 'failed'""".encode(),
        [list(OVER)],
    )
    return {(run, key) for run, key in rows}


def mark_all(connection: psycopg.Connection[Any]) -> None:
    """Somebody marks every run that failed as success."""
    connection.execute(MARK.encode())


def last_runs(connection: psycopg.Connection[Any], version: str) -> dict[str, tuple[float, bool]]:
    """When each DAG's run that is over and was due last was due, and whether it succeeded."""
    due = f"extract(epoch FROM {'run_after' if version.startswith('3') else 'data_interval_end'})::float8"
    rows = connection.execute(
        f"""SELECT DISTINCT ON (dag_id) dag_id, {due}, state = 'success' FROM dag_run
        WHERE state IN ('success', 'failed') ORDER BY dag_id, {due} DESC""".encode()
    )
    return {dag_id: (at, succeeded) for dag_id, at, succeeded in rows}
