"""What is known of each DAG's last runs, and by when it should succeed; what is not known is absent."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from operator import itemgetter
from statistics import median

from ..config.model import Airflow
from ..metrics import Declared, Family
from .rows import Dag, Run

LENGTH = 15
"""Durations of successes that are kept; `usual` is their median."""

MAX_FAILED = 100
WATCHED, WATCHED_PER_DAG = 2000, 5
"""Failed runs that every poll looks at, for somebody may mark or repeat them long after they ended."""


@dataclass(slots=True)
class Facts:
    """A DAG's last runs, in the order of their due times.

    `failed` are those since the last success: due, id, clear_number, and whether it was scheduled.
    """

    due: float = 0.0
    succeeded: bool | None = None
    duration: float | None = None
    success: float | None = None
    interval_end: float | None = None
    success_due: float = 0.0
    failed: list[tuple[float, int, int, bool]] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    usual: float = 0.0

    def learn(self, run: Run, *, corrected: bool = False) -> None:
        """A run that is over; one that is `corrected` was so before, and its end is when somebody said otherwise."""
        due = run.due or run.started or 0.0
        duration = max(0.0, run.ended - run.started) if run.ended and run.started and not corrected else None
        if due >= self.due:
            self.due, self.succeeded = due, run.state == "success"
            self.duration = self.duration if corrected else duration
        if run.state == "success":
            self.success = max(self.success or 0.0, run.ended or 0.0) or None
            self.interval_end = max(self.interval_end or 0.0, run.interval_end or 0.0) or None
            self.success_due = max(self.success_due, due)
            self.durations = [*self.durations, *([] if duration is None else [duration])][-LENGTH:]
            self.usual = median(self.durations) if self.durations else 0.0
        failed = [each for each in self.failed if each[1] != run.id and each[0] > self.success_due]
        if run.state != "success" and due > self.success_due:
            insort(failed, (due, run.id, run.clear_number, run.run_type == "scheduled"), key=itemgetter(0))
        self.failed = failed[-MAX_FAILED:]


def watched(facts: Iterable[Facts]) -> dict[int, int]:
    """The clear_number of failed runs by id: each DAG's newest, then each one's second, and so on."""
    failing = [each.failed for each in facts if each.failed]
    ranked = (runs[-rank] for rank in range(1, WATCHED_PER_DAG + 1) for runs in failing if len(runs) >= rank)
    return {run: clear_number for _, run, clear_number, _ in islice(ranked, WATCHED)}


def expected(dag: Dag, facts: Facts, active: list[float], airflow: Airflow) -> float | None:
    """By when a success is expected; `active` are the due times of the scheduled runs that are not over."""
    by = configured(dag, facts, airflow)
    if by is not None or dag.paused:
        return by
    waiting = [at for at in active if at > facts.success_due]
    waiting += [at for at, _, _, scheduled in facts.failed if scheduled]
    due = min(waiting, default=dag.next_due)
    return None if due is None else due + max(2 * facts.usual, airflow.limits.overdue_grace)


def configured(dag: Dag, facts: Facts, airflow: Airflow) -> float | None:
    """By the first match: so long after the last success, or at this time on the day after it; None without one."""
    rule = next((rule for pattern, rule in airflow.expected_by.items() if pattern.fullmatch(dag.dag_id)), None)
    if rule is None or facts.success is None:
        return None
    if rule.every is not None:
        return facts.success + rule.every
    assert rule.at
    day = datetime.fromtimestamp(facts.success, rule.tz).date() + timedelta(days=1)
    return datetime.combine(day, rule.at, rule.tz).timestamp()


LAST = tuple(
    Declared(name=f"airflow_dag_{name}", help=meaning, labels=("dag_id", *labels))
    for name, meaning, *labels in (
        ("last_success_timestamp_seconds", "When a run of the DAG last ended in success."),
        (
            "last_success_data_interval_end_timestamp_seconds",
            "Up to when successful runs of the DAG have processed its data.",
        ),
        ("last_run_success", "1 if, of the runs that are over, the one that was due last succeeded, else 0."),
        ("last_run_duration_seconds", "How long that run took."),
        ("usual_run_duration_seconds", f"The median duration of the DAG's last {LENGTH} successes."),
        (
            "consecutive_failed_runs",
            "Failed runs since the last success, in the order in which they were due; 100 are as many as are counted.",
        ),
        (
            "max_consecutive_failed_runs",
            "Failed runs in a row after which Airflow pauses the DAG; absent without such a limit.",
        ),
        (
            "success_expected_by_timestamp_seconds",
            "By when the DAG should have succeeded, as configured or derived from its schedule and usual duration.",
            "source",
        ),
    )
)


def _values(dag: Dag, facts: Facts, by: float | None) -> Sequence[float | None]:
    """What LAST shows of a DAG, in that order."""
    usual = facts.usual if facts.durations else None
    failed = None if facts.succeeded is None else len(facts.failed)
    last = facts.success, facts.interval_end, facts.succeeded, facts.duration
    return *last, usual, failed, dag.max_failed or None, by


class Lasts:
    """What LAST shows of all DAGs; worked out anew where the DAG, its facts or the due times of its runs changed."""

    def __init__(self) -> None:
        self._dags: Mapping[str, Dag] = {}
        self._active: Mapping[str, list[float]] = {}
        self._names = set[str]()
        self._shown, self._hidden = ([dict[tuple[str, ...], float]() for _ in LAST] for _ in range(2))

    def update(
        self,
        dags: Mapping[str, Dag],
        names: set[str],
        runs: Iterable[Run],
        facts: Mapping[str, Facts],
        changed: set[str],
        airflow: Airflow,
    ) -> None:
        """These are the DAGs now, those in `names` are shown; of the runs, the active ones count.

        `changed` are the DAGs with other facts.
        """
        active: defaultdict[str, list[float]] = defaultdict(list)
        for run in runs:
            if not run.over and run.run_type == "scheduled" and run.due is not None:
                active[run.dag_id].append(run.due)
        moved = changed | (names ^ self._names) | _different(dags, self._dags) | _different(active, self._active)
        self._dags, self._active, self._names = dags, active, names
        for dag_id in moved:
            for samples in (*self._shown, *self._hidden):
                for labels in ((dag_id,), (dag_id, "configured"), (dag_id, "derived")):
                    samples.pop(labels, None)
            if dag := dags.get(dag_id):
                self._add(dag, facts.get(dag_id) or Facts(), airflow)

    def families(self) -> Iterator[Family]:
        """Of the DAGs that are shown by name; those of others are dropped. The next update changes the samples."""
        for metric, samples, hidden in zip(LAST, self._shown, self._hidden, strict=True):
            yield Family(metric, samples, len(hidden))

    def _add(self, dag: Dag, facts: Facts, airflow: Airflow) -> None:
        labels = dag.dag_id, "derived" if configured(dag, facts, airflow) is None else "configured"
        values = _values(dag, facts, expected(dag, facts, self._active.get(dag.dag_id, []), airflow))
        families = self._shown if dag.dag_id in self._names else self._hidden
        for metric, samples, value in zip(LAST, families, values, strict=True):
            if value is not None:
                samples[labels[: len(metric.labels)]] = value


def _different(one: Mapping[str, object], other: Mapping[str, object]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
