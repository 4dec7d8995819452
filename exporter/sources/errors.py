"""What goes wrong outside, as a reason that can be a metric's label and a sentence that can be shown."""

from __future__ import annotations

from typing import Literal, get_args

Reason = Literal["connect", "timeout", "permission", "schema", "query", "state", "internal"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class SourceError(Exception):
    """A read failed; the message is one line and holds no secret."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
