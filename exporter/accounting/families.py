"""The families of what ended, and how an outcome is counted in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

from ..metrics import Declared, Kind
from .ledger import Ledger
from .rows import EVENTS, Attempt, Run
from .tracker import Outcomes

_SKEW = 5.0
"""Seconds: a task that starts longer than that before it was queued was deferred in between, and no clock is wrong."""


COUNTED: list[Declared] = []


def _declare(kind: Kind, name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = ()) -> Declared:
    COUNTED.append(Declared(name=name, help=meaning, labels=labels, kind=kind, buckets=buckets))
    return COUNTED[-1]


_counter = partial(_declare, "counter")
_duration = partial(
    _declare,
    "histogram",
    buckets=(1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400),
)
_delay = partial(_declare, "histogram", buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400))

RUNS = _counter("airflow_dag_runs_finished_total", "DAG runs that ended.", "dag_id", "state", "run_type")
RUN_DURATION = _duration("airflow_dag_run_duration_seconds", "How long runs took.", "state", "run_type")
RUN_DURATION_PER_DAG = _declare(
    "summary", "airflow_dag_run_duration_per_dag_seconds", "How long runs took, whatever their outcome.", "dag_id"
)
START_DELAY = _delay(
    "airflow_dag_run_start_delay_seconds",
    "From when a DAG run should have started to its start; backfills and cleared runs do not count.",
    "run_type",
)
ATTEMPTS = _counter(
    "airflow_task_instances_finished_total",
    "Tries of task instances that ended, also of those that are retried; airflow.task_labels adds labels.",
    "dag_id",
    "state",
)
ATTEMPT_DURATION = _duration(
    "airflow_task_instance_duration_seconds",
    "How long tries took that succeeded or failed, deferrals included.",
    "operator",
)
QUEUED = _delay("airflow_task_instance_queued_duration_seconds", "From being queued to the start.", "queue")
SCHEDULED = _delay(
    "airflow_task_instance_scheduled_duration_seconds",
    "From being scheduled to being queued (Airflow 3).",
    "pool",
)
RETRIES = _counter("airflow_task_instance_retries_total", "Tries that failed and were followed by another.", "dag_id")
PROBLEMS = _counter(
    "airflow_task_instance_problems_total", "Task instances in trouble, as Airflow's log table tells.", "event"
)
SUPERSEDED = _counter("airflow_dag_runs_superseded_total", "Ends of DAG runs that a clear may have hidden.")
OVERRIDES = _counter(
    "airflow_task_instance_state_overrides_total", "Outcomes of tries that were changed by hand after they counted."
)
CLAMPED = _counter(
    "windsock_accounting_negative_durations_total",
    "Times between two clocks that were negative, and count as 0; a short deferral can look like one.",
)


Zeros = tuple[tuple[Declared, *tuple[str, ...]], ...]
_OUTCOMES, _TYPES = ("success", "failed"), ("scheduled", "manual")
_ZEROS: Zeros = (
    *product((SUPERSEDED, OVERRIDES, CLAMPED)),
    *product((PROBLEMS,), EVENTS),
    *product((RUN_DURATION,), _OUTCOMES, _TYPES),
)
_ZEROS_PER_DAG: Zeros = (
    *product((RETRIES, RUN_DURATION_PER_DAG)),
    *product((ATTEMPTS,), _OUTCOMES),
    *product((RUNS,), _OUTCOMES, _TYPES),
)
SERIES_PER_DAG = Counter(metric.name for metric, *_ in _ZEROS_PER_DAG)
"""How many series every DAG has in a family, at least."""


def counted(task_labels: Sequence[str]) -> list[Declared]:
    """The families, with the labels that the configuration adds to the one of tries."""
    added = replace(ATTEMPTS, labels=(*ATTEMPTS.labels, *task_labels))
    return [added if metric is ATTEMPTS else metric for metric in COUNTED]


class Accountant:
    """Counts outcomes under the names that DAGs may have; a DAG that the configuration denies has none."""

    def __init__(self, ledger: Ledger, label: Callable[[str], str | None], task_labels: Sequence[str]) -> None:
        self._ledger, self._label, self._task_labels = ledger, label, task_labels

    def discover(self, dag_ids: Iterable[str]) -> None:
        """Zeros for what every DAG may show first, so that its first failure is an increase."""
        for metric, *labels in _ZEROS:
            self._ledger.zero(metric, *labels)
        for dag_id in dag_ids:
            shown = self._label(dag_id)
            if shown and not self._ledger.has(ATTEMPTS, shown, _OUTCOMES[0]):
                for metric, *labels in _ZEROS_PER_DAG:
                    self._ledger.zero(metric, shown, *labels)

    def count(self, outcomes: Outcomes) -> None:
        """Everything that a poll found to be over."""
        for run in outcomes.runs:
            self._run(run)
        for run, attempt in outcomes.attempts:
            self._attempt(run, attempt)
        for problem in outcomes.problems:
            self._ledger.add(PROBLEMS, problem.event)
        for metric, amount in ((SUPERSEDED, outcomes.superseded), (OVERRIDES, outcomes.overrides)):
            if amount:
                self._ledger.add(metric, amount=amount)

    def _run(self, run: Run) -> None:
        shown, state = self._label(run.dag_id), str(run.state)
        if shown is None:
            return
        self._ledger.add(RUNS, shown, state, run.run_type)
        if (duration := self._between(run.started, run.ended)) is not None:
            self._ledger.observe(RUN_DURATION, state, run.run_type, value=duration)
            self._ledger.observe(RUN_DURATION_PER_DAG, shown, value=duration)
        if run.clear_number or run.run_type.startswith("backfill"):
            return
        if (delay := self._between(run.due, run.started)) is not None:
            self._ledger.observe(START_DELAY, run.run_type, value=delay)

    def _attempt(self, run: Run, attempt: Attempt) -> None:
        shown = self._label(run.dag_id)
        if shown is None:
            return
        added = [getattr(attempt, name) or "" for name in self._task_labels if shown == run.dag_id]
        self._ledger.add(ATTEMPTS, shown, str(attempt.state), *added)
        if attempt.retried:
            self._ledger.add(RETRIES, shown)
        if attempt.state not in ("success", "failed") or attempt.try_number < 1:
            return  # the times of what was never tried are those of an earlier try
        if attempt.duration is not None:
            self._ledger.observe(ATTEMPT_DURATION, attempt.operator or "", value=max(0.0, attempt.duration))
        if attempt.queued and attempt.started and attempt.started - attempt.queued > -_SKEW:
            queued = self._between(attempt.queued, attempt.started)
            self._ledger.observe(QUEUED, attempt.queue or "", value=queued or 0.0)
        if (scheduled := self._between(attempt.scheduled, attempt.queued)) is not None:
            self._ledger.observe(SCHEDULED, attempt.pool, value=scheduled)

    def _between(self, start: float | None, end: float | None) -> float | None:
        if start is None or end is None:
            return None
        if end < start:
            self._ledger.add(CLAMPED)
        return max(0.0, end - start)
