"""What a webhook told, taken in: its group as it is now, and what has to be shown of it where."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec

from ...state import Full
from ..model import Snapshot
from ..routing import Target

DOUBLE = 120.0
"""Seconds in which what was told already is a retry, or comes late from the other one of a pair of Alertmanagers."""
HOLD = 330.0
"""Seconds in which that one says that it is over, if it is: its `group_interval`, which is 300 by default, and more."""
ROOM = 0.95
"""Of the file's largest size, the part up to which more is accepted."""


def accept(
    connection: sqlite3.Connection, snapshot: Snapshot, targets: Sequence[Target], now: float
) -> Literal["stored", "duplicate"]:
    """Remember what a webhook told, to be shown at these targets and wherever its group is shown; raises Full."""
    where = (snapshot.source, snapshot.receiver, snapshot.key)
    known = connection.execute(
        "SELECT group_id, identity, revision, news, over, first, times, seen, snapshot FROM router_group"
        " WHERE source = ? AND receiver = ? AND key = ?",
        where,
    ).fetchone()
    group, was, revision, news, was_over, first, times, seen, told = known or (None, "", 0, 0, 1, now, 0, now, b"")
    identity, over = snapshot.identity, snapshot.status == "resolved"
    again = bool(snapshot.said) and now - seen > DOUBLE
    if was == identity and not again:
        if now - seen > DOUBLE:
            connection.execute("UPDATE router_group SET seen = ?, times = times + 1 WHERE group_id = ?", (now, group))
        return "duplicate"
    previous = msgspec.json.decode(told, type=Snapshot) if known else None
    _require_room(connection)
    begins = again or (bool(was_over) and not over)
    revision += 1
    if begins or not previous:
        first, times = min((it.starts for it in snapshot.alerts if it.firing or over), default=now), 0
    if begins or (previous and _firing(snapshot) - _firing(previous)):
        news = revision
    row = (group, *where, identity, revision, news, over, first, times + 1, now, msgspec.json.encode(snapshot))
    group = connection.execute(
        "INSERT OR REPLACE INTO router_group VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row
    ).lastrowid
    past = "done" if begins else "held AND since > :now AND NOT shown AND sent IS NULL" if over else "FALSE"
    late = bool(previous and was_over and now - seen <= DOUBLE and _may_be_late(snapshot, previous))
    wanted = {"group": group, "revision": revision, "rank": over or snapshot.severity != "critical", "now": now}
    wanted |= {"news": news == revision, "held": late, "since": now + HOLD * late}
    connection.execute(f"DELETE FROM router_message WHERE group_id = :group AND {past}", wanted)  # noqa: S608
    _want(connection, wanted, () if known and over and not again else targets)
    return "stored"


def _want(connection: sqlite3.Connection, wanted: dict[str, object], targets: Sequence[Target]) -> None:
    """What shows the group, or waits to, has to show this revision; so have these targets."""
    connection.execute(
        "UPDATE router_message SET wanted = :revision, rank = :rank, level = 0, dead = NULL,"
        " since = CASE WHEN shown < wanted AND dead IS NULL AND NOT (held AND :news) THEN since ELSE :now END,"
        " attempts = attempts * (dead IS NULL), not_before = not_before * (dead IS NULL), held = held AND NOT :news"
        " WHERE group_id = :group AND NOT done",
        wanted,
    )
    connection.executemany(
        "INSERT INTO router_message (group_id, wanted, rank, since, held, destination, lane, mention)"
        " VALUES (:group, :revision, :rank, :since, :held, :to, :to, :mention)"
        " ON CONFLICT (group_id, destination) DO UPDATE SET mention = :mention",
        [{**wanted, "to": target.destination, "mention": target.mention} for target in targets],
    )


def _may_be_late(snapshot: Snapshot, over: Snapshot) -> bool:
    """Whether another Alertmanager tells of alerts that began before these were over: perhaps it does not know yet."""
    began_before = all(it.starts < over.ended for it in snapshot.alerts if it.firing)
    return began_before and snapshot.external_url != over.external_url


def _firing(snapshot: Snapshot) -> set[str]:
    beyond = {fingerprint for fingerprint, firing in snapshot.fingerprints.items() if firing}
    return beyond.union(it.fingerprint for it in snapshot.alerts if it.firing)


def _require_room(connection: sqlite3.Connection) -> None:
    room = "SELECT * FROM pragma_page_count, pragma_freelist_count, pragma_max_page_count"
    pages, free, most = connection.execute(room).fetchone()
    if pages - free > ROOM * most:
        raise Full("the state file has reached state.max_size")
