"""Real Airflows with what their images have beside the core."""

from __future__ import annotations

from pathlib import Path

from tests.airflow_install import AIRFLOWS, Airflow, installed
from tests.conftest import lacking

IN_THE_IMAGE = ("apache-airflow[celery,fab,redis,statsd]", "asyncpg", "celery[redis]<5.7", "psycopg2-binary")


def environment(minor: str) -> Path:
    """The virtual environment; without it the test is skipped, or fails where the tools are required."""
    found = next(each for each in AIRFLOWS if each.minor == minor)
    whole = Airflow(found.version, found.python, found.day, IN_THE_IMAGE, home=f"airflow-{minor}-in-compose")
    try:
        return installed(whole)
    except (OSError, RuntimeError) as error:
        lacking(f"Airflow {whole.version} cannot be installed: {error}")
