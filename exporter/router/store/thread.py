"""The lines that threads below messages owe: claimed when nothing is to be posted, and settled as messages are."""

from __future__ import annotations

import sqlite3

from msgspec import json

from .outbox import COLUMNS, LONGEST, Claim, May, claimed, put
from .turns import STABLE

OWED = "told < shown AND shown = wanted AND ts IS NOT NULL AND dead IS NULL"


def claim_line(connection: sqlite3.Connection, lane: str, now: float, may: May) -> Claim | None:
    """The line that is owed for the longest; it is noted before it is posted, and is nothing where nothing is new."""
    if not may.edit:
        connection.execute(f"UPDATE router_message SET told = shown WHERE lane = ? AND {OWED}", (lane,))  # noqa: S608
    while row := connection.execute(
        f"SELECT {COLUMNS} FROM router_message JOIN router_group USING (group_id) WHERE lane = ? AND {OWED}"  # noqa: S608
        " AND (sent IS NULL OR ?) AND (? OR not_before NOT BETWEEN ? AND ?) AND quiet NOT BETWEEN ? AND ?"
        " ORDER BY since, id LIMIT 1",
        (lane, may.look, may.probe, now, now + LONGEST, now, now + STABLE),
    ).fetchone():
        found = claimed(row)
        if found.unsure:
            return found
        fires = json.encode(found.snapshot.fires).decode()
        if found.known is None or (found.told and {*json.decode(found.known)} == found.snapshot.fires):
            put(connection, found.id, told=found.wanted, known=fires)
            continue
        put(connection, found.id, sent=now, saying=fires)
        return found._replace(sent=now)
    return None


def told(connection: sqlite3.Connection, claim: Claim, now: float) -> None:
    """The thread has the line that was claimed, or had it already if it was sent before."""
    connection.execute("UPDATE router_message SET known = coalesce(saying, known) WHERE id = ?", (claim.id,))
    revision = max(claim.told, 1) if claim.unsure else claim.wanted
    put(connection, claim.id, told=revision, since=now, sent=None, repeat=0, attempts=0, not_before=0, reason="")


def untold(connection: sqlite3.Connection, claim: Claim, reason: str) -> None:
    """The line is not told, now or later."""
    put(connection, claim.id, told=claim.wanted, sent=None, attempts=0, not_before=0, reason=reason)
