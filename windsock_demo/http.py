"""A page, and a request, over HTTP; nothing where there is no answer."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException

from exporter.config.values import Address


def get(address: Address, path: str) -> str:
    """The page, or nothing when there is none."""
    return _ask(address, "GET", path)


def post(address: Address, path: str, content: object) -> bool:
    """Whether it was taken."""
    return bool(_ask(address, "POST", path, json.dumps(content)))


def _ask(address: Address, method: str, path: str, body: str | None = None) -> str:
    with suppress(OSError, HTTPException), closing(HTTPConnection(address.host, address.port, timeout=5)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.read().decode() if response.status == 200 else ""
    return ""
