"""Do tasks reach workers, and is the broker well?"""

from __future__ import annotations

from .board import AIRFLOW, Board, choice
from .panels import Column, Query, bars, lines, rows, tile, timeline, to
from .promql import increase, largest, newest, of, oldest, total
from .theme import BAD, GOOD, NO_IS_BAD, NONE_IS_BAD, OK, PLAIN, PLAIN_YES, SHARE_USED, UP, WARN, YES_IS_BAD

BOARD = Board(
    "airflow-celery",
    "Airflow / Celery and Redis",
    "Do tasks reach workers, and is the broker well?",
    alerts='airflow="$airflow", component=~"celery|broker"',
    variables=(
        AIRFLOW,
        choice("queue", "Queue", f"label_values({of('airflow_celery_queue_length')}, queue)", several=True),
    ),
)

MEMORY = f"{largest('airflow_broker_memory_used_bytes')} / {largest('airflow_broker_memory_max_bytes')}"
CLIENTS = f"{largest('airflow_broker_connected_clients')} / {largest('airflow_broker_max_clients')}"
UNACKED = oldest("airflow_celery_oldest_unacked_timestamp_seconds")
TIMEOUT = largest("airflow_celery_visibility_timeout_seconds")

BOARD.row(
    "Now",
    tile(
        "Broker",
        "Whether the broker answered in time when it was last asked. Down: no task can be handed to a worker.",
        largest("airflow_broker_up"),
        steps=NONE_IS_BAD,
        names=UP,
    ),
    tile(
        "Messages waiting",
        "Tasks in all queues that no worker has taken. Normal is near 0, with peaks.",
        total("airflow_celery_queue_length"),
    ),
    tile(
        "Taken by workers",
        "Messages that workers have taken and not acknowledged: tasks that run, and tasks that are prefetched.",
        largest("airflow_celery_unacked_messages"),
    ),
    tile(
        "Near redelivery",
        "Age of the oldest of these, as a share of the visibility timeout. At 1 its task is delivered, and runs, "
        "twice.",
        f"({UNACKED}) / {TIMEOUT}",
        "percentunit",
        steps=((None, GOOD), (0.5, WARN), (0.9, BAD)),
        none="nothing taken",
    ),
    tile(
        "Memory used",
        "As a share of maxmemory. Full, the server refuses tasks, or throws some away. No value: it has no limit.",
        MEMORY,
        "percentunit",
        steps=SHARE_USED,
        none="no limit",
    ),
    tile(
        "Clients used",
        "Connections as a share of maxclients. A worker holds about ten; near 1 new ones are rejected.",
        CLIENTS,
        "percentunit",
        steps=SHARE_USED,
    ),
    tile(
        "Snapshot",
        "Whether the last snapshot to disk succeeded. Failed, the server mostly stops to take writes: look at "
        "its disk.",
        largest("airflow_broker_rdb_last_save_ok"),
        names=OK,
    ),
    tile(
        "Running for",
        "Time since the server started. A restart without persistence loses all queues.",
        newest("airflow_broker_start_timestamp_seconds"),
        "s",
    ),
)

QUEUE = {"queue": "~$queue"}
QUEUED = total("airflow_task_instances_active", ["queue"], state="queued", **QUEUE)
RUNNING = total("airflow_task_instances_active", ["queue"], state="running", **QUEUE)
BOARD.row(
    "Queues",
    lines(
        "Waiting by queue",
        "By queue. One that only grows has too few workers, or none: `airflow celery worker --queues` says which "
        "they serve.",
        Query(largest("airflow_celery_queue_length", **QUEUE), "{{queue}}"),
        link=to("airflow-tasks"),
    ),
    lines(
        "Running",
        "Task instances that run, by queue. A queue with messages and none running is one that nobody consumes.",
        Query(RUNNING, "{{queue}}"),
        link=to("airflow-tasks"),
    ),
    lines(
        "Queued, but no message",
        "Queued task instances minus messages, by queue. For long above what workers prefetch, messages were lost.",
        Query(f"{QUEUED} - on (queue) {largest('airflow_celery_queue_length', **QUEUE)}", "{{queue}}"),
        low=None,
    ),
    lines(
        "Taken and running",
        "Messages not acknowledged, and task instances that run. Far more messages: workers prefetch, or died "
        "with them.",
        Query(largest("airflow_celery_unacked_messages"), "not acknowledged"),
        Query(total("airflow_task_instances_active", state="running"), "running in Airflow"),
    ),
    lines(
        "Oldest message taken",
        "Its age, and the visibility timeout, at which it is delivered again and runs twice. Raise that above "
        "long tasks.",
        Query(UNACKED, "oldest"),
        Query(TIMEOUT, "visibility timeout"),
        unit="s",
        limit="visibility timeout",
    ),
    lines(
        "Round trip",
        "How long the server took to answer, as Windsock saw it. Normal is milliseconds; more is load, a fork, "
        "or the net.",
        Query(largest("airflow_broker_round_trip_seconds"), "round trip"),
        unit="s",
    ),
)

BOARD.row(
    "Server",
    lines(
        "Memory",
        "What data and buffers take, and the limit. Queues are small: what grows are results or other people's keys.",
        Query(largest("airflow_broker_memory_used_bytes"), "used"),
        Query(largest("airflow_broker_memory_max_bytes"), "limit"),
        unit="bytes",
        limit="limit",
    ),
    lines(
        "Clients",
        "Connections, those that wait for data, and the limit. Waiting ones are mostly workers with room for a task.",
        Query(largest("airflow_broker_connected_clients"), "connected"),
        Query(largest("airflow_broker_blocked_clients"), "waiting"),
        Query(largest("airflow_broker_max_clients"), "limit"),
        limit="limit",
    ),
    bars(
        "What it refused or threw away",
        "Evicted keys, maybe tasks; rejected connections; refused writes, by error. Normal is none of them.",
        Query(increase("airflow_broker_evicted_keys_total"), "evicted keys"),
        Query(increase("airflow_broker_rejected_connections_total"), "rejected connections"),
        Query(increase("airflow_broker_refused_writes_total", ["error"]), "refused: {{error}}"),
    ),
    rows(
        "Server",
        "What answers as the broker. A change of version is an upgrade, or another server than you think.",
        "server",
        [(Column(""), largest("airflow_broker_info"))],
        labels=[("server", Column("Server")), ("version", Column("Version"))],
        hidden=["Value"],
        height=8,
        width=12,
    ),
)

BOARD.row(
    "Persistence and replication",
    tile(
        "Append-only file",
        "Whether the server keeps one. Without it a crash loses what came after the last snapshot.",
        largest("airflow_broker_aof_enabled"),
        names=PLAIN_YES,
    ),
    tile(
        "File written",
        "Whether its last write succeeded. Failed, the server refuses tasks: look at its disk. No value: there "
        "is none.",
        largest("airflow_broker_aof_last_write_ok"),
        names=OK,
        none="off",
    ),
    tile(
        "Loading",
        "Whether the server loads its data after a start. It answers nothing else meanwhile.",
        largest("airflow_broker_loading"),
        names=YES_IS_BAD,
    ),
    tile(
        "Replicas",
        "Replicas that are connected. Fewer than you have: a failover now loses tasks.",
        largest("airflow_broker_connected_replicas"),
    ),
    tile(
        "Replica behind by",
        "Bytes that the slowest online replica is behind. As much is lost by a failover now. No value: it has none.",
        largest("airflow_broker_replication_lag_bytes"),
        "bytes",
        steps=((None, PLAIN), (1e6, WARN)),
        none="no replica",
    ),
    tile(
        "Link to the master",
        "Where it is a replica, whether it is in touch with its master. No value: it is a master.",
        largest("airflow_broker_master_link_up"),
        names=UP,
        none="is a master",
    ),
    tile(
        "Since snapshot",
        "Time since a snapshot succeeded, or the server started.",
        newest("airflow_broker_rdb_last_save_timestamp_seconds"),
        "s",
    ),
    tile(
        "Unsaved changes",
        "Changes since then. Without an append-only file a crash loses them, tasks among them.",
        largest("airflow_broker_rdb_unsaved_changes"),
        "short",
    ),
    tile(
        "Refuses when full",
        "Whether a full server refuses writes (noeviction). It should: else it evicts queued tasks.",
        largest("airflow_broker_maxmemory_policy_noeviction"),
        names=NO_IS_BAD,
    ),
    tile(
        "Master",
        "Whether it is a master. A replica's data may be old, and it takes no tasks.",
        largest("airflow_broker_role_master"),
        names=NO_IS_BAD,
    ),
    timeline(
        "Health of persistence",
        "Whether snapshots and the append-only file succeed, over time. Red is a full or broken disk.",
        Query(largest("airflow_broker_rdb_last_save_ok"), "snapshot"),
        Query(largest("airflow_broker_aof_last_write_ok"), "append-only file"),
        names=OK,
        width=18,
        height=4,
    ),
    collapsed=True,
)
