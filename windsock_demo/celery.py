"""Celery's messages in Redis, laid out as kombu does it; the token in them opens nothing."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from uuid import UUID

from redis import Redis

from .airflow import Instance
from .dags import QUEUES

WORKER = "celery@worker-{}"

_HEADERS = json.loads(
    """{"lang": "py", "task": "execute_workload", "shadow": null, "eta": null, "expires": null, "group": null,
    "group_index": null, "retries": 0, "timelimit": [null, null], "parent_id": null, "kwargsrepr": "{}", "stamps": {},
    "origin": "gen1@scheduler", "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null}"""
)
_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Celery:
    """The queues, and the messages that workers took and have not yet acknowledged."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._tags: dict[str, str] = {}
        for queue in QUEUES:
            client.sadd(f"_kombu.binding.{queue}", f"{queue}\x06\x16\x06\x16{queue}")
            client.sadd("_kombu.binding.celery.pidbox", f"\x06\x16\x06\x16{WORKER.format(queue)}.celery.pidbox")

    def put(self, instance: Instance, tag: UUID) -> None:
        """Queue the message that has a worker execute a task instance."""
        self._client.lpush(instance.task.queue, json.dumps(_message(instance, tag), default=str))

    def take(self, queue: str, now: datetime) -> str | None:
        """Deliver the oldest message of a queue; returns the id of its task, None when there is none."""
        raw = self._client.rpop(queue)
        if not isinstance(raw, bytes):
            return None
        message = json.loads(raw)
        key, tag = str(message["headers"]["id"]), message["properties"]["delivery_tag"]
        self._client.zadd("unacked_index", {tag: now.timestamp()})
        self._client.hset("unacked", tag, json.dumps([message, "", queue]))
        self._tags[key] = tag
        return key

    def acknowledge(self, key: str) -> None:
        """The task with this id is over."""
        tag = self._tags.pop(key)
        self._client.zrem("unacked_index", tag)
        self._client.hdel("unacked", tag)


def _message(instance: Instance, tag: UUID) -> dict[str, object]:
    key, run, known = instance.message, instance.run, instance.columns
    names = ("id", "task_id", "dag_id", "run_id", "try_number", "map_index", "queue")
    constants = {"hostname": None, "context_carrier": None, "pool_slots": 1, "priority_weight": 1}
    workload = {
        "token": "opens-nothing",
        "dag_rel_path": f"{run.dag.dag_id}.py",
        "bundle_info": {"name": run.dag.bundle, "version": None},
        "log_path": f"dag_id={run.dag.dag_id}/run_id={run.run_id}/task_id={known['task_id']}/attempt=1.log",
        "ti": {name: known[name] for name in names} | {"dag_version_id": run.version} | constants,
        "sentry_integration": "",
        "type": "ExecuteTask",
    }
    argument = json.dumps(workload, separators=(",", ":"), default=str)
    return {
        "body": b64encode(json.dumps([[argument], {}, _EMBEDDED]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": _HEADERS | {"id": key, "root_id": key, "argsrepr": repr((argument,))},
        "properties": {
            "delivery_info": {"exchange": "", "routing_key": known["queue"]},
            "delivery_tag": tag,
            "delivery_mode": 2,
            "correlation_id": key,
            "reply_to": run.version,
            "priority": 0,
            "body_encoding": "base64",
        },
    }
