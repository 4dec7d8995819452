"""The look-alike of Slack without HTTP: its pace, its bounds, and its page."""

from __future__ import annotations

from typing import Any

import pytest

from windsock_demo.slack import Pace, Workspace
from windsock_demo.slack.pacing import Gate
from windsock_demo.slack.page import render

APP = "B0WINDSOCK"


class Clock:
    """A time that passes only when told."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_channel_takes_a_message_per_second_and_short_bursts() -> None:
    """At most four at once, then one for each second that has passed; each channel by itself."""
    clock = Clock()
    gate = Gate(Pace(), clock)
    assert [gate.wait("chat.postMessage", "ops") for _ in range(5)] == [0, 0, 0, 0, 1]
    assert gate.wait("chat.postMessage", "other") == 0
    for _ in range(3):
        clock.now += 1
        assert gate.wait("chat.postMessage", "ops") == 0
    assert gate.wait("chat.postMessage", "ops") == 1
    assert gate.impatient == 0


def test_updates_share_a_budget() -> None:
    """50 a minute, whatever the channel; then all wait until the first of them is a minute old."""
    clock = Clock()
    gate = Gate(Pace(), clock)
    for number in range(50):
        assert gate.wait("chat.update", f"channel {number}") == 0
        clock.now += 0.5
    assert gate.wait("chat.update", "ops") == 35
    assert gate.wait("chat.postMessage", "ops") == 0
    clock.now += 34
    assert gate.wait("chat.update", "other") == 1
    clock.now += 1
    assert [gate.wait("chat.update", "ops") for _ in range(2)] == [0, 1]


def test_impatience_is_counted() -> None:
    """Who does not wait for the end of a Retry-After gets the rest of it, even where there is no pace."""
    clock = Clock()
    gate = Gate(None, clock)
    gate.shut("chat.postMessage", "ops", 30)
    clock.now += 29.5
    assert (gate.wait("chat.postMessage", "ops"), gate.impatient) == (1, 1)
    clock.now += 0.5
    assert (gate.wait("chat.postMessage", "ops"), gate.impatient) == (0, 1)
    assert [gate.wait("chat.postMessage", "ops") for _ in range(100)] == [0] * 100


def test_a_retry_after_is_for_a_channel_or_for_a_method() -> None:
    """Of what posts it holds up one channel, of what does not it holds up all of them."""
    gate = Gate(None, Clock())
    gate.shut("chat.postMessage", "ops", 30)
    gate.shut("chat.update", "ops", 20)
    assert [gate.wait("chat.postMessage", channel) for channel in ("ops", "other")] == [30, 0]
    assert [gate.wait("chat.update", channel) for channel in ("ops", "other")] == [20, 20]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of messages and of a message's versions the oldest are forgotten."""
    monkeypatch.setattr("windsock_demo.slack.workspace.MESSAGES", 3)
    monkeypatch.setattr("windsock_demo.slack.workspace.VERSIONS", 4)
    slack = Workspace()
    for number in range(5):
        slack.post(slack.channel("ops"), APP, {"text": str(number)})
    assert [message.content["text"] for message in slack.messages("ops")] == ["2", "3", "4"]
    last = slack.messages("ops")[-1]
    for number in range(9):
        slack.update(slack.channel("ops"), APP, last.ts, {"text": f"edit {number}"})
    assert [version.content["text"] for version in last.versions] == [f"edit {number}" for number in range(5, 9)]


def test_timestamps_are_in_order() -> None:
    """Also within a second, and when the clock goes back."""
    clock = Clock()
    slack = Workspace(clock=clock)
    for step in (0, 0, 1, -5, 9):
        clock.now += step
        slack.post(slack.channel("ops"), APP, {"text": "x"})
    stamps = [message.ts for message in slack.messages("ops")]
    assert stamps == sorted(set(stamps))
    assert stamps[0] == "1700000000.000010" and stamps[-1] == "1700000005.000010"


def test_the_page_draws_a_message() -> None:
    """With its colour, header, fields and context; an edit is marked."""
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "FIRING 3 :fire:"}},
        {"type": "section", "fields": [{"type": "mrkdwn", "text": "*DAG*\n`etl`"}]},
        {"type": "divider"},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "<https://a.example|Runbook>"}]},
    ]
    page, slack = drawn({"text": "*3* failed", "attachments": [{"color": "#D72638", "blocks": blocks}]})
    for part in (
        '<div class="text"><b>3</b> failed</div>',
        'style="background: #D72638"',
        "<h3>FIRING 3 🔥</h3>",
        "<b>DAG</b>\n<code>etl</code>",
        '<a href="https://a.example">Runbook</a>',
    ):
        assert part in page
    (message,) = slack.messages("ops")
    slack.update(slack.channel("ops"), APP, message.ts, {"text": "*2* failed"})
    assert '<b>2</b> failed <span class="edited">(edited)</span></div>' in render(slack, "")


def test_the_page_draws_a_thread_below_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest replies of it; one that is broadcast is a message of the channel as well."""
    monkeypatch.setattr("windsock_demo.slack.page.REPLIES", 2)
    page, slack = drawn({"text": "failed"})
    assert 'class="thread"' not in page
    (message,) = slack.messages("ops")
    for text in ("first", "second", "third"):
        reply = {"text": text, "thread_ts": message.ts, "reply_broadcast": text == "third"}
        slack.post(slack.channel("ops"), APP, reply)
    page = render(slack, "")
    assert "3 replies, the newest" in page
    assert [page.count(f'<div class="text">{text}</div>') for text in ("first", "second", "third")] == [0, 1, 2]
    assert page.index("failed") < page.index("second") < page.index("replied to a thread")


def test_the_page_draws_attachments_without_blocks() -> None:
    """Those that Alertmanager itself sends: title, text, fields, footer."""
    attachment = {
        "color": "good",
        "title": "T",
        "title_link": "https://t.example",
        "text": "*bold*",
        "fields": [{"title": "DAG", "value": "etl", "short": True}],
        "footer": "f",
    }
    page, _ = drawn({"attachments": [attachment]})
    for part in ("background: #2eb886", '<a href="https://t.example">T</a>', "<b>bold</b>", "<b>DAG</b>\netl</div>"):
        assert part in page


def test_the_page_shows_no_markup_of_a_message() -> None:
    """Neither in a text, nor in a colour, nor in a link."""
    evil = "<img src=x onerror=alert(1)>"
    header = {"type": "header", "text": {"type": "plain_text", "text": evil}}
    odd = {"color": 'red"><img', "title": evil, "title_link": "javascript:alert(1)", "text": evil, "footer": evil}
    parts = [odd, {"color": "#000000;x:y", "blocks": [header]}, {"title": "T", "title_link": 'https://x"onclick="y'}]
    page, _ = drawn({"text": f"{evil} `{evil}`", "attachments": parts}, evil)
    assert not any(bad in page for bad in ("<img", "javascript:", "x:y", 'x"onclick'))
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 6


def drawn(payload: dict[str, Any], channel: str = "") -> tuple[str, Workspace]:
    """The page with this message alone, and its workspace."""
    slack = Workspace()
    slack.post(slack.channel("ops"), APP, payload)
    return render(slack, channel), slack
