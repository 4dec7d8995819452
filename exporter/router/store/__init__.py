"""The router's part of the state file; every function is for `State.run`."""

from __future__ import annotations

from .dead_letters import DeadLetter, dead_letters, drop, retry
from .inbox import HOLD, accept
from .outbox import LONGEST, Claim, May, Waiting, bury, claim, divert, give_up, hurry, prune, put, shown, survey
from .tables import HELD, LIFE, TABLES
from .thread import claim_line, told, untold
from .turns import STABLE

__all__ = [
    "HELD",
    "HOLD",
    "LIFE",
    "LONGEST",
    "STABLE",
    "TABLES",
    "Claim",
    "DeadLetter",
    "May",
    "Waiting",
    "accept",
    "bury",
    "claim",
    "claim_line",
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
    "told",
    "untold",
]
