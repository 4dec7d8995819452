"""Slack's markup out of data: cleaned and escaped, so that no data can mention, link or hide anything.

Lengths are UTF-16 units, the strictest way to count characters but for bytes.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import quote

MAX_URL = 1000
_CUT = re.compile(r"(?:<[^<>]*|&[a-z]{0,4})\Z")
_BLANK = re.compile(r"[^\S\n]")
_FENCE = re.compile("`{3,}")
_TICK = "\N{MODIFIER LETTER GRAVE ACCENT}"  # looks like a backtick, and ends no code
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def length(text: str) -> int:
    """How long Slack may find this text."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def clip(text: str, limit: int) -> str:
    """At most `limit` long, with no link and no entity cut in two."""
    if length(text) <= limit:
        return text
    kept = text.encode("utf-16-le", "surrogatepass")[: 2 * (limit - 1)].decode("utf-16-le", "ignore")
    return f"{_CUT.sub('', kept).rstrip()}…"


def escape(text: str) -> str:
    """Data that Slack shows as it is, without control, bidirectional and invisible characters and fences of code."""
    return _FENCE.sub(3 * _TICK, _clean(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def prose(text: str, limit: int) -> str:
    """Data that may have several lines; those that are empty are left out."""
    lines = (line.rstrip() for line in escape(text[: 2 * limit]).splitlines())
    return clip("\n".join(line for line in lines if line).strip(), limit)


def line(text: str, limit: int) -> str:
    """Data on one line."""
    return clip(" ".join(escape(text[: 2 * limit]).split()), limit)


def code(text: str, limit: int = 80) -> str:
    """A name from data, in the type of code, where no sign but the backtick changes; nothing for a blank one."""
    name = line(text.replace("`", _TICK), limit - 2)
    return f"`{name}`" if name else ""


def link(url: str, label: str) -> str:
    """A link if this is the address of a web page and not too long, else nothing."""
    url = escape(quote(_clean(url).strip(), safe="!#$%&'()*+,/:;=?@[]~")) if len(url) <= MAX_URL else ""
    if len(url) > MAX_URL or not re.match(r"https?://[\w\[]", url, re.ASCII | re.IGNORECASE):
        return ""
    return f"<{url}|{line(label, 60).replace('|', '¦')}>"


def utc(when: float) -> str:
    """A unix time as text; nothing for one that no clock shows."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC") if 0 < when < 2**32 else ""


def date(when: float) -> str:
    """A unix time, which Slack shows in the time zone of who reads it."""
    text = utc(when)
    return f"<!date^{when:.0f}^{{date_short_pretty}} at {{time}}|{text}>" if text else ""


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    rest, parts = round(seconds) if 0 < seconds < 1e10 else 0, []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _clean(text: str) -> str:
    if text.isprintable():
        return text
    lines = _BLANK.sub(" ", text).split("\n")
    return "\n".join("".join(filter(str.isprintable, line)) for line in lines)
