"""The command line: `windsock run`, `check`, `demo`, `metrics`, `grants`, `healthcheck`, `version`, and the router's.

Each command imports what it needs itself: a container's health check runs every few seconds, and needs next to nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from . import __version__, router_commands

if TYPE_CHECKING:
    from .config import Config
    from .web_config import WebConfig

log = logging.getLogger(__name__)

INVALID = 2
DEFAULT_URL = f"http://127.0.0.1:{os.environ.get('WINDSOCK_LISTEN', ':9780').rpartition(':')[2]}/-/healthy"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit would complain again
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="windsock", description="Apache Airflow's state as Prometheus metrics.")
    parser.add_argument("--version", action="version", version=f"windsock {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("run", help="serve /metrics from Airflow's database and broker, and alerts to Slack")
    command.set_defaults(command=_run)
    router_commands.add_config(command)
    command.add_argument("--only", choices=("exporter", "router"), help="serve one half of the configuration")

    command = commands.add_parser(
        "check", help="say whether a configuration is valid: 0 yes, 2 no, 1 when the probe fails"
    )
    command.set_defaults(command=_check)
    router_commands.add_config(command)
    command.add_argument(
        "--probe", action="store_true", help="connect, and say what would be exported and what it costs"
    )

    command = commands.add_parser("demo", help="a live Airflow's state at /metrics, without an Airflow")
    command.set_defaults(command=_demo)
    command.add_argument("--once", action="store_true", help="check that it works, then end: 0 yes, 1 no")

    command = commands.add_parser("metrics", help="print the catalogue of everything that is exported")
    command.set_defaults(command=_metrics)
    command.add_argument("--format", choices=("markdown", "json"), default="markdown")

    command = commands.add_parser(
        "grants", help="print the least-privilege role for the database, or the broker's user"
    )
    command.set_defaults(command=_grants)
    command.add_argument("source", nargs="?", choices=("postgres", "redis"), default="postgres")
    command.add_argument("--role", default="windsock", help="the name of the role or user (default: %(default)s)")

    router_commands.add(commands, _load)

    command = commands.add_parser("healthcheck", help="ask a running daemon whether it lives: 0 yes, 1 no")
    command.set_defaults(command=_healthcheck)
    command.add_argument("--url", default=DEFAULT_URL, help="default: %(default)s")

    command = commands.add_parser("version", help="print the version")
    command.set_defaults(command=_version)
    return parser


def _load(options: argparse.Namespace) -> tuple[Config, WebConfig]:
    """Both configurations; ends the command with every error if they have one."""
    from . import logs, web_config
    from .config import ConfigError

    try:
        config = _config(options)
        access = web_config.load(config.web.config_file)
    except ConfigError as error:
        count = "1 error" if len(error.problems) == 1 else f"{len(error.problems)} errors"
        print(f"windsock: the configuration has {count}:", *error.problems, sep="\n  ", file=sys.stderr)
        raise SystemExit(INVALID) from None
    logs.configure(config.log.format, config.log.level)
    for warning in config.warnings:
        log.warning(warning)
    return config, access


def _config(options: argparse.Namespace) -> Config:
    """The configuration as it is now, or the half of it that is asked for; raises ConfigError."""
    from .collectors import ALL
    from .config import ConfigError, load

    overrides = {"listen": options.listen} if options.listen else {}
    config = load(options.config, os.environ, collectors=[collector.name for collector in ALL], overrides=overrides)
    only = getattr(options, "only", None)
    try:
        return config.half(only) if only else config
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def _run(options: argparse.Namespace) -> int:
    from .daemon import run

    try:
        asyncio.run(run(*_load(options), partial(_config, options)))
    except OSError as error:
        print(f"windsock: {error}", file=sys.stderr)
        return 1
    return 0


def _check(options: argparse.Namespace) -> int:
    config, _ = _load(options)
    print("The configuration is valid.")
    return asyncio.run(_probe(config)) if options.probe else 0


async def _probe(config: Config) -> int:
    from .probe import probe, probe_slack
    from .router.slack import Sent

    logging.getLogger("exporter.poller").setLevel(logging.CRITICAL)  # the table says it all
    failed = 0
    if config.airflow.has_database or config.celery.has_broker:
        print(f"{'collector':<16} {'series':>7} {'ms':>7}")
    async for status in probe(config):
        failed += not status.success
        outcome = f"{status.series:>7}" if status.success else f"{'-':>7}"
        remark = "" if status.success else f"  {status.reason}: {status.error}"
        print(f"{status.collector:<16} {outcome} {1000 * (status.duration or 0):>7.1f}{remark}")
    async for name, answer in probe_slack(config):
        failed += not isinstance(answer, Sent)
        print(f"destination {name}: {'Slack accepts its credential' if isinstance(answer, Sent) else answer.reason}")
    return 1 if failed else 0


def _demo(options: argparse.Namespace) -> int:
    try:
        from windsock_demo import main as demo
    except ModuleNotFoundError as error:
        print(
            f"windsock: {error.name} is not installed; the demo comes with: pip install 'windsock[demo]'",
            file=sys.stderr,
        )
        return 1
    return demo(once=options.once)


def _metrics(options: argparse.Namespace) -> int:
    from . import catalogue

    print(catalogue.as_json() if options.format == "json" else catalogue.as_markdown(), end="")
    return 0


def _grants(options: argparse.Namespace) -> int:
    from .collectors import ALL
    from .grants import postgres_grants, redis_grants

    try:
        print(
            postgres_grants(ALL, options.role) if options.source == "postgres" else redis_grants(options.role), end=""
        )
    except ValueError as error:
        print(f"windsock: {error}", file=sys.stderr)
        return INVALID
    return 0


def _healthcheck(options: argparse.Namespace) -> int:
    # Straight to the daemon, whatever proxy the environment names; whether it lives does not depend on its certificate.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(options.url, timeout=5) as response:
            return 0 if response.status == 200 else 1
    except (urllib.error.URLError, OSError, ValueError) as error:
        print(f"windsock: {options.url} does not answer: {getattr(error, 'reason', error)}", file=sys.stderr)
        return 1


def _version(_options: argparse.Namespace) -> int:
    print(f"windsock {__version__} (Python {platform.python_version()})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
