"""What is known of each DAG's last runs, and by when it should succeed; what is not known is absent."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from ..config.model import Airflow, Expectation
from ..metrics import Metric
from .rows import Dag, Run

LENGTH = 15
"""Durations of successes that are kept; `usual` is their median."""

MAX_FAILED = 100


@dataclass(slots=True)
class Facts:
    """A DAG's last runs, in the order of their due times; `failed` are (id, due, scheduled) since the last success."""

    due: float = 0.0
    succeeded: bool | None = None
    duration: float | None = None
    success: float | None = None
    interval_end: float | None = None
    success_due: float = 0.0
    failed: list[tuple[int, float, bool]] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    usual: float = 0.0

    def learn(self, run: Run) -> None:
        """A run that is over."""
        due = run.due or run.started or 0.0
        duration = max(0.0, run.ended - run.started) if run.ended and run.started else None
        if due >= self.due:
            self.due, self.succeeded, self.duration = due, run.state == "success", duration
        failed = [each for each in self.failed if each[0] != run.id]
        if run.state == "success":
            self.success = max(self.success or 0.0, run.ended or 0.0) or None
            self.interval_end = max(self.interval_end or 0.0, run.interval_end or 0.0) or None
            self.success_due = max(self.success_due, due)
            self.durations = [*self.durations, *([] if duration is None else [duration])][-LENGTH:]
            self.usual = median(self.durations) if self.durations else 0.0
        else:
            failed.append((run.id, due, run.run_type == "scheduled"))
        self.failed = [(run_id, at, scheduled) for run_id, at, scheduled in failed if at > self.success_due][
            -MAX_FAILED:
        ]


@dataclass(slots=True)
class Last:
    """A DAG, what is known of its last runs, and by when the next success is expected."""

    dag: Dag
    facts: Facts
    expected: float | None


def expected(dag: Dag, facts: Facts, active: list[float], airflow: Airflow) -> float | None:
    """By when a success is expected; `active` are the due times of the scheduled runs that are not over."""
    for pattern, rule in airflow.expected_by.items():
        if pattern.fullmatch(dag.dag_id):
            return configured(rule, facts.success)
    if dag.paused:
        return None
    waiting = [at for at in active if at > facts.success_due]
    waiting += [at for _, at, scheduled in facts.failed if scheduled]
    due = min(waiting, default=dag.next_due)
    return None if due is None else due + max(2 * facts.usual, airflow.limits.overdue_grace)


def configured(rule: Expectation, success: float | None) -> float | None:
    """So long after the last success, or at this time on the day after it."""
    if success is None:
        return None
    if rule.every is not None:
        return success + rule.every
    assert rule.at
    day = datetime.fromtimestamp(success, rule.tz).date() + timedelta(days=1)
    return datetime.combine(day, rule.at, rule.tz).timestamp()


LAST: tuple[Metric[Last], ...] = (
    Metric(
        name="airflow_dag_last_success_timestamp_seconds",
        help="When a run of the DAG last ended in success.",
        labels=("dag_id",),
        value=lambda row: row.facts.success,
    ),
    Metric(
        name="airflow_dag_last_success_data_interval_end_timestamp_seconds",
        help="Up to when successful runs of the DAG have processed its data.",
        labels=("dag_id",),
        value=lambda row: row.facts.interval_end,
    ),
    Metric(
        name="airflow_dag_last_run_success",
        help="1 if, of the runs that are over, the one that was due last succeeded, else 0.",
        labels=("dag_id",),
        value=lambda row: row.facts.succeeded,
    ),
    Metric(
        name="airflow_dag_last_run_duration_seconds",
        help="How long that run took.",
        labels=("dag_id",),
        value=lambda row: row.facts.duration,
    ),
    Metric(
        name="airflow_dag_consecutive_failed_runs",
        help="Failed runs since the last success, in the order in which they were due; 100 are as many as are counted.",
        labels=("dag_id",),
        value=lambda row: None if row.facts.succeeded is None else len(row.facts.failed),
    ),
    Metric(
        name="airflow_dag_max_consecutive_failed_runs",
        help="Failed runs in a row after which Airflow pauses the DAG; absent without such a limit.",
        labels=("dag_id",),
        value=lambda row: row.dag.max_failed or None,
    ),
    Metric(
        name="airflow_dag_success_expected_by_timestamp_seconds",
        help="By when the DAG should have succeeded, as configured or derived from its schedule and usual duration.",
        labels=("dag_id",),
        value=lambda row: row.expected,
    ),
)
