"""`python -m windsock_demo.slack`: the look-alike by itself."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from .server import serve
from .workspace import Workspace

_WELCOME = """
A look-alike of Slack runs.

    its page       {slack.url}/
    slack.api_url  {slack.api_url}
    slack.token    {slack.token}
"""


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m windsock_demo.slack", description="A look-alike of Slack.")
    parser.add_argument("channels", nargs="*", default=["data-alerts", "ops"], help="their names (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, default=9781, help="(%(default)s)")
    parser.add_argument("--token-file", type=Path, help="holds the bot token; one is made and written if there is none")
    arguments = parser.parse_args()
    file: Path | None = arguments.token_file
    workspace = Workspace(*arguments.channels, token=file.read_text().strip() if file and file.exists() else "")
    if file and not file.exists():
        file.touch(0o600)
        file.write_text(f"{workspace.token}\n")
    asyncio.run(_run(workspace, arguments.host, arguments.port))


async def _run(workspace: Workspace, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(workspace, host=host, port=port):
        print(_WELCOME.format(slack=workspace))
        for channel in workspace.channels.values():
            print(f"    #{channel.name:<12} {channel.id}  {workspace.webhook_url(channel.id)}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    main()
