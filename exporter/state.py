"""The daemon's memory: one SQLite file, one thread that writes it, one daemon that may; what is committed is fsynced.

A file of an older format is brought up to date, all of it or nothing. One that cannot be used (not ours, damaged, of a
format to come) is moved aside and never deleted.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

FILE = "windsock.db"
APPLICATION_ID = 0x57534F4B
NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs", "lustre"}
    | {"nfs", "nfs4", "smb3", "smbfs"}
)
"""File systems of whose locks SQLite warns."""

MAX_SIZE = 1 << 30
LINE = 1000
"""How many calls may wait for the writer before the impatient are turned away."""

# Where the root file system is read-only there is no place for a temporary file: SQLite would say "disk I/O error".
_PRAGMAS = "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
_FILES = (FILE, f"{FILE}-wal", f"{FILE}-shm")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_PASSING = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
    sqlite3.SQLITE_READONLY,
)


class Full(Exception):  # noqa: N818 - as of a queue
    """Nothing can be stored now, though perhaps later; the message is one line."""


class State:
    """The file in a directory, of so many bytes at most, to be used between `open` and `close`."""

    def __init__(self, directory: Path, max_size: int = MAX_SIZE) -> None:
        self._directory, self._max_size = directory, max_size
        self._thread = ThreadPoolExecutor(1, "state")
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._line: list[tuple[Work[Any], asyncio.Future[Any]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def open(self, scripts: Sequence[str]) -> str | None:
        """Open or create the file; a sentence if another process has it, OSError if nobody can.

        Its format is how many of the scripts it has seen, and those that it has not are run, in one transaction.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._open, scripts)

    async def run(self, work: Work[T], *, patient: bool = False) -> T:
        """What `work` did is on disk when this returns, or undone when it raises; Full if it could not be stored.

        Whoever calls while the disk is busy shares the next transaction; beyond LINE callers only the patient wait.
        """
        if not self._connection:
            raise Full("the state file is not open")
        if len(self._line) >= LINE and not patient:
            raise Full(f"{LINE} others wait to be stored")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._line.append((work, future))
        self._writer = self._writer or asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        while self._line:
            line, self._line = self._line, []
            works = [work for work, _ in line]
            outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, works)
            for (_, future), outcome in zip(line, outcomes, strict=True):
                if future.done():
                    continue  # whoever asked was cancelled
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._writer = None

    async def close(self) -> None:
        """Once what waits is stored, another process may have it."""
        if self._writer:
            await self._writer
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _open(self, scripts: Sequence[str]) -> str | None:
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
        if reason := self._unusable(scripts):
            self._move_aside(reason)
            if reason := self._unusable(scripts):
                raise OSError(f"state.dir: cannot use {path / FILE}: {reason}")
        return None

    def _unusable(self, scripts: Sequence[str]) -> str | None:
        """Connects; what is wrong with the file, if something is."""
        try:
            connection = sqlite3.connect(self._directory / FILE, isolation_level=None, check_same_thread=False)
            self._connection = connection
            connection.executescript(f"PRAGMA journal_mode = WAL; {_PRAGMAS}")
            header = "SELECT * FROM pragma_application_id, pragma_user_version, pragma_page_size"
            application, version, page = connection.execute(header).fetchone()
            connection.execute(f"PRAGMA max_page_count = {self._max_size // page}")
            if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                version = 0
            elif application != APPLICATION_ID:
                return "it is not Windsock's"
            elif not 0 < version <= len(scripts):
                return f"its format is {version}, not {len(scripts)}"
            elif (found := connection.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                return f"it is damaged: {found[0]}"
            connection.executescript(
                f"BEGIN IMMEDIATE; {''.join(scripts[version:])} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {len(scripts)}; COMMIT;"
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

    def _transaction(self, works: Sequence[Work[Any]]) -> list[Any]:
        """For each work its result, or the exception with which it was undone."""
        assert self._connection
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._attempt(self._connection, work) for work in works]
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 (whoever waits is told, whatever it is)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return [_passing(error)] * len(works)
        return outcomes

    def _attempt(self, connection: sqlite3.Connection, work: Work[Any]) -> Any:
        connection.execute("SAVEPOINT work")
        try:
            outcome = work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise  # for want of space SQLite undid the others, too
            connection.execute("ROLLBACK TO work")
            outcome = _passing(error)
        connection.execute("RELEASE work")
        return outcome

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def beside(directory: Path) -> Iterator[sqlite3.Connection]:
    """The file for one transaction of a command, whether a daemon has it open or not; OSError if that cannot be."""
    path = directory / FILE
    if not path.exists():
        raise OSError(f"state.dir: there is no {path}")
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.executescript(_PRAGMAS)
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise OSError(f"state.dir: cannot use {path}: {error}") from None


def _passing(error: Exception) -> Exception:
    """What may pass is Full."""
    if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
        return Full(f"the state file cannot be written: {error}")
    return error


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds the path; nothing where the system does not tell."""
    found = ("", "")
    for line in mounts.read_text().splitlines() if mounts.exists() else ():
        before, _, after = line.partition(" - ")
        point = before.split()[4].replace(r"\040", " ")
        if path.resolve().is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, after.split()[0])
    return found[1]
