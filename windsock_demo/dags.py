"""The Airflow that the demo plays, as dags.yml describes it; times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml


@dataclass(frozen=True)
class Task:
    """A try takes about `seconds`; `fails` and `skips` are probabilities, `mapped` is how many it may expand to.

    Of what it needs it is cut off for `away` seconds, then has it for as long, and so on.
    """

    task_id: str
    after: list[str] = field(default_factory=list)
    seconds: float = 2.0
    queue: str = "default"
    pool: str = "default_pool"
    max_tries: int = 0
    fails: float = 0.0
    skips: float = 0.0
    away: float = 0.0
    mapped: int = 0
    outlet: str | None = None
    waits: Literal["up_for_reschedule", "deferred", "awaiting_input"] | None = None


@dataclass(frozen=True)
class Dag:
    """Runs come each `every` seconds, the first after `due`, or with all of the `assets`, or as the days of a backfill.

    One should be over `deadline` seconds after it was queued. A DAG in trouble has no runs.
    """

    dag_id: str
    owners: str
    timetable: str | None = None
    every: float = 0.0
    due: float = 0.0
    tasks: list[Task] = field(default_factory=lambda: [Task("run")])
    tags: list[str] = field(default_factory=list)
    bundle: str = "warehouse"
    assets: list[str] = field(default_factory=list)
    backfill: int = 0
    deadline: float | None = None
    max_active_runs: int = 2
    trouble: Literal["paused", "stale", "broken", "overdue"] | None = None


def _dag(tasks: list[dict[str, Any]] | None = None, **fields: Any) -> Dag:
    return Dag(**fields, tasks=[Task(**task) for task in tasks]) if tasks else Dag(**fields)


_DATA = yaml.safe_load(Path(__file__).with_name("dags.yml").read_text())
BUNDLES: dict[str, str | None] = _DATA["bundles"]
POOLS: dict[str, int] = _DATA["pools"]
QUEUES: dict[str, int] = _DATA["queues"]
DAGS = [_dag(**fields) for fields in _DATA["dags"]]
PARALLELISM = 32
