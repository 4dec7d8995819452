"""What a sender has worded himself is taken as Slack takes it, and is shown as it is, or at least in its words."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.router.incident import Incident
from exporter.router.limits import violations
from exporter.router.message import Level, render
from exporter.router.model import Malformed, Snapshot
from exporter.router.said import parse_said, words
from exporter.router.templates import Templates

SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "*etl* failed <!here>"}}


def taken(payload: object) -> Snapshot:
    """The snapshot of a message in JSON, for #ops."""
    return parse_said(json.dumps(payload).encode(), "ops", 1.0)


def shown(payload: object, level: Level = "full", *, repeat: bool = False, elsewhere: str | None = None) -> Any:
    """What is posted of it."""
    incident = Incident(taken(payload), "prod", None, "", 1.0, 1, repeat, elsewhere, "id")
    return render(incident, Templates({"headline": "never"}), level)


def test_what_is_said_is_shown_as_it_is() -> None:
    """Nothing is escaped or added; what a webhook of today's Slack disregards is left out."""
    said = {"text": "<!here> *etl*", "blocks": [SECTION], "attachments": [{"color": "good", "text": "x"}]}
    options = {"unfurl_links": False, "link_names": 1, "parse": "full"}
    ignored = {"channel": "#other", "username": "x", "icon_emoji": ":x:", "thread_ts": "1.2", "metadata": {}}
    snapshot = taken({**said, **options, **ignored})
    assert snapshot.said == {**said, **options}
    assert shown({**said, **options, **ignored}) == {**said, **options}
    assert (snapshot.source, snapshot.receiver, snapshot.status) == ("slack", "ops", "resolved")
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot


def test_a_message_is_known_by_what_it_shows() -> None:
    """The order of keys, spaces and what is disregarded make no other message; a word does."""
    one = taken({"text": "a", "blocks": [SECTION], "attachments": None})
    assert one.key == taken({"username": "x", "blocks": [dict(reversed(SECTION.items()))], "text": "a"}).key
    assert one.key != taken({"text": "b", "blocks": [SECTION]}).key


@pytest.mark.parametrize(
    "body",
    [
        b' {"text": "caf\xc3\xa9 & <x>"}',
        urlencode({"payload": '{"text": "café & <x>"}'}).encode(),
        urlencode({"channel": "#x", "payload": '{"text": "café & <x>"}'}).encode(),
    ],
)
def test_json_and_forms(body: bytes) -> None:
    """Both are read, whatever the sender calls them."""
    assert parse_said(body, "ops", 1.0).said == {"text": "café & <x>"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_payload"),
        (b"text", "invalid_payload"),
        (b"payload=", "invalid_payload"),
        (b'payload={"text": "%ff"}', "invalid_payload"),
        (b"payload=[]", "invalid_payload"),
        (b'payload="text"', "invalid_payload"),
        (b"&".join([b"a=b"] * 100), "invalid_payload"),
        (b'{"text": "a"', "invalid_payload"),
        (b'{"text": "\xe4"}', "invalid_payload"),
        (b'{"text": "\\ud800"}', "invalid_payload"),
        (b'{"text": NaN}', "invalid_payload"),
        (b'{"text": 1}', "invalid_payload"),
        (b'{"text": ["a"]}', "invalid_payload"),
        (b'{"text": "a", "x": ' + b"[" * 40 + b"]" * 40 + b"}", "invalid_payload"),
        (b'{"text": "a", "x": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "invalid_payload"),
        (b'{"text": "a", "x": ' + b"9" * 5000 + b"}", "invalid_payload"),
        (b"{}", "no_text"),
        (b'{"text": "", "blocks": [], "attachments": null}', "no_text"),
        (b'{"username": "x"}', "no_text"),
        (b'{"blocks": {}}', "invalid_blocks_format"),
        (b'{"blocks": "[]"}', "invalid_blocks_format"),
        (b'{"blocks": ["x"]}', "invalid_blocks"),
        (b'{"blocks": [{}]}', "invalid_blocks"),
        (b'{"blocks": [{"type": 1}]}', "invalid_blocks"),
        (json.dumps({"blocks": [SECTION] * 51}).encode(), "invalid_blocks"),
        (b'{"attachments": {"text": "a"}}', "invalid_attachments"),
        (b'{"attachments": ["a"]}', "invalid_attachments"),
        (json.dumps({"attachments": [{"text": "a"}] * 101}).encode(), "too_many_attachments"),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else value,
)
def test_what_slack_would_refuse(body: bytes, code: str) -> None:
    """Is refused by Slack's word for it, which has nothing of the body in it."""
    with pytest.raises(Malformed) as refused:
        parse_said(body, "ops", 1.0)
    assert str(refused.value) == code


def test_as_much_as_slack_takes() -> None:
    """Fifty blocks, a hundred attachments."""
    assert taken({"blocks": [SECTION] * 50, "attachments": [{"text": "a"}] * 100}).said


def test_simpler_forms_have_its_words() -> None:
    """All that can be read, each text once, without blocks; the values of buttons cannot be read."""
    button = {"type": "button", "text": {"type": "plain_text", "text": "Retry"}, "value": "hidden", "url": "http://x"}
    said = {
        "text": "etl failed",
        "blocks": [SECTION, {"type": "actions", "elements": [button]}, {"type": "image", "alt_text": "A chart"}],
        "attachments": [
            {
                "fallback": "etl failed: short",
                "text": "long",
                "fields": [{"title": "Try", "value": "2", "short": True}],
            },
            {"fallback": "only this", "color": "danger"},
            {"fallback": "etl failed"},
        ],
    }
    told = ["etl failed", "*etl* failed <!here>", "Retry", "A chart", "long", "Try", "2", "only this"]
    assert words(said) == told
    for level in ("compact", "plain"):
        assert shown(said, level) == {"text": "\n".join(told)}
    assert shown({"blocks": [{"type": "divider"}]}, "plain") == {"text": "A message without words."}


def test_marks_are_added() -> None:
    """A possible repeat and a fallback are told beside what was said, at each level."""
    marks = ":warning: misrouted from `data`", ":warning: possible repeat"
    full = shown({"text": "a", "attachments": [{"text": "b"}]}, repeat=True, elsewhere="data")
    assert (full["text"], full["attachments"][0], len(full["attachments"])) == ("a", {"text": "b"}, 2)
    assert [it["text"] for it in full["attachments"][1]["blocks"][0]["elements"]] == [*marks]
    assert violations(full) == []
    for level in ("compact", "plain"):
        assert shown({"text": "a"}, level, repeat=True, elsewhere="data") == {"text": "\n".join(("a", *marks))}


LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=50)
TREE = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "type", "fallback", "value", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)
MAPPING = st.dictionaries(st.sampled_from(["type", "text", "fallback", "fields", "elements"]), TREE, max_size=4)


@settings(max_examples=300)
@given(
    st.text(max_size=6000) | st.none(),
    st.lists(MAPPING.map(lambda it: {**it, "type": "section"}), max_size=3),
    st.lists(MAPPING, max_size=3),
    st.sampled_from(["compact", "plain"]),
)
def test_whatever_is_said_has_a_form_that_slack_takes(
    text: str | None, blocks: list[Any], attachments: list[Any], level: Level
) -> None:
    """With marks, too, the simpler forms are within every limit."""
    try:
        found = shown({"text": text, "blocks": blocks, "attachments": attachments}, level, repeat=True, elsewhere="x")
    except Malformed:
        return
    assert violations(found) == []
