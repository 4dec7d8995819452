"""A storm: many groups of one lane have a single summary in place of messages; only what is critical has its own.

It is over when few of them still fire, or when hardly a group has joined it for a while. Those that fire then get
messages of their own, unless they are as many as make a storm: these get them when they change.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..model import Snapshot
from ..routing import Target

if TYPE_CHECKING:
    from .outbox import May

log = logging.getLogger(__name__)

PAUSE, LONG_PAUSE = 5.0, 300.0
"""Seconds from one edit of a summary to the next, and from one post where nothing can be edited."""
QUIET = 300.0
"""Seconds in which hardly a group joins, after which a storm is over whatever still fires."""
MOST = 10
"""Names that a summary has of a kind."""
_KINDS = ("alertname", "dag_id", "severity")
OWN_MESSAGES = ("slack", "windsock")
"""Sources of what no summary tells: what senders word themselves, and what Windsock has to say of itself."""
_FIRST = (
    "lane = ? AND shown < wanted AND dead IS NULL AND rank AND ts IS NULL AND NOT shown AND sent IS NULL AND NOT held"  # noqa: S608
    f" AND group_id NOT IN (SELECT group_id FROM router_group WHERE source IN {OWN_MESSAGES})"
)
_JOINS = (
    "UPDATE router_storm SET joined = joined + 1 WHERE lane = :lane"
    " AND NOT EXISTS (SELECT 1 FROM router_stormy WHERE group_id = :group AND lane = :lane)"
)


class Count(NamedTuple):
    """How many groups have this name, and how many of them fire."""

    name: str
    groups: int
    firing: int


class Storm(NamedTuple):
    """What a summary tells; `top` has the most frequent names of each kind.

    `ends` says whether it is the last time, `own` whether what fires then gets messages of its own, and `joined` how
    many groups had come of late.
    """

    lane: str
    began: float
    channel: str | None
    ts: str | None
    sent: float | None
    mention: str
    ends: bool
    own: bool
    joined: int
    repeat: bool
    all: Count
    top: dict[str, list[Count]]

    @property
    def state(self) -> str:
        """The same while nothing is to be told anew."""
        return f"{self.all.groups}/{self.all.firing}"

    @property
    def key(self) -> str:
        """What its post bears, to be found by."""
        return f"storm-{self.lane}-{self.began}"


def watch(connection: sqlite3.Connection, lanes: Collection[str], groups: int, now: float) -> set[str]:
    """The lanes in which there is a storm; one begins where more groups than this wait for their first message."""
    storms = active(connection)
    release(connection, storms.difference(lanes if groups else ()), now)
    begun = {lane for lane in lanes if groups and _begin(connection, lane, 0 if lane in storms else groups, now)}
    return begun | (storms & {*lanes} if groups else set())


def _begin(connection: sqlite3.Connection, lane: str, groups: int, now: float) -> bool:
    (waiting,) = connection.execute(f"SELECT count(*) FROM router_message WHERE {_FIRST}", (lane,)).fetchone()  # noqa: S608
    if waiting <= groups:
        return False
    if groups:
        log.warning("storm: one summary for all that is not critical", extra={"destination": lane, "groups": waiting})
    connection.execute(
        "INSERT INTO router_storm (lane, began, since) VALUES (?, ?, ?)"
        " ON CONFLICT (lane) DO UPDATE SET joined = joined + ?",
        (lane, now, now, waiting),
    )
    rows = connection.execute(
        "SELECT group_id, destination, mention, reopen, snapshot"  # noqa: S608
        f" FROM router_message JOIN router_group USING (group_id) WHERE {_FIRST}",
        (lane,),
    )
    for group, destination, mention, reopen, told in rows:
        snapshot = msgspec.json.decode(told, type=Snapshot)
        _add(connection, lane, group, Target(destination, mention, reopen), snapshot)
    connection.execute(f"DELETE FROM router_message WHERE {_FIRST}", (lane,))  # noqa: S608
    return True


def absorb(
    connection: sqlite3.Connection, group: int | None, snapshot: Snapshot, targets: Sequence[Target], *, late: bool
) -> list[Target]:
    """Those of a group's targets where it needs a message of its own; at the others a storm counts it."""
    stormy = active(connection)
    if not stormy:
        return [*targets]
    critical = snapshot.critical and snapshot.firing
    shown = {to for (to,) in connection.execute("SELECT destination FROM router_message WHERE group_id = ?", (group,))}
    connection.execute("UPDATE router_stormy SET fires = ? WHERE group_id = ?", (snapshot.status == "firing", group))
    own = []
    for target in targets:
        if target.destination not in stormy or target.destination in shown or critical or late:
            own.append(target)
            connection.execute(
                "DELETE FROM router_stormy WHERE group_id = ? AND destination = ?", (group, target.destination)
            )
        else:
            connection.execute(_JOINS, {"lane": target.destination, "group": group})
            _add(connection, target.destination, group, target, snapshot)
    return own


def active(connection: sqlite3.Connection) -> set[str]:
    """The lanes in which there is a storm."""
    return {lane for (lane,) in connection.execute("SELECT lane FROM router_storm")}


def due(connection: sqlite3.Connection, lane: str, groups: int, now: float, may: May) -> Storm | None:
    """What the summary of a lane's storm has to tell now, if there is one, and something new; a post is noted."""
    pause = PAUSE if may.edit else LONG_PAUSE
    connection.execute(
        "UPDATE router_storm SET since = ?, joined = 0 WHERE lane = ? AND joined > ? AND abs(? - since) >= ?",
        (now, lane, groups // 2, now, QUIET),
    )
    row = connection.execute(
        "SELECT began, channel, ts, sent, told, since, joined, repeat FROM router_storm"
        " WHERE lane = ? AND at NOT BETWEEN ? AND ? AND (ts IS NULL OR ?) AND (sent IS NULL OR ?)",
        (lane, now - pause, now, may.update, may.look),
    ).fetchone()
    if not row:
        return None
    began, channel, ts, sent, told, since, joined, repeat = row
    every = Count(
        *connection.execute(
            "SELECT '', count(*), coalesce(sum(fires), 0) FROM router_stormy WHERE lane = ?", (lane,)
        ).fetchone()
    )
    ends = every.firing <= groups // 2 or bool(told and abs(now - since) >= QUIET)
    if told == f"{every.groups}/{every.firing}" and not ends:
        return None
    mentions = connection.execute("SELECT DISTINCT mention FROM router_stormy WHERE lane = ? LIMIT 9", (lane,))
    mention = " ".join(sorted(filter(None, (text for (text,) in mentions))))
    if not sent and not ts:
        connection.execute("UPDATE router_storm SET sent = ? WHERE lane = ?", (now, lane))
    top = {kind: _top(connection, lane, kind) for kind in _KINDS}
    own = every.firing <= groups
    return Storm(lane, began, channel, ts, sent, mention, ends, own, joined, bool(repeat), every, top)


def noted(connection: sqlite3.Connection, lane: str, at: float, /, **columns: float | str | None) -> None:
    """Change what is known of a storm's summary, which was tried at that time."""
    names = "".join(f", {name} = :{name}" for name in columns)
    values = {**columns, "at": at, "lane": lane}
    connection.execute(f"UPDATE router_storm SET at = :at{names} WHERE lane = :lane", values)  # noqa: S608


def summarised(connection: sqlite3.Connection, storm: Storm, channel: str | None, ts: str | None, now: float) -> None:
    """Slack shows the summary; if it was the last time, the storm is over, unless a group joined it meanwhile."""
    told, unchanged = "" if storm.ends else storm.state, "SELECT 1 FROM router_storm WHERE lane = ? AND joined = ?"
    noted(connection, storm.lane, now, channel=channel, ts=ts, sent=None, told=told, repeat=0)
    if storm.ends and storm.own:
        release(connection, [storm.lane], now)
    elif storm.ends and connection.execute(unchanged, (storm.lane, storm.joined)).fetchone():
        _end(connection, storm.lane)


def release(connection: sqlite3.Connection, lanes: Collection[str], now: float) -> None:
    """There is no storm any more: what fires waits for a message of its own."""
    for lane in lanes:
        connection.execute(
            "INSERT OR IGNORE INTO router_message"
            " (group_id, destination, lane, mention, reopen, rank, since, wanted)"
            " SELECT group_id, destination, destination, mention, reopen, 1, ?, revision FROM router_stormy"
            " JOIN router_group USING (group_id) WHERE lane = ? AND fires",
            (now, lane),
        )
        _end(connection, lane)


def _end(connection: sqlite3.Connection, lane: str) -> None:
    connection.execute("DELETE FROM router_stormy WHERE lane = ?", (lane,))
    connection.execute("DELETE FROM router_storm WHERE lane = ?", (lane,))


def _add(connection: sqlite3.Connection, lane: str, group: int | None, target: Target, snapshot: Snapshot) -> None:
    labels = snapshot.labels
    names = (labels.get("alertname", ""), labels.get("dag_id", ""), labels.get("severity", ""))
    connection.execute(
        "INSERT OR REPLACE INTO router_stormy"
        " (group_id, lane, destination, mention, reopen, fires, alertname, dag_id, severity)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (group, lane, *target, snapshot.status == "firing", *names),
    )


def _top(connection: sqlite3.Connection, lane: str, kind: str) -> list[Count]:
    rows = connection.execute(
        f"SELECT {kind}, count(*), sum(fires) FROM router_stormy WHERE lane = ? AND {kind} != ''"  # noqa: S608
        f" GROUP BY {kind} ORDER BY sum(fires) DESC, count(*) DESC, {kind} LIMIT {MOST}",
        (lane,),
    )
    return [Count(*row) for row in rows]
