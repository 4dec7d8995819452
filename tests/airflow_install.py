"""Real Airflows, each installed once below $WINDSOCK_CACHE or ~/.cache/windsock, in an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.cache import CACHE, alone

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 240.0
"""Seconds that one step of an installation may take."""


@dataclass(frozen=True)
class Airflow:
    """A version, the first Python too new for it, the day whose packages it gets, others, and where it is kept."""

    version: str
    python: str
    day: str
    others: tuple[str, ...] = ()
    folder: str = "tests/schemas"
    home: str = ""

    @property
    def minor(self) -> str:
        """What the command line and the file call it: 3.3 for 3.3.2."""
        return self.version.rpartition(".")[0]

    @property
    def dump(self) -> Path:
        """The committed file."""
        return ROOT / self.folder / f"airflow-{self.minor}.sql"


# With these the newest runs as a whole, too. Its celery provider of that day fails with celery 5.7.
WHOLE = ("apache-airflow[celery,redis,statsd]", "asyncpg", "celery[redis]<5.7", "psycopg2-binary")
AIRFLOWS = (
    Airflow("2.10.5", "3.13", "2025-02-15"),
    Airflow("2.11.2", "3.13", "2026-11-20"),
    Airflow("3.0.6", "3.13", "2025-09-05"),
    Airflow("3.1.8", "3.14", "2026-11-20"),
    Airflow("3.2.2", "3.15", "2026-11-20"),
    Airflow("3.3.2", "3.15", "2026-11-20", WHOLE, "windsock_demo"),
)


def installed(airflow: Airflow) -> Path:
    """The virtual environment of an Airflow, made unless it is there; raises RuntimeError when it cannot be made."""
    home = CACHE / (airflow.home or f"airflow-{airflow.minor}")
    marker, packages = home / "installed", [f"apache-airflow[postgres]=={airflow.version}", *airflow.others]
    wanted = " ".join([airflow.python, airflow.day, *packages])
    with alone():
        if not marker.exists() or marker.read_text() != wanted:
            create = [uv(), "venv", "--quiet", "--clear", "--no-python-downloads", f"-p>=3.11,<{airflow.python}"]
            _run(*create, str(home))
            install = [uv(), "pip", "install", "--quiet", "--python", str(home / "bin" / "python")]
            _run(*install, "--exclude-newer", airflow.day, *packages)
            marker.write_text(wanted)
    return home


def uv() -> str:
    """The uv on the PATH, or one of our own."""
    own = CACHE / "uv" / "bin"
    if found := shutil.which("uv"):
        return found
    if not (own / "uv").exists():
        _run(sys.executable, "-m", "venv", "--clear", str(own.parent))
        _run(str(own / "pip"), "install", "--quiet", "uv")
    return str(own / "uv")


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{' '.join(command)}: not done after {PATIENCE:.0f} s") from error
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
