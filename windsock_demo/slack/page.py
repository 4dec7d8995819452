"""The page that draws a channel's messages as Slack would: one file, no script, everything from data escaped."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from . import mrkdwn
from .workspace import Channel, Workspace

SHOWN, REPLIES = 50, 20
"""How many messages of a channel, and of a thread, are drawn, the newest ones."""
REFRESH = 2
"""Seconds after which the browser asks again."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
}

_COLORS = {"good": "#2eb886", "warning": "#daa038", "danger": "#a30200"}


def render(workspace: Workspace, channel: str) -> str:
    """The page of the channel with this id or, without one, of the channel with the newest message."""
    now = datetime.fromtimestamp(workspace.clock()).astimezone()
    chosen = workspace.channels.get(channel) or max(workspace.channels.values(), key=_newest)
    threads = defaultdict(list)
    for message in chosen.messages.values():
        threads[message.thread].append(message)
    return _TEMPLATE.render(
        channels=workspace.channels.values(),
        channel=chosen,
        messages=workspace.messages(chosen.id)[-SHOWN:],
        threads=threads,
        replies=REPLIES,
        now=now,
        refresh=REFRESH,
    )


def _newest(channel: Channel) -> str:
    return next(reversed(channel.messages), "")


def _text(part: Any, now: datetime) -> Markup:
    """A text object, or a bare string, which is mrkdwn."""
    if not isinstance(part, dict):
        return mrkdwn.to_html(str(part), now)
    text = str(part.get("text", ""))
    return mrkdwn.to_html(text, now) if part.get("type") == "mrkdwn" else escape(mrkdwn.plain(text))


def _moment(unix_time: float, now: datetime) -> str:
    return datetime.fromtimestamp(unix_time, now.tzinfo).isoformat(" ", "seconds")


def _clock(unix_time: float, now: datetime) -> str:
    then = datetime.fromtimestamp(unix_time, now.tzinfo)
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%b %d, %H:%M}"


def _color(attachment: dict[str, Any]) -> str:
    given = str(attachment.get("color", ""))
    named = _COLORS.get(given, given if given.startswith("#") else f"#{given}")
    return named if re.fullmatch(r"#[0-9a-fA-F]{6}", named) else "#dddddd"


# Without StrictUndefined: most parts of a message may be missing.
_ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters |= {"clock": _clock, "color": _color, "moment": _moment, "slack": _text}
_TEMPLATE = _ENVIRONMENT.from_string(files(__package__).joinpath("page.html.j2").read_text("utf-8"))
