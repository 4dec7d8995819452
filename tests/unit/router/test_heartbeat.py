"""The sign of life that somebody else waits for: every minute, and only while Slack grants what it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import generate_latest

from exporter.telemetry import HEARTBEATS, REGISTRY, UPSTREAM_REQUESTS
from tests.delivery import delivering, two
from tests.virtual import EPOCH, clock, run
from windsock_demo.slack import Order, Workspace

SECRET = "s3cr3t-ping-address"


class Ear:
    """It notes when it is called, in seconds since the start, and answers with this status."""

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.status = 200
        self.url = ""

    async def hear(self, request: web.Request) -> web.Response:
        """A ping."""
        assert request.path == f"/{SECRET}"
        self.calls.append(clock() - EPOCH)
        return web.Response(status=self.status)


@asynccontextmanager
async def listening() -> AsyncIterator[Ear]:
    """Someone who waits for it."""
    ear = Ear()
    app = web.Application()
    app.router.add_get("/{name}", ear.hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    ear.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{SECRET}"
    try:
        yield ear
    finally:
        await runner.cleanup()


def counted(result: str) -> float:
    """How many heartbeats there were of a kind."""
    return REGISTRY.get_sample_value("windsock_heartbeats_total", {"result": result}) or 0.0


def test_it_beats_while_slack_grants(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ten minutes after the last request that Slack granted it stops; one that it grants brings it back."""

    async def main() -> None:
        async with listening() as ear, delivering(tmp_path) as it:
            HEARTBEATS.clear()
            (tmp_path / "url").write_text(ear.url)
            it.configure(heartbeat_url_file=tmp_path / "url")
            await asyncio.sleep(1799)
            assert len(ear.calls) == 30
            assert it.slack.counts["auth.test", "ok"] <= 6
            it.slack.order(Order(error="invalid_auth", times=0))
            await asyncio.sleep(1799)
            assert 1799 < ear.calls[-1] <= 1799 + 600
            withheld = counted("withheld")
            assert withheld >= 19
            it.slack.orders.clear()
            await asyncio.sleep(60)
            assert ear.calls[-1] >= 3599
            assert f'windsock_heartbeats_total{{result="withheld"}} {withheld}' in generate_latest(REGISTRY).decode()

    run(main())
    assert SECRET not in caplog.text


def test_an_incoming_webhook_is_asked(tmp_path: Path) -> None:
    """It is asked for what it refuses for no other reason than its content: nothing is posted."""

    def hook(slack: Workspace) -> dict[str, dict[str, str]]:
        return {"ops": two(slack)["ops"]}

    async def main() -> None:
        async with listening() as ear, delivering(tmp_path, hook) as it:
            it.configure(heartbeat_url=ear.url)
            await asyncio.sleep(1799)
            assert len(ear.calls) == 30
            assert it.texts("ops") == []

    run(main())


def test_nobody_hears(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that is no success is counted, and told once, without the address."""

    async def main() -> None:
        async with listening() as ear, delivering(tmp_path) as it:
            HEARTBEATS.clear()
            UPSTREAM_REQUESTS.clear()
            ear.status = 500
            it.configure(heartbeat_url=ear.url)
            await asyncio.sleep(600)
            failed = counted("failed")
            assert failed >= 9
            sample = f'windsock_upstream_requests_total{{result="failed",upstream="heartbeat"}} {failed}'
            assert sample in generate_latest(REGISTRY).decode().splitlines()
            (trouble,) = [record for record in caplog.records if record.message == "upstream fails"]
            assert (trouble.upstream, trouble.reason) == ("heartbeat", "HTTP 500")  # type: ignore[attr-defined]
            ear.status = 204
            await asyncio.sleep(60)
            assert counted("sent") >= 1
            assert "upstream answers again" in caplog.text

    with caplog.at_level("INFO"):
        run(main())
    assert SECRET not in caplog.text
