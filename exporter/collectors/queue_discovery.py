"""The queues that Celery has bound in Redis: none of them is forgotten when its workers are gone."""

from __future__ import annotations

import logging

from ..collector import BrokerCollector, Context
from ..metrics import Family
from ..sources import Broker
from ..sources.broker import glob_literal
from .queues import SEPARATOR

log = logging.getLogger(__name__)

KEYS_LIMIT = 100_000
"""Keys up to which a server is searched."""


async def _discover(broker: Broker, context: Context) -> list[Family]:
    """Note every bound queue; nothing is exported."""
    [keys] = await broker.read([("DBSIZE",)])
    if keys > KEYS_LIMIT:
        log.info("too many keys to look for queues: name them in celery.queues", extra={"keys": keys})
        return []
    # The last dot matters: kombu has other keys that begin with _kombu.binding
    prefix = f"{context.config.celery.global_keyprefix}_kombu.binding."
    exchanges = sorted(key for key in await _scan(broker, prefix) if _carries_tasks(key.removeprefix(prefix)))
    for members in await broker.read([("SMEMBERS", key) for key in exchanges]):
        if isinstance(members, list):
            context.queues.saw(_text(member).rpartition(SEPARATOR)[2] for member in members)
    return []


async def _scan(broker: Broker, prefix: str) -> set[str]:
    found: set[str] = set()
    cursor, pattern = "0", f"{glob_literal(prefix)}*"
    while True:
        [(position, keys)] = await broker.read([("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)])
        found.update(_text(key) for key in keys)
        cursor = _text(position)
        if cursor == "0":
            return found


def _carries_tasks(exchange: str) -> bool:
    """Whether an exchange is one of tasks, and not one by which workers talk to each other."""
    return exchange != "celeryev" and not exchange.endswith("pidbox")


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


COLLECTOR = BrokerCollector(name="queue_discovery", metrics=(), fetch=_discover, interval=600.0, timeout=30.0)
