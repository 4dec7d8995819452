"""What is posted to: 200 once it is on disk, 503 for "try again", any other answer where that is in vain.

A body is read only of those who may post, never decompressed, and never held beyond its limit. Alerts that are too
large are not stored, but told of: else a storm of them would be a silence.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar

from aiohttp import BasicAuth, hdrs, web

from .config import Config
from .config.router import check_token
from .config.values import current
from .router import store
from .router.model import Alert, Malformed, Snapshot, parse
from .router.routing import Target, route
from .router.said import parse_said
from .router.watchdogs import REFUSED, parted, swallowed
from .state import Full, State
from .telemetry import ALERTS_RECEIVED, DUPLICATES, WEBHOOK_ACK_SECONDS, WEBHOOK_REQUESTS
from .web_config import WebConfig

log = logging.getLogger(__name__)

T = TypeVar("T")

PATH = "/webhook/alertmanager"
SLACK = "/webhook/slack/{destination}"
MAX_SAID = 1 << 20
"""Bytes of one message, as Slack would take it."""
READ_TIMEOUT = 10.0
"""Seconds in which a body has to arrive, its turn included."""

_SMALL, _LARGE, _AT_ONCE = 1 << 16, 1 << 20, 4
"""Bytes that are parsed at once, and beyond which only so many bodies are held at a time."""

CODES = {"alertmanager": (200, 400, 401, 403, 413, 415, 503), "slack": (200, 400, 403, 404, 413, 415, 503)}
"""What either source is answered; counted from 0, so that the first of each is an increase."""

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
    """Takes webhooks in, by the configuration as it is `now`."""

    def __init__(self, state: State, access: Access, now: Callable[[], Config]) -> None:
        self._state, self._access, self._now, self._max_body = state, access, now, now().web.max_body
        self._large = asyncio.Semaphore(_AT_ONCE)
        for source, codes in CODES.items():
            for code in codes:
                WEBHOOK_REQUESTS.labels(source, str(code))

    async def alertmanager(self, request: web.Request) -> web.Response:
        """Answers one webhook of Alertmanager's."""
        status, sentence = await self._answer("alertmanager", self._alerts(request))
        challenge = {hdrs.WWW_AUTHENTICATE: 'Bearer, Basic realm="Windsock", charset="UTF-8"'} if status == 401 else {}
        return web.Response(status=status, text=f"{sentence}\n", headers=challenge)

    async def slack(self, request: web.Request) -> web.Response:
        """Answers one message as an incoming webhook of Slack's does; a token may end the path, as the secret there."""
        status, text = await self._answer("slack", self._said(request))
        return web.Response(status=status, text=text)

    async def _answer(self, source: str, answering: Awaitable[Answer]) -> Answer:
        started = time.perf_counter()
        try:
            answer = await answering
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
        status, sentence = answer
        WEBHOOK_REQUESTS.labels(source, str(status)).inc()
        if status == 200:
            WEBHOOK_ACK_SECONDS.observe(time.perf_counter() - started)
        else:
            log.warning("webhook refused", extra={"source": source, "status": status, "because": sentence})
        return answer

    async def _alerts(self, request: web.Request) -> Answer:
        if refusal := await self._access.refusal(request.headers.get(hdrs.AUTHORIZATION, "")):
            return refusal
        if request.content_type != "application/json":
            raise _RefusedError(415, "The body has to be JSON: send it with Content-Type: application/json.")
        try:
            first = partial(swallowed, dogs) if (dogs := self._now().watchdogs) else None
            snapshot = await self._read(request, self._max_body, partial(parse, first=first))
        except _TooLargeError as error:
            raise await self._too_large(str(error)) from None
        snapshot = await self._heard(snapshot)
        if not snapshot.alerts and not snapshot.truncated:
            return 200, "There is no alert in it."
        return 200, await self._store(snapshot, route(self._now(), snapshot.labels, snapshot.receiver))

    async def _said(self, request: web.Request) -> Answer:
        if hdrs.ORIGIN in request.headers:  # a browser asks nobody before it sends a form to another site
            return 403, "A page in a browser may not post here."
        token, destination = request.match_info.get("token"), request.match_info["destination"]
        given = f"Bearer {token}" if token else request.headers.get(hdrs.AUTHORIZATION, "")
        if refusal := await self._access.refusal(given):
            return 403, "invalid_token" if refusal[0] == 401 else refusal[1]
        if destination not in self._now().destinations:
            return 404, "no_service"
        most = min(MAX_SAID, self._max_body)
        try:
            snapshot = await self._read(request, most, lambda body, now: parse_said(body, destination, now))
        except _TooLargeError as error:
            return 413, f"The message is refused: it may have {most / 1e6:.0f} MB, and has {error}."
        await self._store(snapshot, [Target(destination, "")])
        return 200, "ok"

    async def _read(self, request: web.Request, most: int, parsed: Callable[[bytearray, float], T]) -> T:
        """What a body of at most so many bytes says."""
        if hdrs.CONTENT_ENCODING in request.headers:
            raise _RefusedError(415, "A compressed body is not read: send it as it is, without Content-Encoding.")
        length = request.content_length
        if length is not None and length > most:
            raise _TooLargeError(f"{length / 1e6:.0f} MB")
        body = bytearray()
        turn = self._large if length is None or length > _LARGE else nullcontext()
        async with asyncio.timeout(READ_TIMEOUT) as patience, turn:
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise _TooLargeError("more")
            patience.reschedule(None)
            if len(body) <= _SMALL:
                return parsed(body, time.time())
            return await asyncio.to_thread(parsed, body, time.time())

    async def _heard(self, snapshot: Snapshot) -> Snapshot:
        """What is left of it without the watchdogs."""
        heard, rest = parted(self._now().watchdogs, snapshot)
        if heard:
            await self._state.run(partial(store.hear, kind=store.WATCHDOG, names=heard, now=snapshot.received))
        return rest

    async def _store(self, snapshot: Snapshot, targets: Sequence[Target]) -> str:
        accept = partial(store.accept, snapshot=snapshot, targets=targets, now=snapshot.received)
        outcome = await self._state.run(accept)
        if outcome == "duplicate":
            DUPLICATES.labels("webhook").inc()
        elif snapshot.alerts:
            ALERTS_RECEIVED.labels(snapshot.source, "firing").inc(snapshot.firing)
            ALERTS_RECEIVED.labels(snapshot.source, "resolved").inc(snapshot.resolved)
        return outcome

    async def _too_large(self, size: str) -> _RefusedError:
        """Tells of it until none was for an hour, where everything goes that matches nothing."""
        most = f"{self._max_body / 1e6:.0f} MB"
        sentence = (
            f"The body is refused: it may have {most} (web.max_body), and has {size}. Group by more, or allow more."
        )
        now = time.time()
        labels = {"alertname": "WindsockWebhookRefused", "severity": "critical"}
        over = "This is over once no webhook has been refused for an hour."
        annotations = {"summary": f"There are alerts that are not shown. {sentence}", "description": over}
        alert = Alert("refused", True, now, None, labels, annotations, "")
        snapshot = Snapshot(source="windsock", key=REFUSED, firing=1, resolved=0, alerts=(alert,), received=now)
        try:
            await self._store(snapshot, route(self._now(), {}))
        except Full as error:
            log.warning("nothing tells of a refused webhook", extra={"because": str(error)})
        return _RefusedError(413, sentence)


class _RefusedError(Exception):
    """Its text is a sentence for the sender."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _TooLargeError(Exception):
    """Its text says how large."""
