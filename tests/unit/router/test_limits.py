"""Every limit of Slack's is found out where it is broken, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.router.limits import violations


def mrkdwn(text: str) -> dict[str, Any]:
    """A text object."""
    return {"type": "mrkdwn", "text": text}


def plain(text: str) -> dict[str, Any]:
    """A text object without markup."""
    return {"type": "plain_text", "text": text}


def attached(*blocks: Any, **more: Any) -> dict[str, Any]:
    """A message with these blocks in its attachment."""
    return {"text": "x", "attachments": [{"color": "#123456", "fallback": "x", "blocks": [*blocks]} | more]}


def header(text: str) -> dict[str, Any]:
    """A header."""
    return {"type": "header", "text": plain(text)}


def section(text: str) -> dict[str, Any]:
    """A section."""
    return {"type": "section", "text": mrkdwn(text)}


def fields(*texts: str) -> dict[str, Any]:
    """A section of fields."""
    return {"type": "section", "fields": [mrkdwn(text) for text in texts]}


def context(*texts: str) -> dict[str, Any]:
    """A context."""
    return {"type": "context", "elements": [mrkdwn(text) for text in texts]}


def buttons(count: int = 1, **more: Any) -> dict[str, Any]:
    """Actions."""
    return {"type": "actions", "elements": count * [{"type": "button", "text": plain("x")} | more]}


EMOJI = "\N{FIRE}"


@pytest.mark.parametrize(
    "payload",
    [
        {"text": "x"},
        {"text": 4000 * "x", "attachments": []},
        {"text": "", "attachments": [{"fallback": "x", "title": 1024 * "x", "text": "x"}]},
        {"blocks": [section("x")]},
        attached(header(150 * "x"), section(3000 * "x"), fields(2000 * "x", *9 * "x"), context(3000 * "x", *9 * "x")),
        attached(buttons(25), buttons(url=3000 * "x", value=2000 * "x", action_id=255 * "x"), {"type": "divider"}),
        attached(*50 * [section("x")]),
        attached(section(1500 * EMOJI)),
        {"text": 4000 * "x", "attachments": [{"fallback": 3000 * "x", "blocks": [section(3000 * "x")]}]},
    ],
    ids=range(9),
)
def test_what_slack_takes(payload: dict[str, Any]) -> None:
    """As long as a text may be, and as many as there may be."""
    assert violations(payload) == []


@pytest.mark.parametrize(
    ("payload", "code", "where"),
    [
        ({}, "no_text", "neither"),
        ({"text": "", "attachments": []}, "no_text", "neither"),
        ({"text": 4001 * "x"}, "msg_too_long", "text has a length of 4001, 4000 are allowed"),
        ({"text": "x", "attachments": 21 * [{"fallback": "x"}]}, "too_many_attachments", "a length of 21"),
        (attached(title=1025 * "x"), "invalid_attachments", "title"),
        (attached(header(151 * "x")), "invalid_attachments", "attachments[0].blocks[0](header).text(plain_text).text"),
        (attached(header("")), "invalid_attachments", "is empty"),
        (attached({"type": "header", "text": mrkdwn("x")}), "invalid_attachments", "does not belong there"),
        (attached({"type": "header"}), "invalid_attachments", "has no text"),
        (attached(section(3001 * "x")), "invalid_attachments", "3001"),
        (attached(section(1501 * EMOJI)), "invalid_attachments", "3002"),
        (attached(section("")), "invalid_attachments", "is empty"),
        (attached({"type": "section"}), "invalid_attachments", "has no text or fields"),
        (attached(fields(*11 * "x")), "invalid_attachments", "(section).fields has a length of 11"),
        (attached(fields(2001 * "x")), "invalid_attachments", "2001"),
        (attached(fields()), "invalid_attachments", "(section).fields is empty"),
        (attached(context(*11 * "x")), "invalid_attachments", "(context).elements has a length of 11"),
        (attached(context()), "invalid_attachments", "(context).elements is empty"),
        (attached(buttons(26)), "invalid_attachments", "26"),
        (attached(buttons(text=plain(76 * "x"))), "invalid_attachments", "76"),
        (attached(buttons(url=3001 * "x")), "invalid_attachments", "url"),
        (attached(buttons(value=2001 * "x")), "invalid_attachments", "value"),
        (attached(buttons(action_id=256 * "x")), "invalid_attachments", "action_id"),
        (attached({"type": "divider", "block_id": 256 * "x"}), "invalid_attachments", "block_id"),
        (attached(*51 * [section("x")]), "invalid_attachments", "51"),
        (attached({"type": "table"}), "invalid_attachments", "unknown type"),
        (attached("x"), "invalid_attachments", "unknown type"),
        ({"text": "x", "blocks": [section("")]}, "invalid_blocks", "blocks[0](section)"),
        ({"text": "x", "blocks": "x"}, "invalid_blocks", "blocks is no list"),
        (attached(*4 * [section(2500 * "x")]), "msg_blocks_too_long", "10002"),
    ],
)
def test_what_slack_refuses(payload: dict[str, Any], code: str, where: str) -> None:
    """One too many is called by Slack's code, with the place and the reason."""
    found = violations(payload)
    assert [it.partition(":")[0] for it in found] == [code], found
    assert where in found[0]
