"""Troubles that can be ordered: answers that Slack gives rarely, and a test needs now."""

from __future__ import annotations

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the next requests get; the first order that fits is taken, and nothing but `delay` leaves all as it is."""

    method: str = ""
    """Whom it hits: chat.postMessage, …, or webhook; empty for all."""
    channel: str = ""
    """Its name; empty for all."""
    times: int = 1
    """For how many requests it stands; 0 until it is cleared."""
    error: str = ""
    """A code of Slack's, in the form and with the HTTP status in which Slack gives it."""
    retry_after: int = 0
    """429, and all that comes before so many seconds have passed gets that, too."""
    status: int = 0
    """Another HTTP status."""
    location: str = ""
    """The address that a redirect names."""
    body: str = ""
    """Sent as HTML in the place of Slack's answer."""
    delay: float = 0.0
    """Seconds before the answer, or its absence."""
    cut: bool = False
    """The connection is reset in the place of an answer."""
    stored: bool = False
    """The request is carried out, though its answer does not say so."""

    @property
    def spares(self) -> bool:
        """Whether the answer is Slack's own."""
        return not (self.error or self.retry_after or self.status or self.body or self.cut)


class Orders:
    """Those that wait, in the order in which they were given."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Order, int]] = []

    def add(self, order: Order) -> None:
        """To be taken after those that wait."""
        self._waiting.append((order, order.times))

    def clear(self) -> None:
        """From now on all is well."""
        self._waiting.clear()

    def take(self, method: str, channel: str) -> Order | None:
        """The first that stands for a request, which it counts."""
        for index, (order, left) in enumerate(self._waiting):
            if order.method in ("", method) and order.channel in ("", channel):
                if left == 1:
                    del self._waiting[index]
                elif left:
                    self._waiting[index] = (order, left - 1)
                return order
        return None


class Control(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /_control`."""

    clear: bool = False
    orders: list[Order] = []
