"""The router's part of the state file; every function is for `State.run`."""

from __future__ import annotations

from .dead_letters import DeadLetter, dead_letters, drop, retry
from .groups import amend, known, newest, unfinished
from .heard import AWAY, GAP, SENDER, SIGN, WATCHDOG, forget, hear, heard, live
from .inbox import HOLD, accept
from .outbox import LONGEST, Claim, May, Waiting, bury, claim, divert, give_up, hurry, prune, put, shown, survey
from .storm import Storm, due, noted, release, summarised, watch
from .tables import FORMATS
from .thread import claim_line, told, untold
from .turns import STABLE
