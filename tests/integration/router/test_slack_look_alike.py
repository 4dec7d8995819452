"""The look-alike of Slack over real HTTP: what it takes, what it refuses, and the troubles that can be ordered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest

from windsock_demo.slack import Order, Pace, Workspace, serve

BLOCKS = [{"type": "section", "text": {"type": "mrkdwn", "text": "*3* failed"}}]
ATTACHMENTS = [{"color": "#d72638", "fallback": "3 failed", "blocks": BLOCKS}]
METADATA = {"event_type": "windsock_incident", "event_payload": {"key": "a1"}}


class Clock:
    """A time that passes only when told."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    retry_after: str | None = None


class Client:
    """An app: calls methods with its token, and webhooks."""

    def __init__(self, slack: Workspace, session: aiohttp.ClientSession) -> None:
        self.slack = slack
        self.session = session
        self.token = slack.token

    async def call(self, method: str, **arguments: Any) -> Answer:
        """Call a method with JSON."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.post(f"{self.slack.api_url}/{method}", json=arguments, headers=headers) as answer:
            body = await answer.json() if answer.content_type == "application/json" else await answer.text()
            return Answer(answer.status, body, answer.headers.get("Retry-After"))

    async def post(self, channel: str = "ops", **arguments: Any) -> Answer:
        """Post a message, some text by default."""
        return await self.call("chat.postMessage", channel=channel, **(arguments or {"text": "hello"}))

    async def hook(self, url: str = "", **arguments: Any) -> Answer:
        """Post by a webhook, that of #ops by default."""
        url = url or self.slack.webhook_url("ops")
        async with self.session.post(url, json=arguments, allow_redirects=False) as answer:
            return Answer(answer.status, await answer.text(), answer.headers.get("Retry-After"))


@pytest.fixture
async def clock() -> Clock:
    """The time of the workspace."""
    return Clock()


@pytest.fixture
async def client(clock: Clock) -> AsyncIterator[Client]:
    """An app in a workspace that is served."""
    async with serve(Workspace(clock=clock)) as slack, aiohttp.ClientSession() as session:
        yield Client(slack, session)


async def test_a_message_is_posted_and_kept(client: Client) -> None:
    """By the name of a channel or by its id; the answer has the id and a timestamp that is text."""
    ops = client.slack.channel("ops")
    posted = [await client.post(channel, text="hi", attachments=ATTACHMENTS) for channel in ("ops", "#ops", ops.id)]
    assert [(answer.body["ok"], answer.body["channel"]) for answer in posted] == [(True, ops.id)] * 3
    assert [answer.body["ts"] for answer in posted] == [message.ts for message in client.slack.messages("ops")]
    assert client.slack.messages("ops")[0].content == {"text": "hi", "attachments": ATTACHMENTS}
    assert client.slack.messages("data-alerts") == []
    assert client.slack.counts == {("chat.postMessage", "ok"): 3}


async def test_a_timestamp_does_not_survive_arithmetic(client: Client) -> None:
    """Who makes a number of it has lost the message."""
    ts = (await client.post()).body["ts"]
    channel = client.slack.channel("ops").id
    for changed in (float(ts), str(float(ts))):
        answer = await client.call("chat.update", channel=channel, ts=changed, text="new")
        assert answer.body["error"] == "message_not_found"
    assert (await client.call("chat.update", channel=channel, ts=ts, text="new")).body["ok"]


async def test_an_update_keeps_what_it_does_not_name(client: Client) -> None:
    """Attachments and metadata stay until they are named, blocks until there is text, and all versions are known."""
    first: dict[str, Any] = {"text": "a", "blocks": BLOCKS, "attachments": ATTACHMENTS, "metadata": METADATA}
    ts = (await client.post(**first)).body["ts"]
    where = {"channel": client.slack.channel("ops").id, "ts": ts}
    (message,) = client.slack.messages("ops")
    assert (await client.call("chat.update", **where, attachments=ATTACHMENTS)).body["ok"]
    assert message.content == first
    assert (await client.call("chat.update", **where, text="b")).body["text"] == "b"
    assert message.content == {"text": "b", "attachments": ATTACHMENTS, "metadata": METADATA}
    assert (await client.call("chat.update", **where, text="c", attachments=[], metadata={})).body["ok"]
    assert message.content == {"text": "c"}
    assert [version.content["text"] for version in message.versions] == ["a", "a", "b", "c"]
    assert message.ts == ts


async def test_an_update_of_what_is_not_there_or_not_ours_is_refused(client: Client) -> None:
    """A channel's name is not its id; a webhook's message, and a deleted one, cannot be changed."""
    ops = client.slack.channel("ops")
    ts = (await client.post()).body["ts"]
    await client.hook(text="by a webhook")
    theirs = client.slack.messages("ops")[1].ts

    async def error(channel: str, ts: str) -> str:
        return str((await client.call("chat.update", channel=channel, ts=ts, text="new")).body["error"])

    assert await error("ops", ts) == "channel_not_found"
    assert await error(ops.id, theirs) == "cant_update_message"
    client.slack.delete("ops", ts)
    assert await error(ops.id, ts) == "message_not_found"


async def test_tokens_and_scopes_are_checked(client: Client) -> None:
    """No token, a wrong one, and one that may not do this."""
    assert (await client.call("auth.test")).body["bot_id"] == "B0WINDSOCK"
    for token, error in (("", "not_authed"), ("xoxb-wrong", "invalid_auth")):
        client.token = token
        assert (await client.post()).body == {"ok": False, "error": error}
    client.token = client.slack.grant("channels:history")
    body = (await client.post()).body
    assert body == {"ok": False, "error": "missing_scope", "needed": "chat:write", "provided": "channels:history"}
    assert (await client.call("auth.test")).body["ok"]
    assert (await client.call("chat.fly")).body["error"] == "unknown_method"
    assert client.slack.messages("ops") == []


async def test_channels_can_be_closed_to_the_app(client: Client) -> None:
    """Unknown, archived, private, or not joined, where a scope helps for public ones alone."""
    ops = client.slack.channel("ops")
    assert (await client.post("C0NOWHERE")).body["error"] == "channel_not_found"
    ops.member = False
    assert (await client.post()).body["ok"]
    assert (await client.call("conversations.history", channel=ops.id)).body["error"] == "not_in_channel"
    client.token = client.slack.grant("chat:write")
    assert (await client.post()).body["error"] == "not_in_channel"
    ops.private = True
    assert (await client.post()).body["error"] == "channel_not_found"
    ops.archived = ops.member = True
    assert (await client.post()).body["error"] == "is_archived"
    assert await client.hook(text="x") == Answer(410, "channel_is_archived")


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"blocks": []}, "no_text"),
        ({"text": "x" * 4001}, "msg_too_long"),
        ({"text": 7}, "invalid_arguments"),
        ({"blocks": BLOCKS * 51}, "invalid_blocks"),
        ({"blocks": "none"}, "invalid_blocks_format"),
        ({"attachments": [{"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}]}, None),
        ({"attachments": {}}, "invalid_attachments"),
        ({"attachments": ATTACHMENTS * 21}, "too_many_attachments"),
        ({"attachments": [{"text": "x" * 3900}] * 3}, "msg_blocks_too_long"),
        ({"text": "x", "metadata": {"key": 1}}, "invalid_metadata_format"),
    ],
)
async def test_what_breaks_a_limit_is_refused(client: Client, payload: dict[str, Any], error: str | None) -> None:
    """With Slack's code and a reason, by the API and by a webhook, and nothing is kept."""
    answer = await client.post(**payload)
    assert (answer.status, answer.body["ok"]) == (200, False)
    assert answer.body["error"] == (error or "invalid_attachments")
    assert await client.hook(**payload) == Answer(400, answer.body["error"])
    assert client.slack.messages("ops") == []


async def test_forms_are_understood(client: Client) -> None:
    """With the structured arguments as JSON, in the API and in a webhook."""
    form = {"channel": "ops", "text": "x", "attachments": '[{"text": "y"}]'}
    headers = {"Authorization": f"Bearer {client.token}"}
    async with client.session.post(f"{client.slack.api_url}/chat.postMessage", data=form, headers=headers) as answer:
        assert (await answer.json())["ok"]
    async with client.session.post(client.slack.webhook_url("ops"), data={"payload": '{"text": "z"}'}) as answer:
        assert await answer.text() == "ok"
    assert [message.content for message in client.slack.messages("ops")] == [
        {"text": "x", "attachments": [{"text": "y"}]},
        {"text": "z"},
    ]


async def test_json_that_is_none_is_refused(client: Client) -> None:
    """Half a body, and a body that is no object."""
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": "application/json"}
    for body in (b'{"channel": "ops"', b"[]", b"\xff"):
        url = f"{client.slack.api_url}/chat.postMessage"
        async with client.session.post(url, data=body, headers=headers) as answer:
            assert await answer.json() == {"ok": False, "error": "invalid_json"}
        async with client.session.post(client.slack.webhook_url("ops"), data=body, headers=headers) as answer:
            assert (answer.status, await answer.text()) == (400, "invalid_payload")


async def test_the_history_finds_a_message_by_its_metadata(client: Client, clock: Clock) -> None:
    """Newest first, from a moment on, so many, and metadata only for who asks."""
    for number in range(3):
        clock.now += 10
        await client.post(text=str(number), metadata=METADATA)
    channel = client.slack.channel("ops").id

    async def history(**arguments: Any) -> list[dict[str, Any]]:
        body = (await client.call("conversations.history", channel=channel, **arguments)).body
        return list(body["messages"])

    assert [message["text"] for message in await history()] == ["2", "1", "0"]
    assert "metadata" not in (await history())[0]
    (found,) = await history(include_all_metadata=True, oldest=str(clock.now - 5))
    assert (found["text"], found["metadata"], found["ts"]) == ("2", METADATA, client.slack.messages("ops")[2].ts)
    body = (await client.call("conversations.history", channel=channel, limit=2)).body
    assert (len(body["messages"]), body["has_more"]) == (2, True)
    middle = client.slack.messages("ops")[1].ts
    (found,) = await history(oldest=middle, latest=middle, inclusive=True)
    assert found["text"] == "1"
    assert (await client.call("conversations.history", channel="ops")).body["error"] == "channel_not_found"
    client.token = client.slack.grant("chat:write")
    assert (await client.call("conversations.history", channel=channel)).body["error"] == "missing_scope"


async def test_a_reply_stands_below_its_message(client: Client) -> None:
    """In the thread, and in the channel only if it is broadcast; a webhook can reply, too."""
    parent = (await client.post(text="failed")).body["ts"]
    replies = [
        await client.post(text="quiet", thread_ts=parent, metadata=METADATA),
        await client.post(text="loud", thread_ts=parent, reply_broadcast=True),
    ]
    await client.hook(text="by a webhook", thread_ts=parent)
    assert [answer.body["message"]["thread_ts"] for answer in replies] == [parent, parent]
    assert [message.content["text"] for message in client.slack.replies("ops", parent)] == [
        "quiet", "loud", "by a webhook"
    ]  # fmt: skip
    assert [message.content["text"] for message in client.slack.messages("ops")] == ["failed", "loud"]
    channel = client.slack.channel("ops").id
    history = (await client.call("conversations.history", channel=channel)).body["messages"]
    assert [(it["text"], it["subtype"], it.get("reply_count")) for it in history] == [
        ("loud", "thread_broadcast", None),
        ("failed", "bot_message", 3),
    ]
    changed = await client.call("chat.update", channel=channel, ts=replies[0].body["ts"], text="changed")
    assert changed.body["message"]["thread_ts"] == parent


async def test_a_thread_is_found_by_its_metadata(client: Client, clock: Clock) -> None:
    """The message, then its replies, the oldest first, those of a time only, and metadata only for who asks."""
    parent = reply = (await client.post(text="failed")).body["ts"]
    for number in range(3):
        clock.now += 10
        reply = (await client.post(text=str(number), thread_ts=parent, metadata=METADATA)).body["ts"]
    channel = client.slack.channel("ops").id

    async def thread(ts: str, **arguments: Any) -> Any:
        return (await client.call("conversations.replies", channel=channel, ts=ts, **arguments)).body

    assert [it["text"] for it in (await thread(parent))["messages"]] == ["failed", "0", "1", "2"]
    assert [it["text"] for it in (await thread(reply))["messages"]] == ["failed", "0", "1", "2"]
    _, found = (await thread(parent, oldest=str(clock.now - 5), include_all_metadata=True))["messages"]
    assert (found["metadata"], found["ts"]) == (METADATA, reply)
    assert "metadata" not in (await thread(parent))["messages"][1]
    assert (await thread(parent, limit=2))["has_more"]
    assert (await thread("1000000000.000100"))["error"] == "thread_not_found"
    client.token = client.slack.grant("chat:write")
    assert (await thread(parent))["error"] == "missing_scope"


async def test_a_thread_whose_message_is_gone(client: Client, clock: Clock) -> None:
    """Without replies nothing is left, and a reply becomes a message of the channel; with some, they stay."""
    channel = client.slack.channel("ops").id
    empty, full = [(await client.post(text=text)).body["ts"] for text in ("empty", "full")]
    await client.post(text="a reply", thread_ts=full)
    clock.now += 10
    for ts in (empty, full):
        client.slack.delete("ops", ts)
        assert (await client.call("chat.update", channel=channel, ts=ts, text="x")).body["error"] == "message_not_found"
    assert "thread_ts" not in (await client.post(text="late", thread_ts=empty)).body["message"]
    reply = (await client.post(text="late, too", thread_ts=full)).body
    assert reply["message"]["thread_ts"] == full
    assert (await client.post(text="no", thread_ts=reply["ts"])).body["error"] == "cannot_reply_to_message"
    history = (await client.call("conversations.history", channel=channel)).body["messages"]
    assert [(it["text"], it["subtype"]) for it in history] == [
        ("late", "bot_message"),
        ("This message was deleted.", "tombstone"),
    ]


async def test_webhooks_answer_with_a_status_and_a_word(client: Client) -> None:
    """What is wrong with the address; a right one posts to its channel, and tells no timestamp."""
    url = client.slack.webhook_url("ops")
    assert await client.hook(url, text="hello") == Answer(200, "ok")
    assert [message.content["text"] for message in client.slack.messages("ops")] == ["hello"]
    assert await client.hook(url[:-3] + "xyz", text="x") == Answer(403, "invalid_token")
    hook = client.slack.channel("ops").hook
    assert await client.hook(url.replace(hook, "B0GONE"), text="x") == Answer(404, "no_service")
    assert await client.hook(url.replace("T0WINDSOCK", "T0GONE"), text="x") == Answer(404, "no_team")
    assert await client.hook(url, text="") == Answer(400, "no_text")


async def test_who_is_too_fast_is_told_how_long_to_wait(client: Client, clock: Clock) -> None:
    """By 429 and Retry-After, in the form of the API and in that of a webhook; other channels do not notice."""
    assert [(await client.post()).status for _ in range(5)] == [200, 200, 200, 200, 429]
    assert await client.post() == Answer(429, {"ok": False, "error": "ratelimited"}, "1")
    assert (await client.post("data-alerts")).status == 200
    assert [(await client.hook(text="x")).status for _ in range(4)] == [200] * 4
    assert await client.hook(text="x") == Answer(429, "rate_limited", "1")
    clock.now += 1
    assert (await client.post()).status == 200
    assert client.slack.counts["chat.postMessage", "ratelimited"] == 2
    assert [request.result for request in client.slack.requests if request.channel == "data-alerts"] == ["ok"]


async def test_another_pace_or_none(client: Client) -> None:
    """A test that is about something else need not wait."""
    for pace, statuses in ((None, [200] * 9), (Pace(burst=1), [200] + [429] * 8)):
        async with serve(Workspace("ops", pace=pace)) as slack:
            other = Client(slack, client.session)
            assert [(await other.post()).status for _ in range(9)] == statuses


async def test_an_error_can_be_ordered(client: Client) -> None:
    """For a method, a channel and a number of requests; the others fare as always."""
    client.slack.order(Order(error="internal_error", method="chat.postMessage", channel="ops", times=2))
    errors = [(await client.post(channel)).body.get("error") for channel in ("ops", "data-alerts", "ops", "ops")]
    assert errors == ["internal_error", None, "internal_error", None]
    assert client.slack.counts["chat.postMessage", "internal_error"] == 2
    client.slack.order(Order(error="channel_is_archived", method="webhook"))
    assert await client.hook(text="x") == Answer(410, "channel_is_archived")
    client.slack.order(Order(error="missing_text_or_fallback_or_attachments", status=500))
    assert await client.hook(text="x") == Answer(500, "missing_text_or_fallback_or_attachments")


async def test_an_ordered_429_lasts_as_long_as_it_says(client: Client, clock: Clock) -> None:
    """Who comes back too early is told the rest, and counted."""
    client.slack.order(Order(retry_after=30))
    assert (await client.post()).retry_after == "30"
    clock.now += 29
    assert (await client.post()).retry_after == "1"
    assert client.slack.gate.impatient == 1
    assert (await client.post("data-alerts")).status == 200
    clock.now += 1
    assert (await client.post()).status == 200
    client.slack.order(Order(retry_after=7))
    assert await client.hook(text="x") == Answer(429, "rate_limited", "7")


async def test_http_troubles_can_be_ordered(client: Client) -> None:
    """HTML in the place of an answer, and a redirect; nothing was stored."""
    client.slack.order(Order(status=503, body="<h1>Down</h1>"))
    assert await client.post() == Answer(503, "<h1>Down</h1>")
    client.slack.order(Order(status=307, location="http://127.0.0.1:1/"))
    assert (await client.hook(text="x")).status == 307
    assert client.slack.messages("ops") == []


@pytest.mark.parametrize("stored", [False, True])
async def test_an_answer_can_be_lost(client: Client, stored: bool) -> None:
    """The connection is cut before the message is stored, or after."""
    client.slack.order(Order(cut=True, stored=stored))
    with pytest.raises((aiohttp.ServerDisconnectedError, ConnectionResetError)):
        await client.post()
    assert len(client.slack.messages("ops")) == stored
    assert client.slack.counts == {("chat.postMessage", "cut"): 1}
    assert (await client.post()).status == 200


async def test_an_answer_can_be_late(client: Client) -> None:
    """The message is there before who sent it hears of it."""
    client.slack.order(Order(delay=30))
    with pytest.raises(TimeoutError):
        await client.session.post(
            client.slack.webhook_url("ops"), json={"text": "x"}, timeout=aiohttp.ClientTimeout(total=0.1)
        )
    assert len(client.slack.messages("ops")) == 1


async def test_orders_come_over_http_too(client: Client) -> None:
    """So that a look-alike in another process can be told; what is not understood is said."""
    control = f"{client.slack.url}/_control"
    async with client.session.post(control, json={"orders": [{"error": "fatal_error", "times": 0}]}) as answer:
        assert answer.status == 204
    for _ in range(3):
        assert (await client.post()).body["error"] == "fatal_error"
    async with client.session.post(control, json={"clear": True}) as answer:
        assert answer.status == 204
    assert (await client.post()).body["ok"]
    async with client.session.post(control, json={"orders": [{"eror": "x"}]}) as answer:
        assert (answer.status, await answer.text()) == (
            400, "Object contains unknown field `eror` - at `$.orders[0]`\n"
        )  # fmt: skip


async def test_the_workspace_outlives_its_server(client: Client) -> None:
    """A test of an outage stops the server and starts it again on its port."""
    workspace = Workspace("ops")
    async with serve(workspace) as slack:
        await Client(slack, client.session).post()
        port = int(slack.url.rpartition(":")[2])
    async with serve(workspace, port=port) as slack:
        await Client(slack, client.session).post()
    assert len(workspace.messages("ops")) == 2


async def test_the_page_asks_to_be_loaded_again_and_runs_nothing(client: Client) -> None:
    """It refreshes by itself, forbids scripts, and shows the channel that was asked for."""
    await client.post(text="in ops")
    await client.post("data-alerts", text="in data-alerts")
    for query, shown in (("", "in data-alerts"), (f"?channel={client.slack.channel('ops').id}", "in ops")):
        async with client.session.get(f"{client.slack.url}/{query}") as answer:
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            page = await answer.text()
        assert '<meta http-equiv="refresh"' in page and "<script" not in page
        assert f'<div class="text">{shown}</div>' in page
