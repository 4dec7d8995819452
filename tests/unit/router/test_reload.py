"""A reload reaches every part of the router: what concerns messages is otherwise from then on, without a start."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from exporter.config import Config
from exporter.relay import Relay
from exporter.router import store
from exporter.telemetry import REGISTRY
from exporter.web_config import WebConfig
from tests.delivery import delivering
from tests.virtual import clock, run
from windsock_demo import servers

NAME = 'alertname="Watchdog"'
GROUPS = 3
"""More than so many that wait are a storm."""


def asked() -> list[float]:
    """How often Alertmanager and Prometheus were, in vain: nobody listens there."""
    names = ("alertmanager", "prometheus")
    labels = [{"upstream": name, "result": "failed"} for name in names]
    return [REGISTRY.get_sample_value("windsock_upstream_requests_total", each) or 0.0 for each in labels]


def test_a_reload_reaches_every_part(tmp_path: Path) -> None:
    """Alertmanager and Prometheus are asked, a watchdog is missed, and a storm begins; all of it can be ended, too."""

    async def main() -> None:
        async with delivering(tmp_path, started=False) as it:
            before, nowhere = asked(), f"http://{servers.HOST}:{servers.free_port()}"
            relay = Relay(it.config, WebConfig(), it.state, lambda: Config.model_validate(it.sections))
            assert relay.intake and relay.dispatcher
            it.dispatcher = relay.dispatcher
            it.dispatcher._shared.clock = clock
            await it.state.run(partial(store.live, now=clock() - 3600))  # since when it was down
            async with it.running():
                for number in range(2 * GROUPS):
                    await it.tell(f"before-{number}")
                await asyncio.sleep(30)
                assert (len(it.texts()), asked()) == (2 * GROUPS, before)

                plain = dict(it.sections)
                it.sections |= {"alertmanagers": [nowhere], "prometheus_url": nowhere, "storm": {"groups": GROUPS}}
                it.sections |= {"watchdogs": [{"match": [NAME]}]}
                assert relay.reload() == []
                assert [dog.name for dog in relay.config.watchdogs] == [NAME]
                for number in range(2 * GROUPS):
                    await it.tell(f"after-{number}")
                await asyncio.sleep(600)
                assert [new > old for new, old in zip(asked(), before, strict=True)] == [True, True]
                assert any("STORM" in text for text in it.texts())
                (missing,) = [text for text in it.texts() if "WindsockWatchdogMissing" in text]
                assert "CRITICAL" in missing

                for number in range(2 * GROUPS):
                    await it.tell(f"in-the-end-{number}")
                await asyncio.sleep(30)
                assert len([text for text in it.texts() if "STORM" in text]) == 2
                it.sections = plain
                assert relay.reload() == []
                await asyncio.sleep(60)
                before = asked()
                await asyncio.sleep(600)
                assert asked() == before
                (missing,) = [text for text in it.texts() if "WindsockWatchdogMissing" in text]
                assert "RESOLVED" in missing
                own = [text for text in it.texts() if "in-the-end" in text and "STORM" not in text]
                assert len(own) == 2 * GROUPS

    run(main())
