"""Lets Windsock's role read what `windsock grants postgres` says; at each start, for an upgrade may need more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg

script = subprocess.run(["windsock", "grants", "postgres"], capture_output=True, check=True).stdout
address = (
    Path("/run/secrets/airflow_database_url").read_text().replace("+psycopg2", "", 1)
)  # SQLAlchemy's name of its driver
with psycopg.connect(address) as connection:
    connection.execute(script)
