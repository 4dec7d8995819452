"""The Redis or Valkey server that carries Celery's messages, as its own INFO tells."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from operator import methodcaller
from typing import NamedTuple, Self

from ..collector import BrokerCollector, Context
from ..metrics import Family, Metric
from ..sources import Broker, SourceError
from ..sources.broker import NO_CLUSTER

WRITE_ERRORS = ("MISCONF", "NOREPLICAS", "OOM", "READONLY")
"""The error replies of a server that takes no writes: nothing is queued, nor acknowledged, any more."""


class Info(NamedTuple):
    """The fields of INFO's default sections, and the seconds that they took to come."""

    fields: Mapping[str, str]
    round_trip: float

    @classmethod
    def parse(cls, text: str, round_trip: float = 0.0) -> Self:
        """The fields of a reply; its headings are left out."""
        lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
        return cls({name: value for name, _, value in lines if name}, round_trip)

    def value(self, field: str) -> float | None:
        """A field's number, or with `field=text` whether it says that; None where this server does not say it."""
        name, comparing, text = field.partition("=")
        if name not in self.fields:
            return None
        return self.fields[name] == text if comparing else float(self.fields[name])

    @property
    def server(self) -> str:
        """The product: Valkey's own version stands beside that of the Redis which it claims to be."""
        return self.fields.get("server_name", "redis")

    @property
    def version(self) -> str:
        """The product's version."""
        return self.fields.get(f"{self.server}_version", "")

    @property
    def started(self) -> float | None:
        """When the server started, by its own clock."""
        now, uptime = self.value("server_time_usec"), self.value("uptime_in_seconds")
        return None if now is None or uptime is None else now // 1_000_000 - uptime

    @property
    def replication_lag(self) -> float | None:
        """Bytes that the slowest replica is behind; None without one that is online."""
        written = self.value("master_repl_offset")
        replicas = [value for name, value in self.fields.items() if re.fullmatch("slave[0-9]+", name)]
        online = (re.search("state=online,offset=([0-9]+)", replica) for replica in replicas)
        offsets = [float(found[1]) for found in online if found]
        return written - min(offsets) if written is not None and offsets else None


class RefusedWrites(NamedTuple):
    """How often the server has refused a write with one kind of error."""

    error: str
    times: float


def refused_writes(info: Info) -> list[RefusedWrites]:
    """One row per error of WRITE_ERRORS; none where the server does not count errors."""
    if "total_error_replies" not in info.fields:
        return []
    counts = [info.fields.get(f"errorstat_{error}", "count=0").removeprefix("count=") for error in WRITE_ERRORS]
    return [RefusedWrites(error, float(count)) for error, count in zip(WRITE_ERRORS, counts, strict=True)]


# What follows airflow_broker_ in the name, the field, and the help.
_FIELDS = (
    ("loading", "loading", "1 while the server loads its data after a start and answers nothing else, else 0."),
    ("role_master", "role=master", "1 if the server is a master, 0 if it is a replica, whose data may be old."),
    ("memory_used_bytes", "used_memory", "Memory that the server's data and buffers take."),
    ("maxmemory_policy_noeviction", "maxmemory_policy=noeviction", "1 if it refuses writes when full, 0 if it evicts."),
    ("evicted_keys_total", "evicted_keys", "Keys, maybe queued tasks, thrown away because the memory was full."),
    ("connected_clients", "connected_clients", "Connections, without replicas; a Celery worker holds about ten."),
    ("max_clients", "maxclients", "The server's maxclients, beyond which it rejects connections."),
    ("blocked_clients", "blocked_clients", "Clients that wait for data: mostly Celery workers with room for a task."),
    ("rejected_connections_total", "rejected_connections", "Connections rejected because of maxclients."),
    ("rdb_last_save_ok", "rdb_last_bgsave_status=ok", "1 if the last snapshot succeeded; 0 mostly stops writes."),
    ("rdb_last_save_timestamp_seconds", "rdb_last_save_time", "When a snapshot succeeded last, or the server started."),
    ("rdb_unsaved_changes", "rdb_changes_since_last_save", "Changes that a crash loses without an append-only file."),
    ("aof_enabled", "aof_enabled", "1 if the server keeps an append-only file, else 0."),
    ("connected_replicas", "connected_slaves", "Replicas that are connected."),
    ("master_link_up", "master_link_status=up", "1 if this replica is in touch with its master; absent on a master."),
)
METRICS: tuple[Metric[Info], ...] = (
    Metric(
        name="airflow_broker_info",
        help="The broker's server: always 1.",
        labels=("server", "version"),
        value=lambda _: 1,
    ),
    Metric(
        name="airflow_broker_start_timestamp_seconds",
        help="When the broker's server started, by its own clock; a restart without persistence loses the queues.",
        value=lambda info: info.started,
    ),
    Metric(
        name="airflow_broker_round_trip_seconds",
        help="How long the last INFO took, as the daemon saw it; connecting included where that was needed.",
        value=lambda info: info.round_trip,
    ),
    Metric(
        name="airflow_broker_memory_max_bytes",
        help="The server's maxmemory, beyond which it evicts or refuses writes; absent when there is no limit.",
        value=lambda info: info.value("maxmemory") or None,
    ),
    Metric(
        name="airflow_broker_aof_last_write_ok",
        help="1 if the last write to the append-only file succeeded; 0 makes the server refuse writes. Absent if off.",
        value=lambda info: info.value("aof_last_write_status=ok") if info.value("aof_enabled") else None,
    ),
    Metric(
        name="airflow_broker_replication_lag_bytes",
        help="Bytes that the slowest online replica is behind; absent without one.",
        value=lambda info: info.replication_lag,
    ),
    *(
        Metric(
            name=f"airflow_broker_{name}",
            help=meaning,
            kind="counter" if name.endswith("_total") else "gauge",
            value=methodcaller("value", field),
        )
        for name, field, meaning in _FIELDS
    ),
)
REFUSED_WRITES: Metric[RefusedWrites] = Metric(
    name="airflow_broker_refused_writes_total",
    help="Commands refused because the server took no writes then, by the error that it answered.",
    labels=("error",),
    value=lambda row: row.times,
    kind="counter",
)


async def _read(broker: Broker, _: Context) -> list[Family]:
    started = time.perf_counter()
    [reply] = await broker.read([("INFO",)])
    info = Info.parse(reply.decode(), time.perf_counter() - started)
    if info.value("cluster_enabled"):
        raise SourceError("query", NO_CLUSTER)
    return [*(metric.family([info]) for metric in METRICS), REFUSED_WRITES.family(refused_writes(info))]


COLLECTOR = BrokerCollector(name="broker", metrics=(*METRICS, REFUSED_WRITES), fetch=_read)
