"""The methods of Slack's Web API that an app like ours needs, and incoming webhooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import SlackError
from .workspace import TEAM, Channel, Credential, Message, Workspace

Arguments = Mapping[str, Any]
_TRUE = (True, "true", "1", 1)


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
    return {"channel": channel.id, "ts": message.ts, "message": _shown(message)}


def _update(workspace: Workspace, credential: Credential, arguments: Arguments) -> dict[str, Any]:
    channel = _by_id(workspace, arguments)
    if channel.archived:
        raise SlackError("is_archived")
    message = workspace.update(channel, credential.bot, arguments.get("ts"), arguments)
    shown = _shown(message)
    return {"channel": channel.id, "ts": message.ts, "text": shown["text"], "message": shown}


def _history(workspace: Workspace, _credential: Credential, arguments: Arguments) -> dict[str, Any]:
    channel = _by_id(workspace, arguments)
    if not channel.member:
        raise SlackError("not_in_channel")
    try:
        oldest, latest = float(arguments.get("oldest") or 0), float(arguments.get("latest") or "inf")
        limit = min(int(arguments.get("limit") or 100), 999)
    except ValueError:
        raise SlackError("invalid_arguments") from None
    inclusive, metadata = (arguments.get(flag) in _TRUE for flag in ("inclusive", "include_all_metadata"))
    found = [
        message
        for message in reversed(channel.messages.values())
        if oldest < float(message.ts) < latest or (inclusive and float(message.ts) in (oldest, latest))
    ]
    shown = [_shown(message, metadata=metadata) for message in found[:limit]]
    return {"messages": shown, "has_more": len(found) > limit, "pin_count": 0}


def _by_id(workspace: Workspace, arguments: Arguments) -> Channel:
    """Only chat.postMessage knows a channel by its name."""
    if channel := workspace.channels.get(str(arguments.get("channel", ""))):
        return _visible(channel)
    raise SlackError("channel_not_found")


def _visible(channel: Channel) -> Channel:
    if channel.private and not channel.member:
        raise SlackError("channel_not_found")
    return channel


def _shown(message: Message, *, metadata: bool = True) -> dict[str, Any]:
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
}
