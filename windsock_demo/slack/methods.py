"""The methods of Slack's Web API that an app like ours needs, and incoming webhooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import SlackError
from .workspace import TEAM, TRUE, Channel, Credential, Message, Workspace

Arguments = Mapping[str, Any]


def call(workspace: Workspace, method: str, token: str, arguments: Arguments) -> dict[str, Any]:
    """What the method gives, beside `ok`; raises SlackError."""
    if method not in _METHODS:
        raise SlackError("unknown_method", req_method=method)
    if not token:
        raise SlackError("not_authed")
    if not (credential := workspace.tokens.get(token)):
        raise SlackError("invalid_auth")
    scope, work = _METHODS[method]
    if scope not in ("", *credential.scopes):
        raise SlackError("missing_scope", needed=scope, provided=",".join(sorted(credential.scopes)))
    return work(workspace, credential, arguments)


def hook(workspace: Workspace, team: str, name: str, secret: str, payload: object) -> None:
    """Posts by an incoming webhook; raises SlackError."""
    if team != TEAM:
        raise SlackError("no_team")
    channel = next((channel for channel in workspace.channels.values() if channel.hook == name), None)
    if not channel:
        raise SlackError("no_service")
    if secret != workspace.hook_secret(channel):
        raise SlackError("invalid_token")
    if not isinstance(payload, dict):
        raise SlackError("invalid_payload")
    if channel.archived:
        raise SlackError("channel_is_archived")
    workspace.post(channel, channel.hook, payload)


def _test(workspace: Workspace, credential: Credential, _arguments: Arguments) -> dict[str, Any]:
    return {
        "url": f"{workspace.url}/",
        "team": "Look-alike",
        "team_id": TEAM,
        "user": "windsock",
        "user_id": _user(credential.bot),
        "bot_id": credential.bot,
    }


def _post(workspace: Workspace, credential: Credential, arguments: Arguments) -> dict[str, Any]:
    channel = _visible(workspace.channel(str(arguments.get("channel", ""))))
    if channel.archived:
        raise SlackError("is_archived")
    if not channel.member and "chat:write.public" not in credential.scopes:
        raise SlackError("not_in_channel")
    message = workspace.post(channel, credential.bot, arguments)
    return {"channel": channel.id, "ts": message.ts, "message": _shown(channel, message)}


def _update(workspace: Workspace, credential: Credential, arguments: Arguments) -> dict[str, Any]:
    channel = _by_id(workspace, arguments)
    if channel.archived:
        raise SlackError("is_archived")
    message = workspace.update(channel, credential.bot, arguments.get("ts"), arguments)
    shown = _shown(channel, message)
    return {"channel": channel.id, "ts": message.ts, "text": shown["text"], "message": shown}


def _history(workspace: Workspace, _credential: Credential, arguments: Arguments) -> dict[str, Any]:
    channel = _read(workspace, arguments)
    return _told(channel, workspace.messages(channel.id)[::-1], arguments, 100)


def _replies(workspace: Workspace, _credential: Credential, arguments: Arguments) -> dict[str, Any]:
    channel = _read(workspace, arguments)
    found = channel.messages.get(str(arguments.get("ts")))
    parent = channel.messages.get(found.thread, found) if found else None
    if not parent:
        raise SlackError("thread_not_found")
    told = _told(channel, workspace.replies(channel.id, parent.ts), arguments, 1000)
    metadata = arguments.get("include_all_metadata") in TRUE
    return {**told, "messages": [_shown(channel, parent, metadata=metadata), *told["messages"]]}


def _told(channel: Channel, messages: list[Message], arguments: Arguments, most: int) -> dict[str, Any]:
    """Those of a time, and no more than so many at once."""
    try:
        oldest, latest = float(arguments.get("oldest") or 0), float(arguments.get("latest") or "inf")
        limit = min(int(arguments.get("limit") or most), 999)
    except ValueError:
        raise SlackError("invalid_arguments") from None
    inclusive, metadata = (arguments.get(flag) in TRUE for flag in ("inclusive", "include_all_metadata"))
    found = [
        message
        for message in messages
        if oldest < float(message.ts) < latest or (inclusive and float(message.ts) in (oldest, latest))
    ]
    shown = [_shown(channel, message, metadata=metadata) for message in found[:limit]]
    return {"messages": shown, "has_more": len(found) > limit, "pin_count": 0}


def _read(workspace: Workspace, arguments: Arguments) -> Channel:
    channel = _by_id(workspace, arguments)
    if not channel.member:
        raise SlackError("not_in_channel")
    return channel


def _by_id(workspace: Workspace, arguments: Arguments) -> Channel:
    """Only chat.postMessage knows a channel by its name."""
    if channel := workspace.channels.get(str(arguments.get("channel", ""))):
        return _visible(channel)
    raise SlackError("channel_not_found")


def _visible(channel: Channel) -> Channel:
    if channel.private and not channel.member:
        raise SlackError("channel_not_found")
    return channel


def _shown(channel: Channel, message: Message, *, metadata: bool = True) -> dict[str, Any]:
    """A message as Slack tells it."""
    shown = {
        "type": "message",
        "subtype": "bot_message",
        "ts": message.ts,
        "user": _user(message.author),
        "bot_id": message.author,
        "text": "",
        **message.content,
    }
    if not message.author:
        shown["subtype"] = "tombstone"
    elif message.broadcast:
        shown["subtype"] = "thread_broadcast"
    replies = [it for it in channel.messages.values() if it.thread == message.ts]
    if message.thread or replies:
        shown["thread_ts"] = message.thread or message.ts
    if replies:
        shown |= {"reply_count": len(replies), "latest_reply": replies[-1].ts}
    if message.edited:
        shown["edited"] = {"user": _user(message.author), "ts": f"{message.versions[-1].since:.6f}"}
    if not metadata:
        shown.pop("metadata", None)
    return shown


def _user(bot: str) -> str:
    return f"U{bot[1:]}"


_METHODS: dict[str, tuple[str, Callable[[Workspace, Credential, Arguments], dict[str, Any]]]] = {
    "auth.test": ("", _test),
    "chat.postMessage": ("chat:write", _post),
    "chat.update": ("chat:write", _update),
    "conversations.history": ("channels:history", _history),
    "conversations.replies": ("channels:history", _replies),
}
