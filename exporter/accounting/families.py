"""The families of what ended, and how an outcome is counted in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..metrics import Declared, Kind
from .ledger import Ledger
from .rows import Attempt, Dag, Run
from .tracker import Outcomes

EVENTS = ("heartbeat timeout", "state mismatch", "stuck in queued reschedule", "stuck in queued tries exceeded")
"""What Airflow's schedulers write into its log about task instances in trouble."""

_DURATIONS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
_DELAYS = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400)
_SKEW = 5.0
"""Seconds: a task that starts longer than that before it was queued was deferred in between, and no clock is wrong."""


COUNTED: list[Declared] = []


def _declare(kind: Kind, name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = ()) -> Declared:
    COUNTED.append(Declared(name=name, help=meaning, labels=labels, kind=kind, buckets=buckets))
    return COUNTED[-1]


def _counter(name: str, meaning: str, *labels: str) -> Declared:
    return _declare("counter", name, meaning, *labels)


def _histogram(buckets: tuple[float, ...], name: str, meaning: str, *labels: str) -> Declared:
    return _declare("histogram", name, meaning, *labels, buckets=buckets)


RUNS = _counter("airflow_dag_runs_finished_total", "DAG runs that ended.", "dag_id", "state", "run_type")
RUN_DURATION = _histogram(_DURATIONS, "airflow_dag_run_duration_seconds", "How long runs took.", "state", "run_type")
RUN_DURATION_PER_DAG = _declare(
    "summary", "airflow_dag_run_duration_per_dag_seconds", "How long runs took, whatever their outcome.", "dag_id"
)
START_DELAY = _histogram(
    _DELAYS,
    "airflow_dag_run_start_delay_seconds",
    "From when a DAG run should have started to its start; backfills and cleared runs do not count.",
    "run_type",
)
ATTEMPTS = _counter(
    "airflow_task_instances_finished_total",
    "Tries of task instances that ended; one that failed counts also if it is retried.",
    "dag_id",
    "state",
)
ATTEMPT_DURATION = _histogram(
    _DURATIONS,
    "airflow_task_instance_duration_seconds",
    "How long tries took that succeeded or failed, deferrals included.",
    "operator",
)
QUEUED = _histogram(
    _DELAYS, "airflow_task_instance_queued_duration_seconds", "From being queued to the start.", "queue"
)
SCHEDULED = _histogram(
    _DELAYS,
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
    "windsock_accounting_negative_durations_total", "Times between two clocks that were negative, and count as 0."
)


class Accountant:
    """Counts outcomes under the names that DAGs may have; a DAG that the configuration denies has none."""

    def __init__(self, ledger: Ledger, label: Callable[[str], str | None]) -> None:
        self._ledger, self._label = ledger, label

    def discover(self, dags: Iterable[Dag]) -> None:
        """Zeros for what every DAG may show first, so that its first failure is an increase."""
        ledger = self._ledger
        for metric in (SUPERSEDED, OVERRIDES, CLAMPED):
            ledger.zero(metric)
        for event in EVENTS:
            ledger.zero(PROBLEMS, event)
        for state in ("success", "failed"):
            for run_type in ("scheduled", "manual"):
                ledger.zero(RUN_DURATION, state, run_type)
        for dag in dags:
            shown = self._label(dag.dag_id)
            if shown and not ledger.has(RETRIES, shown):
                for state in ("success", "failed"):
                    ledger.zero(ATTEMPTS, shown, state)
                    for run_type in ("scheduled", "manual"):
                        ledger.zero(RUNS, shown, state, run_type)
                ledger.zero(RETRIES, shown)
                ledger.zero(RUN_DURATION_PER_DAG, shown)

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
        self._ledger.add(ATTEMPTS, shown, str(attempt.state))
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
