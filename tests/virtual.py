"""An event loop whose time leaps to the next timer whenever nothing is going on: an hour takes seconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH = 1_790_000_000.0
"""Unix time at its start."""


class _Selector(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # What was sent to a connection within this process is there at once, or almost.
        events = super().select(0 if timeout == 0 else 0.002 if self.loop.talks else 0)
        if events or timeout == 0:
            return events
        if self.loop.threads or timeout is None:
            return super().select(1.0)
        self.loop.leap(timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Threads and connections of this process are waited for; nothing else is."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self._now = 0.0
        self.threads = 0
        self._idle = 0
        super().__init__(selector)

    def calm(self) -> None:
        """No connection is open."""
        self._idle = len(self._selector.get_map())  # type: ignore[attr-defined]

    @property
    def talks(self) -> bool:
        """Whether a connection is open."""
        return len(self._selector.get_map()) > self._idle  # type: ignore[attr-defined]

    def time(self) -> float:
        """Seconds since the start."""
        return self._now

    def leap(self, seconds: float) -> None:
        """Time passes."""
        self._now += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """The same, and it is waited for."""
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._done)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """The same, and the threads are waited for."""
        self.threads += 1
        await super().shutdown_default_executor(*timeout)
        self.threads -= 1

    def _done(self, _future: object) -> None:
        self.threads -= 1


def clock() -> float:
    """Unix time in the running loop."""
    return EPOCH + asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, T]) -> T:
    """What it returns, in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
