"""A look-alike of Slack, for the demo and the tests: what the API and incoming webhooks do, as far as it is known.

`async with serve() as slack` gives a running workspace; its page draws the messages. Nobody has compared it with the
real Slack: `docs/slack.md` says what it takes for granted, and how to check that against a workspace.
"""

from __future__ import annotations

from .orders import Order
from .pacing import Pace
from .server import serve
from .workspace import Message, Workspace

__all__ = ["Message", "Order", "Pace", "Workspace", "serve"]
