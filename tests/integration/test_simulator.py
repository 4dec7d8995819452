"""The demo's simulated Airflow keeps the invariants of a real one, in the database and in the broker."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import kombu
import psycopg
import pytest
from redis import Redis

from windsock_demo import servers
from windsock_demo.dags import DAGS, PARALLELISM, POOLS, QUEUES
from windsock_demo.simulator import Simulator

from ..conftest import AirflowDatabase

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Connection = psycopg.Connection[Any]
MakeDatabase = Callable[..., AirflowDatabase]

STATES = {
    *("scheduled", "queued", "running", "success", "failed", "skipped", "upstream_failed"),
    *("up_for_retry", "up_for_reschedule", "deferred", "awaiting_input"),
}
"""All states that a task instance comes to be in, None aside."""


@contextmanager
def simulation(make: MakeDatabase, valkey: servers.Valkey) -> Iterator[tuple[Connection, Redis, Simulator]]:
    """A simulator, and what it writes to."""
    with psycopg.connect(make().url, autocommit=True) as connection, Redis.from_url(valkey.url) as broker:
        broker.flushall()
        yield connection, broker, Simulator(connection, broker, START)


def rows(connection: Connection, query: str) -> list[Any]:
    """All rows of a query; of a query for one column, its values."""
    found = connection.execute(query.encode()).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def message_ids(broker: Redis) -> tuple[set[str], set[str]]:
    """The Celery ids of the messages that wait, and of those that are not acknowledged."""
    waiting = [json.loads(raw) for queue in QUEUES for raw in broker.lrange(queue, 0, -1)]
    unacked = [json.loads(raw)[0] for raw in broker.hvals("unacked")]
    assert {message["properties"]["delivery_tag"] for message in unacked} == {
        tag.decode() for tag in broker.zrange("unacked_index", 0, -1) if isinstance(tag, bytes)
    }
    return {message["headers"]["id"] for message in waiting}, {message["headers"]["id"] for message in unacked}


def check_limits(connection: Connection) -> None:
    """Pools, workers, the executor and max_active_runs hold."""
    active = rows(connection, "SELECT state, pool, queue FROM task_instance WHERE state IN ('queued', 'running')")
    assert len(active) <= PARALLELISM
    pools = Counter(pool for _, pool, _ in active)
    assert all(used <= POOLS[pool] for pool, used in pools.items()), pools
    busy = Counter(queue for state, _, queue in active if state == "running")
    assert all(used <= QUEUES[queue] for queue, used in busy.items()), busy
    running = Counter(rows(connection, "SELECT dag_id FROM dag_run WHERE state = 'running'"))
    assert all(running[dag.dag_id] <= dag.max_active_runs for dag in DAGS), running


def check_messages(connection: Connection, broker: Redis) -> None:
    """Each queued or running task instance has its message, and there are no others."""
    waiting, unacked = message_ids(broker)
    queued = rows(connection, "SELECT external_executor_id FROM task_instance WHERE state = 'queued'")
    running = rows(connection, "SELECT external_executor_id FROM task_instance WHERE state = 'running'")
    assert (set(queued), set(running)) == (waiting, unacked)


IMPOSSIBLE = {
    "a finished run with an instance that is not over": """
        SELECT r.run_id FROM dag_run AS r JOIN task_instance AS t USING (dag_id, run_id) WHERE r.end_date IS NOT NULL
        AND coalesce(t.state, '') NOT IN ('success', 'failed', 'skipped', 'upstream_failed')""",
    "an archived try that did not fail, or has no successor": """
        SELECT task_id FROM task_instance_history AS h JOIN task_instance t USING (dag_id, task_id, run_id, map_index)
        WHERE h.state <> 'failed' OR h.try_number > t.try_number""",
    "a try that is neither in the history nor the last": """
        SELECT t.task_id FROM task_instance AS t WHERE t.state IN ('running', 'success', 'failed')
        AND t.try_number - 1 <> (SELECT count(*) FROM task_instance_history AS h
          WHERE (h.dag_id, h.task_id, h.run_id, h.map_index) = (t.dag_id, t.task_id, t.run_id, t.map_index))""",
    "more tries than allowed": "SELECT task_id FROM task_instance WHERE try_number > max_tries + 1",
    "an end before the start, or without a duration": """
        SELECT task_id FROM task_instance WHERE state = 'success' AND (end_date < start_date OR duration IS NULL)""",
    "a deferred instance without a trigger, or another one with a trigger": """
        SELECT task_id FROM task_instance WHERE (state IS NOT DISTINCT FROM 'deferred') <> (trigger_id IS NOT NULL)""",
    "a question that nobody asks, or a wait for an answer without a question": """
        SELECT t.task_id FROM task_instance AS t LEFT JOIN hitl_detail AS h ON h.ti_id = t.id AND h.responded_at IS NULL
        WHERE (t.state IS NOT DISTINCT FROM 'awaiting_input') <> (h.ti_id IS NOT NULL)""",
    "a running instance without a fresh heartbeat": """
        SELECT task_id FROM task_instance WHERE state = 'running'
        AND last_heartbeat_at < (SELECT max(latest_heartbeat) FROM job) - interval '6 seconds'""",
    "an identifier that was used twice": """
        SELECT id FROM (SELECT id FROM task_instance UNION ALL SELECT task_instance_id FROM task_instance_history) AS t
        GROUP BY 1 HAVING count(*) > 1""",
    "an asset event that is queued though a run consumed it": """
        SELECT q.target_dag_id FROM asset_dag_run_queue AS q JOIN dag_run AS r
        ON r.dag_id = q.target_dag_id AND r.created_at > q.created_at""",
}


def test_it_keeps_every_invariant_and_comes_by_every_state(
    airflow_database: MakeDatabase, valkey: servers.Valkey
) -> None:
    """Limits hold and messages match at each second; nothing appears that Airflow rules out, and every state does."""
    seen: set[str] = set()
    with simulation(airflow_database, valkey) as (connection, broker, simulator):
        for second in range(100):
            simulator.step(START + timedelta(seconds=second))
            check_limits(connection)
            check_messages(connection, broker)
            seen.update(rows(connection, "SELECT DISTINCT state FROM task_instance WHERE state IS NOT NULL"))
            if second % 20 == 19:
                found = {what: rows(connection, query) for what, query in IMPOSSIBLE.items()}
                assert not any(found.values()), found
        assert seen == STATES
        tries = rows(
            connection, "SELECT id FROM task_instance UNION SELECT task_instance_id FROM task_instance_history"
        )
        assert {UUID(str(key)).version for key in tries} == {7}
        kinds = rows(connection, "SELECT DISTINCT run_type FROM dag_run WHERE state = 'success'")
        assert set(kinds) == {"scheduled", "backfill", "asset_triggered"}


def test_every_subject_has_rows(airflow_database: MakeDatabase, valkey: servers.Valkey) -> None:
    """What the DAG table promises is in the database: each kind of trouble, and all that is watched."""
    expected = {
        "SELECT dag_id FROM dag WHERE is_paused": ["crm_sync_legacy"],
        "SELECT dag_id FROM dag WHERE is_stale": ["inventory_import_old"],
        "SELECT dag_id FROM dag WHERE has_import_errors": ["fraud_detection"],
        "SELECT bundle_name FROM import_error": ["ml"],
        "SELECT dag_id FROM dag WHERE next_dagrun_create_after < '2026-03-01T12:00Z'": ["export_partners"],
        "SELECT team_name FROM dag_bundle_team WHERE dag_bundle_name = 'ml'": ["ml-platform"],
        "SELECT count(*) FROM backfill WHERE completed_at IS NULL": [1],
        "SELECT count(*) > 0 FROM dag_run WHERE run_type = 'backfill' AND state = 'queued'": [True],
        "SELECT count(DISTINCT map_index) > 2 FROM task_instance WHERE task_id = 'transform'": [True],
        "SELECT count(*) > 0 FROM deadline": [True],
        "SELECT count(*) > 0 FROM task_reschedule": [True],
        "SELECT count(*) > 0 FROM asset_event": [True],
        "SELECT count(*) > 0 FROM dagrun_asset_event": [True],
        "SELECT count(*) > 0 FROM log WHERE event = 'running'": [True],
        "SELECT count(*) FROM job WHERE state = 'running'": [3],
    }
    with simulation(airflow_database, valkey) as (connection, broker, simulator):
        for second in range(60):
            simulator.step(START + timedelta(seconds=second))
        assert {query: rows(connection, query) for query in expected} == expected
        assert broker.exists("_kombu.binding.default", "_kombu.binding.heavy", "_kombu.binding.celery.pidbox") == 3


def test_the_same_seed_tells_the_same_story(airflow_database: MakeDatabase, valkey: servers.Valkey) -> None:
    """Two simulations with one seed have the same rows, identifiers and times included."""
    stories = []
    for _ in range(2):
        with simulation(airflow_database, valkey) as (connection, _broker, simulator):
            for second in range(25):
                simulator.step(START + timedelta(seconds=second))
            query = "SELECT id, task_id, run_id, state, try_number, end_date, external_executor_id FROM task_instance"
            stories.append(rows(connection, f"{query} ORDER BY id"))
    assert stories[0] == stories[1] != []


def test_kombu_reads_and_restores_the_messages(airflow_database: MakeDatabase, valkey: servers.Valkey) -> None:
    """Kombu's own consumer decodes a message that waits; its own restore puts those that were taken in their queues."""
    with simulation(airflow_database, valkey) as (connection, broker, simulator):
        second = 0
        while not (broker.llen("default") and broker.hlen("unacked")):
            second += 1
            assert second < 120, "no message waits"
            simulator.step(START + timedelta(seconds=second))
        with kombu.Connection(valkey.url) as client, client.SimpleQueue("default") as queue:
            message = queue.get(block=False)
            (argument,), _, _ = message.payload
            workload = json.loads(argument)
            key, task = connection.execute(
                "SELECT id, task_id FROM task_instance WHERE external_executor_id = %s", [message.headers["id"]]
            ).fetchone() or pytest.fail("the message belongs to no task instance")
            assert (workload["type"], workload["ti"]["id"], workload["ti"]["task_id"]) == (
                "ExecuteTask",
                str(key),
                task,
            )
            assert (message.headers["task"], message.delivery_info["routing_key"]) == ("execute_workload", "default")
            message.ack()
            waiting = sum(broker.llen(name) for name in QUEUES)
            for tag in broker.zrange("unacked_index", 0, -1):
                client.default_channel.qos.restore_by_tag(tag)
            assert broker.hlen("unacked") == broker.zcard("unacked_index") == 0
            assert sum(broker.llen(name) for name in QUEUES) > waiting
