"""`windsock demo`: embedded servers, a simulated Airflow on them, the daemon, and a look-alike of Slack."""

from __future__ import annotations

import asyncio
import io
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql
from redis import Redis, RedisError

from exporter import logs, web_config
from exporter.collectors import ALL
from exporter.config import Config, load
from exporter.daemon import serve
from exporter.grants import postgres_grants
from exporter.sources.broker import acl_rule

from . import alerts, servers
from .check import CHANNEL, check, wait_until_ready
from .simulator import Simulator
from .slack import Workspace
from .slack import serve as open_workspace

PORT = 9780
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ROLE = "windsock"
TICK = 0.5
PAST = 30
"""Seconds that are simulated before the daemon starts, so that its first pages show something."""

_WELCOME = """
Windsock watches a simulated Airflow 3.3, whose hours last 20 seconds.

    status page  http://{address}/
    metrics      http://{address}/metrics
    messages     {slack}/  (drawn as Slack would)
{prometheus}{moved}
Ctrl-C ends it all and leaves nothing behind.
"""
_PROMETHEUS = "    Prometheus   {url}/api/v1/alerts  (the alerts that it raises)\n"
_MOVED = f"    (port {PORT} is taken, so this is the next free one)\n"

_SETTINGS = {
    "airflow.name": "demo",
    "airflow.dags.tags": ["tier"],
    "airflow.limits.queued": "20s",
    "airflow_events.on": ["run_failed", "success_overdue", "dag_overdue", "import_error", "scheduler_silent"],
    "airflow_events.dags.deny": "vendor_rates",  # it fails too often for its runs to be told one by one
    "collectors": {collector.name: {"interval": "5s"} for collector in ALL},
}


def main(*, once: bool) -> int:
    """Run until a signal comes, or, once, until all was checked; 0 if all went well."""
    started, stop = time.monotonic(), threading.Event()
    for number in SIGNALS:
        signal.signal(number, lambda *_: stop.set())  # and no exception, which could come between a server and its end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    logs.configure("logfmt", "warning")
    print("Starting PostgreSQL and Valkey ...")
    try:
        with TemporaryDirectory(prefix="windsock-demo-") as directory, _airflow(Path(directory)) as airflow:
            passed = asyncio.run(_watch(Path(directory), *airflow, stop, once=once))
    except RuntimeError as error:
        print(f"windsock: {error}", file=sys.stderr)
        return 1
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # all is cleaned up: the interpreter may end in peace
    if once:
        print(f"{'All is well' if passed else 'Not all is well'}, after {time.monotonic() - started:.1f} s.")
    return 0 if passed else 1


@contextmanager
def _airflow(directory: Path) -> Iterator[tuple[Simulator, str, Mapping[str, str]]]:
    """A simulated Airflow, the address of its database, and the variables to read it as least-privilege users."""
    password = secrets.token_hex(16)
    with (
        servers.postgres(directory) as postgres,
        servers.valkey(directory) as valkey,
        psycopg.connect(postgres.url(), autocommit=True) as connection,
        Redis.from_url(valkey.url) as broker,
    ):
        connection.execute(Path(__file__).with_name("airflow-3.3.sql").read_bytes())
        connection.execute(postgres_grants(ALL, ROLE).encode())
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(ROLE), password))
        broker.execute_command(acl_rule(ROLE).replace("PASSWORD", password))
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=PAST)
        simulator = Simulator(connection, broker, start)
        for second in range(PAST):
            simulator.step(start + timedelta(seconds=second))
        environ = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.url(user=ROLE, password=password),
            "AIRFLOW__CELERY__BROKER_URL": valkey.url.replace("://", f"://{ROLE}:{password}@"),
        }
        yield simulator, postgres.url(), environ


def _config(environ: Mapping[str, str], directory: Path, slack: Workspace) -> Config:
    """All of it: Airflow's variables, and a channel of this workspace."""
    settings = {
        **_SETTINGS,
        "state.dir": str(directory / "state"),
        "listen": f"{servers.HOST}:{_free_port()}",
        "slack": {"token": slack.token, "api_url": slack.api_url},
        "destinations": {CHANNEL: {"channel": slack.channel(CHANNEL).id}},
    }
    return load(None, environ, collectors=[collector.name for collector in ALL], overrides=settings)


async def _watch(
    directory: Path,
    simulator: Simulator,
    database_url: str,
    environ: Mapping[str, str],
    stop: threading.Event,
    *,
    once: bool,
) -> bool:
    """Simulate, and serve what the daemon sees; returns whether the check passed, if it was to be made."""
    end, passed = asyncio.Event(), True
    async with open_workspace(Workspace(CHANNEL)) as slack, asyncio.TaskGroup() as tasks:
        config = _config(environ, directory, slack)
        tasks.create_task(serve(config, web_config.load(None), end))
        tasks.create_task(_simulate(simulator, stop))
        with alerts.raised(config.listen, directory) as prometheus:
            if not prometheus:
                tasks.create_task(alerts.stand_in(config.listen, stop))
            try:
                if once:
                    passed = await check(config.listen, database_url, slack, stop)
                elif await asyncio.to_thread(wait_until_ready, config.listen, stop):
                    print(_welcome(config, slack, prometheus))
                    await asyncio.to_thread(stop.wait)
            finally:
                stop.set()
                end.set()
    return passed


def _welcome(config: Config, slack: Workspace, prometheus: str | None) -> str:
    return _WELCOME.format(
        address=config.listen,
        slack=slack.url,
        prometheus=_PROMETHEUS.format(url=prometheus) if prometheus else "",
        moved="" if config.listen.port == PORT else _MOVED,
    )


async def _simulate(simulator: Simulator, stop: threading.Event) -> None:
    """A step each TICK; when a server is gone the daemon goes on, to show that."""
    try:
        while not stop.is_set():
            await asyncio.to_thread(simulator.step, datetime.now(UTC))
            await asyncio.to_thread(stop.wait, TICK)
    except (psycopg.OperationalError, RedisError) as error:
        print(f"The simulation has ended: {str(error).splitlines()[0]}")


def _free_port() -> int:
    """The port of the daemon, or the next one that is free."""
    for port in range(PORT, PORT + 100):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((servers.HOST, port))
            return port
    raise RuntimeError(f"the ports from {PORT} to {PORT + 99} are all taken")
