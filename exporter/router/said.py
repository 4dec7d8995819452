"""A message in its sender's own words, for an incoming webhook of Slack's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

import msgspec

from .markup import clip
from .model import Malformed, Snapshot

BLOCKS, ATTACHMENTS = 50, 100
"""How many Slack takes."""

_CONTENT = {"text": "invalid_payload", "blocks": "invalid_blocks_format", "attachments": "invalid_attachments"}
"""What a message consists of, and what Slack says where it is of the wrong type."""
_OPTIONS = ("link_names", "mrkdwn", "parse", "unfurl_links", "unfurl_media")
_WORDS = frozenset({"alt_text", "fallback", "pretext", "text", "title", "value"})
_DEPTH, _FIELDS = 32, 64


def parse_said(body: bytes | bytearray, destination: str, now: float) -> Snapshot:
    """The snapshot of a message in JSON, or in a form's `payload`; raises Malformed, whose text is Slack's code."""
    try:
        payload = msgspec.json.decode(_json(body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Malformed("invalid_payload") from None
    if not isinstance(payload, dict) or _is_deep(payload, _DEPTH):
        raise Malformed("invalid_payload")
    said = {name: payload[name] for name in _CONTENT if payload.get(name) not in (None, "", [])}
    if not said:
        raise Malformed("no_text")
    _check(said)
    said |= {name: payload[name] for name in _OPTIONS if isinstance(payload.get(name), bool | int | str)}
    key = sha256(msgspec.json.encode(said, order="sorted")).hexdigest()
    return Snapshot(source="slack", receiver=destination, key=key, said=said, received=now)


def worded(said: dict[str, Any], marks: Sequence[str], limit: int | None) -> dict[str, object]:
    """What to post: all of it as it is, or its words alone within a limit; marks are added."""
    if limit is not None:
        return {"text": "\n".join((clip("\n".join(words(said)), limit) or "A message without words.", *marks))}
    if not marks:
        return said
    context = {"type": "context", "elements": [{"type": "mrkdwn", "text": mark} for mark in marks]}
    return {**said, "attachments": [*said.get("attachments", ()), {"fallback": "\n".join(marks), "blocks": [context]}]}


def words(said: dict[str, Any]) -> list[str]:
    """All that it says, in the order in which it says it, each text once."""
    return [*dict.fromkeys(filter(None, map(str.strip, _texts(said))))]


def _json(body: bytes | bytearray) -> bytes | bytearray | str:
    """Not every script that posts JSON says so: what looks like it counts."""
    if body.lstrip().startswith(b"{"):
        return body
    return parse_qs(body.decode(), errors="strict", max_num_fields=_FIELDS).get("payload", [""])[0]


def _is_deep(value: object, left: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not left or any(_is_deep(item, left - 1) for item in inner)


def _check(said: dict[str, Any]) -> None:
    """What is wrong further inside, Slack says, and then a simpler form is sent."""
    for name, value in said.items():
        if not isinstance(value, str if name == "text" else list):
            raise Malformed(_CONTENT[name])
    blocks, attachments = said.get("blocks", []), said.get("attachments", [])
    if len(attachments) > ATTACHMENTS:
        raise Malformed("too_many_attachments")
    if not all(isinstance(it, dict) for it in attachments):
        raise Malformed("invalid_attachments")
    if len(blocks) > BLOCKS or not all(isinstance(it, dict) and isinstance(it.get("type"), str) for it in blocks):
        raise Malformed("invalid_blocks")


def _texts(value: object, key: str = "") -> Iterator[str]:
    if isinstance(value, str) and key in _WORDS:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        hidden = ("fallback" if value.get("text") else "", "value" if "type" in value else "")
        for name, item in value.items():
            if name not in hidden:
                yield from _texts(item, name)
