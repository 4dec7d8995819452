"""Many groups at once are one summary, which is edited; what is critical has a message of its own, and before it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exporter.router import store
from exporter.router.limits import violations
from exporter.router.store.storm import Count, Storm
from exporter.router.summary import render_summary
from exporter.telemetry import STORM_ACTIVE
from tests.delivery import Delivery, delivering
from tests.virtual import EPOCH, clock, run
from windsock_demo.slack import Order, Workspace


async def tell(it: Delivery, numbers: Iterable[int], firing: str = "a", *to: str, **more: Any) -> None:
    """A webhook for each of these groups."""
    over = {"resolved": ["a"]} if not firing else {}
    labels = {"starts": EPOCH, **over, **more}
    await asyncio.gather(*(it.tell(f"group {number:03}", firing, *to, **labels) for number in numbers))


@asynccontextmanager
async def storming(tmp_path: Path, groups: int = 100, to: str = "data", **more: Any) -> AsyncIterator[Delivery]:
    """So many groups, one in ten of them critical, came at once, and are told of."""
    async with delivering(tmp_path, storm=10, started=False, **more) as it:
        await tell(it, (number for number in range(groups) if number % 10), "a", to)
        await tell(it, range(0, groups, 10), "a", to, severity="critical")
        async with it.running():
            await asyncio.sleep(30)
            yield it


def summaries(it: Delivery, channel: str = "data-alerts") -> list[str]:
    """The headline of each summary."""
    return [str(it.content["text"]) for it in it.slack.messages(channel) if "STORM" in it.content["text"]]


def test_a_storm(tmp_path: Path) -> None:
    """A summary within seconds, then the critical ones; it follows what is resolved; in the end the rest is told."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            first, *others = it.slack.messages("data-alerts")
            assert summaries(it) == [":cyclone: STORM airflow: 90 groups of alerts, 90 fire"]
            assert first.posted - EPOCH <= 2 and not first.edited
            assert len(others) == 10
            assert all("CRITICAL" in other.content["text"] for other in others)
            assert STORM_ACTIVE.labels("data")._value.get() == 1
            for number in range(84):
                await tell(it, [number] if number % 10 else [], "")
                await asyncio.sleep(1)
            assert 10 <= len(first.versions) <= 18, "an edit per five seconds"
            assert summaries(it) == [":cyclone: STORM airflow: 90 groups of alerts, 15 fire"]
            await tell(it, range(84, 95), "")
            await asyncio.sleep(30)
            assert summaries(it) == [":large_green_circle: STORM OVER airflow: 90 groups of alerts, 5 still fire"]
            assert sorted(re.findall(r"group (\d+)", text)[0] for text in it.texts()[11:]) == [
                f"{number:03}" for number in range(95, 100)
            ]
            assert STORM_ACTIVE.labels("data")._value.get() == 0
            await tell(it, range(95, 100), "")
            await it.settled()
            assert sum("RESOLVED" in text for text in it.texts()) == 5 + 1, "these, and a critical one"
            assert await it.state.run(lambda db: db.execute("SELECT count(*) FROM router_stormy").fetchone()) == (0,)

    run(main())


def test_what_is_critical_by_another_name(tmp_path: Path) -> None:
    """It has its own message, and comes first."""

    async def main() -> None:
        async with delivering(tmp_path, storm=10, started=False) as it:
            await tell(it, range(40))
            for number, severity in enumerate(("critical", "Critical", "page"), 40):
                await tell(it, [number], severity=severity)
            async with it.running():
                await asyncio.sleep(30)
                assert [re.findall(r"group (04\d)", text)[0] for text in it.texts()[1:]] == ["040", "041", "042"]

    run(main())


def test_a_storm_that_stays(tmp_path: Path) -> None:
    """Where hardly a group joins, it is over though all fire; each of them has a message only once it changes."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            for number in range(100, 104):
                await tell(it, [number], "a", "data")
                await asyncio.sleep(60)
            assert summaries(it) == [":cyclone: STORM airflow: 94 groups of alerts, 94 fire"]
            await asyncio.sleep(60)
            assert summaries(it) == [":large_orange_circle: STORM OVER airflow: 94 groups of alerts, 94 still fire"]
            assert "once it changes" in it.texts()[0]
            assert STORM_ACTIVE.labels("data")._value.get() == 0
            assert await it.state.run(lambda db: db.execute("SELECT count(*) FROM router_stormy").fetchone()) == (0,)
            await tell(it, [1, 2], "a", "data")
            await tell(it, [3, 4], "")
            await it.settled()
            assert len(it.texts()) == 11, "they are told again, or resolved"
            await tell(it, [104], "a", "data")
            await tell(it, [5], "ab", "data")
            await tell(it, [3], "a", "data")
            await it.settled()
            assert [re.findall(r"group (\d+)", text)[0] for text in it.texts()[11:]] == ["104", "005", "003"]

    run(main())


def test_few_that_stay(tmp_path: Path) -> None:
    """No more than make a storm, though more than half as many: each has its own message when hardly a group joins."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            await tell(it, (number for number in range(91) if number % 10), "")
            await asyncio.sleep(60)
            assert summaries(it) == [":cyclone: STORM airflow: 90 groups of alerts, 9 fire"]
            await asyncio.sleep(300)
            assert summaries(it) == [":large_green_circle: STORM OVER airflow: 90 groups of alerts, 9 still fire"]
            assert len(it.texts()) == 1 + 10 + 9

    run(main())


def test_a_storm_that_grows(tmp_path: Path) -> None:
    """More than half as many groups as it takes for a storm join in any five minutes: it goes on."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            for number in range(100, 130):
                await tell(it, [number], "a", "data")
                await asyncio.sleep(40)
            assert summaries(it) == [":cyclone: STORM airflow: 120 groups of alerts, 120 fire"]
            assert len(it.texts()) == 11

    run(main())


def test_a_group_that_joins_at_the_end(tmp_path: Path) -> None:
    """What comes while Slack is told that it is over is told, too."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            it.slack.order(Order(delay=5, method="chat.update"))
            await asyncio.sleep(272)
            await tell(it, [100], "a", "data")
            await asyncio.sleep(5)
            assert "STORM OVER airflow: 90 groups of alerts, 90 still fire" in summaries(it)[0]
            await asyncio.sleep(20)
            assert "STORM OVER airflow: 91 groups of alerts, 91 still fire" in summaries(it)[0]

    run(main())


def test_a_storm_while_slack_is_away(tmp_path: Path) -> None:
    """However long ago it was, it is told as one, with its mention, before it is over."""

    async def main() -> None:
        async with delivering(tmp_path, storm=10, started=False) as it:
            await tell(it, range(50))
            it.slack.order(Order(status=503, times=0))
            async with it.running():
                await asyncio.sleep(1200)
                it.slack.orders.clear()
                await asyncio.sleep(60)
            first, *_, last = (str(it.content["text"]) for it in it.slack.messages("data-alerts")[0].versions)
            assert first == ":cyclone: STORM airflow: 50 groups of alerts, 50 fire  <@U1>"
            assert last == ":large_orange_circle: STORM OVER airflow: 50 groups of alerts, 50 still fire"

    run(main())


def test_what_is_no_storm(tmp_path: Path) -> None:
    """As many groups as are allowed, critical ones, groups of any size, and news of what is shown already."""

    async def main() -> None:
        async with delivering(tmp_path, storm=10, started=False) as it:
            await tell(it, range(10), "abcdefgh")
            await tell(it, range(100, 130), "a", severity="critical")
            async with it.running():
                await it.settled()
                await tell(it, range(10), "ab")
                await tell(it, range(100, 130), "ab", severity="critical")
                await it.settled()
            assert summaries(it) == []
            assert len(it.texts()) == 40

    run(main())


def test_a_group_that_becomes_critical(tmp_path: Path) -> None:
    """It gets its own message at once, and the summary counts it no more."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            await tell(it, [7], "ab", severity="critical")
            await asyncio.sleep(8)
            assert "group 007" in it.texts()[-1]
            assert summaries(it) == [":cyclone: STORM airflow: 89 groups of alerts, 89 fire"]

    run(main())


@pytest.mark.parametrize("stored", [True, False], ids=["it arrived", "it did not arrive"])
def test_a_storm_survives_a_kill(tmp_path: Path, stored: bool) -> None:
    """Also while its summary is under way, which is there once."""

    async def main() -> None:
        async with delivering(tmp_path, storm=10, started=False) as it:
            await tell(it, range(50))
            it.slack.order(Order(cut=True, stored=stored, delay=1e6))
            task = asyncio.create_task(it.dispatcher.run())
            await asyncio.sleep(3)
            task.cancel()
            await asyncio.wait([task])
            await it.die()
            await tell(it, range(10), "")
            async with it.running():
                await asyncio.sleep(20)
                assert summaries(it) == [":cyclone: STORM airflow: 50 groups of alerts, 40 fire  <@U1>"]
                await tell(it, range(50), "")
                await asyncio.sleep(10)
            assert len(it.texts()) == 1 and "STORM OVER" in it.texts()[0]

    run(main())


def test_a_summary_that_may_be_there(tmp_path: Path) -> None:
    """Where Slack cannot be asked, the second one says that it may be a repeat, and mentions nobody."""

    async def main() -> None:
        async with delivering(tmp_path, storm=10, started=False) as it:
            it.use_token(it.slack.grant("chat:write"))
            await tell(it, range(50))
            it.slack.order(Order(cut=True, stored=True))
            async with it.running():
                await asyncio.sleep(30)
                assert ["<@U1>" in text for text in summaries(it)] == [True, False]
                assert ["possible repeat" in text for text in it.texts()] == [False, True]
                await tell(it, [1], "")
                await asyncio.sleep(10)
                assert "49 fire  <@U1>" in summaries(it)[1]

    run(main())


@pytest.mark.parametrize("code", ["message_not_found", "cant_update_message"])
def test_a_summary_that_cannot_be_changed(tmp_path: Path, code: str) -> None:
    """Another one takes its place."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            it.slack.order(Order(error=code, method="chat.update"))
            await tell(it, [1], "")
            await asyncio.sleep(15)
            assert ["90 fire" in text for text in summaries(it)] == [True, False]

    run(main())


def test_slack_fails_in_a_storm(tmp_path: Path) -> None:
    """It is asked less and less often, and is told when it is back."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            it.slack.order(Order(status=503, times=0))
            await tell(it, range(1, 10), "")
            asked = len(it.slack.requests)
            await asyncio.sleep(600)
            assert len(it.slack.requests) - asked < 30
            it.slack.orders.clear()
            await tell(it, range(200, 206), "a", "data")
            await asyncio.sleep(40)
            assert summaries(it) == [":cyclone: STORM airflow: 96 groups of alerts, 87 fire"]
            it.slack.order(Order(error="invalid_blocks", method="chat.update", times=0))
            await tell(it, [11], "")
            asked = len(it.slack.requests)
            await asyncio.sleep(60)
            assert len(it.slack.requests) - asked == 1
            await asyncio.sleep(600)
            assert len(it.slack.requests) - asked == 2, "and that it is over"
            await tell(it, [300], "a", "data")
            await it.settled()
            assert "group 300" in it.texts()[-1]

    run(main())


def test_a_destination_that_refuses_in_a_storm(tmp_path: Path) -> None:
    """Its fallback has the storm, and all of it."""

    def destinations(slack: Workspace) -> dict[str, Any]:
        data, ops = (slack.channel(name).id for name in ("data-alerts", "ops"))
        return {"data": {"channel": data, "fallback": "ops"}, "ops": {"channel": ops}}

    async def main() -> None:
        async with storming(tmp_path, destinations=destinations) as it:
            it.slack.channel("data-alerts").archived = True
            await tell(it, [101], "a", "data")
            await asyncio.sleep(60)
            assert summaries(it, "ops") == [":cyclone: STORM airflow: 91 groups of alerts, 91 fire"]
            for minute in range(10):
                await tell(it, range(200 + 10 * minute, 210 + 10 * minute), "a", "data")
                await asyncio.sleep(60)
            (summary,) = summaries(it, "ops")
            assert int(re.findall(r":cyclone: STORM airflow: (\d+)", summary)[0]) > 150

    run(main())


def test_an_incoming_webhook_in_a_storm(tmp_path: Path) -> None:
    """Its summary cannot be edited: another is posted each five minutes, while there is something new."""

    async def main() -> None:
        async with storming(tmp_path, to="ops") as it:
            for number in range(1, 61):
                await tell(it, [number], "", "ops")
                await tell(it, [100 + number], "a", "ops")
                await asyncio.sleep(10)
            await asyncio.sleep(900)
            assert 3 <= len(summaries(it, "ops")) <= 5
            assert "STORM OVER airflow: 150 groups of alerts, 96 still fire" in summaries(it, "ops")[-1]

    run(main())


def test_a_storm_that_is_configured_away(tmp_path: Path) -> None:
    """Each group has its own message from then on."""

    async def main() -> None:
        async with storming(tmp_path, groups=40) as it:
            it.configure(storm={"groups": 0})
            await asyncio.sleep(5)
            await it.settled()
            assert sum("STORM" not in text for text in it.texts()) == 40

    run(main())


def test_a_destination_that_is_gone_in_a_storm(tmp_path: Path) -> None:
    """What nobody was told is a dead letter."""

    async def main() -> None:
        async with storming(tmp_path, groups=40) as it:
            it.configure(destinations={"ops": {"webhook_url": it.slack.webhook_url("ops")}})
            await asyncio.sleep(5)
            assert len(await it.state.run(store.dead_letters)) == 36
            assert (await it.state.run(partial(store.survey, now=clock()))).keys() == {"data"}

    run(main())


def test_what_is_forgotten_is_not_counted(tmp_path: Path) -> None:
    """A group of which nothing was heard for a month is no part of the storm any more."""

    async def main() -> None:
        async with storming(tmp_path) as it:
            await it.state.run(partial(store.prune, now=clock() + 31 * 86400.0))
            await asyncio.sleep(10)
            assert "STORM OVER airflow: 0 groups" in summaries(it)[0]

    run(main())


@pytest.mark.parametrize(("ends", "own"), [(True, True), (True, False), (False, False)])
def test_a_summary_is_within_the_limits(ends: bool, own: bool) -> None:
    """Whatever the groups are called, and nobody is called by that."""
    names = [Count(f"<!channel> {number} " + "&`x" * 300, 10**6, 10**6) for number in range(10)]
    kinds = {"alertname": names, "dag_id": names, "severity": names}
    body = render_summary(
        Storm("data", EPOCH, None, None, None, "<@U1>", ends, own, 0, ends, Count("", 10**6, 10**6), kinds),
        "<!here>",
        EPOCH + 90,
    )
    assert violations(body) == []
    assert "<!here>" not in str(body) and "<!channel>" not in str(body)
    assert ("<@U1>" in str(body["text"])) == (not ends)
