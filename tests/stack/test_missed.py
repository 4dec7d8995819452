"""What fires and is over while the daemon is down is told once it is back, by what a real Prometheus remembers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.conftest import tool
from tests.stack.test_alertmanager import Alertmanager, alertmanager, daemon, shown, until
from tests.webhooks import Daemon
from windsock_demo import servers
from windsock_demo.processes import launched

pytestmark = pytest.mark.system
__all__ = ["daemon"]

HURRIED = """
import sys
from importlib import import_module
from exporter.__main__ import main
from exporter.router import missed
heard = import_module("exporter.router.store.heard")
heard.AWAY, heard.SIGN, missed.SETTLE, missed.WAITED = 7.0, 1.0, 12.0, 5.0
sys.exit(main())
"""


@asynccontextmanager
async def prometheus(daemon: Daemon, one: Alertmanager, times: dict[str, tuple[float, float]]) -> AsyncIterator[str]:
    """One whose alerts fire at these times; those of another team are for nobody here."""
    folder, address = daemon.directory / "prometheus", f"{servers.HOST}:{servers.free_port()}"
    folder.mkdir()
    rules = [
        {
            "alert": name,
            "expr": f"(vector(time()) > {begin:.0f}) < {end:.0f}",
            "labels": {"severity": "warning", "task_id": "load", "team": "other" if name == "Other" else "data"},
        }
        for name, (begin, end) in times.items()
    ]
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    settings = {
        "global": {"evaluation_interval": "1s", "external_labels": {"cluster": "a"}},
        "rule_files": [str(folder / "rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [one.url.removeprefix("http://")]}]}]},
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings))
    command = [
        str(tool("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--rules.alert.resend-delay=1s",
    ]
    with launched(command, folder / "prometheus.log"):
        async with aiohttp.ClientSession() as session:
            began = time.monotonic()
            while time.monotonic() < began + 30:
                try:
                    async with session.get(f"http://{address}/-/ready") as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
            yield f"http://{address}"


def told(daemon: Daemon, name: str) -> list[str]:
    """The newest headline of each message that names it."""
    return [headlines[-1] for headlines in shown(daemon) if name in headlines[-1]]


async def test_a14_fired_and_resolved_while_down(daemon: Daemon) -> None:
    """One message, with what nobody has told of; not what is known, fires still, or was never meant for this daemon."""
    start = time.time() + 8
    down, up = start + 10, start + 35
    times = {
        "Known": (start, down + 6),
        "Missed": (down + 5, down + 12),
        "Missed2": (down + 8, down + 15),
        "Lasting": (down + 5, start + 3600),
        "Other": (start - 8, down + 6),
    }
    settings = json.loads(daemon.file.read_text())
    async with alertmanager(daemon) as one, prometheus(daemon, one, times) as url:
        more = {"prometheus_url": url, "routes": [{"to": ["data"]}]}
        daemon.file.write_text(json.dumps(settings | more))
        daemon.program = ["-c", HURRIED]
        async with daemon.running() as process:
            await until(lambda: told(daemon, "Known"))
            await asyncio.sleep(max(0.0, down - time.time()))
            process.kill()
            process.wait()
        await asyncio.sleep(max(0.0, up - time.time()))
        async with daemon.running() as process:
            began = time.monotonic()
            await until(lambda: told(daemon, "MISSED"), 120.0)
            assert time.monotonic() - began < 60
            (message,) = [it for it in daemon.slack.messages("data-alerts") if "MISSED" in str(it.content)]
            text = str(message.content)
            assert "Missed" in text and "Missed2" in text and "2 resolved" in text
            assert "Windsock was down from" in text
            assert not any(name in text for name in ("Known", "Lasting", "Other"))
            await until(lambda: any("RESOLVED" in headline for headline in told(daemon, "Known")))
            assert len(told(daemon, "Lasting")) == 1
            process.kill()
            process.wait()
        async with daemon.running():
            await asyncio.sleep(20)
        assert len(told(daemon, "MISSED")) == 1
