"""Real Airflows with what their images have beside the core."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.airflow_install import AIRFLOWS, Airflow, installed

IN_THE_IMAGE = ("apache-airflow[celery,fab,redis,statsd]", "asyncpg", "celery[redis]<5.7", "psycopg2-binary")


def environment(minor: str) -> Path:
    """The virtual environment; without it the test is skipped, or fails where the tools are required."""
    found = next(each for each in AIRFLOWS if each.minor == minor)
    whole = Airflow(found.version, found.python, found.day, IN_THE_IMAGE, home=f"airflow-{minor}-in-compose")
    try:
        return installed(whole)
    except (OSError, RuntimeError) as error:
        reason = f"Airflow {whole.version} cannot be installed: {error}"
    if os.environ.get("WINDSOCK_REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)
