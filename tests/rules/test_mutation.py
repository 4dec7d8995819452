"""The cases notice when a rule is changed."""

from __future__ import annotations

import pytest

from .mutation import changes, survivors

pytestmark = pytest.mark.system

ONE_OF = 16
LEAST = 0.9


def test_changes_of_rules_are_noticed() -> None:
    """At least nine of ten; here of one in sixteen, always the same ones."""
    chosen = [change for change in changes() if change.number % ONE_OF == 0]
    missed = survivors(chosen)
    assert len(chosen) > 50
    assert len(missed) <= len(chosen) * (1 - LEAST), [str(change) for change in missed]
