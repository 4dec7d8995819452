"""How often a group was over and began again of late, and when the threads about it are silent or owe a reminder."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

FLAPS, STABLE = 3, 1800.0
"""So many ends and new beginnings within so many seconds are flapping, until there was none for as long."""
REMINDER = "repeat interval elapsed"
"""Why Alertmanager tells the same again; it gives reasons from 0.32 on."""
MOST = 99


def turn(turns: Sequence[float], now: float, *, begins: bool) -> list[float]:
    """The times at which a group was over, or began again of late, with one more; those that still count."""
    flapping = quiet_until(turns) > now
    kept = [when for when in turns if flapping or now - when < STABLE]
    return [*kept, now][-MOST:] if kept or not begins else []


def quiet_until(turns: Sequence[float]) -> float:
    """Until when a thread is silent; 0 for a group that does not flap."""
    return turns[-1] + STABLE if len(turns) >= FLAPS else 0.0


def remind(connection: sqlite3.Connection, group: int | None, reason: str, now: float) -> None:
    """Threads owe a reminder if the sender says that this is one or, where it gives no reason, after a long silence."""
    silent = {REMINDER: 0.0, "": STABLE}.get(reason)
    if silent is not None:
        connection.execute(
            "UPDATE router_message SET told = 0, since = ? WHERE group_id = ? AND since <= ? AND shown = wanted"
            " AND ts IS NOT NULL AND dead IS NULL AND NOT done AND NOT held",
            (now, group, now - silent),
        )
