"""Where threads, storms, silences and joined alerts meet."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from exporter.router import store
from exporter.router.incident import MISSED
from exporter.router.repair import SOURCE, Known
from exporter.router.routing import Target
from tests.delivery import delivering, snapshot
from tests.unit.router.test_joined import alerted, failed
from tests.unit.router.test_storm import summaries, tell
from tests.virtual import EPOCH, clock, run
from windsock_demo.slack import Order, Workspace


def with_fallback(slack: Workspace) -> dict[str, object]:
    """What the first destination cannot take goes to the other."""
    data, ops = slack.channel("data-alerts").id, slack.channel("ops").id
    return {"data": {"channel": data, "fallback": "ops"}, "ops": {"channel": ops}}


def test_a_post_whose_answer_is_lost_owes_no_line(tmp_path: Path) -> None:
    """Slack has the message, and its thread stays empty: nothing fires again."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.slack.order(Order(method="chat.postMessage", cut=True, stored=True))
            await it.tell("etl", "a", starts=EPOCH, severity="critical")
            await asyncio.sleep(60)
            await it.settled()
            assert len(it.texts()) == 1
            assert it.threads() == [[]]

    run(main())


def test_an_upgraded_message_does_not_fire_again(tmp_path: Path) -> None:
    """A message of before threads knows nothing of what fired: its first repeat is no news."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", "a", starts=EPOCH, severity="critical")
            await it.settled()
            await it.state.run(lambda connection: connection.execute("UPDATE router_message SET known = NULL"))
            await asyncio.sleep(2400)
            await it.tell("etl", "a", starts=EPOCH, severity="critical")
            await it.settled()
            assert it.threads() == [[]]

    run(main())


def test_a_silence_reminds_nobody(tmp_path: Path) -> None:
    """A critical message that is silenced after 40 minutes is grey, and its thread stays empty."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", "a", starts=EPOCH, severity="critical")
            await it.settled()
            await asyncio.sleep(2400)
            ((_, known),) = await it.state.run(partial(store.known, source=SOURCE, kind=Known))
            silenced = partial(replace, received=clock(), standing="silenced")
            where = (SOURCE, "slack", known.key)
            await it.state.run(partial(store.amend, where=where, seen=known.received, change=silenced))
            await asyncio.sleep(30)
            await it.settled()
            assert "SILENCED" in it.texts()[0]
            assert it.threads() == [[]]

    run(main())


def test_nothing_joins_the_thread_of_a_run_of_long_ago(tmp_path: Path) -> None:
    """What fires within the hour is in the run's thread; what fires later has its own message."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await failed(it)
            await it.settled()
            await alerted(it, "soon")
            await it.settled()
            assert len(it.texts()) == 1
            await asyncio.sleep(3700)
            await alerted(it, "late")
            await it.settled()
            assert len(it.texts()) == 2

    run(main())


def test_a_storm_does_not_swallow_what_was_missed(tmp_path: Path) -> None:
    """After an outage everything fires at once, and what Windsock itself has to say is shown nevertheless."""

    async def main() -> None:
        async with delivering(tmp_path, storm=10) as it:
            await tell(it, range(30))
            await asyncio.sleep(20)
            missed = snapshot("missed", "", "a", now=clock(), source="windsock", receiver="", standing=MISSED)
            accept = partial(store.accept, snapshot=missed, targets=[Target("data", "")], now=clock())
            await it.state.run(accept)
            await asyncio.sleep(60)
            assert any("MISSED" in text for text in it.texts())
            assert len(summaries(it)) == 1

    run(main())


def test_a_storm_takes_in_what_is_diverted_to_it(tmp_path: Path) -> None:
    """A hundred groups, sent to a channel that refuses them while its fallback has a storm, are counted there."""

    async def main() -> None:
        async with delivering(tmp_path, with_fallback, storm=10) as it:
            it.slack.order(Order(channel="data-alerts", error="not_in_channel", times=0))
            await tell(it, range(40))
            await asyncio.sleep(30)
            for number in range(100, 200, 5):
                await tell(it, range(number, number + 5))
                await asyncio.sleep(2)
            await asyncio.sleep(120)
            (summary,) = summaries(it, "ops")
            assert ": 1" in summary, "more than a hundred groups"
            assert len(it.texts("ops")) < 60

    run(main())


def test_a_locked_thread_is_no_broken_channel(tmp_path: Path) -> None:
    """What cannot join the thread has its own message, and the others of the channel go on."""

    async def main() -> None:
        async with delivering(tmp_path, with_fallback) as it:
            await failed(it)
            await it.settled()
            it.slack.order(
                Order(method="chat.postMessage", channel="data-alerts", error="restricted_action_thread_locked")
            )
            await alerted(it, "late")
            await asyncio.sleep(6)
            await it.tell("other", "a", starts=EPOCH)
            await it.settled()
            assert [status.trouble for status in it.dispatcher.status()] == ["", ""]
            assert (len(it.texts()), len(it.texts("ops"))) == (3, 0)

    run(main())


def test_a_dropped_update_is_no_line(tmp_path: Path) -> None:
    """What a dead letter would have shown is not told in the thread once it is dropped."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await it.tell("etl", "a", starts=EPOCH)
            await it.settled()
            it.slack.order(Order(method="chat.update", error="invalid_blocks", times=0))
            await it.tell("etl", "abc", starts=EPOCH)
            await asyncio.sleep(30)
            it.slack.orders.clear()
            letters = await it.state.run(store.dead_letters)
            assert len(letters) == 1
            await it.state.run(partial(store.drop, messages=[letter.id for letter in letters]))
            await asyncio.sleep(30)
            assert it.threads() == [[]]

    run(main())
