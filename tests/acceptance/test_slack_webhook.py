"""Windsock in the place of Slack's incoming webhook, as scripts have it: they change one address."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_router import SECRET, Daemon, daemon, until
from windsock_demo.slack import Order

__all__ = ["daemon"]

BLOCK = {"type": "section", "text": {"type": "mrkdwn", "text": "*orders*: 3 rows <https://example.com|late>"}}
COUNTED = """
windsock_webhook_requests_total{code="200",source="slack"} 3.0
windsock_webhook_requests_total{code="403",source="slack"} 1.0
windsock_webhook_requests_total{code="404",source="slack"} 1.0
windsock_duplicates_total{kind="webhook"} 1.0
windsock_outbox_messages{destination="ops"} 0.0
windsock_deliveries_total{destination="ops",outcome="posted"} 2.0
"""


async def say(it: Daemon, said: dict[str, Any], *, user: str = "", ending: str = "", to: str = "ops") -> str:
    """What is answered to a message; the secret stands before the host, or at the end."""
    url = it.url.replace("//", f"//{user}@") if user else it.url
    async with it.session.post(f"{url}/webhook/slack/{to}{ending}", json=said) as response:
        return f"{response.status} {await response.text()}"


async def test_one_address_is_changed(daemon: Daemon) -> None:
    """With the token before the host or at the end: stored, shown once as it was said, counted, and logged nowhere."""
    async with daemon.running():
        said = {"text": "etl failed <!here>", "blocks": [BLOCK], "username": "airflow"}
        assert await say(daemon, said, user=f"x:{SECRET}") == "200 ok"
        assert await say(daemon, said, ending=f"/{SECRET}") == "200 ok"
        assert await say(daemon, {"text": "report failed"}, ending=f"/{SECRET}") == "200 ok"
        assert await say(daemon, said, ending=f"/{SECRET}x") == "403 invalid_token"
        assert await say(daemon, said, ending=f"/{SECRET}", to="nowhere") == "404 no_service"
        await until(lambda: len(daemon.texts()) == 2)
        (message, _) = daemon.slack.messages("ops")
        shown = {name: message.content[name] for name in ("text", "blocks")}
        assert shown == {"text": "etl failed <!here>", "blocks": [BLOCK]}

        async def all_is_counted() -> bool:
            lines = (await daemon.get("/metrics")).splitlines()
            return all(line in lines for line in COUNTED.split("\n") if line)

        await until(all_is_counted)
        for page in (await daemon.get("/metrics"), await daemon.get("/"), daemon.log.read_text()):
            assert SECRET not in page


@pytest.mark.parametrize(
    "request_",
    [
        "POST /webhook/slack/ops/{} HTTP/9.9",
        "POST /webhook/slack/ops/{}\x01 HTTP/1.1",
        f"POST /webhook/slack/ops/{{}}{9000 * 'x'} HTTP/1.1",
        "POST http://[::1/webhook/slack/ops/{} HTTP/1.1",
        "PO(ST /webhook/slack/ops/{} HTTP/1.1",
        "POST /webhook/slack/ops/x HTTP/1.1\r\nAuthorization : Bearer {}",
    ],
    ids=range(6),
)
async def test_what_cannot_be_read_is_not_logged(daemon: Daemon, request_: str) -> None:
    """A request that is no HTTP may have the token in it, too; the log is at debug."""
    async with daemon.running():
        reader, writer = await asyncio.open_connection(*daemon.url.removeprefix("http://").split(":"))
        writer.write(f"{request_.format(SECRET)}\r\nHost: x\r\n\r\n".encode())
        assert b" 400 " in await reader.readline()
        writer.close()
    assert SECRET not in daemon.log.read_text()


async def test_what_was_answered_ok_is_shown_after_a_death(daemon: Daemon) -> None:
    """Slack is down when the daemon is killed; the next one delivers what was said, in what order it may."""
    daemon.slack.order(Order(status=503, times=0))
    async with daemon.running() as process:
        for number in range(5):
            assert await say(daemon, {"text": f"run {number} failed"}, user=f"x:{SECRET}") == "200 ok"
        process.kill()
        process.wait()
    daemon.slack.orders.clear()
    async with daemon.running():
        await until(lambda: sorted(daemon.texts()) == [f"run {number} failed" for number in range(5)])


async def test_a_dead_letter_is_listed_by_its_words(daemon: Daemon) -> None:
    """And by no key; it can be sent again."""
    daemon.slack.order(Order(error="invalid_blocks", times=3))
    async with daemon.running():
        assert await say(daemon, {"text": "etl failed\nat 3"}, user=f"x:{SECRET}") == "200 ok"

        def listed() -> str:
            return daemon.command("dead-letters", "list").stdout

        await until(lambda: "invalid_blocks" in listed())
        assert listed().splitlines()[-1].endswith("invalid_blocks, etl failed at 3")
        assert daemon.command("dead-letters", "retry").returncode == 0
        await until(lambda: daemon.texts() == ["etl failed\nat 3"])


@pytest.mark.parametrize("users", [False, True])
async def test_users_of_the_endpoint_are_not_asked_for_twice(daemon: Daemon, tmp_path: Path, users: bool) -> None:
    """Where the endpoint has users, a token is enough here."""
    if users:
        (tmp_path / "web.yml").write_text(
            "basic_auth_users: {ann: $2b$04$ABCDEFGHIJKLMNOPQRSTUuYQJ0pTnIo1lOkdsNjjm5rYvLgmy5BKC}"
        )
        daemon.configure(web={"webhook_token_files": ["webhook-token"], "config_file": "web.yml"})
    async with daemon.running():
        assert await say(daemon, {"text": "etl failed"}, ending=f"/{SECRET}") == "200 ok"
