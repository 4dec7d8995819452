"""The most used peer, in an environment of its own: its real collector on the same database."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("airflow-exporter==2.1.0", "apache-airflow[postgres]==3.3.2", "asyncpg", "psycopg2-binary")
DAY = "2026-11-20"
"""Packages that are not pinned are those of this day."""

PROGRAM = Path(__file__).with_name("peer_scrape.py")


@dataclass(frozen=True, slots=True)
class Scrapes:
    """What it cost on its side: seconds of each scrape, samples of one, and megabytes before the first and at most."""

    seconds: list[float]
    samples: int
    loaded: float
    peak: float


def installed(cache: Path) -> Path:
    """Its Python, in an environment that is made unless it is there; needs uv, or pip to get one."""
    home = cache / PACKAGES[0].replace("==", "-")
    python, marker, wanted = home / "bin" / "python", home / "installed", " ".join([DAY, *PACKAGES])
    if not marker.exists() or marker.read_text() != wanted:
        print(f"installing {', '.join(PACKAGES)}", flush=True)
        uv = _uv(cache)
        create = [uv, "venv", "--quiet", "--clear", "--no-python-downloads", "--python", ">=3.11,<3.15", str(home)]
        subprocess.run(create, check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "--exclude-newer", DAY]
        subprocess.run([*install, *PACKAGES], check=True)
        marker.write_text(wanted)
    return python


def scrape(python: Path, url: str, home: Path, times: int) -> Scrapes:
    """Collects so many times in one process, as in an API server that is scraped; raises CalledProcessError."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url.replace("postgresql:", "postgresql+psycopg2:"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    command = [str(python), "-I", str(PROGRAM), str(times)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=600)
    return Scrapes(**json.loads(done.stdout.splitlines()[-1]))


def _uv(cache: Path) -> str:
    own = cache / "uv" / "bin"
    if found := shutil.which("uv"):
        return found
    if not (own / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", own.parent], check=True)
        subprocess.run([own / "pip", "install", "--quiet", "uv"], check=True)
    return str(own / "uv")
