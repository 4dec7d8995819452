"""Celery's queues in Redis: what waits in each, and what is delivered and not yet acknowledged."""

from __future__ import annotations

from typing import NamedTuple

from ..collector import BrokerCollector, Context
from ..metrics import Family, Metric
from ..sources import Broker

SEPARATOR = "\x06\x16"
PRIORITIES = ("", f"{SEPARATOR}3", f"{SEPARATOR}6", f"{SEPARATOR}9")
"""What kombu appends to a queue's name: it keeps a list per priority step."""


class Queue(NamedTuple):
    """The messages that wait in one queue, all priorities together."""

    queue: str
    length: int


class Unacked(NamedTuple):
    """The delivered messages, over all queues; times in unix seconds, None for what is unknown."""

    messages: int | None
    oldest: float | None
    visibility_timeout: float


LENGTH: Metric[Queue] = Metric(
    name="airflow_celery_queue_length",
    help="Messages that wait in a Celery queue, all priorities together.",
    labels=("queue",),
    value=lambda row: row.length,
)

UNACKED: tuple[Metric[Unacked], ...] = (
    Metric(
        name="airflow_celery_unacked_messages",
        help="Messages that workers have taken and not acknowledged: tasks that run, and tasks that are prefetched.",
        value=lambda row: row.messages,
    ),
    Metric(
        name="airflow_celery_oldest_unacked_timestamp_seconds",
        help="When the oldest unacknowledged message was delivered, by the worker's clock; absent when there is none.",
        value=lambda row: row.oldest,
    ),
    Metric(
        name="airflow_celery_visibility_timeout_seconds",
        help="The age at which an unacknowledged message is delivered again, as configured.",
        value=lambda row: row.visibility_timeout,
    ),
)


async def _read(broker: Broker, context: Context) -> list[Family]:
    celery = context.config.celery
    prefix, queues = celery.global_keyprefix, context.queues.names()
    unacked, oldest, *lengths = await broker.read(
        [
            ("HLEN", f"{prefix}unacked"),
            ("ZRANGE", f"{prefix}unacked_index", 0, 0, "WITHSCORES"),
            *(("LLEN", f"{prefix}{queue}{priority}") for queue in queues for priority in PRIORITIES),
        ]
    )
    by_priority = (lengths[step :: len(PRIORITIES)] for step in range(len(PRIORITIES)))
    rows = [
        Queue(queue, sum(parts))
        for queue, *parts in zip(queues, *by_priority, strict=True)
        if all(isinstance(part, int) for part in parts)
    ]
    row = Unacked(
        messages=unacked if isinstance(unacked, int) else None,
        oldest=float(oldest[1]) if isinstance(oldest, list) and oldest else None,
        visibility_timeout=celery.visibility_timeout,
    )
    return [LENGTH.family(rows), *(metric.family([row]) for metric in UNACKED)]


COLLECTOR = BrokerCollector(name="queues", metrics=(LENGTH, *UNACKED), fetch=_read)
