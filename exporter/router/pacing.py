"""How fast Slack is asked; the times are those of the running event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MINUTE = 60.0


def now() -> float:
    """The event loop's time."""
    return asyncio.get_running_loop().time()


class Gate:
    """What goes to one channel, one by one, and nothing while it is closed."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._opens = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Inside, nobody else's is under way, and the gate is open, unless it is closed there."""
        async with self._lock:
            await asyncio.sleep(self._opens - now())
            yield

    def close(self, seconds: float) -> None:
        """For so long, or longer if that was said before."""
        self._opens = max(self._opens, now() + seconds)


class Budget:
    """So many requests within any minute, whoever makes them, and none while it is closed."""

    def __init__(self, most: int) -> None:
        self._spent: deque[float] = deque(maxlen=most)
        self._opens = 0.0

    def left(self) -> bool:
        """Whether one more may be made."""
        used_up = len(self._spent) == self._spent.maxlen and now() < self._spent[0] + MINUTE
        return not used_up and now() >= self._opens

    def take(self) -> bool:
        """Whether one more may be made, which then is."""
        if left := self.left():
            self._spent.append(now())
        return left

    def close(self, seconds: float) -> None:
        """For so long, or longer if that was said before."""
        self._opens = max(self._opens, now() + seconds)
