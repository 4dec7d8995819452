"""What Alertmanager's webhooks leave out is mended from its API: no message stays red for ever, none is missing."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time

import pytest

from tests.stack.test_alertmanager import Alertmanager, alertmanager, daemon, shown, tell, until
from tests.webhooks import Daemon

pytestmark = pytest.mark.system
__all__ = ["daemon"]

HURRIED = """
import sys
from exporter.__main__ import main
from exporter.router import repair
repair.EVERY = 1.0
sys.exit(main())
"""
WAIT = 2 * 1.0 + 2 * 1.0
"""Seconds that what does not agree has then, with this Alertmanager's group_interval of a second."""


def watch(daemon: Daemon, *alertmanagers: Alertmanager, hurried: bool = True) -> None:
    """From its next start on, it asks these; every second, if it is in a hurry."""
    settings = json.loads(daemon.file.read_text())
    daemon.file.write_text(json.dumps(settings | {"alertmanagers": [one.url for one in alertmanagers]}))
    daemon.program = ["-c", HURRIED] if hurried else ["-m", "exporter"]


def moods(daemon: Daemon) -> list[list[str]]:
    """Each message, as the first words of the headlines that it had."""
    return [[re.sub(r":\w+: (\w+) .*", r"\1", text) for text in headlines] for headlines in shown(daemon)]


async def test_a13_silenced_within_two_minutes(daemon: Daemon) -> None:
    """In its own time: two minutes after a silence, the message says so."""
    async with alertmanager(daemon) as one:
        watch(daemon, one, hurried=False)
        async with daemon.running():
            await tell([one], "Failed/load")
            await until(lambda: shown(daemon))
            began = time.monotonic()
            await one.silence("Failed")
            await until(lambda: moods(daemon) == [["WARNING", "SILENCED"]], 120.0)
            assert time.monotonic() - began < 120


async def test_a13_silenced_then_resolved(daemon: Daemon) -> None:
    """It is amended, and again when the silence is over; one that ends in a silence is cleared, and then a new one."""
    async with alertmanager(daemon) as one:
        watch(daemon, one)
        async with daemon.running():
            await tell([one], "Failed/load")
            await until(lambda: shown(daemon))
            silence = await one.silence("Failed")
            await until(lambda: moods(daemon) == [["WARNING", "SILENCED"]])
            await one.speak(silence)
            await until(lambda: moods(daemon) == [["WARNING", "SILENCED", "WARNING"]])
            await one.silence("Failed")
            await until(lambda: moods(daemon)[0][-1] == "SILENCED")
            await tell([one], over=["Failed/load"])
            await until(lambda: moods(daemon)[0][-1] == "CLEARED")
            (message,) = daemon.slack.messages("data-alerts")
            assert "Alertmanager no longer has it" in str(message.content)
            assert "after" in str(message.content["text"])
            await asyncio.sleep(2 * WAIT)
        assert len(moods(daemon)) == 1
        assert await daemon_log(daemon, "group mended") == 4


async def daemon_log(daemon: Daemon, event: str) -> int:
    """How often the daemon told of it."""
    return (daemon.directory / "windsock.log").read_text().count(event)


async def test_inhibited(daemon: Daemon) -> None:
    """A consequence is grey while its cause fires."""
    async with alertmanager(daemon) as one:
        watch(daemon, one)
        async with daemon.running():
            await tell([one], "Consequence/load")
            await until(lambda: shown(daemon))
            await tell([one], "Cause/load")
            await until(lambda: moods(daemon) == [["WARNING", "INHIBITED"], ["WARNING"]])
            await tell([one], over=["Cause/load"])
            await until(lambda: moods(daemon) == [["WARNING", "INHIBITED", "WARNING"], ["WARNING", "RESOLVED"]])


async def test_an_alertmanager_that_does_not_answer(daemon: Daemon) -> None:
    """Nothing changes; that is told once, and counted."""
    async with alertmanager(daemon) as one:
        watch(daemon, one)
        async with daemon.running():
            await tell([one], "Failed/load")
            await until(lambda: shown(daemon))
            await asyncio.sleep(2)
            one.die()
            await asyncio.sleep(2 * WAIT)
            assert moods(daemon) == [["WARNING"]]
            page = await daemon.get("/metrics")
            (failed,) = re.findall(
                r'^windsock_upstream_requests_total\{result="failed",upstream="alertmanager"\} (\S+)',
                page,
                re.MULTILINE,
            )
            assert float(failed) >= 4
            assert await daemon_log(daemon, "upstream fails") <= 2  # its groups, and its settings


async def test_a_lost_state_file(daemon: Daemon) -> None:
    """Once a webhook comes from its receiver, the groups that Alertmanager believes to be told are told again, once."""
    async with alertmanager(daemon) as one:
        watch(daemon, one)
        async with daemon.running():
            await tell([one], "First/load", "Second/load", "Third/load")
            await until(lambda: len(shown(daemon)) == 3)
        shutil.rmtree(daemon.directory / "state")
        async with daemon.running():
            await asyncio.sleep(2 * WAIT)
            assert len(shown(daemon)) == 3
            await tell([one], "Fourth/load")
            await until(lambda: len(shown(daemon)) == 7)
            await tell([one], "First/report")
            await until(lambda: any("report" in headlines[-1] for headlines in shown(daemon)))
            await tell([one], over=["Second/load", "First/load", "First/report"])
            await until(lambda: sum("RESOLVED" in headlines[-1] for headlines in shown(daemon)) == 2)
            await asyncio.sleep(2 * WAIT)
        assert len(shown(daemon)) == 7
