"""What takes the endpoint for an incoming webhook of Slack's: what it is answered, and what is on disk then."""

from __future__ import annotations

import json
import logging
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import bcrypt
import pytest
from yarl import URL

from exporter import webhook
from exporter.state import State
from exporter.telemetry import REGISTRY
from exporter.web_config import Users, WebConfig
from tests.integration.router.test_webhook import (
    JSON,
    basic,
    configured,
    connection,
    counted,
    reached,
    served,
    state,
    stored,
    tokens,
)
from windsock_demo.slack import Workspace, serve

__all__ = ["state", "tokens"]

PATH = "/webhook/slack/ops"
SAID = b'{"text": "etl failed"}'
OK = (200, "ok")


async def said(
    client: aiohttp.ClientSession, body: Any = SAID, path: str | URL = PATH, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """The status and the text of the answer, which is never anything else."""
    data = BytesIO(body) if isinstance(body, bytes) else body
    async with client.post(path, data=data, headers=JSON if headers is None else headers) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        assert response.status in webhook.CODES["slack"]
        return response.status, await response.text()


async def test_ok_is_on_disk(state: State) -> None:
    """For the destination of the path, whatever the routes say; the same again is `ok`, counted, and not stored."""
    answered = counted("windsock_webhook_requests_total", source="slack", code="200")
    doubles = counted("windsock_duplicates_total", kind="webhook")
    async with served(state) as client:
        assert [await said(client), await said(client)] == [OK, OK]
        (snapshot,) = (await stored(state)).values()
        assert (snapshot.source, snapshot.said) == ("slack", {"text": "etl failed"})
        assert await reached(state) == ["ops"]
        assert await said(client, path="/webhook/slack/data") == OK
        assert await reached(state) == ["data", "ops"]
    assert counted("windsock_webhook_requests_total", source="slack", code="200") == answered + 3
    assert counted("windsock_duplicates_total", kind="webhook") == doubles + 1
    for status in ("firing", "resolved"):
        labels = {"source": "slack", "status": status}
        assert REGISTRY.get_sample_value("windsock_alerts_received_total", labels) is None, "it is no alert"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (SAID, JSON),
        (SAID, {"Content-Type": "application/json; charset=utf-8"}),
        (SAID, {"Content-Type": "application/x-www-form-urlencoded"}),
        (SAID, {"Content-Type": "text/plain"}),
        ({"payload": SAID.decode()}, {}),
    ],
)
async def test_every_way_in_which_scripts_post(state: State, body: Any, headers: dict[str, str]) -> None:
    """JSON that says what it is, or does not, and a form."""
    async with served(state) as client:
        assert await said(client, body, headers=headers) == OK
    assert [it.said for it in (await stored(state)).values()] == [{"text": "etl failed"}]


@pytest.mark.parametrize(
    ("path", "body", "headers", "answer"),
    [
        ("/webhook/slack/nowhere", SAID, {}, (404, "no_service")),
        ("/webhook/slack/nowhere/T0KEN", SAID, {}, (404, "no_service")),
        (PATH, b"", {}, (400, "invalid_payload")),
        (PATH, b"{}", {}, (400, "no_text")),
        (PATH, b'{"text": "a", "attachments": [' + b"{}," * 100 + b"{}]}", {}, (400, "too_many_attachments")),
        (PATH, b'{"text": "a", "blocks": [{}]}', {}, (400, "invalid_blocks")),
        (PATH, b'{"text": "' + b"\xe4" + b'"}', {}, (400, "invalid_payload")),
        (PATH, b'{"text": "a", "x":' + b"[" * 400_000 + b"]" * 400_000 + b"}", {}, (400, "invalid_payload")),
        (PATH, SAID, {"Origin": "http://evil.example.com"}, (403, "A page in a browser may not post here.")),
        (
            PATH,
            SAID,
            {"Content-Encoding": "gzip"},
            (415, "A compressed body is not read: send it as it is, without Content-Encoding."),
        ),
        (
            PATH,
            b'{"text": "' + b"x" * (1 << 20) + b'"}',
            {},
            (413, "The message is refused: it may have 1 MB, and has 1 MB."),
        ),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_what_is_refused(
    state: State, path: str, body: bytes, headers: dict[str, str], answer: tuple[int, str]
) -> None:
    """In Slack's words where it has one; nothing is stored, and it is counted."""
    code, before = str(answer[0]), counted("windsock_webhook_requests_total", source="slack", code=str(answer[0]))
    async with served(state) as client:
        assert await said(client, body, path, JSON | headers) == answer
    assert await stored(state) == {}
    assert counted("windsock_webhook_requests_total", source="slack", code=code) == before + 1


async def test_other_methods_and_paths(state: State) -> None:
    """Nothing is redirected."""
    async with served(state) as client:
        for path in (PATH, f"{PATH}/T0KEN"):
            async with client.get(path) as response:
                assert (response.status, response.headers["Allow"]) == (405, "POST")
        for path in ("/webhook/slack", "/webhook/slack/", f"{PATH}/"):
            async with client.post(path, data=SAID, allow_redirects=False) as response:
                assert response.status == 404


@pytest.mark.parametrize(
    ("ending", "authorization", "status"),
    [
        ("", "Bearer t0ken-one", 200),
        ("", basic("x", "t0ken-two"), 200),
        ("", basic("ann", "right"), 200),
        ("/t0ken-one", None, 200),
        ("/t0ken-two", None, 200),
        ("/%74%30ken-one", None, 200),
        ("/t0ken-one", "Bearer wrong", 200),
        ("", None, 403),
        ("", "Bearer wrong", 403),
        ("/t0ken", None, 403),
        ("/t0ken-one/", None, 403),
        ("/t0ken-one/x", None, 403),
        ("/right", None, 403),
        ("/ann:right", None, 403),
        ("/%00%ff", None, 403),
        ("/wrong", "Bearer t0ken-one", 403),
    ],
)
async def test_credentials(
    state: State,
    tokens: list[Path],
    caplog: pytest.LogCaptureFixture,
    ending: str,
    authorization: str | None,
    status: int,
) -> None:
    """A token may end the path in place of the header, as Slack's secret does; no log tells of it, nor the answer."""
    caplog.set_level(logging.DEBUG)
    users = Users({"ann": bcrypt.hashpw(b"right", bcrypt.gensalt(4))})
    config = configured(web={"webhook_token_files": tokens})
    headers = JSON | ({"Authorization": authorization} if authorization else {})
    async with served(state, config, WebConfig(users=users)) as client:
        answer = await said(client, path=PATH + ending, headers=headers)
    assert answer == (OK if status == 200 else (403, "invalid_token"))
    assert len(await stored(state)) == (status == 200)
    assert not any(secret in str(vars(record)) for record in caplog.records for secret in ("t0ken", "right", "/wrong"))


async def test_a_token_of_any_sign_may_end_the_path(state: State, tmp_path: Path) -> None:
    """Percent-encoded, as in any address."""
    token = "a/b?c#d%e+f:@g;h=i&j"
    (tmp_path / "token").write_text(token)
    async with served(state, configured(web={"webhook_token_files": [tmp_path / "token"]})) as client:
        url = f"{str(client._base_url).rstrip('/')}{PATH}/{quote(token, safe='')}"
        assert await said(client, path=URL(url, encoded=True)) == OK


async def test_without_tokens(state: State) -> None:
    """Only this machine may post, and with any secret at the end."""
    async with served(state, configured(listen="0.0.0.0:9780")) as client:
        status, sentence = await said(client)
        assert status == 403 and "web.webhook_token_files" in sentence
    async with served(state) as client:
        assert await said(client, path=f"{PATH}/whatever") == OK


async def test_what_cannot_be_stored_is_503(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what does not arrive; what ends too early is 400."""
    closed = State(tmp_path / "closed")
    async with served(closed) as client:
        assert await said(client) == (503, "It cannot be stored now: the state file is not open. Try again.")
    await closed.close()
    monkeypatch.setattr(webhook, "READ_TIMEOUT", 0.2)
    async with served(state) as client:
        reader, writer = await connection(client)
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert b" 503 " in await reader.readuntil(b"\r\n")
        writer.close()


async def test_the_look_alike_answers_the_same(state: State) -> None:
    """What Slack refuses is refused here with the same status and word."""
    bodies: list[Any] = [
        {},
        {"text": ""},
        {"text": "a", "blocks": {}},
        {"text": "a", "attachments": [{"text": "a"}] * 101},
        [],
        "text",
    ]
    async with serve(Workspace("ops", pace=None)) as slack, served(state) as client:
        for body in bodies:
            async with client.post(slack.webhook_url("ops"), json=body) as response:
                expected = response.status, await response.text()
            assert await said(client, json.dumps(body)) == expected
        async with client.post(slack.webhook_url("ops")[:-1] + "x", json={"text": "a"}) as response:
            assert (response.status, await response.text()) == (403, "invalid_token")
        async with client.post(slack.webhook_url("ops"), json={"text": "a"}) as response:
            assert (response.status, await response.text()) == await said(client) == OK
