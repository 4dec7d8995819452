"""What the router promises (A1, A2, A10, A23, A24): how fast it acknowledges and shows, and what is lost."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.webhooks import Daemon, Survival, body, killed
from windsock_demo import servers
from windsock_demo.slack import serve

from . import machine, migrated
from .figures import Goal, Result, percentile, table

IDLE_SECONDS = 40.0
MESSAGES = 100
STORM, STORMS = 100_000, 3
RATE, SECONDS, ALERTS, GROUPS = 300, 60, 20, 500
DEATHS, LIFE = 200, 0.6


class Storm(NamedTuple):
    """One body with STORM alerts: megabytes, seconds, the longest answer meanwhile in ms, megabytes more."""

    size: float
    seconds: float
    longest: float
    memory: float


@dataclass
class Work:
    """What a daemon did that lived through all but the kills; times are in milliseconds, memory in MB.

    `others` is the load average when the steady load began: who else there was.
    """

    resident: float = 0.0
    busy: float = 0.0
    to_slack: list[float] = field(default_factory=list)
    storms: list[Storm] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    scrapes: list[float] = field(default_factory=list)
    others: float = 0.0
    peak: float = 0.0


def measure() -> Result:
    """All of it, about a quarter of an hour."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        with servers.postgres(here) as database, servers.valkey(here) as broker:
            airflow = {"database_url": migrated.create(database, "small")}
            work = asyncio.run(_work(here / "work", {"airflow": airflow, "celery": {"broker_url": broker.url}}))
        print(f"killing it {DEATHS} times", flush=True)
        survival = asyncio.run(killed(here / "deaths", DEATHS, LIFE, history=True))
    return Result(_goals(work, survival), _text(work, survival))


async def _work(folder: Path, sections: dict[str, Any]) -> Work:
    """One daemon with all that a small installation has, and one channel in its usual pace."""
    work = Work()
    async with serve() as slack:
        daemon = Daemon(folder, slack)
        channel = {"data": {"channel": slack.channel("data-alerts").id}}
        settings = json.loads(daemon.file.read_text()) | {"destinations": channel, "routes": [{"to": ["data"]}]}
        daemon.file.write_text(json.dumps(settings | sections))
        async with daemon.running() as process:
            await asyncio.sleep(IDLE_SECONDS / 2)
            used, started = _cpu(process.pid), time.monotonic()
            await asyncio.sleep(IDLE_SECONDS / 2)
            work.busy = (_cpu(process.pid) - used) / (time.monotonic() - started)
            work.resident = machine.resident(process.pid)
            print("one by one", flush=True)
            work.to_slack = await _one_by_one(daemon)
            print(f"{STORM:,} alerts at once", flush=True)
            work.storms = [await _storm(daemon, process.pid, number) for number in range(STORMS)]
            print(f"{RATE} webhooks a second", flush=True)
            work.others = os.getloadavg()[0]
            work.answers, work.scrapes = await _under_load(daemon)
            work.peak = machine.peak(process.pid)
    return work


async def _one_by_one(daemon: Daemon) -> list[float]:
    """From just before a webhook of a new group until its message is in the channel."""
    posted = {}
    for number in range(MESSAGES):
        posted[f"single-{number}"] = time.time()
        await daemon.post(f"single-{number}", body(f"single-{number}", number), number)
        await asyncio.sleep(1.5 + random.random())
    await daemon.drained()
    arrived = {str(message.content["text"]): message.posted for message in daemon.slack.messages("data-alerts")}
    return [
        1000 * (min(moment for text, moment in arrived.items() if f"{key} is at" in text) - started)
        for key, started in posted.items()
    ]


async def _storm(daemon: Daemon, pid: int, number: int) -> Storm:
    """A thread posts; whoever asks for a page meanwhile waits for as long as the event loop is held."""
    content = body("storm", number, STORM)
    await asyncio.sleep(2)
    _forget_peak(pid)
    before, longest = machine.resident(pid), 0.0
    posting = asyncio.create_task(asyncio.to_thread(_post, daemon.url, content))
    while not posting.done():
        asked = time.perf_counter()
        assert await daemon.get("/-/healthy")
        longest = max(longest, time.perf_counter() - asked)
        await asyncio.sleep(0.003)
    await daemon.drained()
    return Storm(len(content) / 1e6, await posting, 1000 * longest, machine.peak(pid) - before)


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _post(url: str, content: bytes) -> float:
    """Seconds until it is acknowledged."""
    client = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    started = time.perf_counter()
    client.request("POST", "/webhook/alertmanager", content, {"Content-Type": "application/json"})
    assert client.getresponse().status == 200
    client.close()
    return time.perf_counter() - started


async def _under_load(daemon: Daemon) -> tuple[list[float], list[float]]:
    """A steady rate, however long answers take, and a scrape each second."""
    names = [f"group-{number % GROUPS}" for number in range(RATE * SECONDS)]
    bodies = [body(name, number, ALERTS) for number, name in enumerate(names)]
    daemon.truth.seconds.clear()
    scrapes: list[float] = []
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_scrape(daemon, scrapes))
        for number, (name, content) in enumerate(zip(names, bodies, strict=True)):
            await asyncio.sleep(began + number / RATE - clock())
            tasks.create_task(daemon.post(name, content, number))
    return [1000 * seconds for seconds in daemon.truth.seconds], scrapes


async def _scrape(daemon: Daemon, times: list[float]) -> None:
    for _ in range(SECONDS):
        started = time.perf_counter()
        assert await daemon.get("/metrics")
        times.append(1000 * (time.perf_counter() - started))
        await asyncio.sleep(1)


def _cpu(pid: int) -> float:
    """Seconds of CPU that it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _goals(work: Work, survival: Survival) -> list[Goal]:
    return [
        Goal(f"{ALERTS} alerts acknowledged, {RATE} times a second, p99", percentile(work.answers, 0.99), 250, " ms"),
        Goal("the slowest", max(work.answers) / 1000, 5, " s"),
        Goal("acknowledged", len(work.answers), RATE * SECONDS, least=True),
        Goal(f"a body of {STORM:,} alerts acknowledged, slowest", max(it.seconds for it in work.storms), 3, " s"),
        Goal("the longest answer to others meanwhile", max(it.longest for it in work.storms), 250, " ms"),
        Goal("memory more meanwhile, at most", max(it.memory for it in work.storms), 120, " MB"),
        Goal("webhook to Slack, idle, p99", percentile(work.to_slack, 0.99) / 1000, 2, " s"),
        Goal("resident memory, idle, small installation with a destination", work.resident, 95, " MB"),
        Goal("kills (SIGKILL) under load", survival.deaths, 200, least=True),
        Goal("webhooks acknowledged before them", survival.acknowledged, 50_000, least=True),
        Goal("of these lost from the file", len(survival.lost), 0),
        Goal("of these that are for Slack, not there", len(survival.missing), 0),
        Goal("messages that came twice, where Slack may be asked", survival.repeats, 0),
    ]


def _text(work: Work, survival: Survival) -> str:
    times = table(
        "ms | number | p50 | p99 | max",
        [
            _row(f"acknowledged: {RATE} webhooks a second, {ALERTS} alerts each", work.answers),
            _row("`GET /metrics` meanwhile, once a second", work.scrapes),
            _row("webhook to Slack, one by one", work.to_slack),
        ],
    )
    storms = table(
        f"{STORM:,} alerts | MB | acknowledged, ms | longest answer meanwhile, ms | memory more, MB",
        [(f"body {n}", it.size, 1000 * it.seconds, it.longest, it.memory) for n, it in enumerate(work.storms, 1)],
    )
    return f"""\
{times}
{storms}
Idle, the daemon used {100 * work.busy:.1f} % of a core; with all this behind it, it had {work.peak:.0f} MB at most.
The load average was {work.others:.1f} when the steady load began.
Between the kills, {survival.messages:,} messages went to Slack.
"""


def _row(what: str, times: Iterable[float]) -> tuple[object, ...]:
    found = list(times)
    return what, len(found), percentile(found, 0.5), percentile(found, 0.99), max(found)
