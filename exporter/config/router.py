"""Where alerts go: Slack's credentials, destinations, the routes to them, and the texts that may be worded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from ..router.routing import Matcher, Target, parse_matcher
from ..router.templates import Templates
from .document import Keys
from .values import Duration, Positive, Section, Text, WebAddress, current, holding

if TYPE_CHECKING:
    from .model import Config

NEED_DESTINATIONS = (
    *("alertmanagers", "alertmanager_token_file", "prometheus_url", "prometheus_token_file", "prometheus_match"),
    *("watchdogs", "heartbeat_url", "heartbeat_url_file"),
)
"""Settings of the top level that say nothing to an exporter."""

_MENTION = re.compile(r"<(!(here|channel|everyone|subteam\^\w+(\|[^<>]*)?)|@\w+(\|[^<>]*)?)>")


def check_token(text: str) -> str:
    """A token that fits in a header; ValueError without it otherwise."""
    if re.fullmatch(r"[!-~]+", text):
        return text
    raise ValueError("must be a token: letters, digits and signs without a space")


def _webhook_url(text: str) -> str:
    if re.fullmatch(r"https?://[^\s/@?#]+/[!-~]+", text):
        return text
    raise ValueError("must be the URL of a webhook, as Slack shows it")


def address(text: str) -> str:
    """The address of a page, whatever secret it has in it; ValueError without it otherwise."""
    if re.fullmatch(r"https?://[^\s/@?#]+(/[!-~]*)?", text):
        return text
    raise ValueError("must be an http:// or https:// address")


def _mention(text: str) -> str:
    if all(map(_MENTION.fullmatch, text.split())):
        return text
    raise ValueError("must be mentions as Slack writes them, such as <!subteam^S012AB3CD>, <@U012AB3CD> or <!here>")


def _matcher(text: object) -> Matcher:
    return parse_matcher(text if isinstance(text, str) else "")


Matchers = tuple[Annotated[Matcher, BeforeValidator(_matcher)], ...]
Address = Annotated[SecretStr, holding(address)]
AddressFile = Annotated[Path, holding(address)]
Token = Annotated[SecretStr, holding(check_token)]
TokenFile = Annotated[Path, holding(check_token)]
WebhookUrl = Annotated[SecretStr, holding(_webhook_url)]
WebhookUrlFile = Annotated[Path, holding(_webhook_url)]


class Slack(Section):
    """The app that posts, and where Slack's methods are: their names are appended to the address."""

    token: Token | None = None
    token_file: TokenFile | None = None
    api_url: WebAddress = "https://slack.com/api"

    @property
    def has_token(self) -> bool:
        """Whether a token is configured."""
        return bool(self.token or self.token_file)

    def bot_token(self) -> str:
        """The token as it is now; OSError, without it, if its file no longer holds one."""
        return current(self.token or self.token_file, check_token)


class Destination(Section):
    """A channel, or else an incoming webhook; `pace` is the time between two messages there, in seconds."""

    channel: Text | None = None
    webhook_url: WebhookUrl | None = None
    webhook_url_file: WebhookUrlFile | None = None
    fallback: Text | None = None
    pace: Positive = 1.0

    def url(self) -> str:
        """The webhook's URL as it is now; OSError, without it, if its file no longer holds one."""
        return current(self.webhook_url or self.webhook_url_file, _webhook_url)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.channel) == bool(self.webhook_url or self.webhook_url_file):
            raise ValueError("needs either a channel or a webhook_url_file")
        return self


class Storm(Section):
    """One summary tells of so many groups, and more, that wait for their first message; 0 is never."""

    groups: int = Field(default=30, ge=0)


class Route(Section):
    """Where alerts go that match all of it, everything without a match; the first route counts, unless it goes on.

    What fires again within `reopen_window` seconds after its end is the same message; never, if it is 0.
    """

    match: Matchers = ()
    to: tuple[Text, ...] = Field(min_length=1)
    goes_on: bool = Field(default=False, alias="continue")
    mention: Annotated[str, AfterValidator(_mention)] = ""
    reopen_window: Duration = Target("", "").reopen


class Watchdog(Section):
    """An alert that always fires: no message tells of it, but one does when it is not heard for so long."""

    match: Annotated[Matchers, Field(min_length=1)]
    every: Positive = 300.0
    grace: Duration = 120.0

    @property
    def name(self) -> str:
        """What it is known by."""
        return ", ".join(map(str, self.match))


def contradictions(config: Config) -> Iterator[tuple[Keys, str]]:
    """Where these sections do not fit together, and a sentence about it."""
    destinations = config.destinations
    for key in () if destinations else NEED_DESTINATIONS:
        if getattr(config, key):
            yield (key,), "needs destinations"
    for name, destination in destinations.items():
        keys = ("destinations", name)
        if destination.channel and not config.slack.has_token:
            yield (*keys, "channel"), "needs slack.token_file; without one, use a webhook_url_file"
        if destination.fallback and destination.fallback not in destinations:
            yield (*keys, "fallback"), _unknown(destinations)
        elif name in _fallbacks(name, destinations):
            yield (*keys, "fallback"), "leads back to where it starts"
    yield from _unreachable(config.routes, destinations)
    for slot, source in config.templates.items():
        try:
            Templates({slot: source})
        except ValueError as error:
            yield ("templates", slot), str(error).removeprefix(f"{slot}: ")


def _unreachable(routes: Sequence[Route], destinations: Mapping[str, Destination]) -> Iterator[tuple[Keys, str]]:
    for number, route in enumerate(routes):
        keys = ("routes", str(number))
        for place, name in enumerate(route.to):
            if name not in destinations:
                yield (*keys, "to", str(place)), _unknown(destinations)
        for earlier, other in enumerate(routes[:number]):
            if not other.goes_on and set(other.match) <= set(route.match):
                yield keys, f"is never reached: whatever it matches, routes.{earlier} matches, too"
                break
    if routes and routes[-1].match:
        yield ("routes", str(len(routes) - 1), "match"), "the last route takes everything else: it must have no match"
    if not routes and len(destinations) > 1:
        yield (
            ("routes",),
            "must be set: with several destinations, the last route, without match, says where the rest goes",
        )


def _fallbacks(name: str, destinations: Mapping[str, Destination]) -> Iterator[str]:
    seen: list[str] = []
    while (found := destinations[name].fallback) in destinations and found not in seen:
        assert found
        yield found
        seen.append(name := found)


def _unknown(destinations: Mapping[str, Destination]) -> str:
    return f"there is no such destination, only {', '.join(sorted(destinations)) or 'none'}"
