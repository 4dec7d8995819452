"""The daemon: sources opened in order and closed in reverse, and a dead background task takes everything down."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from .accounting import TABLES, Accounting
from .airflow_conditions import TOLD, Conditions
from .airflow_events import FailedRuns
from .collector import Context
from .collectors import ALL
from .config import Config
from .discovery import Dags, Queues
from .exposition import Renderer
from .incident_context import IncidentContext
from .poller import Poller
from .relay import Relay
from .router import store
from .sources import Broker, Database, Sources
from .state import State
from .web import Readiness, application, listening
from .web_config import WebConfig

log = logging.getLogger(__name__)

FORMATS = (TABLES, *store.FORMATS)
"""What made each format of the state file out of the one before: a release may add to these, and changes none."""
RETRY = 1.0
STAGGER = 0.1
"""Seconds between the first reads of two collectors: they share two connections."""


@asynccontextmanager
async def watching(config: Config, accounting: Accounting | None = None) -> AsyncIterator[tuple[Sources, list[Poller]]]:
    """The sources that are configured, open, and a poller for every enabled collector that has one to read."""
    collectors = [accounting or Accounting() if isinstance(collector, Accounting) else collector for collector in ALL]
    dags = config.airflow.dags
    context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(config.celery.queues))
    renderer = Renderer(config.airflow.name)
    async with AsyncExitStack() as stack:
        database = broker = None
        if config.airflow.has_database:
            database = Database(config.airflow.database_dsn, config.airflow.database_schema)
            await stack.enter_async_context(database)
        if config.celery.has_broker:
            broker = await stack.enter_async_context(Broker(config.celery))
        sources = Sources(database, broker)
        yield (
            sources,
            [
                Poller(collector, sources, context, renderer)
                for collector in collectors
                if getattr(sources, collector.source) and config.schedule(collector.name).enabled
            ],
        )


async def serve(
    config: Config, access: WebConfig, stop: asyncio.Event, read: Callable[[], Config] | None = None
) -> None:
    """Poll, answer and relay until `stop` is set; SIGHUP reads the configuration anew; raises OSError."""
    readiness = Readiness()
    failed_runs = FailedRuns(config, lambda: relay.config) if "run_failed" in config.airflow_events.on else None
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(remembering(config))
        accounting = Accounting(state, teller=failed_runs)
        sources, pollers = await stack.enter_async_context(watching(config, accounting))
        context = None
        if sources.database:
            context = IncidentContext(sources.database, accounting.facts, config.airflow.name)
        relay = Relay(config, access, state, read or (lambda: config), partial(_major, sources), context)
        conditions = None
        if state and sources.database and {*config.airflow_events.on} & TOLD.keys():
            conditions = Conditions(config, lambda: relay.config, state, sources.database, pollers)
        if read:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, relay.reload)
        async with listening(application(pollers, config, access, readiness, relay), config.listen, access) as url:
            if state:
                await _open(state, readiness, stop)
            async with asyncio.TaskGroup() as tasks:
                workers = [
                    tasks.create_task(poller.run(delay=index * STAGGER), name=poller.name)
                    for index, poller in enumerate(pollers)
                ]
                if relay.dispatcher and not stop.is_set():
                    tasks.create_task(relay.dispatcher.run(), name="dispatcher")
                workers += [tasks.create_task(conditions.run(), name="conditions")] if conditions else []
                readiness.ready()
                log.info(
                    "ready", extra={"url": url, "collectors": len(pollers), "destinations": len(config.destinations)}
                )
                await stop.wait()
                log.info("stopping")
                readiness.stopping()
                if relay.dispatcher:
                    relay.dispatcher.stop()
                for worker in workers:
                    worker.cancel()


def _major(sources: Sources) -> int:
    """The major version of the Airflow that is watched; the newest where that is not known."""
    schema = sources.database.schema if sources.database else None
    return schema.version[0] if schema and schema.version else 3


@asynccontextmanager
async def remembering(config: Config) -> AsyncIterator[State | None]:
    """The state file, still to be opened, if something has to be remembered; closed at the end."""
    counts = config.airflow.has_database and config.schedule("accounting").enabled
    if not (counts or config.destinations):
        yield None
        return
    state = State(config.state.dir, config.state.max_size)
    try:
        yield state
    finally:
        await state.close()


async def _open(state: State, readiness: Readiness, stop: asyncio.Event) -> None:
    """Waits until no other process has it."""
    while not stop.is_set() and (because := await state.open(FORMATS)):
        if readiness.not_ready_because != because:
            log.warning("not ready", extra={"because": because})
        readiness.not_ready_because = because
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETRY)


async def run(config: Config, access: WebConfig, read: Callable[[], Config]) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gc.freeze()  # what is loaded stays: looking for garbage in it would hold the event loop for 50 ms each time
    await serve(config, access, stop, read)
