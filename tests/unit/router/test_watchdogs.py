"""A watchdog's alert goes no further than Windsock; where it stops, that is told in time, and when it is back."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from exporter.config.router import Watchdog
from exporter.router import store, watchdogs
from exporter.router.watchdogs import parted
from exporter.telemetry import REGISTRY
from tests.delivery import Delivery, delivering, snapshot
from tests.virtual import EPOCH, clock, run

NAME = 'alertname="Watchdog"'
DOG = {"match": [NAME], "every": "5m", "grace": "2m"}
DUE = 420.0
"""Seconds after which it is missing."""
LATE = DUE + 10.0
"""Seconds within which that is to be told."""


async def hear(it: Delivery) -> None:
    """Its alert arrives."""
    await it.state.run(partial(store.hear, kind=store.WATCHDOG, names=[NAME], now=clock()))


async def at(seconds: float) -> None:
    """So long after the start."""
    await asyncio.sleep(EPOCH + seconds - clock())


def parts(*labels: dict[str, str], resolved: int = 0, **more: Any) -> tuple[set[str], list[str], int, int]:
    """What is heard of two watchdogs in a group, what is left of its alerts, and how many of these fire or do not."""
    dogs = [Watchdog.model_validate({"match": match}) for match in ([NAME], ['severity=~"no.*"', 'dog!=""'])]
    told = snapshot("etl", [f"a{n}" for n in range(len(labels) - resolved)], [f"r{n}" for n in range(resolved)], **more)
    alerts = [
        type(alert)(**{**{f: getattr(alert, f) for f in alert.__struct_fields__}, "labels": own})
        for alert, own in zip(told.alerts, labels, strict=True)
    ]
    heard, rest = parted(dogs, type(told)(**{**_fields(told), "alerts": tuple(alerts)}))
    return heard, [alert.fingerprint for alert in rest.alerts], rest.firing, rest.resolved


def _fields(told: Any) -> dict[str, Any]:
    return {field: getattr(told, field) for field in told.__struct_fields__}


def test_what_is_left_of_a_webhook() -> None:
    """Everything but the watchdogs; one that is over is not heard, and goes no further either."""
    dog, other = {"alertname": "Watchdog"}, {"alertname": "etl"}
    second = 'severity=~"no.*", dog!=""'
    assert parts(other, other) == (set(), ["a0", "a1"], 2, 0)
    assert parts(dog) == ({NAME}, [], 0, 0)
    assert parts(dog, resolved=1) == (set(), [], 0, 0)
    assert parts(other, dog, dog, other, resolved=2) == ({NAME}, ["a0", "r1"], 1, 1)
    assert parts({**dog, "severity": "none", "dog": "x"}, {**other, "severity": "none"}) == (
        {NAME, second},
        ["a1"],
        1,
        0,
    )


def test_a15_absence_is_noticed(tmp_path: Path) -> None:
    """Not before `every` and `grace` are over, and ten seconds later at most; once; and its return turns that green."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            it.configure(watchdogs=[DOG])
            for minute in range(0, 20, 5):
                await at(60 * minute)
                await hear(it)
            await at(15 * 60 + DUE - 1)
            assert it.texts() == []
            await at(15 * 60 + LATE)
            (text,) = it.texts()
            assert "CRITICAL" in text
            assert 'alertname=\\"Watchdog\\"' in text
            assert "2026-09-21 14:28 UTC" in text
            await at(2400)
            assert len(it.slack.messages("data-alerts")[0].versions) == 1
            await hear(it)
            await asyncio.sleep(10)
            (text,) = it.texts()
            assert "RESOLVED" in text
            sample = 'windsock_watchdog_last_heard_timestamp_seconds{watchdog="alertname=\\"Watchdog\\""} 1.7900024e+09'
            assert sample in generate_latest(REGISTRY).decode().splitlines()

    run(main())


def test_a15_one_that_was_never_heard(tmp_path: Path) -> None:
    """It is missing as if it had been heard when it was configured; no longer when it is not configured any more."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            await at(100)
            it.configure(watchdogs=[DOG])
            await at(100 + DUE - 1)
            assert it.texts() == []
            await at(100 + LATE + 1)
            assert len(it.texts()) == 1
            it.configure(watchdogs=[])
            await asyncio.sleep(10)
            assert "RESOLVED" in it.texts()[0]
            it.configure(watchdogs=[DOG])
            await asyncio.sleep(DUE - 10)
            assert len(it.texts()) == 1

    run(main())


@pytest.mark.parametrize(("down", "due"), [(30.0, DUE), (59.0, DUE), (900.0, 900.0 + DUE)])
def test_a15_across_a_restart(tmp_path: Path, down: float, due: float) -> None:
    """A restart changes nothing; time in which Windsock was down, and could hear nobody, does not count."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            it.configure(watchdogs=[DOG])
            async with it.running():
                await at(10)
                await hear(it)
                await at(300)
            await it.die()
            await asyncio.sleep(down)
            async with it.running():
                await at(10 + due - 1)
                assert it.texts() == []
                await at(10 + due + 10 + store.SIGN * (down > store.AWAY))
                assert len(it.texts()) == 1
            await it.die()
            async with it.running():
                await asyncio.sleep(600)
                assert len(it.slack.messages("data-alerts")[0].versions) == 1

    run(main())


def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """Nobody was heard in the future: it was now."""

    async def main() -> None:
        async with delivering(tmp_path) as it:
            ahead = partial(store.hear, kind=store.WATCHDOG, names=[NAME], now=clock() + 1e6)
            await it.state.run(ahead)
            look = partial(watchdogs.look, config=it.config.model_copy(update={"watchdogs": ()}), now=clock())
            it.configure(watchdogs=[DOG])
            await asyncio.sleep(LATE + 1)
            assert len(it.texts()) == 1
            assert await it.state.run(look) == {}

    run(main())
