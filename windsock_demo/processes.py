"""Child processes that end with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 10.0

_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@contextmanager
def launched(
    command: Sequence[str],
    log: Path,
    *,
    stop: signal.Signals = signal.SIGTERM,
    user: int | None = None,
    descriptors: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command, its output appended to `log`, until the block ends: by `stop`, and after 10 s by SIGKILL.

    The terminal's Ctrl-C does not reach it. On Linux it also gets `stop` when the thread that started it ends, however
    that comes about.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",  # another user may not be allowed into ours
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,
            preexec_fn=partial(_end_with_parent, stop),  # noqa: PLW1509 - one system call, looked up beforehand
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            pass_fds=descriptors,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], log: Path, answers: Callable[[], bool]) -> None:
    """Returns once a server answers; raises RuntimeError with the end of its log when it ends first, or after 30 s."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if answers():
            return
        time.sleep(0.02)
    raise failure("did not start", log)


def failure(what: str, log: Path) -> RuntimeError:
    """An error that ends with the last lines of a log."""
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    return RuntimeError(f"{log.stem} {what}; the end of {log}:\n{tail}")


def _end_with_parent(stop: signal.Signals) -> None:
    """In the child, before it becomes the command: asks the kernel for `stop` at the parent's death."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, int(stop))
