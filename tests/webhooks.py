"""A daemon under a load of webhooks: what it acknowledges, how fast, and what of that survives SIGKILL and SIGTERM."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import aiohttp

from windsock_demo import servers
from windsock_demo.processes import launched
from windsock_demo.slack import Workspace, serve

WORKERS = 16
TIMEOUT = aiohttp.ClientTimeout(total=30)


def body(key: str, number: int, alerts: int = 1, **labels: str) -> bytes:
    """A group whose newest state is this number, in so many alerts of about half a kilobyte."""
    shared = {"alertname": key, "severity": "warning", "airflow": "prod", "job": "windsock", **labels}
    return json.dumps(
        {
            "version": "4",
            "groupKey": f'{{}}:{{alertname="{key}"}}',
            "status": "firing",
            "receiver": "windsock",
            "groupLabels": {"alertname": key},
            "commonLabels": shared,
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.example.com:9093",
            "truncatedAlerts": 0,
            "alerts": [
                {
                    "status": "firing",
                    "labels": {**shared, "task_id": f"load_table_{place}", "try_number": str(number)},
                    "annotations": {"summary": f"{key} is at {number}", "description": "It was due at 03:00 UTC."},
                    "startsAt": datetime.now(UTC).isoformat(),
                    "endsAt": "0001-01-01T00:00:00Z",
                    "generatorURL": "http://prometheus.example.com:9090/graph?g0.expr=airflow_dag_last_run_failed",
                    "fingerprint": f"{hash((key, number, place)) & (2**64 - 1):016x}",
                }
                for place in range(alerts)
            ],
        }
    ).encode()


@dataclass
class Truth:
    """Of each group the newest number that was sent, and that was acknowledged; and how long each answer took."""

    sent: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    answers: int = 0
    seconds: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)


class Daemon:
    """`windsock run` between the load and a workspace; what is labelled `shown` is sent at once, the rest waits."""

    def __init__(self, directory: Path, slack: Workspace, token: str = "") -> None:
        self.directory, self.slack = directory, slack
        self.program = ["-m", "exporter"]
        self.url = f"http://{servers.HOST}:{servers.free_port()}"
        self.truth = Truth()
        settings = {
            "listen": self.url.removeprefix("http://"),
            "state": {"dir": str(directory / "state")},
            "slack": {"token": token or slack.token, "api_url": slack.api_url},
            "destinations": {
                "data": {"channel": slack.channel("data-alerts").id, "pace": "1ms"},
                "sink": {"webhook_url": slack.webhook_url("ops"), "pace": "24h"},
            },
            "storm": {"groups": 0},
            "routes": [{"match": ['shown="yes"'], "to": ["data"]}, {"to": ["sink"]}],
        }
        directory.mkdir(parents=True, exist_ok=True)
        self.file = directory / "windsock.yml"
        self.file.write_text(json.dumps(settings))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[subprocess.Popen[bytes]]:
        """The daemon, ready."""
        command = [sys.executable, *self.program, "run", "--config", str(self.file)]
        connector = aiohttp.TCPConnector(limit=0)
        with launched(command, self.directory / "windsock.log") as process:
            async with aiohttp.ClientSession(timeout=TIMEOUT, connector=connector) as self.session:
                deadline = time.monotonic() + 30
                while await self.get("/-/ready") != "Windsock is ready.\n":
                    assert time.monotonic() < deadline, (self.directory / "windsock.log").read_text()[-2000:]
                    await asyncio.sleep(0.02)
                yield process

    async def get(self, path: str) -> str:
        """A page; nothing while it is not there."""
        try:
            async with self.session.get(self.url + path) as response:
                return await response.text()
        except aiohttp.ClientError:
            return ""

    async def post(self, key: str, content: bytes, number: int) -> bool:
        """Whether it was acknowledged."""
        truth, started = self.truth, time.perf_counter()
        truth.sent[key] = number
        headers = {"Content-Type": "application/json"}
        async with self.session.post(f"{self.url}/webhook/alertmanager", data=content, headers=headers) as response:
            await response.read()
        if response.status != 200:
            truth.refused[response.status] += 1
            return False
        truth.seconds.append(time.perf_counter() - started)
        truth.acknowledged[key] = number
        truth.answers += 1
        return True

    async def load(self, name: str) -> None:
        """Post until the daemon is gone: new groups, some of which are shown, and news of one that is there."""
        with suppress(aiohttp.ClientError, ConnectionError):
            for number in range(10**9):
                shown = number % 20 == 0
                key = f"{'shown' if shown else 'new'}-{name}-{number}"
                await self.post(key, body(key, number, shown="yes" if shown else "no"), number)
                await self.post(name, body(name, number), number)

    async def drained(self, within: float = 600.0) -> None:
        """Until nothing waits for the channel."""
        deadline = time.monotonic() + within
        while not re.search(r'windsock_outbox_messages\{destination="data"\} 0\.0', await self.get("/metrics")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)

    def stored(self) -> dict[str, int]:
        """The number that the file has of each group, once no daemon runs."""
        connection = sqlite3.connect(self.directory / "state" / "windsock.db")
        try:
            rows = connection.execute("SELECT snapshot FROM router_group").fetchall()
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        finally:
            connection.close()
        told = [json.loads(snapshot)["alerts"][0]["labels"] for (snapshot,) in rows]
        return {labels["alertname"]: int(labels["try_number"]) for labels in told}


class Survival(NamedTuple):
    """What was left after so many deaths: groups that the file has not, or the channel; the channel's messages."""

    deaths: int
    acknowledged: int
    lost: list[str]
    missing: list[str]
    messages: int
    repeats: int
    marked: int


async def killed(directory: Path, deaths: int, seconds: float, *, history: bool) -> Survival:
    """SIGKILL under load again and again; in the end what was acknowledged is compared with file and channel."""
    async with serve(Workspace(pace=None)) as slack:
        token = slack.token if history else slack.grant("chat:write")
        daemon = Daemon(directory, slack, token)
        for death in range(deaths):
            async with daemon.running() as process:
                posting = [asyncio.create_task(daemon.load(f"{death}-{worker}")) for worker in range(WORKERS)]
                await asyncio.sleep(seconds)
                process.kill()
                process.wait()
                await asyncio.gather(*posting)
        async with daemon.running():
            await daemon.drained()
        truth, stored = daemon.truth, daemon.stored()
        texts = [str(message.content) for message in slack.messages("data-alerts")]
        shown = Counter(found[1] for text in texts if (found := re.search(r"(shown-\S+) is at", text)))
        return Survival(
            deaths,
            truth.answers,
            [key for key, number in truth.acknowledged.items() if not number <= stored.get(key, -1) <= truth.sent[key]],
            [key for key in truth.acknowledged if key.startswith("shown-") and key not in shown],
            len(texts),
            len(texts) - len(shown),
            sum("possible repeat" in text for text in texts),
        )


async def acknowledging(directory: Path, rate: int, seconds: float, alerts: int = 20) -> tuple[Truth, float]:
    """Webhooks at a steady rate, however long their answers take; the truth, and the daemon's peak memory in MB."""
    async with serve(Workspace(pace=None)) as slack:
        daemon = Daemon(directory, slack)
        bodies = [
            (f"group-{number % 500}", body(f"group-{number % 500}", number, alerts), number)
            for number in range(int(rate * seconds))
        ]
        async with daemon.running() as process:
            began = asyncio.get_running_loop().time()
            async with asyncio.TaskGroup() as posting:
                for place, (key, content, number) in enumerate(bodies):
                    await asyncio.sleep(began + place / rate - asyncio.get_running_loop().time())
                    posting.create_task(daemon.post(key, content, number))
            memory = peak(process.pid)
        return daemon.truth, memory


def peak(pid: int) -> float:
    """The most memory, in MB, that a process ever held."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024
