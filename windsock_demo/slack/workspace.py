"""What a workspace remembers, in memory and within bounds: channels, messages, credentials, and who asked what."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .errors import SlackError, require_content
from .orders import Order, Orders
from .pacing import Gate, Pace

TEAM = "T0WINDSOCK"
APP = "B0WINDSOCK"
SCOPES = frozenset({"chat:write", "chat:write.public", "channels:history"})
MESSAGES = 10_000
"""How many messages are kept; the oldest go first."""
VERSIONS = 20
"""How many states of one message are kept; the oldest go first."""

TRUE = (True, "true", "1", 1)
"""How a flag may be set."""

_CONTENT = ("text", "blocks", "attachments", "metadata")


class Version(NamedTuple):
    """What a message showed from this moment on."""

    since: float
    content: dict[str, Any]


@dataclass(slots=True)
class Message:
    """A message, as all that it has shown; `author` is the bot or the webhook that may change it.

    A reply has the timestamp of its `thread`, which is that of the message it is below; the channel shows a broadcast
    one, too. A message that was deleted, and has replies, stays as their place, without an author.
    """

    ts: str
    author: str
    posted: float
    versions: deque[Version]
    thread: str = ""
    broadcast: bool = False

    @property
    def content(self) -> dict[str, Any]:
        """What it shows: text and, where it has them, blocks, attachments and metadata."""
        return self.versions[-1].content

    @property
    def edited(self) -> bool:
        """Whether it showed something else before."""
        return len(self.versions) > 1


@dataclass(slots=True)
class Channel:
    """A channel; the app sees a private one only as its member."""

    id: str
    name: str
    archived: bool = False
    private: bool = False
    member: bool = True
    messages: dict[str, Message] = field(default_factory=dict)

    @property
    def hook(self) -> str:
        """The id of its incoming webhook."""
        return f"B{self.id[1:]}"


class Credential(NamedTuple):
    """Whose token it is, and what it may do."""

    bot: str
    scopes: frozenset[str]


class Request(NamedTuple):
    """A request and its outcome: `ok`, an error code, an HTTP status, or `cut`."""

    time: float
    method: str
    channel: str
    result: str


class Workspace:
    """A workspace with these channels, and an app in it, whose bot token is `token`."""

    def __init__(
        self,
        *channels: str,
        token: str = "",
        pace: Pace | None = Pace(),  # noqa: B008 - it is frozen
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.gate = Gate(pace, clock)
        self.orders = Orders()
        self.channels = {channel.id: channel for channel in map(_channel, channels or ("data-alerts", "ops"))}
        self.token = token or _new_token()
        self.tokens = {self.token: Credential(APP, SCOPES)}
        self.url = ""
        """Where it is served, while it is."""
        self.requests: deque[Request] = deque(maxlen=MESSAGES)
        self.counts: Counter[tuple[str, str]] = Counter()
        """How many requests there were, by method and result."""
        self._kept: deque[tuple[Channel, str]] = deque()
        self._last = (0, 0)

    @property
    def api_url(self) -> str:
        """What stands before the names of the methods."""
        return f"{self.url}/api"

    def webhook_url(self, channel: str) -> str:
        """The address of a channel's incoming webhook: a secret, as Slack's are."""
        found = self.channel(channel)
        return f"{self.url}/services/{TEAM}/{found.hook}/{self.hook_secret(found)}"

    def hook_secret(self, channel: Channel) -> str:
        """The last part of that address."""
        return hashlib.sha256(f"{self.token} {channel.id}".encode()).hexdigest()[:24]

    def channel(self, name: str) -> Channel:
        """The channel of this name or id; SlackError if there is none."""
        for channel in self.channels.values():
            if name.lstrip("#") in (channel.id, channel.name):
                return channel
        raise SlackError("channel_not_found")

    def messages(self, channel: str) -> list[Message]:
        """What a channel shows, oldest first; of replies the broadcast ones."""
        return [it for it in self.channel(channel).messages.values() if not it.thread or it.broadcast]

    def replies(self, channel: str, ts: str) -> list[Message]:
        """The thread below a message, oldest first."""
        return [it for it in self.channel(channel).messages.values() if it.thread == ts]

    def grant(self, *scopes: str, bot: str = APP) -> str:
        """A token with these scopes alone, of this app or of another."""
        token = _new_token()
        self.tokens[token] = Credential(bot, frozenset(scopes))
        return token

    def order(self, order: Order) -> None:
        """Let the next requests get what this says."""
        self.orders.add(order)

    def delete(self, channel: str, ts: str) -> None:
        """What a user with the right to do so does: the message is gone, or its content if it has replies."""
        if self.replies(channel, ts):
            message = self.channel(channel).messages[ts]
            message.author = ""
            message.versions.append(Version(self.clock(), {"text": "This message was deleted."}))
        else:
            del self.channel(channel).messages[ts]

    def post(self, channel: Channel, author: str, payload: Mapping[str, Any]) -> Message:
        """A new message, unless Slack would refuse it; a reply to what is not there becomes one of the channel."""
        require_content(payload)
        now, parent = self.clock(), channel.messages.get(str(payload.get("thread_ts")))
        if parent and parent.thread:
            raise SlackError("cannot_reply_to_message")
        message = Message(self._timestamp(now), author, now, deque(maxlen=VERSIONS), parent.ts if parent else "")
        message.broadcast = bool(parent) and payload.get("reply_broadcast") in TRUE
        message.versions.append(Version(now, {part: payload[part] for part in _CONTENT if payload.get(part)}))
        channel.messages[message.ts] = message
        self._kept.append((channel, message.ts))
        if len(self._kept) > MESSAGES:
            oldest_channel, ts = self._kept.popleft()
            oldest_channel.messages.pop(ts, None)
        return message

    def update(self, channel: Channel, author: str, ts: object, payload: Mapping[str, Any]) -> Message:
        """A message that shows something else: what is left out stays as it is, except that text takes blocks away."""
        message = channel.messages.get(ts) if isinstance(ts, str) else None
        if not message or not message.author:
            raise SlackError("message_not_found")
        if message.author != author:
            raise SlackError("cant_update_message")
        require_content(payload)
        content = {**message.content, **{part: payload[part] for part in _CONTENT if payload.get(part) is not None}}
        if payload.get("text") and payload.get("blocks") is None:
            content.pop("blocks", None)
        message.versions.append(Version(self.clock(), {part: value for part, value in content.items() if value}))
        return message

    def remember(self, method: str, channel: str, result: str) -> None:
        """Notes a request that was answered, or was not."""
        self.requests.append(Request(self.clock(), method, channel, result))
        self.counts[method, result] += 1

    def _timestamp(self, now: float) -> str:
        second, number = self._last
        self._last = (int(now), 1) if int(now) > second else (second, number + 1)
        # It ends in a zero, which is lost on whoever takes it for a number.
        return "{}.{:05}0".format(*self._last)


def _channel(name: str) -> Channel:
    return Channel("C0" + hashlib.sha256(name.encode()).hexdigest()[:9].upper(), name)


def _new_token() -> str:
    return f"xoxb-{secrets.randbelow(10**12):012}-{secrets.token_urlsafe(18)}"
