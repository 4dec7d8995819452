"""What there is to tell of a group of alerts, before it is put in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .model import Alert, Snapshot, rank

SHOWN = 8
"""Alerts that a message lists."""
GREEN = "#2EB67D"
CLEARED, MISSED = "cleared", "missed"
STANDINGS = {
    "silenced": "silenced in Alertmanager",
    "inhibited": "inhibited by another alert, says Alertmanager",
    "muted": "muted by a time interval in Alertmanager",
    MISSED: "fired and was over while Windsock was down",
    CLEARED: "Alertmanager no longer has it, though it did not say that it was resolved",
}
"""How a group may stand, other than webhooks tell."""
NAMES = {
    "dag_id": "DAG",
    "task_id": "Task",
    "run_id": "Run",
    "map_index": "Map index",
    "try_number": "Try",
    "run_type": "Run type",
} | {
    name: name.capitalize()
    for name in ("queue", "pool", "component", "hostname", "state", "team", "owner", "owners", "tags")
}
"""What an Airflow's labels are called, the most telling first."""
ABOUT = ("dag_id", "task_id", "queue", "pool", "component", "hostname")
"""Those that a headline tells."""
ELSEWHERE = frozenset({"alertname", "severity", "airflow"})
"""Labels that the headline and the title tell."""
SCRAPE = frozenset({"job", "instance", "prometheus", "prometheus_replica", "endpoint", "service", "container", "pod"})
"""Labels that tell where a metric comes from, rather than what it is about."""

_TOLD = ("status", "standing", "severity", "receiver", "firing", "resolved", "truncated")
_LOOKS = (
    ("#868E96", ":white_circle:"),
    ("#3A86C8", ":large_blue_circle:"),
    ("#F2A33A", ":large_orange_circle:"),
    ("#D72638", ":red_circle:"),
)


class FailedTask(NamedTuple):
    """A task instance that failed, of so many; `usual` is the median duration of its successes, in seconds."""

    task_id: str
    map_index: int
    try_number: int
    tries: int
    operator: str | None
    duration: float | None
    usual: float | None
    queue: str | None
    pool: str | None
    failures: int


class Background(NamedTuple):
    """What is known beside a group's alerts: of its DAG the last runs, of its run the first tasks that failed."""

    last_success: float | None = None
    failed_in_a_row: int | None = None
    failed: Sequence[FailedTask] = ()


class Incident(NamedTuple):
    """A group as it is now, and what else its message tells; `mention` is the route's own markup.

    `flapping` is how often it was over, or began again, of late; 0 unless that is often.
    """

    snapshot: Snapshot
    airflow: str
    base_url: str | None
    mention: str
    first: float
    shown_before: int
    repeat: bool
    misrouted_from: str | None
    id: str
    airflow_major: int = 3
    flapping: int = 0
    background: Background = Background()


class Facts(NamedTuple):
    """The variables of templates; labels and annotations are those that all alerts of the group share."""

    snapshot: Snapshot
    severity_emoji: str
    color: str
    alertname: str
    airflow: str
    summary: str
    description: str
    labels: dict[str, str]
    annotations: dict[str, str]
    since: float
    until: float
    duration: float
    alerts: tuple[Alert, ...]

    @property
    def over(self) -> bool:
        """Whether it is known that no alert fires any more."""
        return self.snapshot.status == "resolved"

    @property
    def news(self) -> list[Alert]:
        """The alerts to be named: those that fire, or all if it is over."""
        return [alert for alert in self.alerts if alert.firing or self.over]

    @property
    def counts(self) -> str:
        """How many alerts there are, by what is known of them."""
        it = self.snapshot
        counted = ((it.firing, "firing"), (it.resolved, "resolved"), (it.truncated, "cut off by Alertmanager"))
        return ", ".join(f"{count:,} {word}" for count, word in counted if count) or "no alert"

    def variables(self) -> dict[str, Any]:
        """With the most used labels under names of their own, empty where there is no such label."""
        known = self._asdict()
        told = {name: getattr(known["snapshot"], name) for name in _TOLD}
        del known["snapshot"]
        return known | told | {name: self.labels.get(name, "") for name in ("dag_id", "task_id", "run_id")}

    def own(self, alert: Alert) -> list[tuple[str, str]]:
        """The labels in which an alert differs from the others of its group, the most telling first."""
        names = (name for name, text in alert.labels.items() if self.labels.get(name) != text and text.strip())
        return [(name, alert.labels[name]) for name in ordered(names)]


def gather(incident: Incident) -> Facts:
    """What this incident's texts are made of."""
    snapshot = incident.snapshot
    labels, annotations = snapshot.labels, snapshot.common_annotations
    if len(snapshot.alerts) == 1:
        labels, annotations = labels | snapshot.alerts[0].labels, annotations | snapshot.alerts[0].annotations
    kinds = [*dict.fromkeys(filter(None, (alert.labels.get("alertname") for alert in snapshot.alerts)))]
    quiet = snapshot.standing and snapshot.standing != CLEARED
    color, emoji = _LOOKS[0 if quiet else min(rank(snapshot.severity or "unknown"), 3)]
    over = snapshot.status == "resolved"
    until = snapshot.ended if over else snapshot.received
    return Facts(
        snapshot=snapshot,
        severity_emoji=emoji if quiet or not over else ":large_green_circle:",
        color=color if quiet or not over else GREEN,
        alertname=labels.get("alertname")
        or ", ".join(kinds[:3]) + ("…" if len(kinds) > 3 else "")
        or "an alert without a name",
        airflow=labels.get("airflow") or incident.airflow,
        summary=first(annotations, "summary", "title"),
        description=first(annotations, "description", "message"),
        labels=labels,
        annotations=annotations,
        since=incident.first,
        until=until,
        duration=max(until - incident.first, 0),
        alerts=snapshot.alerts[:SHOWN],
    )


def first(texts: Mapping[str, str], *names: str) -> str:
    """The first of these that says something."""
    return next((text for name in names if (text := texts.get(name, "").strip())), "")


def ordered(names: Iterable[str]) -> list[str]:
    """The names of labels that say what an alert is about, the most telling first; then where it comes from."""
    known = [*NAMES]
    told = (name for name in names if name not in ELSEWHERE)
    return sorted(told, key=lambda name: (known.index(name) if name in NAMES else len(known) + (name in SCRAPE), name))
