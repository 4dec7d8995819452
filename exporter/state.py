"""The daemon's memory: one SQLite file, one thread that writes it, one process that may; what is committed is fsynced.

A file that cannot be used (not ours, damaged, of another format) is moved aside and never deleted.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

FILE = "windsock.db"
APPLICATION_ID = 0x57534F4B
FORMAT = 1
NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs", "lustre"}
    | {"nfs", "nfs4", "smb3", "smbfs"}
)
"""File systems of whose locks SQLite warns."""

_FILES = (FILE, f"{FILE}-wal", f"{FILE}-shm")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class State:
    """The file in a directory, to be used between `open` and `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._thread = ThreadPoolExecutor(1, "state")
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self, scripts: Iterable[str]) -> str | None:
        """Open or create the file with these tables; a sentence if another process has it, OSError if nobody can."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._open, "".join(scripts))

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` did is on disk when this returns, or undone when it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    async def close(self) -> None:
        """Another process may have it."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _open(self, script: str) -> str | None:
        path = self._directory
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (kind := file_system(path)) in NETWORK:
                raise OSError(
                    f"state.dir: {path} is on a network file system ({kind}), which cannot be trusted with it"
                )
            self._lock = os.open(path / "windsock.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            return f"another process uses {path}"
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(f"state.dir: cannot write to {path}: {error.strerror}") from None
        if reason := self._unusable(script):
            self._move_aside(reason)
            if reason := self._unusable(script):
                raise OSError(f"state.dir: cannot use {path / FILE}: {reason}")
        return None

    def _unusable(self, script: str) -> str | None:
        """Connects; what is wrong with the file, if something is."""
        try:
            connection = sqlite3.connect(self._directory / FILE, isolation_level=None, check_same_thread=False)
            self._connection = connection
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                connection.execute(f"PRAGMA {pragma}")
            (application,), (version,) = (
                connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
            )
            if connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                if application != APPLICATION_ID:
                    return "it is not Windsock's"
                if version != FORMAT:
                    return f"its format is {version}, not {FORMAT}"
                if (found := connection.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                    return f"it is damaged: {found[0]}"
            connection.executescript(
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; BEGIN; {script} COMMIT;"
            )
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise OSError(f"state.dir: cannot use {self._directory / FILE}: {error}") from None
            return f"it is damaged: {error}"
        return None

    def _move_aside(self, reason: str) -> None:
        if self._connection:
            self._connection.close()
        aside = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"
        for name in _FILES:
            path = self._directory / name
            if path.exists():
                path.rename(path.with_name(name.replace(FILE, f"{FILE}.{aside}")))
        log.warning("state file moved aside", extra={"reason": reason, "to": str(self._directory / f"{FILE}.{aside}")})

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert self._connection
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._connection)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return result

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds the path; nothing where the system does not tell."""
    found = ("", "")
    for line in mounts.read_text().splitlines() if mounts.exists() else ():
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace(r"\040", " ")
        if path.resolve().is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, after.split()[0])
    return found[1]
