"""Groups as they are known, whatever Slack shows of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ..model import Snapshot
from .inbox import accept

T = TypeVar("T")


def known(connection: sqlite3.Connection, source: str, kind: type[T]) -> list[tuple[bool, T]]:
    """Whether each group is over, and what is known of it, or as much of that as this type has."""
    decode = msgspec.json.Decoder(kind).decode
    rows = connection.execute("SELECT over, snapshot FROM router_group WHERE source = ?", (source,))
    return [(bool(over), decode(snapshot)) for over, snapshot in rows]


def amend(
    connection: sqlite3.Connection, where: tuple[str, str, str], seen: float, change: Callable[[Snapshot], Snapshot]
) -> None:
    """Another snapshot of the group with this source, receiver and key, unless there is a newer one than was seen."""
    row = connection.execute(
        "SELECT snapshot FROM router_group WHERE source = ? AND receiver = ? AND key = ?", where
    ).fetchone()
    snapshot = msgspec.json.decode(row[0], type=Snapshot) if row else None
    if snapshot and snapshot.received == seen:
        changed = change(snapshot)
        accept(connection, changed, (), changed.received)


def newest(connection: sqlite3.Connection, source: str, key: str) -> Snapshot | None:
    """A group without a receiver; None if it is not known."""
    found = "SELECT snapshot FROM router_group WHERE source = ? AND receiver = '' AND key = ?"
    row = connection.execute(found, (source, key)).fetchone()
    return msgspec.json.decode(row[0], type=Snapshot) if row else None


def unfinished(connection: sqlite3.Connection, source: str, prefix: str) -> list[Snapshot]:
    """Groups of a source that are not over, by the beginning of their keys."""
    found = "SELECT snapshot FROM router_group WHERE source = ? AND NOT over AND substr(key, 1, ?) = ?"
    rows = connection.execute(found, (source, len(prefix), prefix)).fetchall()
    return [msgspec.json.decode(snapshot, type=Snapshot) for (snapshot,) in rows]
