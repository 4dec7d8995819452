"""What Slack accepts in one message, its undocumented limit of all texts together included."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from .markup import length

TOTAL = 10_000
"""Of all texts together; Slack was seen to accept 9,597 and to refuse 11,341."""

_SIZES = tuple(
    (re.compile(pattern), limit)
    for pattern, limit in (
        (r"text", 4000),
        (r"attachments", 20),
        (r"attachments\[\d+\]\.(fallback|text)", 4000),
        (r"attachments\[\d+\]\.title", 1024),
        (r"(attachments\[\d+\]\.)?blocks", 50),
        (r".*\(header\)\.text\(plain_text\)\.text", 150),
        (r".*\(section\)\.text\(\w+\)\.text", 3000),
        (r".*\(section\)\.fields", 10),
        (r".*\(section\)\.fields\[\d+\]\(\w+\)\.text", 2000),
        (r".*\(context\)\.elements", 10),
        (r".*\(context\)\.elements\[\d+\]\(\w+\)\.text", 3000),
        (r".*\(actions\)\.elements", 25),
        (r".*\(button\)\.text\(plain_text\)\.text", 75),
        (r".*\(button\)\.url", 3000),
        (r".*\(button\)\.value", 2000),
        (r".*\.(action|block)_id", 255),
    )
)
_LISTS = frozenset({"attachments", "blocks", "elements", "fields"})
_BLOCK = re.compile(r"(attachments\[\d+\]\.)?blocks\[\d+\]")
_NEEDS: dict[str, tuple[str, ...]] = {
    "actions": ("elements",),
    "button": ("text",),
    "context": ("elements",),
    "divider": (),
    "header": ("text",),
    "mrkdwn": ("text",),
    "plain_text": ("text",),
    "section": ("text", "fields"),
}
"""By type, of which keys one must be there."""


def violations(payload: Mapping[str, Any]) -> list[str]:
    """What Slack would refuse or cut, each as `error_code: where, and why`; the code is the one that Slack answers."""
    found = [*_walk("", payload)]
    if not any(payload.get(key) for key in ("text", "attachments", "blocks")):
        found.append("no_text: neither text nor attachments nor blocks")
    if (total := sum(_texts(payload))) > TOTAL:
        found.append(f"msg_blocks_too_long: all texts together have a length of {total}, {TOTAL} are allowed")
    return found


def _walk(path: str, value: Any) -> Iterator[str]:
    """`path` has the type of each object in brackets."""
    kind = str(value.get("type", "")) if isinstance(value, Mapping) else ""
    if problem := _size(path, value):
        yield f"{_code(path)}: {path} {problem}"
    if _BLOCK.fullmatch(path) and kind not in _NEEDS:
        yield f"{_code(path)}: {path} is of an unknown type"
    if (needs := _NEEDS.get(kind)) and not any(key in value for key in needs):
        yield f"{_code(path)}: {path}({kind}) has no {' or '.join(needs)}"
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(f"{path}({kind}).{key}" if kind else f"{path}.{key}".lstrip("."), item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(f"{path}[{index}]", item)


@lru_cache(1024)
def _limit(path: str) -> int | None:
    return next((limit for pattern, limit in _SIZES if pattern.fullmatch(path)), None)


def _size(path: str, value: Any) -> str:
    limit = _limit(path)
    if limit is None:
        return "does not belong there" if path.endswith(").text") and isinstance(value, str) else ""
    key = path.rpartition(".")[2]
    if not isinstance(value, list | tuple if key in _LISTS else str):
        return f"is no {'list' if key in _LISTS else 'text'}"
    size = length(value) if isinstance(value, str) else len(value)
    if not size and path != "text" and key not in ("attachments", "blocks"):
        return "is empty"
    return f"has a length of {size}, {limit} are allowed" if size > limit else ""


def _code(path: str) -> str:
    if path == "text":
        return "msg_too_long"
    if path == "attachments":
        return "too_many_attachments"
    return "invalid_attachments" if path.startswith("attachments") else "invalid_blocks"


def _texts(value: Any, key: str = "") -> Iterator[int]:
    """The lengths of all that Slack shows, and of the links in it."""
    if isinstance(value, str):
        yield length(value) if key in ("text", "fallback", "title") else 0
    elif isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _texts(item, inner)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
