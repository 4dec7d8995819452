"""Grafana understands the dashboards: its own code converts them to each of its schemas."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.boards import BOARDS, FOLDER
from tests.conftest import ROOT, tool

pytestmark = pytest.mark.system

CACHE = Path(os.environ.get("WINDSOCK_CACHE") or Path.home() / ".cache" / "windsock") / "go"


@pytest.fixture(scope="module")
def conversion() -> Path:
    """The program that converts as Grafana does, built from Grafana's own module."""
    program = CACHE / "bin" / "grafana-conversion"
    environ = {**os.environ, "GOPATH": str(CACHE / "path"), "GOFLAGS": "-mod=readonly"}
    source = ROOT / "tests" / "stack" / "grafana-conversion"
    subprocess.run([str(tool("go")), "build", "-p", "1", "-o", str(program), "."], cwd=source, env=environ, check=True)
    return program


def test_grafanas_conversion_keeps_everything(conversion: Path) -> None:
    """From classic to v1 to v2 and back to v1: no error, no loss that Grafana notices, and no text that is gone."""
    files = [str(path) for path in sorted(FOLDER.glob("*.json"))]
    done = subprocess.run([conversion, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(BOARDS)


def test_the_conversion_notices_a_loss(conversion: Path, tmp_path: Path) -> None:
    """A variable of a kind that the newest schema lacks does not survive, and that is told."""
    board = (FOLDER / "airflow-dag.json").read_text()
    assert '"type": "textbox"' in board
    (tmp_path / "board.json").write_text(board.replace('"type": "textbox"', '"type": "unheard-of"'))
    done = subprocess.run([conversion, tmp_path / "board.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr
