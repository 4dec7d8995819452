"""A look-alike of Slack as a process of its own, and what its channel shows."""

from __future__ import annotations

import json
import re
import secrets
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from windsock_demo import servers
from windsock_demo.processes import launched, wait_for
from windsock_demo.slack import Workspace

from .api import Row

NAME = "data-alerts"


@dataclass(frozen=True)
class Channel:
    """A channel, as an app with this token reads it."""

    api_url: str
    token: str
    id: str

    def messages(self) -> list[Row]:
        """What it shows, oldest first."""
        return self._call("conversations.history")[::-1]

    def thread(self, ts: str) -> list[str]:
        """The lines below a message."""
        return [reply["text"] for reply in self._call("conversations.replies", ts=ts)[1:]]

    def runs(self) -> list[tuple[str, str, str]]:
        """Of each message the DAG whose run it is about, whether that has failed or is mended, and which it is."""
        told = []
        for message in self.messages():
            found = re.search(r"(\w+) \S+: A run of (\w+) failed", message["text"])
            assert found, message["text"]
            told.append((found[2], found[1], message["ts"]))
        return sorted(told)

    def _call(self, method: str, **arguments: str) -> list[Row]:
        query, headers = urlencode({"channel": self.id, **arguments}), {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.api_url}/{method}?{query}", headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            answer = json.load(response)
        assert answer["ok"], answer
        found: list[Row] = answer["messages"]
        return found


@contextmanager
def slack(directory: Path) -> Iterator[Channel]:
    """Its only channel."""
    port, token, log = servers.free_port(), secrets.token_hex(8), directory / "slack.log"
    (directory / "slack-token").write_text(token)
    command = [sys.executable, "-m", "windsock_demo.slack", NAME, "--port", str(port)]
    with launched([*command, "--token-file", str(directory / "slack-token")], log) as process:
        channel = Channel(f"http://{servers.HOST}:{port}/api", token, Workspace(NAME).channel(NAME).id)

        def answers() -> bool:
            with suppress(OSError):
                return channel.messages() == []
            return False

        wait_for(process, log, answers)
        yield channel
