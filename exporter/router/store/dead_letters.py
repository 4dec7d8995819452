"""Messages that were given up: listed, tried again, dropped."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import NamedTuple

import msgspec

from ..model import Snapshot


class DeadLetter(NamedTuple):
    """A message that was given up, when and why."""

    id: int
    destination: str
    died: float
    reason: str
    snapshot: Snapshot


def dead_letters(connection: sqlite3.Connection) -> list[DeadLetter]:
    """All of them, the oldest first."""
    rows = connection.execute(
        "SELECT id, destination, dead, reason, snapshot FROM router_message JOIN router_group USING (group_id)"
        " WHERE dead IS NOT NULL ORDER BY dead, id"
    )
    return [DeadLetter(*row)._replace(snapshot=msgspec.json.decode(row[-1], type=Snapshot)) for row in rows]


def retry(connection: sqlite3.Connection, messages: Collection[int], now: float) -> int:
    """How many of these dead letters wait again, for their own destination."""
    return connection.executemany(
        "UPDATE router_message SET dead = NULL, lane = destination, since = ?, level = 0, attempts = 0, not_before = 0"
        " WHERE id = ? AND dead IS NOT NULL",
        [(now, message) for message in messages],
    ).rowcount


def drop(connection: sqlite3.Connection, messages: Collection[int]) -> int:
    """How many of these dead letters are no more; what their groups do next is told again."""
    return connection.executemany(
        "UPDATE router_message SET dead = NULL, shown = wanted, told = wanted, sent = NULL, lane = destination,"
        " done = (SELECT over FROM router_group WHERE group_id = router_message.group_id)"
        " WHERE id = ? AND dead IS NOT NULL",
        [(message,) for message in messages],
    ).rowcount
