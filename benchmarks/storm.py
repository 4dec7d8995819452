"""A11: a storm of 100,000 groups of alerts that come at once, to one channel in its usual pace."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.webhooks import Daemon, body, peak
from windsock_demo.slack import Workspace, serve

from .figures import Goal, Result, percentile, table

GROUPS, WORKERS, CRITICAL = 100_000, 16, 10_000
AFTER = 30.0
MINUTE = 60.0


@dataclass
class Work:
    """Times are in seconds; `critical` from just before a webhook until its message is in the channel."""

    received: float = 0.0
    first: float = 0.0
    critical: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    posts: int = 0
    updates: int = 0
    memory: float = 0.0
    last: str = ""


def measure() -> Result:
    """About ten minutes."""
    with tempfile.TemporaryDirectory() as folder:
        work = asyncio.run(_work(Path(folder)))
    return Result(_goals(work), _text(work))


async def _work(folder: Path) -> Work:
    work = Work()
    async with serve() as slack:
        daemon = Daemon(folder, slack)
        channel = {"data": {"channel": slack.channel("data-alerts").id}}
        changed = {"destinations": channel, "routes": [{"to": ["data"]}], "storm": {"groups": 30}}
        daemon.file.write_text(json.dumps(json.loads(daemon.file.read_text()) | changed))
        async with daemon.running() as process:
            began, sent = time.time(), dict[str, float]()
            numbers = itertools.count()
            await asyncio.gather(*(_load(daemon, numbers, sent) for _ in range(WORKERS)))
            work.received = time.time() - began
            await asyncio.sleep(AFTER)
            work.memory = peak(process.pid)
        work.answers = daemon.truth.seconds
        _look(work, slack, began, sent)
    return work


async def _load(daemon: Daemon, numbers: itertools.count[int], sent: dict[str, float]) -> None:
    """Groups of 200 kinds of alerts and 5,000 DAGs; one in CRITICAL is critical."""
    while (number := next(numbers)) < GROUPS:
        key = f"group-{number}"
        severity = "critical" if number % CRITICAL == CRITICAL // 2 else "warning"
        if severity == "critical":
            sent[key] = time.time()
        content = body(key, number, dag_id=f"dag_{number % 5000}", severity=severity)
        content = content.replace(f'"alertname": "{key}"'.encode(), _kind(number))
        assert await daemon.post(key, content, number)


def _kind(number: int) -> bytes:
    return f'"alertname": "Kind{number % 200}"'.encode()


def _look(work: Work, slack: Workspace, began: float, sent: dict[str, float]) -> None:
    messages = slack.messages("data-alerts")
    summary = next(it for it in messages if "STORM" in str(it.content["text"]))
    work.first, work.last = summary.posted - began, str(summary.content["text"])
    arrived = {found[0]: it.posted for it in messages if (found := re.search(r"group-\d+", str(it.content["text"])))}
    work.critical = [arrived[key] - moment for key, moment in sent.items()]
    times = [(it.time, it.method) for it in slack.requests if it.result == "ok"]
    work.posts = _most([when for when, method in times if method == "chat.postMessage"])
    work.updates = _most([when for when, method in times if method == "chat.update"])


def _most(times: list[float]) -> int:
    """The most in any minute."""
    return max((sum(start <= when < start + MINUTE for when in times) for start in times), default=0)


def _goals(work: Work) -> list[Goal]:
    return [
        Goal("groups acknowledged", len(work.answers), GROUPS, least=True),
        Goal("resident memory, at most", work.memory, 256, " MB"),
        Goal("posts in any minute", work.posts, 60),
        Goal("updates in any minute", work.updates, 40),
        Goal("first summary", work.first, 10, " s"),
        Goal("webhook of a critical group to Slack, slowest", max(work.critical), 5, " s"),
    ]


def _text(work: Work) -> str:
    rows = [
        ("acknowledged", len(work.answers), *(1000 * percentile(work.answers, part) for part in (0.5, 0.99, 1.0))),
        ("critical, to Slack", len(work.critical), *(1000 * percentile(work.critical, p) for p in (0.5, 0.99, 1.0))),
    ]
    return f"""\
{table("ms | number | p50 | p99 | max", rows)}
All had come after {work.received:.0f} s. The summary says in the end: `{work.last}`.
"""
