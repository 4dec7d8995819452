"""How often Slack lets one call it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

POSTS = frozenset({"chat.postMessage", "webhook"})
MINUTE = 60.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What is let through: messages per second and channel, so many at once; other calls per minute and method."""

    posts: float = 1.0
    burst: int = 4
    calls: int = 50


class Gate:
    """Tells who is too fast how long to wait, and refuses all that comes earlier; without a pace, only that."""

    def __init__(self, pace: Pace | None, clock: Callable[[], float]) -> None:
        self.impatient = 0
        """How many requests came before the end of a Retry-After."""
        self._pace = pace
        self._clock = clock
        self._shut: dict[tuple[str, str], float] = {}
        self._posts: dict[tuple[str, str], tuple[float, float]] = {}
        self._calls: dict[str, deque[float]] = {}

    def wait(self, method: str, channel: str) -> int:
        """0 for a request that may pass, and counts, else the seconds of its Retry-After."""
        remaining = self._shut.get(_lane(method, channel), 0.0) - self._clock()
        if remaining > 0:
            self.impatient += 1
            return math.ceil(remaining)
        if self._pace is None or method == "auth.test":
            return 0
        missing = self._post(method, channel, self._pace) if method in POSTS else self._call(method, self._pace)
        return self.shut(method, channel, math.ceil(missing)) if missing > 0 else 0

    def shut(self, method: str, channel: str, seconds: int) -> int:
        """For so long nothing passes: to this channel by a method that posts, else by this method at all."""
        self._shut[_lane(method, channel)] = self._clock() + seconds
        return seconds

    def _post(self, method: str, channel: str, pace: Pace) -> float:
        now = self._clock()
        tokens, since = self._posts.get((method, channel), (float(pace.burst), now))
        tokens = min(pace.burst, tokens + (now - since) * pace.posts)
        passes = tokens >= 1
        self._posts[method, channel] = (tokens - passes, now)
        return 0.0 if passes else (1 - tokens) / pace.posts

    def _call(self, method: str, pace: Pace) -> float:
        now = self._clock()
        calls = self._calls.setdefault(method, deque())
        while calls and calls[0] <= now - MINUTE:
            calls.popleft()
        if len(calls) >= pace.calls:
            return calls[0] + MINUTE - now
        calls.append(now)
        return 0.0


def _lane(method: str, channel: str) -> tuple[str, str]:
    return (method, channel if method in POSTS else "")
