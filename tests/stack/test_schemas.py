"""The dumps that the tests load are what Airflow itself creates."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import NEWEST, ROOT

pytestmark = pytest.mark.system


def test_the_newest_dump_equals_what_airflow_creates() -> None:
    """Its own `airflow db migrate`, on a fresh database, gives the committed file."""
    command = [sys.executable, str(ROOT / "tests/schemas/regenerate"), NEWEST, "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
