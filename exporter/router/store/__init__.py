"""The router's part of the state file; every function is for `State.run`."""

from __future__ import annotations

from .dead_letters import DeadLetter, dead_letters, drop, retry
from .inbox import HOLD, accept
from .outbox import LONGEST, Claim, May, Waiting, bury, claim, divert, give_up, hurry, prune, put, shown, survey
from .tables import HELD, TABLES

__all__ = [
    "HELD",
    "HOLD",
    "LONGEST",
    "TABLES",
    "Claim",
    "DeadLetter",
    "May",
    "Waiting",
    "accept",
    "bury",
    "claim",
    "dead_letters",
    "divert",
    "drop",
    "give_up",
    "hurry",
    "prune",
    "put",
    "retry",
    "shown",
    "survey",
]
