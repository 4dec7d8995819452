"""Slack, as far as messages need it: a bot's methods, and incoming webhooks. What comes of a request is a value.

An answer is classed by the code in its body, whatever its HTTP status. No outcome, event or exception holds a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from .. import __version__
from ..config.router import Destination
from ..config.router import Slack as Settings
from ..telemetry import SLACK_REQUESTS
from .pacing import now

Kind = Literal["payload", "destination", "credential", "update"]
Body = Mapping[str, object]
T = TypeVar("T")

TIMEOUT = aiohttp.ClientTimeout(total=10.0, connect=5.0)
MOST = 4 << 20
"""Bytes of an answer."""
PATIENCE = 30.0
"""Seconds to wait where Slack says only that there is too much."""
LONGEST = 900.0
"""Seconds for which Slack is obeyed at most."""
NEAR = 60.0
"""Seconds by which Slack's clock may be wrong, or ours."""
EVENT = "windsock_message"

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_PACED = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
_UNSURE = frozenset({"internal_error", "fatal_error"})
"""Some of what was asked for may be done, says Slack."""
_CODES: dict[Kind, str] = {
    "payload": "attachment_payload_limit_exceeded invalid_arguments invalid_attachments invalid_blocks invalid_payload"
    " invalid_blocks_format missing_text_or_fallback_or_attachments msg_blocks_too_long msg_too_long no_text"
    " too_many_attachments",
    "destination": "action_prohibited cannot_reply_to_message channel_is_archived channel_not_found ekm_access_denied"
    " is_archived no_service no_service_id no_team not_in_channel posting_to_general_channel_denied restricted_action"
    " user_not_found",
    "credential": "account_inactive invalid_auth invalid_token missing_scope not_authed team_disabled token_expired"
    " token_revoked",
    "update": "cant_update_message edit_window_closed message_not_found thread_not_found",
}
_KINDS = {code: kind for kind, codes in _CODES.items() for code in codes.split()}


class Sent(NamedTuple):
    """Slack shows it; only a bot learns where, and whether in a thread."""

    channel: str | None = None
    ts: str | None = None
    threaded: bool = False


class Retry(NamedTuple):
    """It may work later, not before `after` seconds; `unsure` if Slack may show it nevertheless."""

    reason: str
    after: float | None = None
    unsure: bool = False


class Refused(NamedTuple):
    """Time does not mend it: another message, destination or credential is needed, or a post in place of an update."""

    reason: str
    kind: Kind


Outcome = Sent | Retry | Refused


class _Metadata(msgspec.Struct):
    event_type: str = ""
    event_payload: dict[str, Any] = {}


class _Message(msgspec.Struct):
    ts: str = ""
    thread_ts: str = ""
    metadata: _Metadata | None = None


class _Answer(msgspec.Struct):
    ok: bool = False
    error: str = ""
    channel: str | None = None
    ts: str | None = None
    message: _Message | None = None
    messages: list[_Message] = []


_ANSWER = msgspec.json.Decoder(_Answer)


def kind_of(code: str) -> Kind | None:
    """What an error code asks for; None if time may mend it, as it may an unknown one."""
    return _KINDS.get("restricted_action" if code.startswith("restricted_action") else code)


class Slack:
    """Requests to Slack, inside `async with`; the settings may be replaced at any time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.answered = -math.inf
        """When a request was last granted, by the event loop's clock."""

    async def __aenter__(self) -> Self:
        self._session = session(TIMEOUT)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._session.close()

    async def post(self, destination: Destination, body: Body, key: str) -> Outcome:
        """A new message, which `find` knows by its key."""
        if not destination.channel:
            return await self._hook(destination, body)
        return await self._post(destination.channel, body, key)

    async def update(self, channel: str, ts: str, body: Body) -> Outcome:
        """Another content for a message."""
        # Slack keeps what it is not told to replace.
        answer = await self._call(
            "chat.update", {"blocks": [], "attachments": [], **body, "channel": channel, "ts": ts}
        )
        return Sent(answer.channel or channel, answer.ts or ts) if isinstance(answer, _Answer) else answer

    async def reply(self, channel: str, ts: str, body: Body, key: str) -> Outcome:
        """A line in the thread below a message, which `find` knows by its key."""
        sent = await self._post(channel, {**body, "thread_ts": ts}, key)
        return Refused("message_not_found", "update") if isinstance(sent, Sent) and not sent.threaded else sent

    async def find(
        self, destination: Destination, key: str, sent: float, thread: tuple[str, str] | None = None
    ) -> Outcome | None:
        """What has this key, posted about that time there or in a thread; None if nothing has, Refused if not told."""
        if not destination.channel:
            return Refused("an incoming webhook does not tell", "destination")
        where = {"channel": thread[0], "ts": thread[1]} if thread else {"channel": destination.channel}
        limits = {"oldest": f"{sent - NEAR:.6f}", "latest": f"{sent + NEAR:.6f}", "limit": "999"}
        answer = await self._call(
            "conversations.replies" if thread else "conversations.history",
            {**where, "include_all_metadata": "true", **limits},
            form=True,
        )
        if not isinstance(answer, _Answer):
            return answer
        for message in answer.messages:
            if message.metadata and message.metadata.event_payload.get("key") == key:
                return Sent(where["channel"], message.ts)
        return None

    async def probe(self, destination: Destination) -> Outcome:
        """Sent if its credential is good, though nothing is sent."""
        if destination.channel:
            answer = await self._call("auth.test", {})
            return Sent(destination.channel) if isinstance(answer, _Answer) else answer
        outcome = await self._hook(destination, {"text": ""})
        if isinstance(outcome, Refused) and outcome.kind == "payload":
            self.answered, outcome = now(), Sent()
        return outcome

    async def _post(self, channel: str, body: Body, key: str) -> Outcome:
        metadata = {"event_type": EVENT, "event_payload": {"key": key}}
        answer = await self._call("chat.postMessage", {**body, "channel": channel, "metadata": metadata})
        if not isinstance(answer, _Answer):
            return answer
        # Below a message that is gone there is no thread: Slack posts to the channel, and does not say that it does.
        return Sent(answer.channel or channel, answer.ts, bool(answer.message and answer.message.thread_ts))

    async def _hook(self, destination: Destination, body: Body) -> Sent | Retry | Refused:
        try:
            url = destination.url()
        except OSError as error:
            return self._counted("webhook", Refused(str(error), "credential"))
        found = await self._request(url, msgspec.json.encode(body))
        if isinstance(found, Retry):
            return self._counted("webhook", found)
        text = found.body.decode(errors="replace").strip()
        granted = (found.status, text) == (HTTPStatus.OK, "ok")
        return self._counted("webhook", Sent() if granted else found.outcome(text))

    async def _call(self, method: str, arguments: Body, *, form: bool = False) -> _Answer | Retry | Refused:
        try:
            authorization = {"Authorization": f"Bearer {self.settings.bot_token()}"}
        except OSError as error:
            return self._counted(method, Refused(str(error), "credential"))
        data = dict(arguments) if form else msgspec.json.encode(arguments)
        found = await self._request(f"{self.settings.api_url}/{method}", data, authorization)
        if not isinstance(found, _Found):
            return self._counted(method, found)
        try:
            answer = _ANSWER.decode(found.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            answer = _Answer()
        return self._counted(method, answer if answer.ok else found.outcome(answer.error))

    async def _request(self, url: str, data: bytes | Body, headers: Mapping[str, str] = {}) -> _Found | Retry:
        json = {"Content-Type": "application/json; charset=utf-8"} if isinstance(data, bytes) else {}
        return await request(
            self._session, "POST", url, MOST, data=data, headers={**headers, **json}, proxy=proxy_for(url)
        )

    def _counted(self, method: str, outcome: T) -> T:
        result = "ok"
        if isinstance(outcome, Retry):
            result = "retry" if outcome.after is None else "ratelimited"
        elif isinstance(outcome, Refused):
            result = outcome.kind
        else:
            self.answered = now()
        SLACK_REQUESTS.labels(method, result).inc()
        return outcome


class _Found(NamedTuple):
    """An answer that was read."""

    status: int
    retry_after: str
    body: bytes

    def outcome(self, code: str) -> Retry | Refused:
        """What it means with this code, or with what is none."""
        known = re.fullmatch(r"[a-z][a-z0-9_]{1,60}", code)
        reason = code if known else f"HTTP {self.status}"
        if known and (kind := kind_of(code)):
            return Refused(reason, kind)
        if code in _PACED or self.status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = re.fullmatch(r"\d{1,6}", self.retry_after)
            return Retry(reason, min(float(seconds[0]), LONGEST) if seconds else PATIENCE)
        broken = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and self.status != HTTPStatus.SERVICE_UNAVAILABLE
        return Retry(reason, unsure=code in _UNSURE if known else broken or self.status == HTTPStatus.OK)


async def request(client: aiohttp.ClientSession, method: str, url: str, most: int, **options: Any) -> _Found | Retry:
    """An answer of so many bytes at most; no redirect is followed."""
    body = bytearray()
    try:
        async with client.request(method, url, allow_redirects=False, **options) as response:
            async for part in response.content.iter_any():
                body += part
                if len(body) > most:
                    return Retry("the answer is too long", unsure=True)
            return _Found(response.status, response.headers.get("Retry-After", ""), bytes(body))
    except aiohttp.ClientHttpProxyError as error:
        return Retry(f"cannot connect: the proxy says {error.status}")
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ValueError) as error:
        return Retry(f"cannot connect: {getattr(error, 'strerror', None) or type(error).__name__}")
    except (aiohttp.ClientError, OSError) as error:
        return Retry(f"no answer: {type(error).__name__}", unsure=True)


def session(timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """For requests that say who we are, and share nothing."""
    return aiohttp.ClientSession(
        # One that was kept may be closed at the moment of its next request: nobody could say whether that arrived.
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"windsock/{__version__}"},
        timeout=timeout,
    )


def proxy_for(url: str) -> str | None:
    """What HTTPS_PROXY or HTTP_PROXY names, unless this machine is meant, or NO_PROXY names the host."""
    address = urlsplit(url)  # aiohttp's `trust_env` would take credentials from ~/.netrc, too
    proxy = getproxies().get(address.scheme)
    if not proxy or address.hostname in _HERE or proxy_bypass(address.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
