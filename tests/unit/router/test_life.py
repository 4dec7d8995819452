"""The life of an incident in Slack: one message, and in its thread a line for whatever is worth one."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.router import dispatcher, store
from exporter.router.routing import Target
from tests.delivery import Delivery, delivering, snapshot
from tests.virtual import EPOCH, clock, run
from windsock_demo.slack import Order

pytestmark = pytest.mark.usefixtures("looks")
REMINDER = "repeat interval elapsed"
PEER = "http://am-2"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dispatcher looks less often, and hours are shorter."""
    monkeypatch.setattr(dispatcher, "LOOK", 2.0)


async def told(it: Delivery, firing: str, resolved: str = "", **more: Any) -> None:
    """A webhook, and all that comes of it at once."""
    await it.tell("etl", firing, resolved=resolved, **({"starts": EPOCH} | more))
    await it.settled()


def test_one_message_and_its_thread(tmp_path: Path) -> None:
    """A line names the alerts that are new, another those that are not any more, and the last one says that all is."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a")
            assert it.threads() == [[]]
            await told(it, "abc")
            await told(it, "c", "ab")
            await asyncio.sleep(720)
            await told(it, "", "abc")
            (message,) = it.texts()
            ((new, gone, over),) = it.threads()
            assert "RESOLVED" in message
            assert new.splitlines() == [
                ":large_orange_circle: 2 more (now 3 firing):", "• `b` b failed", "• `c` c failed"
            ]  # fmt: skip
            assert gone == ":white_check_mark: 2 resolved: `a`, `b`"
            assert over.startswith(":large_green_circle: resolved after 12 min")
            assert it.slack.counts["chat.update", "ok"] == 3

    run(main())


def test_what_changes_while_slack_is_away_is_one_line(tmp_path: Path) -> None:
    """Or none, if in the end nothing is new."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a")
            it.slack.order(Order(status=503, times=0))
            for firing in ("ab", "abc", "bd", "bcd"):
                await it.tell("etl", firing, starts=EPOCH)
                await asyncio.sleep(60)
            it.slack.orders.clear()
            await it.settled()
            ((line,),) = it.threads()
            assert "3 more" in line and "1 resolved" in line
            it.slack.order(Order(status=503, times=0))
            for firing in ("b", "bcd"):
                await it.tell("etl", firing, resolved="x", starts=EPOCH)
                await asyncio.sleep(60)
            it.slack.orders.clear()
            await it.settled()
            assert it.threads() == [[line]]

    run(main())


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_what_fires_again_soon(tmp_path: Path, severity: str) -> None:
    """It is the same message, red again; the line calls whoever is to be called, in the channel if it is critical."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a", severity=severity)
            await told(it, "", "a", severity=severity)
            await asyncio.sleep(1700)
            await told(it, "a", severity=severity, starts=clock())
            (message,) = it.texts()
            ((_, again),) = it.threads()
            assert "RESOLVED" not in message
            assert "fires again: etl, Task a (1 firing)\n• `a` a failed  <@U1>" in again
            assert again.startswith("!") == (severity == "critical")

    run(main())


@pytest.mark.parametrize(("window", "later"), [(1800.0, 1810.0), (0.0, 100.0), (60.0, 100.0)])
def test_what_fires_again_later(tmp_path: Path, window: float, later: float) -> None:
    """It is a new message, and the old one stays as it is."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a", reopen=window)
            await told(it, "", "a", reopen=window)
            await asyncio.sleep(later)
            await told(it, "a", reopen=window, starts=clock())
            assert ["RESOLVED" in text for text in it.texts()] == [True, False]
            assert [len(thread) for thread in it.threads()] == [1, 0]

    run(main())


def test_what_fires_again_while_its_end_is_under_way(tmp_path: Path) -> None:
    """It is the same message, and stays red."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a")
            it.slack.order(Order(delay=5, method="chat.update"))
            await it.tell("etl", "", resolved="a")
            await asyncio.sleep(3)
            await told(it, "a", starts=clock())
            assert ["RESOLVED" in text for text in it.texts()] == [False]

    run(main())


@pytest.mark.parametrize("fires", [False, True])
def test_a_late_double_does_not_reopen(tmp_path: Path, fires: bool) -> None:
    """Unless nobody says within its `group_interval` that it is over, too: then it is the same message."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "ab")
            await told(it, "", "ab")
            await it.tell("etl", "a", external_url=PEER, starts=EPOCH)
            await asyncio.sleep(300)
            assert ["RESOLVED" in text for text in it.texts()] == [True]
            if not fires:
                await it.tell("etl", "", resolved="a", external_url=PEER, starts=EPOCH)
            await asyncio.sleep(300)
            assert ["RESOLVED" in text for text in it.texts()] == [not fires]
            assert [len(thread) for thread in it.threads()] == [1 + fires]
            await it.settled()
            await told(it, "ab", starts=clock())
            assert ["RESOLVED" in text for text in it.texts()] == [False]
            assert len(it.threads()[0]) == 2 + fires

    run(main())


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_a_reminder(tmp_path: Path, severity: str) -> None:
    """Alertmanager says that it is one, once for both of a pair; the channel shows it only if it is critical."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "ab", severity=severity)
            before = it.texts()
            await asyncio.sleep(3540)
            for url in ("http://am-1", PEER):
                await told(it, "ab", severity=severity, reason=REMINDER, external_url=url)
            ((line,),) = it.threads()
            assert line.startswith("!") == (severity == "critical")
            assert ":bell: still firing after 59 min" in line and line.endswith(": etl (2 firing)")
            assert "<@" not in line
            assert it.texts() == before, "an edit would tell nobody"

    run(main())


def test_a_reminder_without_a_reason(tmp_path: Path) -> None:
    """An Alertmanager that gives no reasons reminds where nothing was told for half an hour; a retry does not."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "ab")
            for later in (600, 1300, 600, 1300):
                await asyncio.sleep(later)
                await told(it, "ab")
            assert [len(thread) for thread in it.threads()] == [2]
            await asyncio.sleep(1900)
            await told(it, "ab", reason="new alerts added")
            assert [len(thread) for thread in it.threads()] == [2]
            await told(it, "b", "a")
            await asyncio.sleep(1900)
            await told(it, "b")
            assert "still firing" in it.threads()[0][-1], "without those that were over, it is told again"

    run(main())


def test_flapping(tmp_path: Path) -> None:
    """From the third turn on there are edits only, until it is stable for half an hour; then a line tells the rest."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a")
            for turn in range(7):
                await asyncio.sleep(300)
                fires = bool(turn % 2)
                await told(it, "a" * fires, "a" * (not fires), starts=clock())
                assert ("flapping" in it.texts()[0]) == (turn >= 2)
                assert ("RESOLVED" in it.texts()[0]) == (not fires)
            assert "flapping \N{MULTIPLICATION SIGN}7" in it.texts()[0]
            assert [line.split(":")[2].split()[0] for line in it.threads()[0]] == ["resolved", "fires"]
            await asyncio.sleep(1790)
            assert len(it.threads()[0]) == 2
            await asyncio.sleep(20)
            assert "resolved" in it.threads()[0][-1] and len(it.threads()[0]) == 3
            assert len(it.texts()) == 1

    run(main())


def test_an_incident_that_is_told_late_does_not_flap(tmp_path: Path) -> None:
    """What another Alertmanager takes back, and says again, is one end."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a")
            await told(it, "", "a", starts=EPOCH)
            await it.tell("etl", "a", external_url=PEER, starts=EPOCH)
            await asyncio.sleep(100)
            await told(it, "", "a", external_url=PEER, starts=EPOCH)
            await asyncio.sleep(1000)
            await told(it, "a", starts=clock())
            assert "flapping" not in it.texts()[0]
            assert "fires again" in it.threads()[0][-1]

    run(main())


@pytest.mark.parametrize("replies", [False, True])
def test_a_message_that_somebody_deletes(tmp_path: Path, replies: bool) -> None:
    """Another one takes its place, with a thread of its own."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a")
            if replies:
                await told(it, "ab")
            old = it.slack.messages("data-alerts")[0].ts
            it.slack.delete("data-alerts", old)
            await asyncio.sleep(600)
            await told(it, "ab" if replies else "a", reason=REMINDER)
            await told(it, "abc")
            await told(it, "abcd")
            new = it.slack.messages("data-alerts")[-1]
            assert "4 firing" in it.texts()[-1]
            assert "1 more" in it.slack.replies("data-alerts", new.ts)[-1].content["text"]

    run(main())


@pytest.mark.parametrize("stored", [True, False], ids=["it arrived", "it did not arrive"])
@pytest.mark.parametrize("may_look", [True, False], ids=["history", "no history"])
@pytest.mark.parametrize("how", ["answer lost", "killed"])
def test_a_line_without_an_answer(tmp_path: Path, stored: bool, may_look: bool, how: str) -> None:
    """The thread is asked for it, and has it once; where it may not be asked, it is said again, and marked."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            if not may_look:
                it.use_token(it.slack.grant("chat:write"))
            task = asyncio.create_task(it.dispatcher.run())
            await told(it, "a")
            it.slack.order(
                Order(cut=True, stored=stored, delay=0.0 if how == "answer lost" else 1e6, method="chat.postMessage")
            )
            await it.tell("etl", "ab", starts=EPOCH)
            await asyncio.sleep(5)
            if how == "killed":
                task.cancel()
                await asyncio.wait([task])
                await it.die()
                task = asyncio.create_task(it.dispatcher.run())
            await told(it, "abc")
            it.dispatcher.stop()
            await task
            (lines,) = it.threads()
            assert len(it.texts()) == 1
            assert "possible repeat" not in it.texts()[0]
            assert any("possible repeat" in line for line in lines) == (not may_look)
            assert sum(line.count("`b`") for line in lines) == 1 + (stored and not may_look)
            assert sum(line.count("`c`") for line in lines) == 1
            assert it.slack.counts["conversations.replies", "ok" if may_look else "missing_scope"] == 1

    run(main())


def test_a_thread_that_is_closed(tmp_path: Path) -> None:
    """What the lines would say the message says; nothing is said twice."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a")
            it.slack.order(Order(error="cannot_reply_to_message", method="chat.postMessage"))
            await told(it, "ab")
            assert ["2 firing" in text for text in it.texts()] == [True]
            it.slack.order(Order(error="cannot_reply_to_message", method="chat.postMessage"))
            await told(it, "", "ab")
            assert ["RESOLVED" in text for text in it.texts()] == [True]
            it.slack.order(Order(error="msg_too_long", method="chat.postMessage"))
            await told(it, "b", starts=clock())
            assert len(it.texts()) == 1
            assert it.threads() == [[]]

    run(main())


def test_messages_go_before_lines(tmp_path: Path) -> None:
    """However new they are, and whatever the line is about."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            async with it.running():
                await told(it, "a", severity="critical")
                await told(it, "ab", severity="critical")
                await it.tell("etl", "abc", severity="critical", starts=EPOCH)
                for number in range(5):
                    await it.tell(f"group {number}", "a")
                await it.settled()
            posted = [message.ts for message in it.slack.messages("data-alerts")]
            last = it.slack.replies("data-alerts", posted[0])[-1]
            assert len(posted) == 6
            assert last.ts > posted[-1]

    run(main())


def test_a_destination_that_is_gone(tmp_path: Path) -> None:
    """It owes no lines any more."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await told(it, "a")
            it.slack.order(Order(error="internal_error", method="chat.postMessage", times=2))
            await it.tell("etl", "ab", starts=EPOCH)
            await asyncio.sleep(4)
            it.configure(destinations={"ops": {"webhook_url": it.slack.webhook_url("ops")}})
            await it.settled(within=10)

    run(main())


def test_a_message_of_an_older_format() -> None:
    """What its thread does not know, is not news; what comes later is."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(store.FORMATS[:2]))
    group = ("alertmanager", "slack", "etl", "old", 1, 1, 0, EPOCH, 1, EPOCH, msgspec.json.encode(snapshot(now=EPOCH)))
    connection.execute("INSERT INTO router_group VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", group)
    connection.execute(
        "INSERT INTO router_message (group_id, destination, lane, mention, rank, since, wanted, shown, channel, ts)"
        " VALUES (1, 'data', 'data', '', 1, 9.0, 1, 1, 'C1', '1.5')"
    )
    connection.executescript("".join(store.FORMATS[2:]))
    lines = []
    for firing in ("ab", "abc"):
        store.accept(connection, snapshot(firing=firing, now=EPOCH), [Target("data", "")], EPOCH)
        assert store.claim_line(connection, "data", EPOCH, store.May(edit=True)) is None, "before its message"
        update = store.claim(connection, "data", EPOCH, store.May(edit=True))
        assert update and update.ts == "1.5"
        store.shown(connection, update, "C1", "1.5", EPOCH)
        lines.append(store.claim_line(connection, "data", EPOCH, store.May(edit=True)))
    assert lines[0] is None
    assert lines[1] and lines[1].snapshot.fires - lines[1].knew == {"c"}
    connection.close()


def test_an_incoming_webhook_has_no_threads(tmp_path: Path) -> None:
    """Nothing waits for one; and a destination that becomes a webhook owes nothing any more."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", "a", "ops", "data")
            await it.settled()
            for later in (60, 4000):
                await asyncio.sleep(later)
                await it.tell("etl", "ab", "ops", "data", starts=EPOCH)
                await it.settled()
            await it.tell("etl", "", "ops", "data", resolved="ab", starts=EPOCH)
            await it.settled()
            await it.tell("etl", "a", "ops", "data", starts=clock())
            await it.settled()
            assert it.slack.counts["webhook", "ok"] == len(it.texts("ops")) == 4
            it.configure(destinations={"data": {"webhook_url": it.slack.webhook_url("ops")}})
            await it.tell("etl", "a", "data", starts=clock(), reason=REMINDER)
            await it.settled()

    run(main())
