"""Processes of this machine, and a server's end by SIGKILL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from windsock_demo.servers import Postgres


def runs(pid: int) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(pids: Sequence[int]) -> None:
    """Returns once none of them runs, at the latest after 10 s."""
    deadline = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)


def kill(server: Postgres) -> None:
    """SIGKILL; its children see that it is gone a moment later, and nobody can start it again before."""
    pid = server.process.pid
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    server.process.kill()
    server.process.wait()
    wait_for_end(children)
