"""What the dispatcher makes of Slack's answers: real requests to the look-alike, in a time that leaps."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from exporter.router import dispatcher, lane, store
from exporter.router.dispatcher import Status
from exporter.router.incident import Incident
from exporter.router.message import Level, render
from exporter.router.store import Waiting
from exporter.router.templates import Templates
from exporter.state import State, beside
from exporter.telemetry import CIRCUIT_OPEN, DEAD_LETTERS, DELIVERIES, OUTBOX, OUTBOX_OLDEST
from tests.delivery import Delivery, delivering
from tests.virtual import EPOCH, clock, run
from windsock_demo.slack import Message, Order, Pace, Workspace
from windsock_demo.slack.errors import SlackError
from windsock_demo.slack.workspace import Channel


def posts(it: Delivery, channel: str = "data-alerts") -> list[float]:
    """When a channel was asked to take something new, in seconds since the start."""
    new = [request for request in it.slack.requests if request.method in ("chat.postMessage", "webhook")]
    return [request.time - EPOCH for request in new if request.channel == channel]


def gaps(times: list[float]) -> list[float]:
    """From each to the next."""
    return [round(after - before, 3) for before, after in pairwise(times)]


def dead(connection: Connection) -> list[tuple[str, str, str]]:
    """The dead letters: what, for whom and why."""
    return [(letter.snapshot.key, letter.destination, letter.reason) for letter in store.dead_letters(connection)]


def fallback(slack: Workspace) -> dict[str, Any]:
    """#data-alerts by the bot, with the webhook of #ops behind it."""
    return {
        "data": {"channel": slack.channel("data-alerts").id, "fallback": "ops"},
        "ops": {"webhook_url": slack.webhook_url("ops")},
    }


def test_a_message_turns_green(tmp_path: Path) -> None:
    """The same message, with a request more for its thread; a webhook posts another."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", ["a"], "data", "ops")
            await it.settled()
            await asyncio.sleep(720)
            await it.tell("etl", [], "data", "ops", resolved=["a"], starts=EPOCH)
            await it.settled()
            (text,) = it.texts()
            assert "RESOLVED" in text
            assert "12 min" in text
            assert ["RESOLVED" in each for each in it.texts("ops")] == [False, True]
            assert it.slack.counts == {("chat.postMessage", "ok"): 2, ("chat.update", "ok"): 1, ("webhook", "ok"): 2}

    run(main())


def test_pace(tmp_path: Path) -> None:
    """A destination gets a message per `pace`, each by itself; two that are one channel share it."""

    def destinations(slack: Workspace) -> dict[str, Any]:
        data, ops = (slack.channel(name).id for name in ("data-alerts", "ops"))
        return {"data": {"channel": data}, "again": {"channel": data}, "slow": {"channel": ops, "pace": "3s"}}

    async def main() -> None:
        slack = Workspace(clock=clock, pace=Pace(burst=1))
        async with delivering(tmp_path, destinations, workspace=slack) as it:
            for number in range(10):
                await it.tell(f"group {number}", ["a"], "data", "again", "slow")
            await it.settled()
            assert gaps(posts(it)) == [1.0] * 19
            assert gaps(posts(it, "ops")) == [3.0] * 9
            assert {result for _, result in it.slack.counts} == {"ok"}

    run(main())


def test_a6_retry_after(tmp_path: Path) -> None:
    """For 30 seconds no request to that channel, then at once; other channels go on."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            it.slack.order(Order(retry_after=30, channel="data-alerts"))
            for number in range(40):
                await it.tell(f"group {number}", ["a"], "data", "ops")
            async with it.running():
                await it.settled()
            first, second, *_ = posts(it)
            assert 30.0 <= second - first <= 31.0
            assert it.slack.gate.impatient == 0
            assert gaps(posts(it, "ops")) == [1.0] * 39
            assert len(it.texts()) == len(it.texts("ops")) == 40

    run(main())


def test_retry_after_for_updates(tmp_path: Path) -> None:
    """All updates wait for it, in all channels; new messages do not."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("old", ["a"])
            await it.settled()
            it.slack.order(Order(retry_after=60, method="chat.update"))
            await it.tell("old", ["a", "b"])
            await asyncio.sleep(5)
            began = clock()
            await it.tell("new", ["a"])
            await asyncio.sleep(5)
            assert len(it.texts()) == 2
            await it.settled()
            assert 50 <= clock() - began <= 62
            assert it.slack.gate.impatient == 0
            assert it.slack.counts["chat.update", "ok"] == 1

    run(main())


def test_a5_an_hour_of_outage(tmp_path: Path) -> None:
    """500 groups change all the time; then each is shown as it is, in one message, at the pace that Slack allows."""
    rng, fires = random.Random(5), dict[str, int]()

    async def change(it: Delivery, keys: list[str]) -> None:
        fires.update({key: rng.choice([0, 1, 2, 3]) for key in keys})
        told: dict[str, Any] = {"resolved": ["x"], "starts": EPOCH, "severity": rng.choice(["warning", "critical"])}
        await asyncio.gather(*(it.tell(key, list(map(str, range(fires[key]))), **told) for key in keys))

    async def main() -> None:
        async with delivering(tmp_path) as it:
            keys = [f"group {number:03}" for number in range(500)]
            for key in keys[:100]:
                await it.tell(key, ["0"], resolved=["x"], starts=EPOCH)
            await it.settled()
            for order in (
                Order(error="service_unavailable", status=503, times=30),
                Order(cut=True, times=20),
                Order(cut=True, stored=True, times=2, method="chat.postMessage"),
                Order(error="fatal_error", times=0),
            ):
                it.slack.order(order)
            down, asked = clock(), len(it.slack.requests)
            while clock() < down + 3600:
                await change(it, rng.sample(keys, 100) if fires else keys)
                await asyncio.sleep(150)
            assert len(it.slack.requests) - asked < 300, "Slack is left alone while it is down"
            it.slack.orders.clear()
            up, asked = clock(), len(it.slack.requests)
            await it.settled(within=1800)
            assert clock() - up < 700
            told = Counter(text.split("group ")[1][:3] for text in it.texts())
            assert (len(told), told.total()) == (500, 500), "one message per group"
            for text in it.texts():
                count = fires["group " + text.split("group ")[1][:3]]
                assert ("RESOLVED" in text, f"{count} firing" in text) == (count == 0, count > 0)
            assert min(gaps([request.time for request in it.slack.requests][asked:])) >= 1.0
            updates = [request.time for request in it.slack.requests if request.method == "chat.update"]
            assert max(sum(start <= when < start + 60 for when in updates) for start in updates) <= 40
            assert it.slack.gate.impatient == 0

    run(main())


def test_all_destinations_share_what_may_be_updated(tmp_path: Path) -> None:
    """However many of them have something at the same moment."""
    names = [f"channel-{number}" for number in range(30)]

    def destinations(slack: Workspace) -> dict[str, Any]:
        return {name: {"channel": slack.channel(name).id} for name in names}

    async def main() -> None:
        async with delivering(tmp_path, destinations, workspace=Workspace(*names, clock=clock)) as it:
            for firing in ("a", "ab", "abc"):
                await it.tell("etl", firing, *names)
                await it.settled()
            updates = [request.time for request in it.slack.requests if request.method == "chat.update"]
            assert len(updates) == 60
            assert max(sum(start <= when < start + 60 for when in updates) for start in updates) == 40

    run(main())


@pytest.mark.parametrize("stored", [True, False], ids=["it arrived", "it did not arrive"])
@pytest.mark.parametrize("may_look", [True, False], ids=["history", "no history"])
@pytest.mark.parametrize("how", ["answer lost", "killed"])
def test_a3_a_post_without_an_answer(tmp_path: Path, stored: bool, may_look: bool, how: str) -> None:
    """Slack is asked for it, and has it once; where it may not be asked, it is sent again and says so."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            if not may_look:
                it.use_token(it.slack.grant("chat:write"))
            it.slack.order(Order(cut=True, stored=stored, delay=0.0 if how == "answer lost" else 1e6))
            await it.tell("etl", ["a"])
            task = asyncio.create_task(it.dispatcher.run())
            await asyncio.sleep(0.2)
            if how == "killed":
                task.cancel()
                await asyncio.wait([task])
                await it.die()
                task = asyncio.create_task(it.dispatcher.run())
            await it.tell("etl", ["a", "b"])
            await it.settled()
            it.dispatcher.stop()
            await task
            assert len(it.texts()) == (2 if stored and not may_look else 1)
            assert "2 firing" in it.texts()[-1]
            assert ["possible repeat" in text for text in it.texts()][-1] == (not may_look)
            assert it.slack.counts["conversations.history", "ok" if may_look else "missing_scope"] == 1

    run(main())


def test_history_that_is_down(tmp_path: Path) -> None:
    """It is asked again, and nothing is sent before it has told."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(cut=True, stored=True, method="chat.postMessage"))
            it.slack.order(Order(error="internal_error", method="conversations.history", times=2))
            it.slack.order(Order(retry_after=60, method="conversations.history"))
            await it.tell("etl", ["a"])
            await it.settled()
            assert it.slack.counts["conversations.history", "ok"] == 1
            assert it.slack.gate.impatient == 0
            assert len(it.texts()) == 1

    run(main())


def test_a_webhook_without_an_answer(tmp_path: Path) -> None:
    """It says nothing of what it took: the message is sent again, as a possible repeat, and only this one."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(status=502, stored=True, method="webhook"))
            await it.tell("etl", ["a"], "ops")
            await it.settled()
            await it.tell("etl", ["a", "b"], "ops")
            await it.settled()
            assert ["possible repeat" in text for text in it.texts("ops")] == [False, True, False]

    run(main())


def test_looks_that_slack_refuses(tmp_path: Path) -> None:
    """A message is simplified until it is taken, and looks well again when there is something new."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            for code in ("invalid_blocks", "msg_blocks_too_long"):
                it.slack.order(Order(error=code, method="chat.postMessage"))
            await it.tell("etl", ["a"])
            await it.settled()
            (message,) = it.slack.messages("data-alerts")
            assert "a failed" in message.content["text"]
            assert "attachments" not in message.content
            assert gaps(posts(it)) == [1.0, 1.0]
            await it.tell("etl", ["a", "b"])
            await it.settled()
            assert "attachments" in message.content
            assert await it.state.run(dead) == []

    run(main())


def test_looks_that_slack_never_takes(tmp_path: Path) -> None:
    """The message is a dead letter with the last reason, counted and shown; retried by hand it goes out."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            for code in ("invalid_blocks", "msg_too_long", "no_text"):
                it.slack.order(Order(error=code))
            await it.tell("etl", ["a"])
            await it.tell("other", ["a"])
            await it.settled()
            await asyncio.sleep(1)
            assert await it.state.run(dead) == [("etl", "data", "no_text")]
            assert len(it.texts()) == 1
            assert it.dispatcher.status()[0].waiting == Waiting(0, None, 1)
            assert DEAD_LETTERS.labels("data")._value.get() == 1
            (letter,) = await it.state.run(store.dead_letters)
            with beside(tmp_path) as connection:
                assert store.retry(connection, [letter.id], clock()) == 1
            await it.settled()
            assert len(it.texts()) == 2

    run(main())


def test_a_message_that_cannot_be_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own fault is no reason not to tell of an alert: it is told more simply."""

    def broken(incident: Incident, templates: Templates, level: Level) -> dict[str, object]:
        if level == "full":
            raise KeyError("labels")
        return render(incident, templates, level)

    monkeypatch.setattr(lane, "render", broken)

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", ["a"])
            await it.settled()
            assert len(it.texts()) == 1

    run(main())


@pytest.mark.parametrize("code", ["message_not_found", "cant_update_message", "edit_window_closed"])
def test_a_message_that_cannot_be_changed(tmp_path: Path, code: str) -> None:
    """A new one takes its place, and is changed from then on."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", ["a"])
            await it.settled()
            it.slack.order(Order(error=code, method="chat.update"))
            for names in (["a", "b"], ["a", "b", "c"], []):
                await it.tell("etl", names, resolved=["x"])
                await it.settled()
            old, new = it.texts()
            assert ("RESOLVED" in old, "RESOLVED" in new) == (False, True)

    run(main())


def test_a_refusal_of_an_update_for_what_was_never_posted(tmp_path: Path) -> None:
    """Whatever Slack means by that, it is asked again later, not all the time."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(error="message_not_found", times=4))
            await it.tell("etl", ["a"])
            await it.settled()
            assert len(it.texts()) == 1
            assert posts(it)[-1] > 10

    run(main())


@pytest.mark.parametrize("code", ["channel_not_found", "is_archived", "restricted_action", "ekm_access_denied"])
def test_a_destination_that_refuses(tmp_path: Path, code: str) -> None:
    """All goes to its fallback and says so there, one probe each five minutes tells when it is well again."""

    async def main() -> None:
        async with delivering(tmp_path, fallback) as it:
            it.slack.order(Order(error=code, channel="data-alerts", times=3))
            for number in range(5):
                await it.tell(f"group {number}", ["a"], "data")
            await it.settled()
            assert len(posts(it)) == 1
            assert len(it.texts("ops")) == 5
            assert all("misrouted from `data`" in text for text in it.texts("ops"))
            assert it.dispatcher.status()[0].trouble == code
            assert CIRCUIT_OPEN.labels("data")._value.get() == 1
            for number in range(5, 25):
                await it.tell(f"group {number}", ["a"], "data")
                await asyncio.sleep(60)
            await it.settled()
            assert all(300 <= gap < 361 for gap in gaps(posts(it))[:3])
            assert len(it.texts()) + len(it.texts("ops")) == 25
            assert len(it.texts()) >= 2
            assert it.dispatcher.status()[0].trouble == ""
            assert CIRCUIT_OPEN.labels("data")._value.get() == 0
            await it.tell("group 0", [], "data", resolved=["a"])
            await it.settled()
            assert "RESOLVED" in it.texts("ops")[-1], "where it began"

    run(main())


def test_a_channel_that_is_archived_later(tmp_path: Path) -> None:
    """What it shows is posted anew to its fallback when it changes."""

    async def main() -> None:
        async with delivering(tmp_path, fallback) as it:
            await it.tell("etl", ["a"], "data")
            await it.settled()
            it.slack.channel("data-alerts").archived = True
            await it.tell("etl", ["a", "b"], "data")
            await it.settled()
            (text,) = it.texts("ops")
            assert "misrouted from `data`" in text
            assert "2 firing" in text

    run(main())


def test_a_destination_that_moved(tmp_path: Path) -> None:
    """What the old channel shows, and takes no more, is posted anew to the new one, with which nothing is wrong."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", ["a"])
            await it.settled()
            it.slack.channel("data-alerts").archived = True
            it.configure(destinations={"data": {"channel": it.slack.channel("ops").id}})
            await it.tell("etl", ["a", "b"])
            await it.settled(within=5)
            assert ["2 firing" in text for text in it.texts("ops")] == [True]
            assert it.dispatcher.status()[0].trouble == ""

    run(main())


def test_what_waited_for_long_is_not_given_up_where_there_is_a_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is diverted like the rest, be it a day old."""
    monkeypatch.setattr(lane, "GIVE_UP", 0.0)

    async def main() -> None:
        async with delivering(tmp_path, fallback, started=False) as it:
            it.slack.channel("data-alerts").archived = True
            await it.tell("etl", ["a"], "data")
            await asyncio.sleep(1)
            async with it.running():
                await it.settled()
            assert len(it.texts("ops")) == 1

    run(main())


def test_a_destination_that_refuses_without_a_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All waits, and is sent once it takes messages; what failed for a day is a dead letter."""
    monkeypatch.setattr(lane, "GIVE_UP", 3600.0)
    monkeypatch.setattr(dispatcher, "LOOK", 5.0)

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.channel("data-alerts").archived = True
            await it.tell("old", ["a"])
            await asyncio.sleep(1800)
            await it.tell("new", ["a"])
            assert len(posts(it)) == pytest.approx(6, abs=1)
            await asyncio.sleep(1800 + 700)
            assert await it.state.run(dead) == [("old", "data", "is_archived")]
            assert it.dispatcher.status()[0].waiting == Waiting(1, EPOCH + 1800, 1)
            it.slack.channel("data-alerts").archived = False
            await it.settled()
            assert ["new" in text for text in it.texts()] == [True]

    run(main())


def test_a_credential_that_is_refused(tmp_path: Path) -> None:
    """What is new goes to the fallback; what is shown waits, and is updated within a minute of a new token."""

    async def main() -> None:
        async with delivering(tmp_path, fallback) as it:
            good = it.slack.token
            await it.tell("old", ["a"], "data")
            await it.settled()
            it.use_token("xoxb-revoked")
            await it.tell("old", ["a", "b"], "data")
            await it.tell("new", ["a"], "data")
            await asyncio.sleep(600)
            assert len(it.texts("ops")) == 1
            assert it.slack.counts["chat.update", "invalid_auth"] == pytest.approx(20, abs=3)
            assert it.dispatcher.status()[0].trouble == "invalid_auth"
            it.use_token(good)
            await it.settled(within=60)
            assert ["2 firing" in text for text in it.texts()] == [True]

    run(main())


def test_slack_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five failures a probe each half minute; whatever waits is sent at once when one succeeds."""
    monkeypatch.setattr(dispatcher, "LOOK", 2.0)

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(status=503, times=0))
            for number in range(20):
                await it.tell(f"group {number}", ["a"])
            await asyncio.sleep(3600)
            assert gaps(posts(it))[:4] == pytest.approx([1.0] * 4, abs=0.6)
            assert min(gaps(posts(it))[5:]) >= 30.0
            assert 110 < len(posts(it)) < 125
            assert it.dispatcher.status()[0].trouble == "HTTP 503"
            it.slack.orders.clear()
            await it.settled(within=30 + 22)
            assert gaps(posts(it))[-19:] == [1.0] * 19
            assert len(it.texts()) == 20
            assert it.dispatcher.status()[0].trouble == ""

    run(main())


def test_what_fails_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried all the time, then it is a dead letter; only news revive it."""
    monkeypatch.setattr(lane, "GIVE_UP", 3600.0)
    monkeypatch.setattr(dispatcher, "LOOK", 5.0)

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(error="a_code_of_tomorrow", times=0))
            await it.tell("etl", ["a"])
            await asyncio.sleep(3590)
            assert await it.state.run(dead) == []
            assert gaps(posts(it))[:4] == pytest.approx([5, 5, 5, 10], abs=0.1)
            assert max(gaps(posts(it))) == pytest.approx(30, abs=1)
            await asyncio.sleep(50)
            assert await it.state.run(dead) == [("etl", "data", "a_code_of_tomorrow")]
            count = len(posts(it))
            await asyncio.sleep(600)
            assert len(posts(it)) == count
            await it.tell("etl", ["a", "b"])
            it.slack.orders.clear()
            await it.settled()
            assert len(it.texts()) == 1

    run(main())


def test_one_message_that_always_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not hold up the others, however critical it is, and is tried ever less often."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            real = it.slack.post

            def post(channel: Channel, author: str, payload: Mapping[str, Any]) -> Message:
                if "poison" in str(payload):
                    raise SlackError("a_code_of_tomorrow")
                return real(channel, author, payload)

            monkeypatch.setattr(it.slack, "post", post)
            await it.tell("poison", ["a"], severity="critical")
            for number in range(100):
                await asyncio.sleep(3)
                await it.tell(f"group {number}", ["a"])
            await asyncio.sleep(3)
            assert it.dispatcher.status()[0].waiting.messages == 1
            assert len(it.texts()) == 100
            assert it.slack.counts["chat.postMessage", "a_code_of_tomorrow"] == pytest.approx(9, abs=1)
            it.slack.order(Order(status=503, times=10))
            await it.tell("alone", ["a"])
            await asyncio.sleep(600)
            assert len(it.texts()) == 101, "probes are of all that waits, in turn"

    run(main())


def test_critical_first_then_the_oldest(tmp_path: Path) -> None:
    """Also after an outage, when much waits."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            for number in range(6):
                await it.tell(f"group {number}", ["a"], severity="critical" if number in (2, 5) else "warning")
                await asyncio.sleep(1)
            async with it.running():
                await it.settled()
            assert [text.split("group ")[1][0] for text in it.texts()] == ["2", "5", "0", "1", "3", "4"]

    run(main())


def test_a_new_configuration(tmp_path: Path) -> None:
    """It holds from the next message on: another pace, another destination, another token; what is gone is given up."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            for number in range(4):
                await it.tell(f"group {number}", ["a"], "data", "ops")
            async with it.running():
                await asyncio.sleep(1.2)
                data, ops = (it.slack.channel(name).id for name in ("data-alerts", "ops"))
                it.configure(destinations={"data": {"channel": data, "pace": "10s"}, "new": {"channel": ops}})
                await it.tell("another", ["a"], "new")
                await it.settled()
                assert gaps(posts(it)) == [1.0, 1.0, 10.0]
                assert "another" in it.texts("ops")[-1]
                await asyncio.sleep(1)
                assert {reason for _, _, reason in await it.state.run(dead)} == {"there is no such destination"}
                assert [status.destination for status in it.dispatcher.status()] == ["data", "new"]
                assert set(OUTBOX._metrics) == {("data",), ("new",), ("ops",)}
                await it.state.run(
                    lambda connection: store.drop(connection, [it.id for it in store.dead_letters(connection)])
                )
                await asyncio.sleep(1)
                assert set(OUTBOX._metrics) == {("data",), ("new",)}

    run(main())


def test_a_configuration_that_mends_it(tmp_path: Path) -> None:
    """It is tried at once, not at the next probe."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.channel("data-alerts").archived = True
            await it.tell("etl", ["a"])
            await asyncio.sleep(10)
            it.configure(destinations={"data": {"channel": it.slack.channel("ops").id}})
            await it.settled(within=5)
            assert len(it.texts("ops")) == 1

    run(main())


def test_what_is_told_of_destinations(tmp_path: Path) -> None:
    """How much waits, since when, and what was delivered: on the status page and as metrics."""

    async def main() -> None:
        async with delivering(tmp_path, fallback) as it:
            before = DELIVERIES.labels("data", "posted")._value.get()
            await asyncio.sleep(1)
            channel = Status("data", "ops", Waiting(), "")
            assert it.dispatcher.status() == [channel, Status("ops", None, Waiting(), "")]
            assert OUTBOX_OLDEST._metrics == {}
            it.slack.order(Order(retry_after=100))
            for number in range(3):
                await it.tell(f"group {number}", ["a"], "data")
            await asyncio.sleep(50)
            assert it.dispatcher.status()[0] == channel._replace(waiting=Waiting(3, EPOCH + 1))
            assert (OUTBOX.labels("data")._value.get(), OUTBOX_OLDEST.labels("data")._value.get()) == (3, EPOCH + 1)
            await it.settled()
            assert DELIVERIES.labels("data", "posted")._value.get() == before + 3

    run(main())


@pytest.mark.parametrize("takes", [3.0, 30.0])
def test_a_graceful_end(tmp_path: Path, takes: float) -> None:
    """What is under way is finished, within ten seconds, and nothing else begins; nothing is lost."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            it.slack.order(Order(delay=takes, times=0))
            for number in range(5):
                await it.tell(f"group {number}", ["a"], "data", "ops")
            async with it.running():
                await asyncio.sleep(1)
                stopped = clock()
            assert clock() - stopped <= min(takes, 10.5)
            await asyncio.sleep(100)
            assert len(it.texts()) == len(it.texts("ops")) == 1
            it.slack.orders.clear()
            await it.die()
            async with it.running():
                await it.settled()
            assert len(it.texts()) == 5
            assert ["possible repeat" in text for text in it.texts("ops")].count(True) == (takes == 30.0)

    run(main())


async def in_its_thread(state: State, statement: str) -> None:
    """Between two transactions, not within one."""
    assert state._connection
    await asyncio.get_running_loop().run_in_executor(state._thread, state._connection.execute, statement)


def test_a_state_that_cannot_be_written(tmp_path: Path) -> None:
    """Nothing is sent that cannot be noted first; all is sent once it can, and the daemon lives."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", ["a"])
            await in_its_thread(it.state, "PRAGMA query_only = 1")
            await asyncio.sleep(60)
            assert it.slack.counts == {}
            await in_its_thread(it.state, "PRAGMA query_only = 0")
            await it.settled()
            assert len(it.texts()) == 1

    run(main())
