"""What a rule may select: the families that Windsock declares, those of optional exporters, and recordings."""

from __future__ import annotations

from typing import NamedTuple, get_args

from exporter import catalogue
from exporter.accounting.families import ATTEMPTS, COUNTED
from exporter.collectors import ALL
from exporter.config.values import TaskLabel

TARGET = frozenset({"job", "instance", "pod"})
"""The labels that Prometheus adds to what it scrapes; in a cluster a pod, elsewhere not."""

BROKER = {collector.name for collector in ALL if collector.source == "broker"}
"""The collectors that read the broker; the others read the database."""

BUCKETS = {
    f"{metric.name}_bucket": {*(str(float(bound)) for bound in metric.buckets), "+Inf"}
    for metric in COUNTED
    if metric.kind == "histogram"
}


class Series(NamedTuple):
    """What one name selects; `source` is database, broker, windsock (the daemon itself), or other (not ours)."""

    labels: frozenset[str]
    counter: bool
    collector: str = ""
    source: str = "other"


def _ours() -> dict[str, Series]:
    sources = {collector.name: collector.source for collector in ALL}
    found: dict[str, Series] = {}
    for entry in catalogue.entries():
        labels = frozenset(entry.labels) | TARGET | ({"airflow"} if entry.name.startswith("airflow_") else set())
        series = Series(labels, entry.type == "counter", entry.collector, sources.get(entry.collector, "windsock"))
        if entry.type in ("histogram", "summary"):
            parts = series._replace(counter=True)
            found |= {f"{entry.name}_count": parts, f"{entry.name}_sum": parts}
            if entry.type == "histogram":
                found[f"{entry.name}_bucket"] = parts._replace(labels=labels | {"le"})
        else:
            found[entry.name] = series
    return found


def _theirs(labels: str, *, counter: bool = False) -> Series:
    return Series(frozenset(labels.split()) | TARGET | {"airflow"}, counter)


OURS = _ours()
OURS[ATTEMPTS.name] = OURS[ATTEMPTS.name]._replace(labels=OURS[ATTEMPTS.name].labels | {*get_args(TaskLabel)})

OPTIONAL = {
    "redis_exporter": {
        "redis_latest_fork_seconds": _theirs(""),
        "redis_mem_fragmentation_ratio": _theirs(""),
        "redis_memory_used_bytes": _theirs(""),
        "redis_slowlog_last_id": _theirs(""),
    },
    "postgres_exporter": {
        "pg_replication_is_replica": _theirs(""),
        "pg_replication_lag_seconds": _theirs(""),
        "pg_stat_activity_max_tx_duration": _theirs(
            "datname state server application_name backend_type usename wait_event wait_event_type"
        ),
        "pg_stat_database_deadlocks": _theirs("datid datname", counter=True),
    },
}
"""By exporter, what it names its metrics, and their labels; `airflow` comes from the scrape configuration."""

KNOWN = OURS | {name: series for families in OPTIONAL.values() for name, series in families.items()}
KNOWN["up"] = Series(TARGET, counter=False)
KNOWN["ALERTS"] = Series(frozenset({"alertname", "alertstate", "severity", "component", "airflow"}), counter=False)
