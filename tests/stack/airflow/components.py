"""A whole Airflow as child processes on loopback: API server, scheduler, DAG processor, triggerer, Celery worker."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from windsock_demo import servers
from windsock_demo.processes import failure, launched

DAGS = Path(__file__).parent / "dags"
STOP_SECONDS = 8.0
COMPONENTS = {
    "api-server": ["api-server", "--workers", "1"],
    "scheduler": ["scheduler"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    "worker": ["celery", "worker", "--skip-serve-logs"],
}


def settings(home: Path, database: str, broker: str, port: int) -> dict[str, str]:
    """The environment of all components; `home` gets a copy of the DAGs."""
    shutil.copytree(DAGS, home / "dags")
    sections: dict[str, dict[str, object]] = {
        "CORE": {
            "DAGS_FOLDER": home / "dags",
            "EXECUTOR": "CeleryExecutor",
            "EXECUTION_API_SERVER_URL": f"http://{servers.HOST}:{port}/execution/",
            "FERNET_KEY": "",
            "LOAD_EXAMPLES": False,
            "MP_START_METHOD": "fork",
            "SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
        },
        "API": {"HOST": servers.HOST, "PORT": port, "SECRET_KEY": secrets.token_hex(32)},
        "API_AUTH": {"JWT_SECRET": secrets.token_hex(32)},
        "CELERY": {
            "BROKER_URL": broker,
            "RESULT_BACKEND": f"db+{database}",
            "SYNC_PARALLELISM": 1,
            "WORKER_CONCURRENCY": 3,
        },
        "DAG_PROCESSOR": {"MIN_FILE_PROCESS_INTERVAL": 5},
        "DATABASE": {"SQL_ALCHEMY_CONN": database.replace("postgresql:", "postgresql+psycopg2:")},
        "LOGGING": {"BASE_LOG_FOLDER": home / "logs"},
        "USAGE_DATA_COLLECTION": {"ENABLED": False},
    }
    environment = {"AIRFLOW_HOME": str(home)}
    for section, values in sections.items():
        environment |= {f"AIRFLOW__{section}__{key}": str(value) for key, value in values.items()}
    return environment


@contextmanager
def running(program: Path, logs: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """All components, by name, until the block ends; then nothing of them is left, not even their tasks."""
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(launched([str(program), *arguments], logs / f"{name}.log"))
            for name, arguments in COMPONENTS.items()
        }
        try:
            yield processes
        finally:
            _end(list(processes.values()))


def check(processes: dict[str, subprocess.Popen[bytes]], logs: Path) -> None:
    """Raises RuntimeError with the end of the log of a component that ended by itself."""
    for name, process in processes.items():
        if _ended(process):
            raise failure("ended", logs / f"{name}.log")


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Asks all at once, then kills what is left of their sessions; until a leader is reaped, its number is its own."""
    for process in processes:
        if not _ended(process):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and not all(map(_ended, processes)):
        time.sleep(0.1)
    sessions = {process.pid for process in processes}
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with suppress(ProcessLookupError):
            if os.getsid(pid) in sessions:
                os.kill(pid, signal.SIGKILL)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ended; it is not reaped."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
