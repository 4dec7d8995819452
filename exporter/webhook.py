"""What Alertmanager posts to: 200 once it is on disk, 503 for "try again", any other answer where that is in vain.

A body is read only of those who may post, never decompressed, and never held beyond its limit. One that is too large is
not stored, but told of: else a storm of alerts would be a silence.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aiohttp import BasicAuth, hdrs, web

from .config import Config
from .config.router import check_token
from .config.values import current
from .router import store
from .router.model import Alert, Malformed, Snapshot, parse
from .router.routing import Routing, Target
from .state import Full, State
from .telemetry import ALERTS_RECEIVED, DUPLICATES, WEBHOOK_ACK_SECONDS, WEBHOOK_REQUESTS
from .web_config import WebConfig

log = logging.getLogger(__name__)

PATH = "/webhook/alertmanager"
READ_TIMEOUT = 10.0
"""Seconds in which a body has to arrive, its turn included."""

_SMALL, _LARGE, _AT_ONCE = 1 << 16, 1 << 20, 4
"""Bytes that are parsed at once, and beyond which only so many bodies are held at a time."""

Answer = tuple[int, str]


def user_of(authorization: str) -> BasicAuth | None:
    """Who a header of Basic authentication says it is; None if it is none."""
    try:
        return BasicAuth.decode(authorization, "utf-8")
    except ValueError:
        return None


class Access:
    """Who may post: a token is a Bearer's or the password of Basic authentication, whoever the user."""

    def __init__(self, config: Config, access: WebConfig) -> None:
        self._tokens = [_Token(path) for path in config.web.webhook_token_files]
        self._users = access.users
        self._open = access.certificates or config.web.insecure or config.listen.loopback

    async def refusal(self, authorization: str) -> Answer | None:
        """What to answer to this header, None to whom it lets in."""
        if not self._tokens and not self._users:
            return None if self._open else (403, _NOT_OPEN)
        user = user_of(authorization)
        scheme, _, given = ("bearer", "", user.password) if user else authorization.partition(" ")
        known = [token.is_(given) for token in self._tokens if scheme.lower() == "bearer"]
        if any(known) or (user and self._users and await self._users.admit(user.login, user.password)):
            return None
        return 401, "A token of web.webhook_token_files is needed here, as Bearer or as a password."


_NOT_OPEN = (
    "Not everyone may post here: configure web.webhook_token_files, or users or client certificates in the file of "
    "web.config_file, or listen on 127.0.0.1, or set web.insecure: true."
)


class _Token:
    """What a file holds; while it cannot be read, what it held."""

    def __init__(self, path: Path) -> None:
        self._path, self._token, self._problem = path, b"", ""
        self.is_("")

    def is_(self, given: str) -> bool:
        """Whether this is the token, in a time that does not tell how much of it is right."""
        try:
            self._token, problem = current(self._path, check_token).encode(), ""
        except OSError as error:
            problem = str(error)
            if problem != self._problem:
                log.warning("webhook token cannot be read, the old one stays", extra={"error": problem})
        self._problem = problem
        return bool(self._token) and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)


class Intake:
    """Takes webhooks in; `routing` may be replaced between two of them."""

    def __init__(self, state: State, routing: Routing, access: Access, max_body: int) -> None:
        self.routing = routing
        self._state, self._access, self._max_body = state, access, max_body
        self._large = asyncio.Semaphore(_AT_ONCE)

    async def alertmanager(self, request: web.Request) -> web.Response:
        """Answers one webhook."""
        started = time.perf_counter()
        status, sentence = await self._answer(request)
        WEBHOOK_REQUESTS.labels("alertmanager", str(status)).inc()
        if status == 200:
            WEBHOOK_ACK_SECONDS.observe(time.perf_counter() - started)
        else:
            log.warning("webhook refused", extra={"status": status, "because": sentence})
        challenge = {hdrs.WWW_AUTHENTICATE: 'Bearer, Basic realm="Windsock", charset="UTF-8"'} if status == 401 else {}
        return web.Response(status=status, text=f"{sentence}\n", headers=challenge)

    async def _answer(self, request: web.Request) -> tuple[int, str]:
        try:
            if refusal := await self._access.refusal(request.headers.get(hdrs.AUTHORIZATION, "")):
                return refusal
            snapshot = await self._snapshot(request)
            answer = 200, await self._store(snapshot, self.routing.targets(snapshot.labels, snapshot.receiver))
        except _RefusedError as error:
            answer = error.status, str(error)
        except Malformed as error:
            answer = 400, str(error)
        except (web.RequestPayloadError, ConnectionError):
            answer = 400, "The body did not arrive as a whole."
        except TimeoutError:
            answer = 503, f"The body did not arrive within {READ_TIMEOUT:.0f} seconds. Try again."
        except Full as error:
            answer = 503, f"It cannot be stored now: {error}. Try again."
        return answer

    async def _snapshot(self, request: web.Request) -> Snapshot:
        if hdrs.CONTENT_ENCODING in request.headers:
            raise _RefusedError(415, "A compressed body is not read: send it as it is, without Content-Encoding.")
        if request.content_type != "application/json":
            raise _RefusedError(415, "The body has to be JSON: send it with Content-Type: application/json.")
        length = request.content_length
        if length is not None and length > self._max_body:
            raise await self._too_large(f"{length / 1e6:.0f} MB")
        body = bytearray()
        turn = self._large if length is None or length > _LARGE else nullcontext()
        async with asyncio.timeout(READ_TIMEOUT) as patience, turn:
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > self._max_body:
                    raise await self._too_large("more")
            patience.reschedule(None)
            if len(body) <= _SMALL:
                return parse(body, time.time())
            return await asyncio.to_thread(parse, body, time.time())

    async def _store(self, snapshot: Snapshot, targets: Sequence[Target]) -> str:
        if not snapshot.alerts and not snapshot.truncated:
            return "There is no alert in it."
        accept = partial(store.accept, snapshot=snapshot, targets=targets, now=snapshot.received)
        outcome = await self._state.run(accept)
        if outcome == "duplicate":
            DUPLICATES.labels("webhook").inc()
        else:
            ALERTS_RECEIVED.labels(snapshot.source, "firing").inc(snapshot.firing)
            ALERTS_RECEIVED.labels(snapshot.source, "resolved").inc(snapshot.resolved)
        return outcome

    async def _too_large(self, size: str) -> _RefusedError:
        """Tells of it once a day, where everything goes that matches nothing."""
        most = f"{self._max_body / 1e6:.0f} MB"
        sentence = (
            f"The body is refused: it may have {most} (web.max_body), and has {size}. Group by more, or allow more."
        )
        now = time.time()
        labels = {"alertname": "WindsockWebhookRefused", "severity": "critical"}
        annotations = {"summary": f"There are alerts that are not shown. {sentence}"}
        alert = Alert("refused", True, now, None, labels, annotations, "")
        key = f"refused on {datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
        snapshot = Snapshot(source="windsock", key=key, firing=1, resolved=0, alerts=(alert,), received=now)
        try:
            await self._store(snapshot, self.routing.targets({}, ""))
        except Full as error:
            log.warning("nothing tells of a refused webhook", extra={"because": str(error)})
        return _RefusedError(413, sentence)


class _RefusedError(Exception):
    """Its text is a sentence for the sender."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
