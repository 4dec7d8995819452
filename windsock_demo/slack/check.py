"""`scripts/check-slack`: whether the real Slack does what Windsock, and its look-alike, take for granted.

No secret is printed: of an answer only its status, its code and the names of its scopes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from exporter.router.limits import TOTAL
from exporter.router.message import Incident, Level, render
from exporter.router.model import Alert, Snapshot
from exporter.router.slack import proxy_for
from exporter.router.templates import Templates

PAUSE = 1.2
"""Seconds before each request, so that none is refused for coming too fast."""

_TASKS = ("load_orders", "load_items", "load_refunds")
_LEVELS: tuple[Level, ...] = ("compact", "plain")
_HEADER = {"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}
_INVALID = ("invalid_attachments", "invalid_blocks")
_REFUSED: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("a header that is too long", {"attachments": [{"blocks": [_HEADER]}]}, _INVALID),
    ("too many blocks", {"attachments": [{"blocks": [{"type": "divider"}] * 51}]}, _INVALID),
    ("nothing to post", {}, ("no_text",)),
)
_LOOK = """
Now look at the channel, for what no answer tells:
  - the resolved messages are green, the firing one of a webhook is red; one that was updated may say “(edited)”;
  - times are in your time zone, the names of tasks in boxes, and the only link is Runbook;
  - “<!channel>” is text, and nobody was notified by it; a phone shows the first line of a message.
All of them can be deleted."""


@dataclass
class Checks:
    """The requests, and what is said of them."""

    session: aiohttp.ClientSession
    pause: float
    failed: list[str] = field(default_factory=list)

    async def ask(self, url: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        """The answer as the API would give it: that of a webhook, and none at all, have their `error`, too."""
        await asyncio.sleep(self.pause)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with self.session.post(
                url, json=body, headers=headers, allow_redirects=False, proxy=proxy_for(url)
            ) as answer:
                if answer.content_type == "application/json":
                    return {"scopes": answer.headers.get("X-OAuth-Scopes", "not told"), **await answer.json()}
                text = (await answer.content.read(60)).decode("ascii", "replace")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return {"error": type(error).__name__}  # whose text may have the address in it
        if text == "ok":
            return {"ok": True}
        return {"error": f"{text if text.replace('_', '').isalpha() else 'no code'} (HTTP {answer.status})"}

    def expect(self, what: str, answer: dict[str, Any], *errors: str) -> None:
        """Says whether it is success or, where errors are given, one of these."""
        said = "ok" if answer.get("ok") else str(answer.get("error"))
        self.say(what, said in (errors or ("ok",)), said)

    def say(self, what: str, holds: bool | None, said: str) -> None:
        """One line; None is for what is good to know either way."""
        print(f"  {'?' if holds is None else '✓' if holds else '✗'} {what:<50} {said}")
        if holds is False:
            self.failed.append(what)


def message(resolved: int, level: Level = "full") -> dict[str, Any]:
    """What Windsock sends when so many of three alerts are resolved."""
    now = time.time()
    common = {"alertname": "WindsockCheck", "severity": "critical", "dag_id": "windsock_check"}
    alerts = [
        Alert(task, False, now - 60, now, {**common, "task_id": task}, {}, "")
        if number < resolved
        else Alert(task, True, now - 60, None, {**common, "task_id": task}, {}, "")
        for number, task in enumerate(_TASKS)
    ]
    snapshot = Snapshot(
        source="check",
        receiver="check",
        key="check",
        external_url="",
        reason="",
        truncated=0,
        group_labels={"alertname": common["alertname"]},
        common_labels=common,
        common_annotations={
            "summary": "Windsock checks this channel & <!channel> must call nobody",
            "runbook_url": "https://windsock.example/runbook",
        },
        route_labels={},
        firing=len(_TASKS) - resolved,
        resolved=resolved,
        alerts=tuple(sorted(alerts, key=lambda alert: not alert.firing)),
        fingerprints={},
        received=now,
    )
    return render(Incident(snapshot, "check", None, "", now - 60, 1, False, None, "check"), Templates({}), level)


async def check_api(checks: Checks, api_url: str, token: str, channel: str) -> None:
    """By a bot token: post, update, resolve, find again, and what must be refused."""

    async def call(method: str, **arguments: Any) -> dict[str, Any]:
        return await checks.ask(f"{api_url}/{method}", arguments, token)

    print("\nBy a bot token:")
    known = await call("auth.test")
    checks.expect("the token is good", known)
    checks.say("its scopes", None, str(known.get("scopes")))
    metadata = {"event_type": "windsock_check", "event_payload": {"key": str(time.time_ns())}}
    posted = await call("chat.postMessage", channel=channel, metadata=metadata, **message(0))
    checks.expect("alerts are posted", posted)
    if not posted.get("ok"):
        return
    where = {"channel": posted["channel"], "ts": posted["ts"]}
    checks.say("a timestamp is text", isinstance(posted["ts"], str), type(posted["ts"]).__name__)
    checks.expect("the message is updated", await call("chat.update", **where, **message(1)))
    kept = (await call("chat.update", **where, text="Windsock check")).get("message", {}).get("attachments")
    checks.say("an update without attachments keeps them", bool(kept), "kept" if kept else "gone")
    checks.expect("the message is resolved in place", await call("chat.update", **where, **message(3)))
    found = await call("conversations.history", channel=posted["channel"], limit=20, include_all_metadata=True)
    hits = [each["ts"] for each in found.get("messages", ()) if each.get("metadata") == metadata]
    said = "found" if hits == [posted["ts"]] else found.get("error", "not found")
    checks.say("it is found again by its metadata", said == "found" if found.get("ok") else None, said)
    await _check_thread(checks, call, where, metadata)
    for level in _LEVELS:
        simple = await call("chat.postMessage", channel=channel, **message(3, level))
        checks.expect(f"the {level} form is posted", simple)
    await _check_refusals(checks, call, posted["channel"])
    checks.expect("a wrong token", await checks.ask(f"{api_url}/auth.test", {}, "xoxb-wrong"), "invalid_auth")


async def _check_thread(
    checks: Checks, call: Callable[..., Awaitable[dict[str, Any]]], where: dict[str, str], metadata: dict[str, Any]
) -> None:
    line = {"channel": where["channel"], "text": "Windsock check: a line in a thread", "metadata": metadata}
    replied = await call("chat.postMessage", thread_ts=where["ts"], **line)
    below = replied.get("message", {}).get("thread_ts") == where["ts"]
    said = str(replied.get("error", "below its message" if below else "in the channel"))
    checks.say("a line is posted to the message's thread", below, said)
    found = await call("conversations.replies", **where, limit=20, include_all_metadata=True)
    hits = [each["ts"] for each in found.get("messages", ()) if each.get("metadata") == metadata]
    said = "found" if replied.get("ts") in hits else found.get("error", "not found")
    checks.say("it is found again by its metadata, too", said == "found" if found.get("ok") else None, said)
    stray = await call("chat.postMessage", thread_ts="1000000000.000100", **line)
    said = stray.get("error", "a thread" if "thread_ts" in stray.get("message", {}) else "posted to the channel")
    checks.say("a line to a message that is not there", said != "a thread", said)


async def _check_refusals(checks: Checks, call: Callable[..., Awaitable[dict[str, Any]]], channel: str) -> None:
    checks.expect(f"{TOTAL:,} characters are posted", await call("chat.postMessage", channel=channel, **_long(TOTAL)))
    longer = await call("chat.postMessage", channel=channel, **_long(TOTAL * 4 // 3))
    checks.say(f"{TOTAL * 4 // 3:,} characters", None, str(longer.get("error", "posted")))
    for what, payload, errors in _REFUSED:
        checks.expect(what, await call("chat.postMessage", channel=channel, **payload), *errors)
    nowhere = await call("chat.postMessage", channel="C0NOWHERE0", text="Windsock check")
    checks.expect("a channel that is not there", nowhere, "channel_not_found")
    never = await call("chat.update", channel=channel, ts="1000000000.000100", text="Windsock check")
    checks.expect("a message that is not there", never, "message_not_found")


async def check_webhook(checks: Checks, url: str) -> None:
    """By an incoming webhook: post, and what must be refused."""
    print("\nBy an incoming webhook:")
    empty = ("no_text (HTTP 400)", "missing_text_or_fallback_or_attachments (HTTP 500)")
    checks.expect("it is told from a wrong one without a message", await checks.ask(url, {"text": ""}), *empty)
    checks.expect("alerts are posted", await checks.ask(url, message(0)))
    checks.expect("alerts are resolved, in a new message", await checks.ask(url, message(3)))
    for what, payload, errors in _REFUSED[:2]:
        checks.expect(what, await checks.ask(url, payload), *(f"{error} (HTTP 400)" for error in errors))
    wrong = await checks.ask(f"{url[:-6]}000000", {"text": ""})
    checks.expect("a wrong webhook", wrong, "invalid_token (HTTP 403)", "no_service (HTTP 404)")


def _long(total: int) -> dict[str, Any]:
    """A message with so much text, in sections of 2,000."""
    text = "Windsock check ".ljust(total, "x")
    blocks = [
        {"type": "section", "text": {"type": "mrkdwn", "text": text[start : start + 2000]}}
        for start in range(0, total, 2000)
    ]
    return {"attachments": [{"color": "#868E96", "blocks": blocks}]}


async def run(api_url: str, token: str, channel: str, webhook: str, pause: float) -> bool:
    """All that can be checked with these; True if nothing is other than expected."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        checks = Checks(session, pause)
        if token:
            await check_api(checks, api_url, token, channel)
        if webhook:
            await check_webhook(checks, webhook)
    print(_LOOK)
    print("\nNot as expected: " + "; ".join(checks.failed) if checks.failed else "\nAll is as expected.")
    return not checks.failed


def main() -> int:
    """0 if Slack is what Windsock takes it for, 1 if not, 2 for a wrong call."""
    parser = argparse.ArgumentParser(
        prog="check-slack",
        description="Posts a few messages to a channel, and says whether Slack answers as Windsock expects. "
        "The bot token is read from SLACK_TOKEN or a file, a webhook's URL from SLACK_WEBHOOK_URL or a file.",
    )
    parser.add_argument("--channel", help="where to post by the token: a name or an id")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--webhook-url-file", type=Path)
    parser.add_argument("--api-url", default="https://slack.com/api", help="(%(default)s)")
    parser.add_argument("--pause", type=float, default=PAUSE, help="seconds before each request (%(default)s)")
    given = parser.parse_args()
    token = _secret(given.token_file, "SLACK_TOKEN")
    webhook = _secret(given.webhook_url_file, "SLACK_WEBHOOK_URL")
    if not (token or webhook):
        parser.error("set SLACK_TOKEN or SLACK_WEBHOOK_URL, or name a file that has one")
    if token and not given.channel:
        parser.error("with a token, --channel says where to post")
    return 0 if asyncio.run(run(given.api_url, token, given.channel, webhook, given.pause)) else 1


def _secret(file: Path | None, variable: str) -> str:
    return (file.read_text() if file else os.environ.get(variable, "")).strip()


if __name__ == "__main__":
    raise SystemExit(main())
