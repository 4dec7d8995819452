"""What real Airflows post to Slack today, by hand and by its provider, through the daemon: only the address changes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_router import SECRET, Daemon, daemon, until
from tests.airflow_install import AIRFLOWS, Airflow, installed
from tests.conftest import lacking
from windsock_demo import servers

__all__ = ["daemon"]

pytestmark = pytest.mark.system

DAGS = Path(__file__).parent / "slack"
SAID: dict[str, dict[str, Any]] = {
    "callback: told failed <!here>": {},
    "operator: 3 rows": {},
    "provider: 3 rows": {},
    "hook: 3 rows": {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "*hook*: 3 rows"}}]},
    "notifier: told failed": {"attachments": [{"text": "red", "color": "#f00"}]},
}


def environment(minor: str) -> Path:
    """A version with the provider of its day; without it the test is skipped, or fails in CI."""
    it = next(airflow for airflow in AIRFLOWS if airflow.minor == minor)
    provider = ("apache-airflow-providers-slack",)
    try:
        return installed(Airflow(it.version, it.python, it.day, provider, home=f"airflow-{minor}-with-slack"))
    except (OSError, RuntimeError) as error:
        lacking(f"Airflow {it.version} cannot be installed: {error}")


def connection(url: str, form: str) -> str:
    """A connection for the provider: with the whole address as its password, or with the end of it."""
    whole = {"password": f"{url}/webhook/slack/ops/{SECRET}"}
    parts = {"host": f"{url}/webhook/slack", "password": f"ops/{SECRET}"}
    return json.dumps({"conn_type": "slackwebhook"} | (whole if form == "whole" else parts))


@pytest.mark.parametrize(("minor", "form"), [("3.3", "whole"), ("2.11", "parts")])
async def test_only_the_address_changes(daemon: Daemon, tmp_path: Path, minor: str, form: str) -> None:
    """A callback, a task that posts, the provider's hook, operator and notifier: each arrives once, as it was said."""
    program = environment(minor) / "bin" / "airflow"
    variables = os.environ | {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_TOLD": connection(daemon.url, form),
        "TOLD_WEBHOOK": daemon.url.replace("//", f"//x:{SECRET}@") + "/webhook/slack/ops",
        "NO_PROXY": servers.HOST,
    }

    async def airflow(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            program, *arguments, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        async with asyncio.timeout(120):
            return (await process.communicate())[0].decode(errors="replace")

    async with daemon.running():
        told = await airflow("db", "migrate")
        told += await airflow("dags", "test", "told")
        with suppress(pytest.fail.Exception):
            await until(lambda: len(daemon.texts()) == len(SAID))
        assert SECRET not in daemon.log.read_text()
        assert sorted(daemon.texts()) == sorted(SAID), told[-5000:]
    for message in daemon.slack.messages("ops"):
        said = {name: value for name, value in message.content.items() if name in ("blocks", "attachments")}
        assert said == SAID[str(message.content["text"])]
