"""Slack's mrkdwn as HTML in which nothing of the text is markup: what is not understood is shown as it came."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from markupsafe import Markup, escape

_PIECE = re.compile(r"```\n?(?P<block>.+?)\n?```\n?|`(?P<code>[^`\n]+)`|<(?P<token>[^<>\n]+)>", re.DOTALL)
_TOKEN = re.compile(r"<([^<>\n]+)>")
_DATE = re.compile(r"!date\^(-?\d{1,11})\^([^^|]*)(?:\^([^|]*))?\|(.*)")
_MENTION = re.compile(r"([@#!])(?:subteam\^)?(\w+)")
_LINK = re.compile(r"(?:https?://|mailto:)[^|\s]+", re.IGNORECASE)
_EMPHASIS = (
    (re.compile(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])"), r"<b>\1</b>"),
    (re.compile(r"(?<![\w_])_(?=\S)([^_\n]+?)(?<=\S)_(?![\w_])"), r"<i>\1</i>"),
    (re.compile(r"(?<![\w~])~(?=\S)([^~\n]+?)(?<=\S)~(?![\w~])"), r"<s>\1</s>"),
)
_QUOTE = re.compile(r"(?:^&gt; ?[^\n]*\n?)+", re.MULTILINE)
_EMOJI = re.compile(r":([a-z0-9_+-]+):")
_KEPT = re.compile("\ue000(\\d+)\ue001")
_PRIVATE = str.maketrans("", "", "\ue000\ue001")

EMOJI = {
    "bell": "🔔",
    "cyclone": "🌀",
    "fire": "🔥",
    "hourglass_flowing_sand": "⏳",
    "large_blue_circle": "🔵",
    "large_green_circle": "🟢",
    "large_orange_circle": "🟠",
    "large_yellow_circle": "🟡",
    "no_bell": "🔕",
    "red_circle": "🔴",
    "repeat": "🔁",
    "rotating_light": "🚨",
    "warning": "⚠️",
    "white_check_mark": "✅",
    "white_circle": "⚪",
    "x": "❌",
}
"""Those that are drawn; others are shown by their names."""

_DAY_WORDS = {-1: "Yesterday", 0: "Today", 1: "Tomorrow"}


def to_html(text: str, now: datetime) -> Markup:
    """A text of type mrkdwn; dates are told in the time zone of `now`."""
    kept: list[Markup] = []

    def keep(piece: re.Match[str]) -> str:
        kept.append(_piece(piece, now))
        return f"\ue000{len(kept) - 1}\ue001"

    html = str(escape(_emojis(_plain(_PIECE.sub(keep, text.translate(_PRIVATE))))))
    for pattern, tags in _EMPHASIS:
        html = pattern.sub(tags, html)
    html = _QUOTE.sub(_quoted, html)
    return Markup(_KEPT.sub(lambda match: str(kept[int(match[1])]), html))  # noqa: S704 - it has been escaped


def plain(text: str) -> str:
    """A text of type plain_text, of which only emojis and the three escapes mean something."""
    return _emojis(_plain(text))


def _plain(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _emojis(text: str) -> str:
    return _EMOJI.sub(lambda match: EMOJI.get(match[1], match[0]), text)


def _quoted(match: re.Match[str]) -> str:
    lines = [line.removeprefix("&gt;").removeprefix(" ") for line in match[0].splitlines()]
    return "<blockquote>{}</blockquote>".format("\n".join(lines))


def _piece(piece: re.Match[str], now: datetime) -> Markup:
    if piece["block"]:
        return Markup("<pre>{}</pre>").format(_verbatim(piece["block"], now))
    if piece["code"]:
        return Markup("<code>{}</code>").format(_verbatim(piece["code"], now))
    return _token(piece["token"], now)


def _verbatim(code: str, now: datetime) -> Markup:
    """Code, in which nothing but angle brackets means something."""
    parts = _TOKEN.split(code)
    return Markup("").join(_token(part, now) if index % 2 else _plain(part) for index, part in enumerate(parts))


def _token(inside: str, now: datetime) -> Markup:
    """What stands between angle brackets."""
    target, _, label = inside.partition("|")
    if date := _DATE.fullmatch(inside):
        return _date(date, now)
    if mention := _MENTION.fullmatch(target):
        kind, name = mention[1], label.lstrip("@#") or mention[2]
        shown = f"{'#' if kind == '#' else '@'}{_plain(name)}"
        return Markup('<span class="mention{}">{}</span>').format(" loud" if kind == "!" else "", shown)
    if _LINK.fullmatch(target):
        inner = re.fullmatch("`([^`]+)`", label)
        shown = Markup("<code>{}</code>").format(_plain(inner[1])) if inner else _emojis(_plain(label or target))
        return Markup('<a href="{}">{}</a>').format(_plain(target), shown)
    return escape(_plain(f"<{inside}>"))


def _date(match: re.Match[str], now: datetime) -> Markup:
    epoch, form, link, fallback = match.groups()
    try:
        then = datetime.fromtimestamp(int(epoch), now.tzinfo)
    except (OverflowError, ValueError):
        return escape(_plain(fallback))
    shown = _FIELD.sub(lambda field: _FIELDS[field[1]](then, now), _plain(form))
    shown = shown[:1].upper() + shown[1:]
    html = Markup('<time title="{}">{}</time>').format(_plain(fallback), shown)
    return Markup('<a href="{}">{}</a>').format(_plain(link), html) if link and _LINK.fullmatch(link) else html


def _day(form: str) -> Callable[[datetime, datetime], str]:
    """A date by this format; where that is all, as Slack's `_pretty` ones do, by a word if it is near."""
    return lambda then, _now: f"{then:{form}}".replace(" 0", " ")


def _near(form: str) -> Callable[[datetime, datetime], str]:
    exact = _day(form)
    return lambda then, now: _DAY_WORDS.get((then.date() - now.date()).days, "").lower() or exact(then, now)


def _ago(then: datetime, now: datetime) -> str:
    seconds = (now - then).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if abs(seconds) >= length:
            count = round(abs(seconds) / length)
            return f"{count} {unit}{'s' * (count > 1)} {'ago' if seconds > 0 else 'from now'}"
    return "just now"


_FIELDS: dict[str, Callable[[datetime, datetime], str]] = {
    "date_num": _day("%Y-%m-%d"),
    "date": _day("%B %d, %Y"),
    "date_short": _day("%b %d, %Y"),
    "date_long": _day("%A, %B %d, %Y"),
    "date_pretty": _near("%B %d, %Y"),
    "date_short_pretty": _near("%b %d, %Y"),
    "date_long_pretty": _near("%A, %B %d, %Y"),
    "time": _day("%H:%M"),
    "time_secs": _day("%H:%M:%S"),
    "ago": _ago,
}
_FIELD = re.compile(r"\{(" + "|".join(_FIELDS) + r")\}")
