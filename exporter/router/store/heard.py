"""When something was last heard of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

WATCHDOG, SENDER, GAP, OURSELVES = "watchdog", "sender", "gap", "windsock"
"""Kinds of what is heard of."""
AWAY = 60.0
"""Seconds without a sign of ourselves beyond which we were down, rather than restarted."""
SIGN = 15.0
"""Seconds from one such sign to the next."""


def hear(connection: sqlite3.Connection, kind: str, names: Iterable[str], now: float) -> None:
    """These were heard of now."""
    connection.executemany("INSERT OR REPLACE INTO router_heard VALUES (?, ?, ?)", [(kind, it, now) for it in names])


def heard(connection: sqlite3.Connection, kind: str) -> dict[str, float]:
    """When each of a kind was last heard of."""
    return dict(connection.execute("SELECT name, time FROM router_heard WHERE kind = ?", (kind,)).fetchall())


def forget(connection: sqlite3.Connection, kind: str, names: Iterable[str]) -> None:
    """As if these had never been heard of."""
    connection.executemany("DELETE FROM router_heard WHERE kind = ? AND name = ?", [(kind, name) for name in names])


def live(connection: sqlite3.Connection, now: float) -> None:
    """We are there; time in which we were down, and heard nobody, is no watchdog's fault, and a gap to be told of."""
    last = heard(connection, OURSELVES).get("", 0.0)
    if now - last > AWAY:
        away = {"kind": WATCHDOG, "away": now - last, "now": now}
        connection.execute("INSERT OR IGNORE INTO router_heard SELECT ?, '', ? WHERE ?", (GAP, last, last))
        connection.execute("UPDATE router_heard SET time = min(time + :away, :now) WHERE kind = :kind", away)
    if not 0 <= now - last < SIGN:
        hear(connection, OURSELVES, [""], now)
