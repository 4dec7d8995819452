"""Events are one line each, which tools can read, and no password is in them."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from exporter import logs

log = logging.getLogger("exporter.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the process's: what a test configures ends with it."""
    root = logging.getLogger()
    loggers = (root, *map(logging.getLogger, ("aiohttp.access", "asyncio", "psycopg.pool")))
    handlers, levels = root.handlers[:], [logger.level for logger in loggers]
    yield
    root.handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was written to stderr, and nothing to stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    return err.removesuffix("\n").split("\n") if err else []


def test_logfmt(capsys: pytest.CaptureFixture[str]) -> None:
    """The message is the event, `extra` are its facts; only what has to be is quoted."""
    logs.configure("logfmt", "info")
    facts = {
        "collector": "dag_runs",
        "took": 0.5,
        "ok": True,
        "error": None,
        "text": 'a "b"=c\nd',
        "empty": "",
        "한": "글 자",
    }
    log.warning("collector %s", "failed", extra=facts)
    (line,) = lines(capsys)
    stamp, rest = line.split(" ", 1)
    assert datetime.fromisoformat(stamp.removeprefix("ts=")).utcoffset() == timedelta(0)
    assert rest == (
        'level=warning event="collector failed" logger=exporter.test collector=dag_runs took=0.5 ok=true error=null '
        r'text="a \"b\"=c\nd" empty="" 한="글 자"'
    )


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Types survive; what JSON has none for is text."""
    logs.configure("json", "info")
    log.info("started", extra={"port": 9780, "ok": False, "error": None, "list": ["a"], "한": "글"})
    (line,) = lines(capsys)
    fields = json.loads(line)
    assert datetime.fromisoformat(fields.pop("ts")).utcoffset() == timedelta(0)
    assert fields == {
        "level": "info",
        "event": "started",
        "logger": "exporter.test",
        "port": 9780,
        "ok": False,
        "error": None,
        "list": "['a']",
        "한": "글",
    }
    assert "글" in line


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_a_fact_cannot_take_an_events_place(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A fact that is named like a field of the line is left out."""
    logs.configure(style, "info")
    log.info("started", extra={"level": "low", "event": "other"})
    (line,) = lines(capsys)
    assert "started" in line
    assert "other" not in line


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_no_password_of_a_url_is_written(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not in the event, its arguments, its facts or a traceback, which is one field of one line."""
    logs.configure(style, "debug")
    url = "postgresql://windsock:s3cr3t@db/airflow"
    try:
        raise ConnectionError(f"cannot reach {url}") from ValueError("redis://:s3cr3t/@x@redis/0")
    except ConnectionError:
        log.exception(
            "lost %s", url, extra={"dsn": url, "urls": [url, url], "query": "postgresql:///d?password=s3cr3t&x=1"}
        )
    log.info("stack", stack_info=True)
    first, second = lines(capsys)
    assert "s3cr3t" not in first
    assert first.count("postgresql://windsock:***@db/airflow") == 5
    assert "redis://:***@redis/0" in first
    assert "password=***&x=1" in first
    assert "Traceback" in first
    assert "ConnectionError" in first
    assert "test_no_password_of_a_url_is_written" in second


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:9780/metrics", "redis://redis:6379/0", "a@b", "://", "ratio 1:2 @ noon", "https://h/path:x"],
)
def test_what_holds_no_password_stays(text: str) -> None:
    """An address with a port is no login."""
    assert logs.redact(text) == text


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the level nothing is written; libraries that chatter are asked for warnings only, or less."""
    logs.configure("logfmt", "debug")
    log.debug("ours")
    logging.getLogger("aiohttp.access").info("GET /metrics")
    logging.getLogger("psycopg.pool").info("worker started")
    logging.getLogger("asyncio").debug("Using selector")
    logging.getLogger("asyncio").warning("slow callback")
    assert [line.split('event="')[-1] if '"' in line else line[-29:] for line in lines(capsys)] == [
        "event=ours logger=exporter.test"[-29:],
        'slow callback" logger=asyncio',
    ]
    logs.configure("logfmt", "error")
    log.warning("ours")
    logging.getLogger("asyncio").warning("slow callback")
    assert lines(capsys) == []


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """A line is never written twice."""
    logs.configure("logfmt", "info")
    logs.configure("json", "info")
    log.info("once")
    assert [json.loads(line)["event"] for line in lines(capsys)] == ["once"]


def test_a_stream_that_cannot_show_a_sign_shows_its_number() -> None:
    """No event is lost to an encoding: this is a real process with an ASCII terminal."""
    program = "from exporter import logs; import logging; logs.configure('logfmt', 'info'); logging.info('\\ud800 글')"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, check=True, env={"PYTHONIOENCODING": "ascii"}, text=True)
    assert shlex.split(done.stderr)[2].startswith("event=")
    assert "Traceback" not in done.stderr
