"""An Airflow whose runs fail and are mended, watched by the daemon, which tells a look-alike of Slack."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from exporter import web_config
from exporter.collectors import ALL
from exporter.config import load
from exporter.config.events import NEEDS
from exporter.config.values import Address
from exporter.daemon import serve
from tests.airflow import Airflow, Values
from tests.conftest import AirflowDatabase
from tests.delivery import content
from windsock_demo import servers
from windsock_demo.http import get
from windsock_demo.slack import Workspace

COLLECTORS = [collector.name for collector in ALL]
PATIENCE = 30.0
"""Seconds in which whatever is waited for comes about, on the slowest machine."""


def settings(database: AirflowDatabase, slack: Workspace, state: Path, **sections: Any) -> dict[str, Any]:
    """A daemon that looks every second, and tells of all that it can."""
    intervals = {name: {"interval": "1s"} for name in COLLECTORS}
    return {
        "listen": f"{servers.HOST}:{servers.free_port()}",
        "airflow": {"name": "prod", "database_url": database.reader_url, "base_url": "https://airflow.example.com"},
        "collectors": intervals,
        "state": {"dir": str(state)},
        "slack": {"token": slack.token, "api_url": slack.api_url},
        "destinations": {"data": {"channel": slack.channel("data-alerts").id, "pace": "1ms"}},
        "airflow_events": {"on": [*NEEDS]},
    } | sections


@asynccontextmanager
async def watched(sections: dict[str, Any]) -> AsyncIterator[Address]:
    """The daemon in this process, once its first reads are done; gives its address."""
    config = load(None, {}, collectors=COLLECTORS, overrides=sections)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(config, web_config.load(None), stop))
        try:
            await until(config.listen, r'windsock_collector_success\{collector="accounting"\} 1')
            yield config.listen
        finally:
            stop.set()


async def until(address: Address, *patterns: str) -> str:
    """The metrics, once they have a line that begins with each of these patterns."""
    async with asyncio.timeout(PATIENCE):
        while True:
            page = await asyncio.to_thread(get, address, "/metrics")
            if all(re.search(f"^{pattern}", page, re.MULTILINE) for pattern in patterns):
                return page
            await asyncio.sleep(0.1)


async def shown(slack: Workspace, pattern: str, messages: int = 1, channel: str = "data-alerts") -> list[str]:
    """What the channel's messages say, once so many of them match."""
    async with asyncio.timeout(PATIENCE):
        while True:
            texts = [content(message) for message in slack.messages(channel)]
            if len([text for text in texts if re.search(pattern, text)]) >= messages:
                return texts
            await asyncio.sleep(0.05)


def begin(airflow: Airflow, dag_id: str, *, tasks: int = 0, **facts: Any) -> Values:
    """A run that runs, with so many tasks, the instances of a mapped one."""
    facts |= {"clear_number": 0, "start_date": airflow.ago(60)}
    facts |= {"run_after": airflow.ago(60)} if airflow.version >= (3, 0) else {}
    run = airflow.run(dag_id, "running", **facts)
    for index in range(tasks):
        times = {"start_date": airflow.ago(50), "queued_dttm": airflow.ago(55)}
        airflow.task(run, "running", task_id="load", map_index=index, operator="BashOperator", max_tries=2, **times)
    return run


def end(airflow: Airflow, run: Values, state: str) -> None:
    """The run ends, and its tasks do, as they end in Airflow: in one transaction."""
    key = run["dag_id"], run["run_id"]
    with airflow.connection.transaction():
        airflow.connection.execute(
            "UPDATE task_instance SET state = %s, end_date = now(), duration = 40 WHERE dag_id = %s AND run_id = %s",
            (state, *key),
        )
        airflow.connection.execute(
            "UPDATE dag_run SET state = %s, end_date = now() WHERE dag_id = %s AND run_id = %s", (state, *key)
        )


def clear(airflow: Airflow, run: Values) -> None:
    """Somebody clears it: it runs again."""
    airflow.connection.execute(
        "UPDATE dag_run SET state = 'queued', clear_number = clear_number + 1, start_date = NULL, end_date = NULL"
        " WHERE id = %s",
        [run["id"]],
    )
