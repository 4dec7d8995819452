"""What is asked of others than Slack, over HTTP: an answer, or nothing and an event when that begins.

No redirect is followed, no answer is read beyond its limit, and neither event nor metric holds an address.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from ..config.router import check_token
from ..config.values import current
from ..telemetry import UPSTREAM_REQUESTS
from .slack import Retry, proxy_for, request, session

log = logging.getLogger(__name__)

T = TypeVar("T")

TIMEOUT = aiohttp.ClientTimeout(total=30.0, connect=5.0)
MOST = 16 << 20
"""Bytes of an answer."""


class Upstream:
    """Requests, and what is known to be in trouble."""

    def __init__(self) -> None:
        self._trouble: dict[str, str] = {}

    async def get(
        self, what: str, url: str, read: Callable[[bytes], T], token: Path | None = None, *, proxy: bool = False
    ) -> T | None:
        """What `read` makes of the answer, in a thread; None if there is none that it can read, which is told once."""
        answer, trouble, page = None, "", url.partition("?")[0]
        try:
            headers = {"Authorization": f"Bearer {current(token, check_token)}"} if token else {}
            async with session(TIMEOUT) as client:
                found = await request(
                    client, "GET", url, MOST, headers=headers, proxy=proxy_for(url) if proxy else None
                )
            if isinstance(found, Retry):
                trouble = found.reason
            elif found.status // 100 != 2:
                trouble = f"HTTP {found.status}"
            else:
                answer = await asyncio.to_thread(read, found.body)
        except OSError as error:
            trouble = str(error)
        except (ValueError, msgspec.MsgspecError):
            trouble = "the answer is not what was asked for"
        UPSTREAM_REQUESTS.labels(what, "failed" if trouble else "ok").inc()
        if trouble and trouble != self._trouble.get(page):
            log.warning("upstream fails", extra={"upstream": what, "reason": trouble})
        elif self._trouble.get(page) and not trouble:
            log.info("upstream answers again", extra={"upstream": what})
        self._trouble[page] = trouble
        return answer
