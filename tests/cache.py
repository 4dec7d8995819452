"""What tests fetch, install or build once for all checkouts, below $WINDSOCK_CACHE or ~/.cache/windsock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(os.environ.get("WINDSOCK_CACHE") or Path.home() / ".cache" / "windsock")


@contextmanager
def alone() -> Iterator[None]:
    """No other process is in such a block."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
