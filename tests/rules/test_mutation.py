"""The cases notice when a rule is changed."""

from __future__ import annotations

import faulthandler

import pytest

from .mutation import changes, survivors

pytestmark = pytest.mark.system

ONE_OF = 32
LEAST = 0.9


def test_changes_of_rules_are_noticed() -> None:
    """At least nine of ten; here of one in thirty-two, always the same ones."""
    faulthandler.cancel_dump_traceback_later()  # on a busy machine it takes longer than a test may
    chosen = [change for change in changes() if change.number % ONE_OF == 0]
    missed = survivors(chosen)
    assert len(chosen) > 30
    assert len(missed) <= len(chosen) * (1 - LEAST), [str(change) for change in missed]
