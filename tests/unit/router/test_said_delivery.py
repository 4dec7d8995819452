"""What becomes of a message that a sender has worded: as with an alert, once and marked."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exporter.router import store
from exporter.router.routing import Target
from exporter.router.said import parse_said
from exporter.router_commands import _told
from tests.delivery import Delivery, delivering
from tests.virtual import clock, run
from windsock_demo.slack import Order, Workspace


async def say(it: Delivery, to: str = "data", **said: Any) -> str:
    """A message arrives, for this destination."""
    snapshot = parse_said(json.dumps(said or {"text": "etl failed"}).encode(), to, clock())
    return await it.state.run(partial(store.accept, snapshot=snapshot, targets=[Target(to, "")], now=clock()))


async def groups(it: Delivery) -> int:
    """How many are remembered."""
    (count,) = await it.state.run(lambda connection: connection.execute("SELECT count(*) FROM router_group").fetchone())
    return int(count)


@pytest.mark.parametrize("to", ["data", "ops"])
def test_the_same_again_is_a_double_at_first(tmp_path: Path, to: str) -> None:
    """Within two minutes it is stored once; later it is told again; what is said elsewhere or otherwise, always."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            told = [await say(it, to)]
            await it.settled()
            for wait in (60, 59, 5, 100, 30):
                await asyncio.sleep(wait)
                told.append(await say(it, to))
                await it.settled()
            assert told == ["stored", "duplicate", "duplicate", "stored", "duplicate", "stored"]
            channel, other = ("data-alerts", "ops") if to == "data" else ("ops", "data-alerts")
            assert [json.loads(text)["text"] for text in it.texts(channel)] == ["etl failed"] * 3
            assert await say(it, "ops" if to == "data" else "data") == "stored"
            assert await say(it, to, text="etl failed!") == "stored"
            await it.settled()
            assert len(it.texts(channel)) == 4 and len(it.texts(other)) == 1

    run(main())


def test_what_waits_is_said_once(tmp_path: Path) -> None:
    """An hour without Slack: the same message, sent every five minutes, is one; different ones all come."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(status=503, times=0))
            for number in range(12):
                await say(it)
                await say(it, text=f"etl failed {number}")
                await asyncio.sleep(300)
            it.slack.orders.clear()
            await it.settled()
            texts = [json.loads(text)["text"] for text in it.texts()]
            assert sorted(texts) == sorted(["etl failed", *(f"etl failed {number}" for number in range(12))])

    run(main())


def test_a_fallback_says_for_whom_it_was(tmp_path: Path) -> None:
    """What a channel does not take goes to its fallback, as it was said, with a mark."""

    def fallback(slack: Workspace) -> dict[str, Any]:
        return {
            "data": {"channel": slack.channel("data-alerts").id, "fallback": "ops"},
            "ops": {"webhook_url": slack.webhook_url("ops")},
        }

    async def main() -> None:
        async with delivering(tmp_path, fallback) as it:
            it.slack.channel("data-alerts").archived = True
            await say(it, text="<!here> etl failed")
            await it.settled()
            ((message,), shown) = it.slack.messages("ops"), it.texts("ops")
            assert message.content["text"] == "<!here> etl failed"
            assert "misrouted from `data`" in shown[0]

    run(main())


def test_a_lost_answer_does_not_double_it(tmp_path: Path) -> None:
    """It is found in the channel, and stays as it was; where that is not allowed it comes again, marked."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(method="chat.postMessage", cut=True, stored=True))
            await say(it)
            await it.settled()
            assert it.slack.counts["conversations.history", "ok"] == 1
            assert [json.loads(text)["text"] for text in it.texts()] == ["etl failed"]
            it.use_token(it.slack.grant("chat:write"))
            it.slack.order(Order(method="chat.postMessage", cut=True, stored=True))
            await say(it, text="report failed")
            await it.settled()
            assert ["possible repeat" in text for text in it.texts()] == [False, False, True]

    run(main())


def test_what_slack_does_not_draw_is_told_in_words(tmp_path: Path) -> None:
    """Blocks that Slack refuses are left out, and what they say is told."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            block = {"type": "section", "text": {"type": "mrkdwn", "text": "rows: " + 3001 * "x"}}
            await say(it, text="etl failed", blocks=[block])
            await it.settled()
            (message,) = it.slack.messages("data-alerts")
            assert message.content["text"].startswith("etl failed\nrows: xxx")
            assert "blocks" not in message.content
            assert it.slack.counts["chat.postMessage", "invalid_blocks"] == 1

    run(main())


def test_a_dead_letter_is_called_by_its_words(tmp_path: Path) -> None:
    """It is listed by what it says first, on one line, and can be sent again."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(error="invalid_blocks", times=3))
            await say(it, text="etl\n\x1b[31mfailed")
            while not (letters := await it.state.run(store.dead_letters)):
                await asyncio.sleep(1)
            assert _told(letters[0].snapshot) == "etl [31mfailed"
            assert await it.state.run(partial(store.retry, messages=[letters[0].id], now=clock())) == 1
            await it.settled()
            assert len(it.texts()) == 1

    run(main())


def test_what_was_said_is_soon_forgotten(tmp_path: Path) -> None:
    """An hour after it was shown; what waits is kept."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await say(it)
            await say(it, "ops")
            await it.settled()
            it.slack.order(Order(status=503, times=0))
            await say(it, text="later")
            await asyncio.sleep(3)
            assert await groups(it) == 3
            await asyncio.sleep(2 * 3600)
            assert await groups(it) == 1
            it.slack.orders.clear()
            await it.settled()
            assert "later" in it.texts()[-1]

    run(main())


def test_a_storm_takes_no_words(tmp_path: Path) -> None:
    """Neither more messages than would make a storm, nor one amid a storm of alerts: each is shown."""

    async def main() -> None:
        async with delivering(tmp_path, storm=3, started=False) as it:
            for number in range(6):
                await say(it, text=f"etl failed {number}")
            for number in range(6):
                await it.tell(f"group {number}")
            async with it.running():
                await asyncio.sleep(30)
                await say(it, text="etl failed 6")
                await asyncio.sleep(30)
            shown = [str(message.content.get("text", "")) for message in it.slack.messages("data-alerts")]
            assert [text for text in shown if "STORM" not in text] == [f"etl failed {number}" for number in range(7)]
            assert sum("STORM" in text for text in shown) == 1

    run(main())
