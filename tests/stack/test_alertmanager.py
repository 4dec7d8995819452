"""Real Alertmanagers in front of the daemon: whatever they double, retry, reload or find dead, a group is a message."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import tool
from tests.webhooks import Daemon
from windsock_demo import servers
from windsock_demo.processes import launched
from windsock_demo.slack import Order, Workspace, serve

pytestmark = pytest.mark.system

PATIENCE = 40.0
FLUSH = 3.0
"""Seconds in which an Alertmanager that has something to tell tells it: its group_wait, its group_interval, and one."""
PEER_TIMEOUT = 2.0
SLOW = 4.0
"""Seconds that Slack takes to answer: longer than the second of two Alertmanagers waits for the first."""
SINCE = datetime.now(UTC) - timedelta(minutes=9, seconds=7)


class Alertmanager:
    """A running Alertmanager."""

    def __init__(self, session: aiohttp.ClientSession, url: str, process: subprocess.Popen[bytes]) -> None:
        self._session, self.url, self._process = session, url, process

    async def take(self, alerts: list[dict[str, object]]) -> None:
        """What Prometheus posts."""
        async with self._session.post(f"{self.url}/api/v2/alerts", json=alerts) as response:
            assert response.status == 200, await response.text()

    async def get(self, path: str) -> str:
        """A page; nothing while it is not there."""
        try:
            async with self._session.get(self.url + path) as response:
                return await response.text() if response.status == 200 else ""
        except aiohttp.ClientError:
            return ""

    async def silence(self, group: str) -> str:
        """Nothing is told of a group; the silence's id."""
        matcher = {"name": "alertname", "value": group, "isRegex": False, "isEqual": True}
        now = datetime.now(UTC)
        times = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
        told = {"matchers": [matcher], **times, "createdBy": "a test", "comment": "maintenance"}
        async with self._session.post(f"{self.url}/api/v2/silences", json=told) as response:
            assert response.status == 200, await response.text()
            return str((await response.json())["silenceID"])

    async def speak(self, silence: str) -> None:
        """A silence is over."""
        async with self._session.delete(f"{self.url}/api/v2/silence/{silence}") as response:
            assert response.status == 200, await response.text()

    def die(self) -> None:
        """It ends at once."""
        self._process.kill()
        self._process.wait()

    async def reload(self) -> None:
        """It drops what it was about to do, and makes its groups anew."""
        grows = await self._growing("alertmanager_config_last_reload_success_timestamp_seconds")
        self._process.send_signal(signal.SIGHUP)
        await until(grows)

    async def fails(self) -> None:
        """Returns once it has posted in vain, again."""
        await until(await self._growing("alertmanager_notification_requests_failed_total"))

    async def has_peers(self, number: int) -> bool:
        """Whether its cluster has settled with so many members."""
        found = await self.get("/api/v2/status")
        cluster = json.loads(found)["cluster"] if found else {}
        return cluster.get("status") == "ready" and len(cluster["peers"]) == number

    async def _growing(self, metric: str) -> Callable[[], object]:
        before = await self._sum(metric)

        async def grows() -> bool:
            return await self._sum(metric) > before

        return grows

    async def _sum(self, metric: str) -> float:
        found = re.findall(rf"^{metric}(?:\{{.*webhook.*\}})? (\S+)$", await self.get("/metrics"), re.MULTILINE)
        return sum(map(float, found))


@asynccontextmanager
async def alertmanager(daemon: Daemon, name: str = "one", *cluster: str) -> AsyncIterator[Alertmanager]:
    """One that posts to the daemon, as the documentation has it; its receiver is named as the destination is."""
    folder, address = daemon.directory / name, f"{servers.HOST}:{servers.free_port()}"
    folder.mkdir()
    token = {"credentials_file": str(daemon.directory / "token")}
    webhook = {
        "url": f"{daemon.url}/webhook/alertmanager",
        "max_alerts": 0,
        "http_config": {"authorization": token, "follow_redirects": False},
    }
    times = {"group_wait": "1s", "group_interval": "1s", "repeat_interval": "4h"}
    settings = {
        "route": {
            "receiver": "data",
            "group_by": ["alertname"],
            **times,
            "routes": [{"receiver": "nobody", "matchers": ["team=other"]}],
        },
        "receivers": [{"name": "data", "webhook_configs": [webhook]}, {"name": "nobody"}],
        "inhibit_rules": [
            {
                "source_matchers": ["alertname=Cause"],
                "target_matchers": ["alertname=Consequence"],
                "equal": ["severity"],
            }
        ],
    }
    (folder / "alertmanager.yml").write_text(json.dumps(settings))
    command = [
        str(tool("prometheus-alertmanager", "alertmanager")),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        f"--web.external-url=http://{name}.example.com",
        *(cluster or ["--cluster.listen-address="]),
    ]
    with launched(command, folder / "alertmanager.log") as process:
        async with aiohttp.ClientSession() as session:
            running = Alertmanager(session, f"http://{address}", process)
            await until(lambda: running.get("/-/ready"))
            yield running


@asynccontextmanager
async def pair(daemon: Daemon, *, clustered: bool) -> AsyncIterator[list[Alertmanager]]:
    """Two of them, that know of each other, or not."""
    first, second = (f"{servers.HOST}:{servers.free_port()}" for _ in range(2))
    flags = (f"--cluster.peer-timeout={PEER_TIMEOUT:.0f}s", "--cluster.settle-timeout=2s")
    peer = [f"--cluster.peer={first}"] if clustered else []
    async with (
        alertmanager(daemon, "one", *flags, f"--cluster.listen-address={first}") as one,
        alertmanager(daemon, "two", *flags, f"--cluster.listen-address={second}", *peer) as two,
    ):
        for each in (one, two):
            await until(partial(each.has_peers, 1 + clustered))
        yield [one, two]


async def tell(alertmanagers: Collection[Alertmanager], *firing: str, over: Collection[str] = ()) -> None:
    """Prometheus finds that these tasks, `GROUP/TASK`, fail, and that those do no more."""
    now = datetime.now(UTC)
    ends = {name: now + timedelta(minutes=5) for name in firing} | dict.fromkeys(over, now)
    alerts: list[dict[str, object]] = [
        {
            "labels": dict(zip(("alertname", "task_id"), name.split("/"), strict=True)) | {"severity": "warning"},
            "annotations": {"summary": f"{name} failed"},
            "startsAt": SINCE.isoformat(),
            "endsAt": end.isoformat(),
        }
        for name, end in ends.items()
    ]
    for each in alertmanagers:
        await each.take(alerts)


async def until(holds: Callable[[], object], patience: float = PATIENCE) -> None:
    """Returns once it holds; fails when it does not in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not come to hold")


@pytest.fixture
async def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Daemon]:
    """Not yet running; it wants a token."""
    (tmp_path / "token").write_text("hush-hush-webhook-token")
    monkeypatch.setenv("WINDSOCK_WEB__WEBHOOK_TOKEN_FILES", json.dumps([str(tmp_path / "token")]))
    async with serve(Workspace(pace=None)) as slack:
        yield Daemon(tmp_path, slack)


def shown(daemon: Daemon) -> list[list[str]]:
    """Each message, as the headlines that it had."""
    messages = daemon.slack.messages("data-alerts")
    return [[str(content["text"]) for _, content in message.versions] for message in messages]


def over(daemon: Daemon) -> bool:
    """Whether there is a message, and none that is not green."""
    return bool(shown(daemon)) and all("RESOLVED" in headlines[-1] for headlines in shown(daemon))


def failures(daemon: Daemon, having: str = "") -> list[str]:
    """The task of each message whose newest headline has this."""
    newest = [headlines[-1] for headlines in shown(daemon)]
    return [found[0] for text in newest if having in text and (found := re.search(r"\w+/\w+", text))]


@pytest.mark.parametrize(("clustered", "webhooks"), [(True, 1), (False, 2)], ids=["a cluster", "a partition"])
async def test_a4_two_alertmanagers_and_a_slow_slack(daemon: Daemon, clustered: bool, webhooks: int) -> None:
    """One message: no answer waits for Slack, so a cluster posts once, and what a partition posts twice is one, too."""
    daemon.slack.order(Order(delay=SLOW, times=0))
    async with daemon.running(), pair(daemon, clustered=clustered) as both:
        for one in both:
            await tell([one], "Failed/load")
            await until(lambda: clustered or shown(daemon))
        await until(lambda: shown(daemon))
        await asyncio.sleep(SLOW + 1)
        assert [len(headlines) for headlines in shown(daemon)] == [1]
        accepted = f'windsock_webhook_requests_total{{code="200",source="alertmanager"}} {webhooks}.0'
        assert accepted in (await daemon.get("/metrics")).splitlines()
        daemon.slack.orders.clear()
        await tell(both, over=["Failed/load"])
        await until(lambda: over(daemon))
        await asyncio.sleep(PEER_TIMEOUT + FLUSH)
    assert [len(headlines) for headlines in shown(daemon)] == [2]
    assert daemon.slack.counts == {("chat.postMessage", "ok"): 2, ("chat.update", "ok"): 1}, "with a line in its thread"


async def test_a4_an_alertmanager_that_is_late(daemon: Daemon) -> None:
    """It tells of an alert as firing that the other one has told the end of: the message stays green, and alone."""

    async def accepted(webhooks: int) -> bool:
        line = f'windsock_webhook_requests_total{{code="200",source="alertmanager"}} {webhooks}.0'
        return line in (await daemon.get("/metrics")).splitlines()

    async with daemon.running(), pair(daemon, clustered=False) as (one, two):
        await tell([one], "Failed/load")
        await until(lambda: shown(daemon))
        await tell([one], over=["Failed/load"])
        await until(lambda: over(daemon))
        await tell([two], "Failed/load", "Failed/report")
        await until(partial(accepted, 3))
        await asyncio.sleep(FLUSH)
        assert 'windsock_outbox_messages{destination="data"} 1.0' in await daemon.get("/metrics")
        await tell([two], over=["Failed/load", "Failed/report"])
        await until(partial(accepted, 4))
        await asyncio.sleep(FLUSH)
        assert 'windsock_outbox_messages{destination="data"} 0.0' in await daemon.get("/metrics")
    assert [len(headlines) for headlines in shown(daemon)] == [2]


async def test_a12_from_the_first_alert_to_the_last(daemon: Daemon) -> None:
    """One message that follows its group, and to which Alertmanager's reloads add nothing."""
    async with daemon.running(), alertmanager(daemon) as one:
        await tell([one], "Failed/load")
        await until(lambda: shown(daemon))
        await tell([one], "Failed/report")
        await until(lambda: len(shown(daemon)[0]) == 2)
        await one.reload()
        await asyncio.sleep(FLUSH)
        await tell([one], over=["Failed/load"])
        await until(lambda: len(shown(daemon)[0]) == 3)
        await tell([one], over=["Failed/report"])
        await until(lambda: over(daemon))
        await one.reload()
        await asyncio.sleep(FLUSH)
    (headlines,) = shown(daemon)
    assert [re.sub(r".* airflow: |(?<=after ).*", "", text) for text in headlines] == [
        "Failed/load failed",
        "Failed (2 firing): load, report",
        "Failed/report failed (1 firing, 1 resolved)",
        "Failed/report failed (after ",
    ]


async def test_a3_a_daemon_that_is_away(daemon: Daemon) -> None:
    """What begins to fire, or is over, while it is away is told when it is back: once, reloads or not."""
    async with alertmanager(daemon) as one:
        await tell([one], "Failed/load")
        await one.fails()
        await one.reload()
        await one.fails()
        async with daemon.running() as process:
            await until(lambda: shown(daemon))
            await asyncio.sleep(FLUSH)
            assert [len(headlines) for headlines in shown(daemon)] == [1]
            process.kill()
            process.wait()
        await tell([one], over=["Failed/load"])
        await one.fails()
        async with daemon.running():
            await until(lambda: over(daemon))
    assert [len(headlines) for headlines in shown(daemon)] == [2]


async def test_a2_killed_again_and_again(daemon: Daemon) -> None:
    """SIGKILL while groups begin to fire and are over: in the end each is one message, and says what is true."""
    daemon.slack.order(Order(delay=0.1, times=0))
    ended: set[str] = set()
    async with alertmanager(daemon) as one:
        for death in range(4):
            async with daemon.running() as process:
                # What is over before it was told, Alertmanager tells nobody: only what is shown comes to its end.
                ending = [task for task in failures(daemon) if task not in ended][:4]
                ended.update(ending)
                for group in range(8):
                    await tell([one], f"Death{death}Group{group}/load", over=ending[group : group + 1])
                    await asyncio.sleep(0.15)
                process.kill()
                process.wait()
        async with daemon.running():
            await until(lambda: len(failures(daemon)) >= 32 and set(failures(daemon, "RESOLVED")) == ended)
    assert ended
    assert len(set(failures(daemon))) == len(shown(daemon)) == 32
