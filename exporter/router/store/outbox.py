"""What waits to be shown: claimed by a lane, settled by what came of it, surveyed, and forgotten in the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from ..model import Snapshot
from .inbox import HOLD

LONGEST = 300.0
"""Seconds that a message waits at most from one attempt to the next."""
KEPT, UNHEARD = 7 * 86400.0, 30 * 86400.0
"""Seconds that a group is remembered which is over, and one of which nothing is heard."""


COLUMNS = (
    "id, destination, mention, wanted, since, channel, ts, sent, sent IS NOT NULL, repeat, level, attempts,"
    " first, times, told, known, quiet, turns, (SELECT p.channel || ' ' || p.ts FROM router_message AS p"
    " WHERE p.id = router_message.parent AND p.lane = router_message.lane), snapshot"
)


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
    told: int
    known: str | None
    quiet: float
    turns: str
    joined: str | None
    snapshot: Snapshot

    @property
    def line(self) -> bool:
        """Whether it is a line in the message's thread: what Slack has is not noted as sent for an update."""
        return self.ts is not None and self.sent is not None

    @property
    def thread(self) -> tuple[str, str] | None:
        """The channel, and the message in it, below which a line belongs, or a message that joins another incident."""
        if self.joined and (self.line or not self.ts):
            channel, _, ts = self.joined.partition(" ")
            return channel, ts
        return (self.channel, self.ts) if self.line and self.channel and self.ts else None

    @property
    def knew(self) -> set[str]:
        """The fingerprints that fired when its thread was told last."""
        return {*msgspec.json.decode(self.known or "[]")}

    @property
    def over(self) -> bool:
        """Whether no alert of it fires any more."""
        return self.snapshot.status == "resolved"

    def flapping(self, now: float) -> int:
        """How often its group was over, or began again, of late; 0 unless that is often."""
        return len(msgspec.json.decode(self.turns)) if self.quiet > now else 0

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


def claimed(row: tuple[Any, ...]) -> Claim:
    """What COLUMNS give."""
    return Claim(*row)._replace(snapshot=msgspec.json.decode(row[-1], type=Snapshot))


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
        f"SELECT {COLUMNS} FROM router_message JOIN router_group USING (group_id)"  # noqa: S608
        " WHERE lane = ? AND shown < wanted AND dead IS NULL AND (ts IS NULL OR ?) AND (sent IS NULL OR ?)"
        " AND (? OR not_before NOT BETWEEN ? AND ?)"  # if it is later than that, the clock was set back
        " AND NOT (held AND since BETWEEN ? AND ?)"
        # what joins an incident waits for it, unless it is critical
        " AND NOT (rank AND EXISTS (SELECT 1 FROM router_message AS p WHERE p.id = router_message.parent"
        " AND p.lane = router_message.lane AND p.ts IS NULL AND p.shown < p.wanted AND p.dead IS NULL))"
        f" ORDER BY {'attempts, ' * may.probe}rank, since, id LIMIT 1",
        (lane, may.update or not may.edit, may.look or not may.edit, *times),
    ).fetchone()
    if not row:
        return None
    found = claimed(row)
    found = found if may.edit else found._replace(ts=None)
    if found.ts or found.unsure:
        return found
    put(connection, found.id, sent=now)
    return found._replace(sent=now)


def shown(connection: sqlite3.Connection, claim: Claim, channel: str | None, ts: str | None, now: float) -> None:
    """Slack shows what was claimed; if more began to fire after that was over, it begins again, or a new one does."""
    put(connection, claim.id, shown=claim.wanted, done=claim.over, channel=channel, ts=ts, since=now, sent=None)
    put(connection, claim.id, dead=None, level=0, attempts=0, not_before=0, held=0, reason="")
    if not claim.ts:
        fires = msgspec.json.encode(claim.snapshot.fires).decode()
        put(connection, claim.id, told=claim.wanted, known=fires, saying=None, repeat=0)
    began = "id = ? AND done AND shown < (SELECT news FROM router_group WHERE group_id = router_message.group_id)"
    connection.execute(
        "UPDATE router_message SET shown = 0, done = 0, channel = NULL, ts = NULL, lane = destination"  # noqa: S608
        f" WHERE {began} AND (ts IS NULL OR NOT reopen)",
        (claim.id,),
    )
    connection.execute(f"UPDATE router_message SET done = 0 WHERE {began}", (claim.id,))  # noqa: S608


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
        " attempts = 0, not_before = 0, repeat = repeat OR (sent IS NOT NULL AND ts IS NULL)"
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
        "UPDATE router_message SET told = shown WHERE lane = ? AND told < shown", [(lane,) for lane in lanes]
    )
    connection.executemany(
        "UPDATE router_message SET lane = destination WHERE lane = ? AND shown < wanted AND dead IS NULL",
        [(lane,) for lane in lanes],
    )
    return connection.executemany(
        "UPDATE router_message SET dead = ?, reason = 'there is no such destination'"
        " WHERE lane = ? AND shown < wanted AND dead IS NULL",
        [(now, lane) for lane in lanes],
    ).rowcount


def survey(connection: sqlite3.Connection, now: float) -> dict[str, Waiting]:
    """What waits in each lane, lines of threads included, and the dead letters of each destination."""
    waiting = connection.execute(
        "SELECT lane, count(*), min(since) FROM ("
        "SELECT lane, since FROM router_message WHERE shown < wanted AND dead IS NULL"
        " UNION ALL SELECT lane, since FROM router_message WHERE told < shown AND shown = wanted"
        " AND ts IS NOT NULL AND dead IS NULL AND quiet <= ?) GROUP BY lane",
        (now,),
    )
    found = {lane: Waiting(messages, oldest) for lane, messages, oldest in waiting}
    for destination, dead in connection.execute(
        "SELECT destination, count(*) FROM router_message WHERE dead IS NOT NULL GROUP BY destination"
    ):
        found[destination] = found.get(destination, Waiting())._replace(dead=dead)
    return found


def prune(connection: sqlite3.Connection, now: float) -> None:
    """Forget what was said, groups long over or long unheard of; not what waits or was given up."""
    connection.execute(
        "DELETE FROM router_group WHERE seen < CASE WHEN source = 'slack' THEN ? WHEN over THEN ?"
        " WHEN source = 'alertmanager' OR run_of IS NOT NULL THEN ? ELSE 0 END"  # nobody repeats the others
        " AND group_id NOT IN (SELECT group_id FROM router_message WHERE shown < wanted)",
        (now - HOLD, now - KEPT, now - UNHEARD),
    )
    for table in ("router_message", "router_stormy"):
        connection.execute(f"DELETE FROM {table} WHERE group_id NOT IN (SELECT group_id FROM router_group)")  # noqa: S608
