"""The command line of the router: `windsock route`, `render`, `dead-letters`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import Config
    from .router.model import Snapshot
    from .web_config import WebConfig

Load = Callable[[argparse.Namespace], "tuple[Config, WebConfig]"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], load: Load) -> None:
    """The commands, which read the configuration by `load`."""
    command = commands.add_parser("route", help="say which destinations an alert with these labels reaches")
    command.set_defaults(command=lambda options: _route(options, load(options)[0]))
    shared = "the labels that all alerts of a group share"
    command.add_argument("labels", nargs="*", type=_label, metavar="NAME=VALUE", help=shared)
    command.add_argument("--receiver", default="", help="the receiver of Alertmanager")
    add_config(command)

    command = commands.add_parser("render", help="print what Slack would be asked for, and every limit that it breaks")
    command.set_defaults(command=lambda options: _render(options, load(options)[0]))
    command.add_argument("payload", type=Path, help="the body of a webhook of Alertmanager, a JSON file")
    add_config(command)

    command = commands.add_parser("dead-letters", help="list, retry or drop the messages that were given up")
    command.set_defaults(command=lambda options: _dead_letters(options, load(options)[0]))
    command.add_argument("action", choices=("list", "retry", "drop"))
    command.add_argument("ids", nargs="*", type=int, metavar="ID", help="of the list; none means all of them")
    add_config(command)


def add_config(command: argparse.ArgumentParser) -> None:
    """The options of every command that reads the configuration."""
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="windsock.yml; the environment is read in any case"
    )
    command.add_argument("--listen", metavar="HOST:PORT", help="overrides the configured address")


def _label(word: str) -> tuple[str, str]:
    name, separator, value = word.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{word}: must be a label, such as severity=critical")
    return name, value


def _route(options: argparse.Namespace, config: Config) -> int:
    from .router.routing import route

    for target in route(config, dict(options.labels), options.receiver):
        print(f"{target.destination}  {target.mention}".rstrip())
    return 0


def _render(options: argparse.Namespace, config: Config) -> int:
    from .router.message import preview
    from .router.model import Malformed, parse
    from .router.routing import route
    from .router.templates import Templates

    try:
        snapshot = parse(options.payload.read_bytes(), time.time())
    except (OSError, Malformed) as error:
        print(f"windsock: {options.payload}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 2
    targets = route(config, snapshot.labels, snapshot.receiver)
    airflow = config.airflow
    shown = preview(snapshot, targets, Templates(config.templates), airflow.name, airflow.base_url)
    print(json.dumps(shown, indent=2, ensure_ascii=False))
    return 1 if any(request["violations"] for request in shown) else 0


def _told(snapshot: Snapshot) -> str:
    """What a message without an alert says first, or its group's key."""
    from .router.said import words

    told = next(iter(words(snapshot.said)), snapshot.key)
    return " ".join("".join(sign if sign.isprintable() else " " for sign in told).split())[:80]


def _dead_letters(options: argparse.Namespace, config: Config) -> int:
    from .router import store
    from .state import beside

    try:
        with beside(config.state.dir) as connection:
            found = store.dead_letters(connection)
            ids = options.ids or [letter.id for letter in found]
            if options.action == "list":
                print(f"{'id':>6}  {'given up':<20}  {'destination':<20}  reason, alert")
                for letter in found:
                    if letter.id in ids:
                        when = datetime.fromtimestamp(letter.died, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                        name = letter.snapshot.labels.get("alertname") or _told(letter.snapshot)
                        print(f"{letter.id:>6}  {when:<20}  {letter.destination:<20}  {letter.reason}, {name}")
            elif options.action == "retry":
                print(f"{store.retry(connection, ids, time.time())} messages wait again")
            else:
                print(f"{store.drop(connection, ids)} messages dropped")
    except OSError as error:
        print(f"windsock: {error}", file=sys.stderr)
        return 1
    return 0
