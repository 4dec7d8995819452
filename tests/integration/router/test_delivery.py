"""From a webhook over HTTP to the look-alike of Slack, in real time: how fast, and how often."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.webhooks import Daemon, acknowledging, body
from windsock_demo.slack import Workspace, serve

pytestmark = pytest.mark.system


async def test_a1_acknowledged_in_time(tmp_path: Path) -> None:
    """300 webhooks of 20 alerts in each second are all stored, and answered long before a sender loses patience."""
    truth, memory = await acknowledging(tmp_path, rate=300, seconds=2.0)
    assert (truth.answers, truth.refused) == (600, {})
    assert max(truth.seconds) <= 5.0
    assert memory < 150


async def test_a23_shown_in_time(tmp_path: Path) -> None:
    """While nothing else happens every alert is in Slack soon; how soon, the benchmark tells."""
    async with serve(Workspace(pace=None)) as slack:
        daemon, posted = Daemon(tmp_path, slack), {}
        async with daemon.running():
            for number in range(8):
                posted[f"group-{number}"] = time.time()
                assert await daemon.post(f"group-{number}", body(f"group-{number}", number, shown="yes"), number)
                await asyncio.sleep(0.05 + number % 7 / 10)
            async with asyncio.timeout(10):
                while len(slack.messages("data-alerts")) < len(posted):
                    await asyncio.sleep(0.05)
        shown = {
            str(message.content).split(" is at")[0].split()[-1]: message.posted
            for message in slack.messages("data-alerts")
        }
        assert shown.keys() == posted.keys()
        assert max(shown[key] - posted[key] for key in posted) <= 5.0


async def test_a3_doubles_of_a_pair(tmp_path: Path) -> None:
    """Two Alertmanagers tell the same, and one repeats itself: all are acknowledged, and one message comes of it."""
    async with serve() as slack:
        daemon = Daemon(tmp_path, slack)
        async with daemon.running():
            first = body("etl", 1, 3, shown="yes")
            second = json.dumps(json.loads(first) | {"externalURL": "http://other.example.com:9093"}).encode()
            told = await asyncio.gather(*(daemon.post("etl", each, 1) for each in (first, second, first, second)))
            assert told == [True] * 4
            await daemon.drained()
            await daemon.post("etl", second, 1)
            await asyncio.sleep(0.6)
            await daemon.drained()
        assert slack.counts == {("chat.postMessage", "ok"): 1}
