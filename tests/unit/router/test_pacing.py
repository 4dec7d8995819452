"""Slack is asked no faster than it allows, in a time that leaps."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from exporter.router.pacing import Budget, Gate, now
from tests.virtual import run


def test_one_by_one() -> None:
    """Who comes while somebody else's is under way waits for its end, and for as long as it closed the gate."""
    passed: list[float] = []

    async def pass_through(gate: Gate) -> None:
        async with gate.turn():
            passed.append(now())
            await asyncio.sleep(0.5)
            gate.close(1.0)

    async def main() -> None:
        gate = Gate()
        await asyncio.gather(*(pass_through(gate) for _ in range(4)))
        await asyncio.sleep(10)
        await pass_through(gate)

    run(main())
    assert passed == [0.0, 1.5, 3.0, 4.5, 15.0]


def test_the_longest_counts() -> None:
    """A short pause does not end a long one."""

    async def main() -> float:
        gate = Gate()
        async with gate.turn():
            gate.close(30.0)
            gate.close(1.0)
        async with gate.turn():
            return now()

    assert run(main()) == 30.0


def test_who_gives_up_waiting_stops_nobody() -> None:
    """The next one passes when the gate opens."""

    async def main() -> float:
        gate = Gate()
        gate.close(30.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5), gate.turn():
                pass
        async with gate.turn():
            return now()

    assert run(main()) == 30.0


def test_a_budget() -> None:
    """Never more than that within any minute, and nothing while it is closed."""

    async def main() -> list[float]:
        budget, spent = Budget(40), list[float]()
        while now() < 300.0:
            if budget.take():
                spent.append(now())
                if len(spent) == 100:
                    budget.close(90.0)
            await asyncio.sleep(0.75)
        return spent

    spent = run(main())
    assert max(sum(start <= when < start + 60 for when in spent) for start in spent) == 40
    assert max(after - before for before, after in pairwise(spent)) == pytest.approx(90, abs=0.75)
    assert len(spent) > 120
