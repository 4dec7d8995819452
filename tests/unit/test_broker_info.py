"""A server's INFO becomes metrics: what it says, and nothing that it does not say."""

from __future__ import annotations

from exporter.collectors.broker import METRICS, REFUSED_WRITES, Info, refused_writes
from exporter.exposition import Renderer

MASTER = """\
# Server
redis_version:7.2.4
server_name:valkey
valkey_version:9.1.2
server_time_usec:1795340399858708
uptime_in_seconds:86401

# Clients
connected_clients:42
maxclients:10000
blocked_clients:3

# Memory
used_memory:1019168
maxmemory:4194304
maxmemory_policy:noeviction

# Persistence
loading:0
rdb_changes_since_last_save:7
rdb_last_save_time:1795340000
rdb_last_bgsave_status:ok
aof_enabled:1
aof_last_write_status:err

# Stats
rejected_connections:2
evicted_keys:5
total_error_replies:9

# Replication
role:master
connected_slaves:3
slave0:ip=10.0.0.1,port=6379,state=online,offset=900,lag=0
slave1:ip=10.0.0.2,port=6379,state=online,offset=600,lag=1
slave2:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0
master_repl_offset:1000

# Errorstats
errorstat_ERR:count=5
errorstat_OOM:count=4

# Cluster
cluster_enabled:0
"""

MASTER_SAMPLES = """\
airflow_broker_info{server="valkey",version="9.1.2"} 1
airflow_broker_start_timestamp_seconds 1795253998
airflow_broker_round_trip_seconds 0.25
airflow_broker_memory_max_bytes 4194304
airflow_broker_aof_last_write_ok 0
airflow_broker_replication_lag_bytes 400
airflow_broker_loading 0
airflow_broker_role_master 1
airflow_broker_memory_used_bytes 1019168
airflow_broker_maxmemory_policy_noeviction 1
airflow_broker_evicted_keys_total 5
airflow_broker_connected_clients 42
airflow_broker_max_clients 10000
airflow_broker_blocked_clients 3
airflow_broker_rejected_connections_total 2
airflow_broker_rdb_last_save_ok 1
airflow_broker_rdb_last_save_timestamp_seconds 1795340000
airflow_broker_rdb_unsaved_changes 7
airflow_broker_aof_enabled 1
airflow_broker_connected_replicas 3
airflow_broker_refused_writes_total{error="MISCONF"} 0
airflow_broker_refused_writes_total{error="NOREPLICAS"} 0
airflow_broker_refused_writes_total{error="OOM"} 4
airflow_broker_refused_writes_total{error="READONLY"} 0
"""

REPLICA = """\
# Server
redis_version:7.0.15
# Memory
maxmemory:0
maxmemory_policy:allkeys-lru
# Persistence
rdb_last_bgsave_status:err
aof_enabled:0
aof_last_write_status:ok
# Replication
role:slave
master_link_status:down
connected_slaves:0
master_repl_offset:1000
"""

REPLICA_SAMPLES = """\
airflow_broker_info{server="redis",version="7.0.15"} 1
airflow_broker_round_trip_seconds 0.25
airflow_broker_role_master 0
airflow_broker_maxmemory_policy_noeviction 0
airflow_broker_rdb_last_save_ok 0
airflow_broker_aof_enabled 0
airflow_broker_connected_replicas 0
airflow_broker_master_link_up 0
"""


async def samples(text: str) -> str:
    """What a server with this INFO shows."""
    info = Info.parse(text.replace("\n", "\r\n"), round_trip=0.25)
    families = [*(metric.family([info]) for metric in METRICS), REFUSED_WRITES.family(refused_writes(info))]
    lines = (await Renderer("").render(families)).text.plain.decode().splitlines(keepends=True)
    return "".join(line.replace('{airflow=""} ', " ").replace('airflow="",', "") for line in lines if line[0] != "#")


async def test_a_master_shows_its_memory_clients_persistence_and_slowest_replica() -> None:
    """Each field has its family; Valkey's version is its own; a replica that still loads does not count as late."""
    assert await samples(MASTER) == MASTER_SAMPLES


async def test_what_a_server_does_not_say_is_absent() -> None:
    """No maxmemory, no append-only file, no replica, no counted errors: no family, rather than a zero."""
    assert await samples(REPLICA) == REPLICA_SAMPLES
