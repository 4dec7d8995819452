"""The router's part of the state file; every function is for `State.run`."""

from __future__ import annotations

from .dead_letters import DeadLetter, dead_letters, drop, retry
from .inbox import HOLD, accept
from .outbox import LONGEST, Claim, May, Waiting, bury, claim, divert, give_up, hurry, prune, put, shown, survey
from .storm import Storm, due, noted, release, summarised, watch
from .tables import HELD, LIFE, STORM, TABLES
from .thread import claim_line, told, untold
from .turns import STABLE

__all__ = [
    "HELD",
    "HOLD",
    "LIFE",
    "LONGEST",
    "STABLE",
    "STORM",
    "TABLES",
    "Claim",
    "DeadLetter",
    "May",
    "Storm",
    "Waiting",
    "accept",
    "bury",
    "claim",
    "claim_line",
    "dead_letters",
    "divert",
    "drop",
    "due",
    "give_up",
    "hurry",
    "noted",
    "prune",
    "put",
    "release",
    "retry",
    "shown",
    "summarised",
    "survey",
    "told",
    "untold",
    "watch",
]
