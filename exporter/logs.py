"""Events on stderr as logfmt or JSON, one line each: the message is the event, `extra` its facts; no password."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

_STANDARD = {*vars(logging.makeLogRecord({})), "asctime", "message", "taskName"}
_CHATTY = {
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
    "psycopg.pool": logging.ERROR,  # it warns of every attempt, while a collector's state tells the outage once
}
# A password may hold any sign but a space: all up to the last "@" of the word goes.
_PASSWORD = re.compile(r"(://[^\s:/@]*:)\S+(?=@)|(\bpassword=)[^\s&]+")


def configure(style: str, level: str) -> None:
    """From now on all events from this level up are written in this style, `logfmt` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _CHATTY.items():
        logging.getLogger(name).setLevel(max(root.level, least))


def redact(text: str) -> str:
    """The text with *** in place of every password in a URL."""
    return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***", text)


class Formatter(logging.Formatter):
    """One line per record; a traceback is one of its fields."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self._render = _json if style == "json" else _logfmt

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        fields: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD | fields.keys()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return self._render({name: _plain(value) for name, value in fields.items()})


def _plain(value: object) -> str | float | None:
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))


def _json(fields: dict[str, str | float | None]) -> str:
    return json.dumps(fields, ensure_ascii=False)


def _logfmt(fields: dict[str, str | float | None]) -> str:
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: str | float | None) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    bare = value.isprintable() and not re.search(r'[\s="\\]', value)
    return value if bare and value else json.dumps(value, ensure_ascii=False)
