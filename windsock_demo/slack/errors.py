"""How Slack says no, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.router.limits import violations

HOOK_STATUS = {
    "action_prohibited": 403,
    "channel_is_archived": 410,
    "channel_not_found": 404,
    "invalid_token": 403,
    "no_service": 404,
    "no_team": 404,
    "posting_to_general_channel_denied": 403,
    "rate_limited": 429,
    "rollup_error": 500,
    "team_disabled": 403,
}
"""The HTTP status of a webhook's refusal where it is not 400."""


class SlackError(Exception):
    """A request that is refused by this code; `details` stand beside it in the API's answer."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(code)
        self.code = code
        self.details = details


def require_content(payload: Mapping[str, Any]) -> None:
    """Raises SlackError unless Slack would take this message."""
    metadata = payload.get("metadata")
    if not isinstance(payload.get("text"), str | None):
        raise SlackError("invalid_arguments")
    if not isinstance(payload.get("blocks"), list | None):
        raise SlackError("invalid_blocks_format")
    if not isinstance(payload.get("attachments"), list | None):
        raise SlackError("invalid_attachments")
    if metadata and not (isinstance(metadata, dict) and metadata.keys() == {"event_type", "event_payload"}):
        raise SlackError("invalid_metadata_format")
    if broken := violations({part: payload[part] for part in ("text", "blocks", "attachments") if payload.get(part)}):
        codes, reasons = zip(*(violation.split(": ", 1) for violation in broken), strict=True)
        raise SlackError(
            codes[0], errors=reasons, response_metadata={"messages": [f"[ERROR] {reason}" for reason in reasons]}
        )
