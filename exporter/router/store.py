"""The router's tables: what is known of each group of alerts, and what Slack shows of it at each destination.

A message is one group at one destination. While `shown` is behind `wanted`, both revisions of its group, it waits or is
a dead letter. It is `done` once it shows that the group is over: what fires after that is a new one, `held` back until
`since` where it may be the word of another Alertmanager that comes late. `sent` stands from before a post until its
answer: who finds it cannot know whether Slack has it. All functions are for `State.run`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Literal, NamedTuple

import msgspec

from ..state import Full
from .model import Snapshot
from .routing import Target

TABLES = """
CREATE TABLE IF NOT EXISTS router_group (group_id INTEGER PRIMARY KEY, source TEXT NOT NULL, receiver TEXT NOT NULL,
  key TEXT NOT NULL, identity TEXT NOT NULL, revision INTEGER NOT NULL, news INTEGER NOT NULL, over INTEGER NOT NULL,
  first REAL NOT NULL, times INTEGER NOT NULL, seen REAL NOT NULL, snapshot BLOB NOT NULL,
  UNIQUE (source, receiver, key));
CREATE TABLE IF NOT EXISTS router_message (id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
  destination TEXT NOT NULL, lane TEXT NOT NULL, mention TEXT NOT NULL, rank INTEGER NOT NULL, since REAL NOT NULL,
  wanted INTEGER NOT NULL, shown INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, channel TEXT, ts TEXT,
  sent REAL, repeat INTEGER NOT NULL DEFAULT 0, level INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  not_before REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', dead REAL, UNIQUE (group_id, destination));
CREATE INDEX IF NOT EXISTS router_waiting ON router_message (lane, rank, since) WHERE shown < wanted AND dead IS NULL;
CREATE INDEX IF NOT EXISTS router_dead ON router_message (destination) WHERE dead IS NOT NULL;
"""
HELD = "ALTER TABLE router_message ADD COLUMN held INTEGER NOT NULL DEFAULT 0;"
"""What was added to them."""

DOUBLE = 120.0
"""Seconds in which what was told already is a retry, or comes late from the other one of a pair of Alertmanagers."""
HOLD = 330.0
"""Seconds in which that one says that it is over, if it is: its `group_interval`, which is 300 by default, and more."""
LONGEST = 300.0
"""Seconds that a message waits at most from one attempt to the next."""
KEPT, UNHEARD = 7 * 86400.0, 30 * 86400.0
"""Seconds that a group is remembered which is over, and one of which nothing is heard."""
ROOM = 0.95
"""Of the file's largest size, the part up to which more is accepted."""


class Claim(NamedTuple):
    """A message to be posted, or updated where it has a `ts`; `unsure` if it was sent before, and may be in Slack."""

    id: int
    destination: str
    mention: str
    wanted: int
    since: float
    channel: str | None
    ts: str | None
    sent: float | None
    unsure: bool
    repeat: bool
    level: int
    attempts: int
    first: float
    times: int
    snapshot: Snapshot

    @property
    def key(self) -> str:
        """What its post bears, to be found by."""
        return f"{self.id}-{self.sent}"

    @property
    def group(self) -> str:
        """A short name of its group."""
        it = self.snapshot
        return sha256(f"{it.source}\n{it.receiver}\n{it.key}".encode()).hexdigest()[:8]


class May(NamedTuple):
    """What a lane can do: edit messages at all, update one now, look for one now; a probe is what was tried least."""

    edit: bool
    update: bool = True
    look: bool = True
    probe: bool = False


class Waiting(NamedTuple):
    """How many messages wait for a destination, and since when; how many were given up."""

    messages: int = 0
    oldest: float | None = None
    dead: int = 0


class DeadLetter(NamedTuple):
    """A message that was given up, when and why."""

    id: int
    destination: str
    died: float
    reason: str
    snapshot: Snapshot


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
    if was == identity:
        if now - seen > DOUBLE:
            connection.execute("UPDATE router_group SET seen = ?, times = times + 1 WHERE group_id = ?", (now, group))
        return "duplicate"
    previous = msgspec.json.decode(told, type=Snapshot) if known else None
    _require_room(connection)
    begins = bool(was_over) and not over
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
    _want(connection, wanted, () if known and over else targets)
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


def claim(connection: sqlite3.Connection, lane: str, now: float, may: May) -> Claim | None:
    """The next message of a lane, the critical first, then the oldest; a post is noted before it is made."""
    if not may.edit:  # only what begins to fire, or is over, is told
        connection.execute(
            "UPDATE router_message SET shown = wanted WHERE lane = ? AND shown < wanted AND dead IS NULL AND shown > 0"
            " AND group_id IN (SELECT group_id FROM router_group WHERE news <= shown AND over = done)",
            (lane,),
        )
    times = (may.probe, now, now + LONGEST, now, now + HOLD)
    row = connection.execute(
        "SELECT id, destination, mention, wanted, since, channel, ts, sent, sent IS NOT NULL, repeat, level, attempts,"  # noqa: S608
        " first, times, snapshot FROM router_message JOIN router_group USING (group_id)"
        " WHERE lane = ? AND shown < wanted AND dead IS NULL AND (ts IS NULL OR ?) AND (sent IS NULL OR ?)"
        " AND (? OR not_before NOT BETWEEN ? AND ?)"  # if it is later than that, the clock was set back
        " AND NOT (held AND since BETWEEN ? AND ?)"
        f" ORDER BY {'attempts, ' * may.probe}rank, since, id LIMIT 1",
        (lane, may.update or not may.edit, may.look or not may.edit, *times),
    ).fetchone()
    if not row:
        return None
    found = Claim(*row)._replace(snapshot=msgspec.json.decode(row[-1], type=Snapshot))
    found = found if may.edit else found._replace(ts=None)
    if found.ts or found.unsure:
        return found
    put(connection, found.id, sent=now)
    return found._replace(sent=now)


def shown(connection: sqlite3.Connection, claim: Claim, channel: str | None, ts: str | None, now: float) -> None:
    """Slack shows what was claimed; if more began to fire after that was over, what follows is a new message."""
    over = claim.snapshot.status == "resolved"
    put(connection, claim.id, shown=claim.wanted, done=over, channel=channel, ts=ts, since=now, sent=None, repeat=0)
    put(connection, claim.id, dead=None, level=0, attempts=0, not_before=0, held=0, reason="")
    connection.execute(
        "UPDATE router_message SET shown = 0, done = 0, channel = NULL, ts = NULL, lane = destination"
        " WHERE id = ? AND done AND shown < (SELECT news FROM router_group WHERE group_id = router_message.group_id)",
        (claim.id,),
    )


def put(connection: sqlite3.Connection, message: int, /, **columns: float | str | None) -> None:
    """Change a message."""
    names = ", ".join(f"{name} = :{name}" for name in columns)
    connection.execute(f"UPDATE router_message SET {names} WHERE id = :message", {**columns, "message": message})  # noqa: S608


def hurry(connection: sqlite3.Connection, lane: str) -> None:
    """What was put off in a lane need wait no longer."""
    connection.execute("UPDATE router_message SET not_before = 0 WHERE lane = ? AND not_before > 0", (lane,))


def divert(connection: sqlite3.Connection, lane: str, fallback: str, *, displayed: bool) -> int:
    """How many messages of a lane now wait in another, as new ones; those that Slack shows only if `displayed`."""
    return connection.execute(
        "UPDATE router_message SET lane = ?, channel = NULL, ts = NULL, shown = 0, sent = NULL, level = 0,"
        " attempts = 0, not_before = 0, repeat = repeat OR sent IS NOT NULL"
        " WHERE lane = ? AND shown < wanted AND dead IS NULL AND (ts IS NULL OR ?)",
        (fallback, lane, displayed),
    ).rowcount


def give_up(connection: sqlite3.Connection, claim: Claim, reason: str, sent: float | None, now: float) -> None:
    """A message becomes a dead letter, unless something new is to be told by now."""
    connection.execute(
        "UPDATE router_message SET reason = ?, sent = ?, dead = CASE WHEN wanted = ? THEN ? END WHERE id = ?",
        (reason, sent, claim.wanted, now, claim.id),
    )


def bury(connection: sqlite3.Connection, lanes: Collection[str], now: float) -> int:
    """How many messages are given up that wait in lanes that are no more; what was diverted there goes back."""
    connection.executemany(
        "UPDATE router_message SET lane = destination WHERE lane = ? AND shown < wanted AND dead IS NULL",
        [(lane,) for lane in lanes],
    )
    return connection.executemany(
        "UPDATE router_message SET dead = ?, reason = 'there is no such destination'"
        " WHERE lane = ? AND shown < wanted AND dead IS NULL",
        [(now, lane) for lane in lanes],
    ).rowcount


def survey(connection: sqlite3.Connection) -> dict[str, Waiting]:
    """What waits in each lane, and the dead letters of each destination."""
    waiting = connection.execute(
        "SELECT lane, count(*), min(since) FROM router_message WHERE shown < wanted AND dead IS NULL GROUP BY lane"
    )
    found = {lane: Waiting(messages, oldest) for lane, messages, oldest in waiting}
    for destination, dead in connection.execute(
        "SELECT destination, count(*) FROM router_message WHERE dead IS NOT NULL GROUP BY destination"
    ):
        found[destination] = found.get(destination, Waiting())._replace(dead=dead)
    return found


def prune(connection: sqlite3.Connection, now: float) -> None:
    """Forget groups that are long over, or of which nothing was heard for long; not what waits or was given up."""
    connection.execute(
        "DELETE FROM router_group WHERE (seen < ? OR (over AND seen < ?))"
        " AND group_id NOT IN (SELECT group_id FROM router_message WHERE shown < wanted)",
        (now - UNHEARD, now - KEPT),
    )
    connection.execute("DELETE FROM router_message WHERE group_id NOT IN (SELECT group_id FROM router_group)")


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
        "UPDATE router_message SET dead = NULL, shown = wanted, sent = NULL, lane = destination,"
        " done = (SELECT over FROM router_group WHERE group_id = router_message.group_id)"
        " WHERE id = ? AND dead IS NOT NULL",
        [(message,) for message in messages],
    ).rowcount
