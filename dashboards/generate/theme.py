"""What looks the same on every board: colours, and values that have a name."""

from __future__ import annotations

GOOD, WARN, BAD, PLAIN = "green", "orange", "red", "text"

STATES = {
    "success": "#008000",
    "failed": "#ff0000",
    "running": "#00ff00",
    "queued": "#808080",
    "scheduled": "#d2b48c",
    "deferred": "#9370db",
    "awaiting_input": "#ff8c00",
    "up_for_retry": "#ffd700",
    "up_for_reschedule": "#40e0d0",
    "upstream_failed": "#ffa500",
    "skipped": "#ff69b4",
    "restarting": "#ee82ee",
    "removed": "#d3d3d3",
}
"""The colours that Airflow itself gives to its states."""

Steps = tuple[tuple[float | None, str], ...]
"""Thresholds: from which value on a colour holds, None for all below the first."""

ANY_IS_BAD: Steps = ((None, GOOD), (1, BAD))
ANY_IS_ODD: Steps = ((None, GOOD), (1, WARN))
NONE_IS_BAD: Steps = ((None, BAD), (1, GOOD))
SHARE_USED: Steps = ((None, GOOD), (0.8, WARN), (0.95, BAD))
FUTURE_IS_GOOD: Steps = ((None, BAD), (0, GOOD))
NEUTRAL: Steps = ((None, PLAIN),)

Names = tuple[tuple[int, str, str], ...]
"""Values that are shown as a word: value, word, colour."""

UP: Names = ((0, "Down", BAD), (1, "Up", GOOD))
OK: Names = ((0, "Failed", BAD), (1, "OK", GOOD))
YES_IS_BAD: Names = ((0, "No", GOOD), (1, "Yes", BAD))
NO_IS_BAD: Names = ((0, "No", BAD), (1, "Yes", GOOD))
PLAIN_YES: Names = ((0, "No", PLAIN), (1, "Yes", PLAIN))
PAUSED: Names = ((0, "Active", GOOD), (1, "Paused", WARN))
OUTCOME: Names = ((0, "failed", STATES["failed"]), (1, "success", STATES["success"]))
