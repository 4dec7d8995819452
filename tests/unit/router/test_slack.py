"""Whatever Slack answers, or does not, is an outcome that says what can be done: the real client, over real HTTP."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import ClientTimeout
from pydantic import SecretStr

from exporter.config.router import Destination
from exporter.config.router import Slack as Settings
from exporter.router import slack
from exporter.router.slack import Outcome, Refused, Retry, Sent, Slack
from exporter.telemetry import SLACK_REQUESTS
from windsock_demo.slack import Order, Workspace, serve

BODY = {"text": "etl failed", "attachments": [{"color": "#D72638", "fallback": "etl failed"}]}

CLASSES = {
    "paced": "ratelimited rate_limited message_limit_exceeded",
    "unsure": "internal_error fatal_error",
    "transient": "service_unavailable request_timeout rollup_error what_slack_invents_next_year",
    "payload": "invalid_payload invalid_blocks invalid_blocks_format invalid_attachments msg_too_long no_text"
    " msg_blocks_too_long too_many_attachments attachment_payload_limit_exceeded invalid_arguments"
    " missing_text_or_fallback_or_attachments",
    "destination": "channel_not_found not_in_channel is_archived channel_is_archived restricted_action"
    " restricted_action_read_only_channel restricted_action_thread_only_channel action_prohibited user_not_found"
    " posting_to_general_channel_denied cannot_reply_to_message ekm_access_denied no_service no_service_id no_team",
    "credential": "invalid_auth not_authed account_inactive token_revoked token_expired missing_scope invalid_token"
    " team_disabled",
    "update": "message_not_found cant_update_message edit_window_closed",
}
"""What Slack's error codes ask for."""


class Client(NamedTuple):
    """The client, and whom it asks."""

    slack: Slack
    workspace: Workspace
    channel: Destination
    hook: Destination

    async def by(self, kind: str) -> Outcome:
        """A post to the channel or by the webhook."""
        return await self.slack.post(self.channel if kind == "channel" else self.hook, BODY, "key 1")


@asynccontextmanager
async def connected(workspace: Workspace | None = None) -> AsyncIterator[Client]:
    """With the look-alike, at any pace."""
    async with serve(workspace or Workspace(pace=None)) as found:
        settings = Settings(token=SecretStr(found.token), api_url=found.api_url)
        hook = Destination(webhook_url=SecretStr(found.webhook_url("ops")))
        async with Slack(settings) as client:
            yield Client(client, found, Destination(channel=found.channel("data-alerts").id), hook)


def class_of(outcome: Outcome) -> str:
    """As in the table."""
    match outcome:
        case Refused(_, kind):
            return kind
        case Retry(after=float()):
            return "paced"
        case Retry(unsure=True):
            return "unsure"
        case Retry():
            return "transient"
    return "sent"


async def test_a7_every_error_code() -> None:
    """Each is of the class that is documented, whatever the HTTP status, of a method or a webhook."""
    async with connected() as client:
        for expected, codes in CLASSES.items():
            for code in codes.split():
                for kind in ("channel", "hook"):
                    client.workspace.order(Order(error=code))
                    outcome = await client.by(kind)
                    assert class_of(outcome) == expected, code
                    assert outcome.reason in (code, "rate_limited")  # type: ignore[union-attr]
                    client.workspace.order(Order(error=code, status=500))
                    assert class_of(await client.by(kind)) == expected, code


async def test_requests_are_counted() -> None:
    """By method and class, without a label that Slack could make up."""
    async with connected() as client:
        before = {key: counted(*key) for key in (("webhook", "payload"), ("chat.postMessage", "retry"))}
        client.workspace.order(Order(error="no_text"))
        await client.by("hook")
        client.workspace.order(Order(error="something_new"))
        await client.by("channel")
        assert {key: counted(*key) - count for key, count in before.items()} == dict.fromkeys(before, 1)


def counted(method: str, result: str) -> float:
    """How often that came of it."""
    return float(SLACK_REQUESTS.labels(method, result)._value.get())


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order(retry_after=30), Retry("ratelimited", 30.0)),
        (Order(status=429, body="<html>"), Retry("HTTP 429", 30.0)),
        (Order(status=503, body="<html>"), Retry("HTTP 503")),
        (Order(status=500, body="<html>"), Retry("HTTP 500", unsure=True)),
        (Order(status=502, body="<html>"), Retry("HTTP 502", unsure=True)),
        (Order(status=504), Retry("HTTP 504", unsure=True)),
        (Order(status=404, body="<html>"), Retry("HTTP 404")),
        (Order(status=302, body="<html>"), Retry("HTTP 302")),
        (Order(status=200, body="<html>"), Retry("HTTP 200", unsure=True)),
        (Order(cut=True), Retry("no answer", unsure=True)),
        (Order(delay=5.0), Retry("no answer", unsure=True)),
    ],
)
@pytest.mark.parametrize("kind", ["channel", "hook"])
async def test_what_is_no_answer_of_slack(
    order: Order, expected: Retry, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may pass; where the message may be in Slack nevertheless, that is said."""
    monkeypatch.setattr(slack, "TIMEOUT", ClientTimeout(total=1.0, connect=0.9))
    async with connected() as client:
        client.workspace.order(order)
        outcome = await client.by(kind)
        assert isinstance(outcome, Retry)
        assert outcome[1:] == expected[1:]
        assert outcome.reason.replace("rate_", "rate").split(": ")[0] == expected.reason


async def test_a_server_that_is_not_there() -> None:
    """Nothing was sent, and that is known."""
    async with connected() as client:
        pass
    async with Slack(client.slack.settings) as alone:
        outcome = await alone.post(client.channel, BODY, "key")
        assert isinstance(outcome, Retry)
        assert outcome.reason.startswith("cannot connect: ")
        assert (outcome.after, outcome.unsure) == (None, False)
        assert await alone.post(client.hook, BODY, "key") == outcome


async def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read to its end."""
    monkeypatch.setattr(slack, "MOST", 1000)
    async with connected() as client:
        client.workspace.order(Order(body="x" * 5000))
        assert await client.by("channel") == Retry("the answer is too long", unsure=True)


async def test_a_redirect_is_not_followed() -> None:
    """The message goes nowhere else."""
    async with connected() as client:
        client.workspace.order(Order(status=307, location=f"{client.workspace.api_url}/chat.postMessage"))
        assert await client.by("channel") == Retry("HTTP 307")
        assert client.workspace.counts == {("chat.postMessage", "307"): 1}


async def test_a_message_and_its_updates() -> None:
    """It is posted once, and changed as a whole: what an update leaves out is gone. Webhooks know no more than that."""
    async with connected() as client:
        sent = await client.by("channel")
        assert isinstance(sent, Sent)
        assert (sent.channel, await client.by("hook")) == (client.channel.channel, Sent())
        assert sent.channel
        assert sent.ts
        assert await client.slack.update(sent.channel, sent.ts, {"text": "all is well"}) == sent
        (message,) = client.workspace.messages("data-alerts")
        assert (message.content["text"], message.content.get("attachments")) == ("all is well", None)
        assert message.ts == sent.ts
        gone = await client.slack.update(sent.channel, "1.5", {"text": "all is well"})
        assert gone == Refused("message_not_found", "update")


async def test_finding_what_was_posted() -> None:
    """By its key and about its time; neither others' messages nor an old one; who may not look is refused."""
    async with connected() as client:
        now = time.time()
        assert await client.slack.find(client.channel, "key 1", now) is None
        sent = await client.by("channel")
        await client.slack.post(client.channel, BODY, "key 2")
        assert await client.slack.find(client.channel, "key 1", now) == sent
        assert await client.slack.find(client.channel, "key 3", now) is None
        assert await client.slack.find(client.channel, "key 1", now - 120) is None
        assert class_of(await client.slack.find(client.hook, "key 1", now) or Sent()) == "destination"
        client.workspace.order(Order(status=503))
        assert await client.slack.find(client.channel, "key 1", now) == Retry("HTTP 503")
        token = SecretStr(client.workspace.grant("chat:write"))
        client.slack.settings = client.slack.settings.model_copy(update={"token": token})
        assert await client.slack.find(client.channel, "key 1", now) == Refused("missing_scope", "credential")


async def test_secrets_are_read_each_time(tmp_path: Path) -> None:
    """A new token takes effect at once; one that cannot be read is a bad credential, and named without being told."""
    token, url = tmp_path / "token", tmp_path / "url"
    async with connected() as client:
        token.write_text("xoxb-wrong")
        url.write_text(client.workspace.webhook_url("ops"))
        hook = Destination(webhook_url_file=url)
        client.slack.settings = Settings(token_file=token, api_url=client.workspace.api_url)
        assert await client.by("channel") == Refused("invalid_auth", "credential")
        token.write_text(client.workspace.token)
        assert isinstance(await client.by("channel"), Sent)
        token.unlink()
        refused = await client.by("channel")
        assert refused == Refused(f"cannot read {token}: No such file or directory", "credential")
        assert isinstance(await client.slack.post(hook, BODY, "key"), Sent)
        url.write_text("no address")
        refused = await client.slack.post(hook, BODY, "key")
        assert refused == Refused("must be the URL of a webhook, as Slack shows it", "credential")


async def test_a_probe() -> None:
    """It tells a good credential from a bad one, and nobody sees anything."""
    async with connected() as client:
        assert isinstance(await client.slack.probe(client.channel), Sent)
        assert await client.slack.probe(client.hook) == Sent()
        client.slack.settings = client.slack.settings.model_copy(update={"token": SecretStr("xoxb-wrong")})
        wrong = Destination(webhook_url=SecretStr(client.workspace.webhook_url("ops") + "x"))
        assert await client.slack.probe(client.channel) == Refused("invalid_auth", "credential")
        assert await client.slack.probe(wrong) == Refused("invalid_token", "credential")
        assert client.workspace.messages("data-alerts") + client.workspace.messages("ops") == []


@pytest.mark.parametrize(("told", "obeyed"), [(1, 1.0), (899, 899.0), (86400, 900.0)])
async def test_a_long_retry_after(told: int, obeyed: float) -> None:
    """It is obeyed to the second, up to a quarter of an hour."""
    async with connected() as client:
        client.workspace.order(Order(retry_after=told))
        assert await client.by("channel") == Retry("ratelimited", obeyed)
