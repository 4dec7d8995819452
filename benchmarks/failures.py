"""How soon Slack shows a DAG run that failed, by the way that needs nobody but Windsock: `airflow_events`."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from pathlib import Path
from random import Random

import psycopg

from tests.airflow import Airflow, Values
from tests.conftest import NEWEST
from tests.delivery import content
from tests.failing import begin, end, shown
from tests.webhooks import Daemon
from windsock_demo import servers
from windsock_demo.slack import Workspace, serve

from .figures import Goal, Result, percentile, table
from .migrated import create

RUNS, DAGS, TASKS = 100, 10, 2
INTERVAL, GAP = 5.0, 3.0
"""Seconds: of the accounting, and from one failure to the next in the mean."""
SEED = 20


def measure() -> Result:
    """About five minutes."""
    with tempfile.TemporaryDirectory() as folder, servers.postgres(Path(folder)) as server:
        reader_url = create(server, "failing")
        with psycopg.connect(server.url("failing"), autocommit=True) as connection:
            took = asyncio.run(_fail(Airflow(connection, NEWEST), reader_url, Path(folder) / "daemon"))
    goals = [
        Goal("runs that Slack shows", len(took), RUNS, least=True),
        Goal("commit of a failed run to Slack, p95", percentile(took, 0.95), INTERVAL + 2, " s"),
    ]
    row = f"polled every {INTERVAL:g} s", len(took), *(percentile(took, share) for share in (0.5, 0.95, 1.0))
    return Result(goals, table("s | runs | p50 | p95 | max", [row]))


async def _fail(airflow: Airflow, reader_url: str, folder: Path) -> list[float]:
    """Seconds from each commit until Slack has the message; the channel is in its usual pace."""
    for number in range(DAGS):
        airflow.dag(f"etl_{number}", owners="data")
    runs = [begin(airflow, f"etl_{number % DAGS}", run_id=f"run_{number}", tasks=TASKS) for number in range(RUNS)]
    async with serve() as slack:
        daemon = Daemon(folder, slack)
        changed = {
            "airflow": {"name": "prod", "database_url": reader_url},
            "collectors": {"accounting": {"interval": f"{INTERVAL:g}s"}},
            "destinations": {"data": {"channel": slack.channel("data-alerts").id}},
            "routes": [{"to": ["data"]}],
            "airflow_events": {"on": ["run_failed"]},
        }
        daemon.file.write_text(json.dumps(json.loads(daemon.file.read_text()) | changed))
        async with daemon.running():
            await asyncio.sleep(2 * INTERVAL)
            ended = await _end(airflow, runs)
            await shown(slack, "ERROR", RUNS)
    return [posted - ended[run] for run, posted in _posted(slack).items()]


async def _end(airflow: Airflow, runs: list[Values]) -> dict[str, float]:
    """When each failed, one after the other, as if by chance."""
    random, ended = Random(SEED), dict[str, float]()
    for run in runs:
        await asyncio.sleep(random.expovariate(1 / GAP))
        await asyncio.to_thread(end, airflow, run, "failed")
        ended[run["run_id"]] = time.time()
    return ended


def _posted(slack: Workspace) -> dict[str, float]:
    found = [(re.search(r"run_\d+", content(it)), it.posted) for it in slack.messages("data-alerts")]
    return {match[0]: posted for match, posted in found if match}
