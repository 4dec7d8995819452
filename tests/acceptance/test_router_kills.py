"""What was acknowledged is on disk and in Slack, whatever the daemon died of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.webhooks import killed


@pytest.mark.system
@pytest.mark.parametrize(("deaths", "seconds", "history"), [(3, 0.6, True), (20, 0.8, False)])
async def test_a2_a3_killed_under_load(tmp_path: Path, deaths: int, seconds: float, history: bool) -> None:
    """Nothing is lost; what was under way comes twice at most once per death, and never where Slack may be asked."""
    found = await killed(tmp_path, deaths, seconds, history=history)
    assert found.acknowledged > 20 * deaths
    assert (found.lost, found.missing) == ([], [])
    assert found.messages > deaths
    assert found.repeats <= found.marked <= (0 if history else deaths)
