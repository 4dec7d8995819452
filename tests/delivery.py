"""Everything between an accepted webhook and the look-alike of Slack, in a time that leaps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from exporter.config import Config
from exporter.daemon import FORMATS
from exporter.router import store
from exporter.router.dispatcher import Dispatcher
from exporter.router.lane import Shared
from exporter.router.model import Alert, Snapshot
from exporter.router.routing import Target
from exporter.router.slack import Slack
from exporter.router.templates import Templates
from exporter.state import State
from tests.virtual import VirtualLoop, clock
from windsock_demo.slack import Message, Workspace, serve


def snapshot(
    key: str = "etl",
    firing: Collection[str] = ("a",),
    resolved: Collection[str] = (),
    *,
    severity: str = "warning",
    now: float = 0.0,
    starts: float = 0.0,
    **more: Any,
) -> Snapshot:
    """A group with these alerts."""

    def alert(name: str, *, fires: bool) -> Alert:
        labels = {"alertname": key, "severity": severity, "task_id": name}
        return Alert(name, fires, starts or now, None if fires else now, labels, {"summary": f"{name} failed"}, "")

    alerts = [alert(name, fires=True) for name in firing] + [alert(name, fires=False) for name in resolved]
    told: dict[str, Any] = {
        "source": "alertmanager",
        "receiver": "slack",
        "key": key,
        "external_url": "http://am-1",
        "reason": "",
        "truncated": 0,
        "group_labels": {"alertname": key},
        "common_labels": {"alertname": key, "severity": severity},
        "common_annotations": {},
        "route_labels": {},
        "firing": len(firing),
        "resolved": len(resolved),
        "alerts": tuple(alerts),
        "fingerprints": {},
        "received": now,
    }
    return Snapshot(**(told | more))


@dataclass
class Delivery:
    """A dispatcher at work, what it is given, and what Slack shows."""

    state: State
    slack: Workspace
    directory: Path
    sections: dict[str, object]
    config: Config
    dispatcher: Dispatcher

    async def tell(
        self, key: str = "etl", firing: Collection[str] = ("a",), *to: str, reopen: float = 1800.0, **more: Any
    ) -> str:
        """A webhook about a group arrives, for these destinations, or the first one, where @U1 is mentioned."""
        targets = [Target(name, "", reopen) for name in to] or [
            Target(next(iter(self.config.destinations)), "<@U1>", reopen)
        ]
        told = snapshot(key, firing, **({"now": clock()} | more))
        return await self.state.run(partial(store.accept, snapshot=told, targets=targets, now=clock()))

    def texts(self, channel: str = "data-alerts") -> list[str]:
        """What each of a channel's messages says, all its parts together; without replies."""
        return [content(message) for message in self.slack.messages(channel) if not message.thread]

    def threads(self, channel: str = "data-alerts") -> list[list[str]]:
        """What is said below each of them; a line that the channel shows, too, begins with an exclamation mark."""
        return [
            ["!" * reply.broadcast + reply.content["text"] for reply in self.slack.replies(channel, message.ts)]
            for message in self.slack.messages(channel)
            if not message.thread
        ]

    async def settled(self, within: float = 3600.0) -> None:
        """Until nothing waits."""
        async with asyncio.timeout(within):
            while any(
                waiting.messages for waiting in (await self.state.run(partial(store.survey, now=clock()))).values()
            ):
                await asyncio.sleep(0.25)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the dispatcher runs; in the end it is stopped."""
        task = asyncio.create_task(self.dispatcher.run())
        try:
            yield
        finally:
            self.dispatcher.stop()
            await task

    async def die(self) -> None:
        """The daemon dies, whatever it does, and another takes its place."""
        await self.state.close()
        self.state = await opened(self.directory)
        self.renew()

    def renew(self) -> None:
        """Another dispatcher."""
        self.dispatcher = dispatcher(self.state, self.config)

    def configure(self, **sections: object) -> None:
        """Another configuration, in place of these sections."""
        self.sections |= sections
        self.config = Config.model_validate(self.sections)
        self.dispatcher.configure(self.config, Templates({}))

    def use_token(self, token: str) -> None:
        """Another token for the bot."""
        self.configure(slack={"token": token, "api_url": self.slack.api_url})


def content(message: Message) -> str:
    """All that a message says."""
    return json.dumps(message.content, ensure_ascii=False)


def dispatcher(state: State, config: Config) -> Dispatcher:
    """One that looks at the clock of the loop that leaps."""
    return Dispatcher(Shared(state, Slack(config.slack), config, Templates({}), lambda: 3, clock))


async def opened(directory: Path) -> State:
    """The state file, as the daemon has it."""
    state = State(directory)
    assert await state.open(FORMATS) is None
    return state


@asynccontextmanager
async def delivering(
    directory: Path,
    destinations: Callable[[Workspace], dict[str, Any]] | None = None,
    *,
    started: bool = True,
    workspace: Workspace | None = None,
    storm: int = 0,
) -> AsyncIterator[Delivery]:
    """With the look-alike's two channels as destinations, the second one by its webhook, unless there are others."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with serve(workspace or Workspace(clock=clock)) as slack:
        loop.calm()
        account = {"token": slack.token, "api_url": slack.api_url}
        sections: dict[str, object] = {"slack": account, "destinations": (destinations or two)(slack)}
        sections["storm"] = {"groups": storm}
        config, state = Config.model_validate(sections), await opened(directory)
        delivery = Delivery(state, slack, directory, sections, config, dispatcher(state, config))
        try:
            if started:
                async with delivery.running():
                    yield delivery
            else:
                yield delivery
        finally:
            await delivery.state.close()


def two(slack: Workspace) -> dict[str, Any]:
    """A channel by the bot, and one by its webhook."""
    return {"data": {"channel": slack.channel("data-alerts").id}, "ops": {"webhook_url": slack.webhook_url("ops")}}
