"""Prometheus's own linter has nothing to say about what is exported."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from exporter.collectors import ALL
from tests.conftest import tool
from windsock_demo.processes import launched

pytestmark = pytest.mark.system


def test_the_demos_metrics_are_clean(tmp_path: Path) -> None:
    """`promtool check metrics` finds no fault with the page of the demo once all collectors have been read."""
    promtool, log, page = tool("promtool"), tmp_path / "demo.log", b""
    with launched([sys.executable, "-m", "exporter", "demo"], log):
        deadline = time.monotonic() + 60
        while len(re.findall(rb"^windsock_collector_success.* 1$", page, re.MULTILINE)) < len(ALL):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
            if address := re.search(r"http://\S+/metrics", log.read_text()):
                with urllib.request.urlopen(address[0], timeout=5) as response:  # noqa: S310
                    page = response.read()
    done = subprocess.run([str(promtool), "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
