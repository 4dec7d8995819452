"""The Redis or Valkey server that carries Celery's messages, as its own INFO tells."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from ..collector import BrokerCollector, Context
from ..metrics import Family, Metric
from ..sources import Broker, SourceError
from ..sources.broker import NO_CLUSTER

WRITE_ERRORS = ("MISCONF", "NOREPLICAS", "OOM", "READONLY")
"""The error replies of a server that takes no writes: nothing is queued, nor acknowledged, any more."""


@dataclass(frozen=True, slots=True)
class Info:
    """The fields of INFO's default sections, and the seconds that they took to come."""

    fields: Mapping[str, str]
    round_trip: float

    @classmethod
    def parse(cls, text: str, round_trip: float = 0.0) -> Self:
        """The fields of a reply; its headings are left out."""
        lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
        return cls({name: value for name, _, value in lines if name}, round_trip)

    def number(self, name: str) -> float | None:
        """A field's value; None where this server does not say it."""
        return float(self.fields[name]) if name in self.fields else None

    def says(self, name: str, value: str) -> bool | None:
        """Whether a field has this value; None where this server does not say it."""
        return self.fields[name] == value if name in self.fields else None

    @property
    def server(self) -> str:
        """The product: Valkey's own version stands beside that of the Redis which it claims to be."""
        return self.fields.get("server_name", "redis")

    @property
    def version(self) -> str:
        """The product's version."""
        return self.fields.get(f"{self.server}_version", "")

    @property
    def role(self) -> str:
        """`master` or `slave`."""
        return self.fields.get("role", "")

    @property
    def maxmemory_policy(self) -> str:
        """What the server does when its memory is full."""
        return self.fields.get("maxmemory_policy", "")

    @property
    def started(self) -> float | None:
        """When the server started, by its own clock."""
        now, uptime = self.number("server_time_usec"), self.number("uptime_in_seconds")
        return None if now is None or uptime is None else now // 1_000_000 - uptime

    @property
    def replication_lag(self) -> float | None:
        """Bytes that the slowest replica is behind; None without one that is online."""
        written = self.number("master_repl_offset")
        offsets = [float(replica["offset"]) for replica in self._replicas() if replica.get("state") == "online"]
        return written - min(offsets) if written is not None and offsets else None

    def _replicas(self) -> Iterator[Mapping[str, str]]:
        for name, value in self.fields.items():
            if name.startswith("slave") and name.removeprefix("slave").isdecimal():
                yield dict(pair.split("=", 1) for pair in value.split(","))


@dataclass(frozen=True, slots=True)
class RefusedWrites:
    """How often the server has refused a write with one kind of error."""

    error: str
    count: float


def refused_writes(info: Info) -> list[RefusedWrites]:
    """One row per error of WRITE_ERRORS; none where the server does not count errors."""
    if "total_error_replies" not in info.fields:
        return []
    counts = (info.fields.get(f"errorstat_{error}", "count=0") for error in WRITE_ERRORS)
    return [
        RefusedWrites(error, float(count.removeprefix("count=")))
        for error, count in zip(WRITE_ERRORS, counts, strict=True)
    ]


METRICS: tuple[Metric[Info], ...] = (
    Metric(
        name="airflow_broker_info",
        help="The broker's server: always 1.",
        labels=("server", "version", "role", "maxmemory_policy"),
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
        name="airflow_broker_loading",
        help="1 while the server loads its data after a start and answers nothing else, else 0.",
        value=lambda info: info.number("loading"),
    ),
    Metric(
        name="airflow_broker_role_master",
        help="1 if the server is a master, 0 if it is a replica, whose data may be old.",
        value=lambda info: info.says("role", "master"),
    ),
    Metric(
        name="airflow_broker_memory_used_bytes",
        help="Memory that the server's data and buffers take.",
        value=lambda info: info.number("used_memory"),
    ),
    Metric(
        name="airflow_broker_memory_max_bytes",
        help="The server's maxmemory, beyond which it evicts or refuses writes; absent when there is no limit.",
        value=lambda info: info.number("maxmemory") or None,
    ),
    Metric(
        name="airflow_broker_maxmemory_policy_noeviction",
        help="1 if a full server refuses writes, 0 if it throws data away, which may be queued tasks.",
        value=lambda info: info.says("maxmemory_policy", "noeviction"),
    ),
    Metric(
        name="airflow_broker_evicted_keys_total",
        help="Keys that the server threw away because its memory was full.",
        value=lambda info: info.number("evicted_keys"),
        kind="counter",
    ),
    Metric(
        name="airflow_broker_connected_clients",
        help="Connections of clients, replicas left out; a Celery worker holds about ten.",
        value=lambda info: info.number("connected_clients"),
    ),
    Metric(
        name="airflow_broker_max_clients",
        help="The server's maxclients, beyond which it rejects connections.",
        value=lambda info: info.number("maxclients"),
    ),
    Metric(
        name="airflow_broker_blocked_clients",
        help="Clients that wait for data: mostly Celery workers with room for a task.",
        value=lambda info: info.number("blocked_clients"),
    ),
    Metric(
        name="airflow_broker_rejected_connections_total",
        help="Connections that the server rejected because of maxclients.",
        value=lambda info: info.number("rejected_connections"),
        kind="counter",
    ),
    Metric(
        name="airflow_broker_rdb_last_save_ok",
        help="1 if the last snapshot to disk succeeded; 0 makes the server refuse writes, unless it is told not to.",
        value=lambda info: info.says("rdb_last_bgsave_status", "ok"),
    ),
    Metric(
        name="airflow_broker_rdb_last_save_timestamp_seconds",
        help="When the last snapshot to disk succeeded; the server's start when there was none since.",
        value=lambda info: info.number("rdb_last_save_time"),
    ),
    Metric(
        name="airflow_broker_rdb_unsaved_changes",
        help="Changes since the last snapshot to disk, lost by a crash unless the append-only file is on.",
        value=lambda info: info.number("rdb_changes_since_last_save"),
    ),
    Metric(
        name="airflow_broker_aof_enabled",
        help="1 if the server keeps an append-only file, else 0.",
        value=lambda info: info.number("aof_enabled"),
    ),
    Metric(
        name="airflow_broker_aof_last_write_ok",
        help="1 if the last write to the append-only file succeeded; 0 makes the server refuse writes. Absent if off.",
        value=lambda info: info.says("aof_last_write_status", "ok") if info.number("aof_enabled") else None,
    ),
    Metric(
        name="airflow_broker_connected_replicas",
        help="Replicas that are connected.",
        value=lambda info: info.number("connected_slaves"),
    ),
    Metric(
        name="airflow_broker_replication_lag_bytes",
        help="Bytes that the slowest online replica is behind; absent without one.",
        value=lambda info: info.replication_lag,
    ),
    Metric(
        name="airflow_broker_master_link_up",
        help="1 if this replica is in touch with its master, else 0; absent on a master.",
        value=lambda info: info.says("master_link_status", "up"),
    ),
)

REFUSED_WRITES: Metric[RefusedWrites] = Metric(
    name="airflow_broker_refused_writes_total",
    help="Commands refused because the server took no writes then, by the error that it answered.",
    labels=("error",),
    value=lambda row: row.count,
    kind="counter",
)


async def _read(broker: Broker, _: Context) -> list[Family]:
    started = time.perf_counter()
    [reply] = await broker.read([("INFO",)])
    info = Info.parse(reply.decode(), time.perf_counter() - started)
    if info.number("cluster_enabled"):
        raise SourceError("query", NO_CLUSTER)
    return [*(metric.family([info]) for metric in METRICS), REFUSED_WRITES.family(refused_writes(info))]


COLLECTOR = BrokerCollector(name="broker", metrics=(*METRICS, REFUSED_WRITES), fetch=_read)
