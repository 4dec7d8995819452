"""Slack behind a company's proxy, as the environment names it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from exporter.config.router import Destination
from exporter.config.router import Slack as Settings
from exporter.router.slack import Outcome, Retry, Sent, Slack
from tests.proxy import PASSWORD, Proxy, proxying
from windsock_demo.slack import Workspace, serve

NAME = "slack.test"


@pytest.fixture
async def workspace() -> AsyncIterator[Workspace]:
    """Slack, as it is reached by the proxy only."""
    async with serve(Workspace(pace=None)) as workspace:
        yield workspace


@pytest.fixture
async def proxy(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """The way to Slack; nothing else is in the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with proxying(workspace.url) as proxy:
        yield proxy


async def post(workspace: Workspace, api_url: str, *, hook: bool = False) -> Outcome:
    """What comes of a message to an address of Slack."""
    settings = Settings(token=SecretStr(workspace.token), api_url=api_url)
    address = workspace.webhook_url("ops").replace(workspace.url, api_url.removesuffix("/api"))
    channel = Destination(channel=workspace.channel("ops").id)
    destination = Destination(webhook_url=SecretStr(address)) if hook else channel
    async with Slack(settings) as slack:
        return await slack.post(destination, {"text": "etl failed"}, "key 1")


@pytest.mark.parametrize("hook", [False, True], ids=["a bot", "a webhook"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_by_the_proxy(
    workspace: Workspace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hook: bool, scheme: str
) -> None:
    """It is asked, with its password, for a name that this machine does not know; nothing in ~/.netrc is told."""
    (tmp_path / "netrc").write_text("default login somebody password somebodys")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", scheme + proxy.url().removeprefix("http://"))
    assert isinstance(await post(workspace, f"http://{NAME}/api", hook=hook), Sent)
    (head,) = proxy.heads
    assert head.startswith(f"POST http://{NAME}/")
    assert [line for line in head.splitlines() if line.startswith("Authorization")] == (
        [] if hook else [f"Authorization: Bearer {workspace.token}"]
    )


async def test_past_the_proxy(workspace: Workspace, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on this machine needs none, and neither does what NO_PROXY names."""
    monkeypatch.setenv("HTTP_PROXY", proxy.url())
    assert isinstance(await post(workspace, workspace.api_url), Sent)
    monkeypatch.setenv("NO_PROXY", "example.com,.test")
    assert isinstance(await post(workspace, f"http://{NAME}/api"), Retry)
    assert proxy.heads == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"http://windsock:{PASSWORD}-old@{{}}", "cannot connect: the proxy says 407"),
        (f"http://windsock:{PASSWORD}@127.0.0.1:1", "cannot connect: Connect call failed ('127.0.0.1', 1)"),
        (f"http://windsock:{PASSWORD}@[::1", "cannot connect: InvalidURL"),
        (f"http://wind%3Asock:{PASSWORD}@{{}}", "cannot connect: ValueError"),
    ],
)
async def test_a_proxy_that_is_no_way(
    workspace: Workspace,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    url: str,
    reason: str,
) -> None:
    """Nothing has reached Slack, and it is tried again; neither the token nor the proxy's password is told."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTPS_PROXY", url.format(proxy.address))
    assert await post(workspace, f"https://{NAME}/api") == Retry(reason)
    told = "".join([*proxy.heads, *(str(vars(record)) for record in caplog.records)])
    assert PASSWORD not in told and workspace.token not in told
