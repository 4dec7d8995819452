"""What a webhook told, taken in: its group as it is now, and what has to be shown of it where."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from ...state import Full
from ..model import Snapshot
from ..routing import Target
from .storm import OWN_MESSAGES, absorb
from .turns import quiet_until, remind, turn

DOUBLE = 120.0
"""Seconds in which what was told already is a retry, or comes late from the other one of a pair of Alertmanagers."""
HOLD = 330.0
"""Seconds in which that one says that it is over, if it is: its `group_interval`, which is 300 by default, and more."""
JOINS = 3600.0
"""Seconds after a run's failure in which alerts about its DAG join its thread: later nobody looks there."""
ROOM = 0.95
"""Of the file's largest size, the part up to which more is accepted."""

_BEGINS = (
    "DELETE FROM router_message WHERE group_id = :group AND done AND (ts IS NULL OR since <= :now - reopen)",
    """UPDATE router_message SET done = 0, held = :held, wanted = :revision, since = :since
    WHERE group_id = :group AND done""",
)
"""A group that was over fires: what was over long ago stays as it is, and what was of late goes on."""
_ENDS = (
    "DELETE FROM router_message WHERE group_id = :group AND held AND since > :now AND NOT shown AND sent IS NULL",
    """UPDATE router_message SET done = 1, held = 0, wanted = shown, since = :now
    WHERE group_id = :group AND held AND since > :now AND shown""",
)
"""A group is over: of what was held back nothing is told."""


class _Group(NamedTuple):
    """A row of what is known; a group of which nothing is known has none, and is over."""

    id: int | None = None
    identity: str = ""
    revision: int = 0
    news: int = 0
    over: bool = True
    first: float = 0.0
    times: int = 0
    seen: float = 0.0
    told: bytes = b""
    turns: Sequence[float] = ()


def accept(
    connection: sqlite3.Connection, snapshot: Snapshot, targets: Sequence[Target], now: float
) -> Literal["stored", "duplicate"]:
    """Remember what a webhook told, to be shown at these targets and wherever its group is shown; raises Full."""
    was = _known(connection, snapshot)
    again = bool(was.id) and now - was.seen > DOUBLE
    anew = again and bool(snapshot.said)
    if was.identity == snapshot.identity and not anew:
        if again:
            connection.execute("UPDATE router_group SET seen = ?, times = times + 1 WHERE group_id = ?", (now, was.id))
            remind(connection, was.id, snapshot.reason, now)
        return "duplicate"
    _require_room(connection)
    previous, over = msgspec.json.decode(was.told, type=Snapshot) if was.id else None, snapshot.status == "resolved"
    begins = anew or (bool(was.over) and not over)
    late = bool(previous and was.over and not again and _may_be_late(snapshot, previous))
    more = begins or bool(previous and snapshot.fires - previous.fires)
    same = previous and (snapshot.fires, snapshot.standing) == (previous.fires, previous.standing)
    if again and not more and same:
        remind(connection, was.id, snapshot.reason, now)
    group = _keep(connection, _turned(was, snapshot, now, begins=begins, more=more, late=late), snapshot)
    wanted = _wanted(group, snapshot, late=late)
    for statement in _BEGINS if begins else _ENDS if over else ():
        connection.execute(statement, wanted)
    new = () if was.id and over and not anew else targets
    if snapshot.said:
        new = [target._replace(reopen=0.0) for target in new]
    if snapshot.source not in OWN_MESSAGES:
        new = absorb(connection, group.id, snapshot, new, late=late)
    _want(connection, wanted, new)
    return "stored"


def _known(connection: sqlite3.Connection, snapshot: Snapshot) -> _Group:
    where = (snapshot.source, snapshot.receiver, snapshot.key)
    adopt = "UPDATE OR IGNORE router_group SET key = ? WHERE source = ? AND receiver = ? AND key = ?"
    connection.execute(adopt, (snapshot.key, snapshot.source, snapshot.receiver, snapshot.nameless))
    row = connection.execute(
        "SELECT group_id, identity, revision, news, over, first, times, seen, snapshot, turns FROM router_group"
        " WHERE source = ? AND receiver = ? AND key = ?",
        where,
    ).fetchone()
    return _Group(*row)._replace(turns=msgspec.json.decode(row[-1])) if row else _Group()


def _turned(was: _Group, snapshot: Snapshot, now: float, *, begins: bool, more: bool, late: bool) -> _Group:
    """The group as it is now, with its next revision."""
    revision, over = was.revision + 1, snapshot.status == "resolved"
    first, times, turns = was.first, was.times, was.turns
    if begins or not was.id:
        first, times = min((it.starts for it in snapshot.alerts if it.firing or over), default=now), 0
    if was.id and over != was.over:  # what is late takes back the end that it may not know of
        turns = turns[:-1] if late else turn(turns, now, begins=begins)
    news, told = revision if more else was.news, msgspec.json.encode(snapshot)
    return _Group(was.id, snapshot.identity, revision, news, over, first, times + 1, now, told, turns)


def _keep(connection: sqlite3.Connection, group: _Group, snapshot: Snapshot) -> _Group:
    where = (snapshot.source, snapshot.receiver, snapshot.key, snapshot.run_of)
    row = connection.execute(
        "INSERT OR REPLACE INTO router_group (group_id, identity, revision, news, over, first, times, seen, snapshot,"
        " turns, source, receiver, key, run_of) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*group[:-1], msgspec.json.encode(group.turns).decode(), *where),
    )
    return group._replace(id=row.lastrowid)


def _wanted(group: _Group, snapshot: Snapshot, *, late: bool) -> dict[str, object]:
    """What the statements about a group's messages need."""
    return {
        "group": group.id,
        "revision": group.revision,
        "rank": group.over or not snapshot.critical,
        "now": group.seen,
        "news": group.news == group.revision and not late,
        "held": late,
        "since": group.seen + HOLD * late,
        "quiet": quiet_until(group.turns),
        "joins": group.seen - JOINS,
        "dag": None if snapshot.run_of else snapshot.dag,
    }


def _want(connection: sqlite3.Connection, wanted: dict[str, object], targets: Sequence[Target]) -> None:
    """What shows the group, or waits to, has to show this revision; so have these targets."""
    connection.execute(
        "UPDATE router_message SET wanted = :revision, rank = :rank, level = 0, dead = NULL, quiet = :quiet,"
        " since = CASE WHEN shown < wanted AND dead IS NULL AND NOT (held AND :news) THEN since ELSE :now END,"
        " attempts = attempts * (dead IS NULL), not_before = not_before * (dead IS NULL), held = held AND NOT :news"
        " WHERE group_id = :group AND NOT done",
        wanted,
    )
    connection.executemany(
        "INSERT INTO router_message (group_id, wanted, rank, since, held, quiet, destination, lane, mention, reopen,"
        " parent) VALUES (:group, :revision, :rank, :since, :held, :quiet, :to, :to, :mention, :reopen,"
        " (SELECT max(id) FROM router_message JOIN router_group USING (group_id)"
        " WHERE run_of = :dag AND NOT over AND seen > :joins AND lane = :to AND dead IS NULL))"
        " ON CONFLICT (group_id, destination) DO UPDATE SET mention = :mention, reopen = :reopen",
        [{**wanted, "to": it.destination, "mention": it.mention, "reopen": it.reopen} for it in targets],
    )


def _may_be_late(snapshot: Snapshot, over: Snapshot) -> bool:
    """Whether another Alertmanager tells of alerts that began before these were over: perhaps it does not know yet."""
    began_before = all(it.starts < over.ended for it in snapshot.alerts if it.firing)
    return began_before and snapshot.external_url != over.external_url


def _require_room(connection: sqlite3.Connection) -> None:
    room = "SELECT * FROM pragma_page_count, pragma_freelist_count, pragma_max_page_count"
    pages, free, most = connection.execute(room).fetchone()
    if pages - free > ROOM * most:
        raise Full("the state file has reached state.max_size")
