"""What a webhook tells of a group of alerts, and the body of Alertmanager's webhook made into it.

Times are unix seconds. Whatever a sender writes, a snapshot holds at most `KEPT` alerts in full, and cut texts.
"""

from __future__ import annotations

import codecs
import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, field
from msgspec.structs import replace

First = Callable[[Mapping[str, str]], object] | None
"""Which labels an alert has that is kept before any other."""
KEPT = 500
MOST = 200_000
"""Alerts beyond these are not looked at: they count as truncated."""

_ENTRIES, _NAME, _VALUE, _ROOM = 64, 256, 4096, 65_536
"""How many labels or annotations, and characters in a name, in a value, and in all values together."""

_READABLE = 1_048_576
"""Bytes of a mapping beyond which it is as good as empty."""

_RANKS = {"critical": 4, "page": 4, "error": 3, "high": 3, "warning": 2, "info": 1, "low": 1, "none": 0, "": 0}
_UNKNOWN_RANK = 2
_META = re.compile(r"\\([\\.+*?()|\[\]{}^$])")


class Malformed(Exception):  # noqa: N818  (it is what the body is)
    """The body is none that Alertmanager sends; the text is a sentence for the one who sent it, without its values."""


class Alert(msgspec.Struct, frozen=True):
    """One alert; `ends` is None while it fires."""

    fingerprint: str
    firing: bool
    starts: float
    ends: float | None
    labels: dict[str, str]
    annotations: dict[str, str]
    url: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A group as one webhook told of it: firing alerts first, then the worst, then the oldest; all are counted.

    `fingerprints` has the others beyond `alerts`, and whether they fire; the sender left out `truncated` more. In place
    of alerts it may have what was `said`: a message as Slack takes it. `standing` is how it stands where no webhook
    tells: it is silenced, say.
    """

    source: str
    receiver: str = ""
    key: str
    external_url: str = ""
    reason: str = ""
    truncated: int = 0
    group_labels: dict[str, str] = {}
    common_labels: dict[str, str] = {}
    common_annotations: dict[str, str] = {}
    route_labels: dict[str, str] = {}
    firing: int = 0
    resolved: int = 0
    alerts: tuple[Alert, ...] = ()
    fingerprints: dict[str, bool] = {}
    said: dict[str, Any] = {}
    standing: str = ""
    received: float

    @property
    def status(self) -> Literal["firing", "resolved"]:
        """Resolved only if all alerts are: of a truncated group Alertmanager itself says so too early."""
        return "firing" if self.firing or self.truncated else "resolved"

    @property
    def ended(self) -> float:
        """When the last of the alerts ended, as far as is known; of a group that is over."""
        return max((it.ends for it in self.alerts if it.ends), default=self.received)

    @property
    def fires(self) -> set[str]:
        """The fingerprints of the alerts that fire."""
        beyond = {fingerprint for fingerprint, firing in self.fingerprints.items() if firing}
        return beyond.union(it.fingerprint for it in self.alerts if it.firing)

    @property
    def severity(self) -> str:
        """The worst of the firing alerts, of all if none fires; empty if none has one."""
        found = (alert.labels.get("severity", "") for alert in self.alerts if alert.firing or not self.firing)
        return max(found, key=rank, default="")

    @property
    def critical(self) -> bool:
        """Whether it is as bad as that, by whatever name."""
        return rank(self.severity) >= rank("critical")

    @property
    def run_of(self) -> str | None:
        """The DAG whose failed run this is."""
        return self.dag if self.source == "airflow" and "run_id" in self.labels else None

    @property
    def labels(self) -> dict[str, str]:
        """What routes match on: what all alerts share, and the worst severity where they differ in it."""
        severity = {"severity": self.severity} if self.severity else {}
        return severity | self.common_labels | self.group_labels | self.route_labels

    @property
    def dag(self) -> str | None:
        """The DAG that it is about, and its Airflow; None if it is about none, or several."""
        labels = self.labels
        return f"{labels['airflow']}/{labels['dag_id']}" if labels.get("airflow") and labels.get("dag_id") else None

    @property
    def identity(self) -> str:
        """The same for whatever tells the same: a retry, a repeat, the other one of a pair of Alertmanagers."""
        told = sorted((it.fingerprint, it.firing, it.starts, None if it.firing else it.ends) for it in self.alerts)
        rest = sorted(self.fingerprints.items())
        standing = (self.standing,) if self.standing else ()
        told_of = (self.source, self.receiver, self.key, self.truncated, told, rest, *standing)
        return sha256(msgspec.json.encode(told_of)).hexdigest()

    @property
    def nameless(self) -> str:
        """A key for its group as long as its own is not known, which only webhooks tell."""
        return msgspec.json.encode(self.group_labels, order="sorted").decode()

    def over(self, now: float) -> Snapshot:
        """The same, but that all that fired ended now."""
        ended = tuple(replace(it, firing=False, ends=it.ends or now) for it in self.alerts)
        counts = {"firing": 0, "resolved": self.firing + self.resolved, "truncated": 0}
        return replace(self, alerts=ended, fingerprints=dict.fromkeys(self.fingerprints, False), received=now, **counts)


def rank(severity: str) -> int:
    """How bad it is: an unknown one is as bad as a warning."""
    return _RANKS.get(severity.lower(), _UNKNOWN_RANK)


def common(texts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What all of these mappings share; there is at least one."""
    return dict(set.intersection(*(set(each.items()) for each in texts)))


_NULL, _EMPTY = Raw(b"null"), Raw(b'""')


class _Alert(msgspec.Struct, gc=False, rename="camel"):
    status: str
    labels: Raw
    starts_at: str
    annotations: Raw = _NULL
    ends_at: str | None = None
    url: Raw = field(name="generatorURL", default=_EMPTY)
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        # Here, unlike within the decoder, the event loop may go on; and what 100,000 alerts repeat is kept once.
        self.status = "resolved" if self.status == "resolved" else "firing"
        self.ends_at = self.ends_at if self.status == "resolved" else None

    @property
    def firing(self) -> bool:
        return self.status == "firing"


class _Body(msgspec.Struct, rename="camel"):
    alerts: list[_Alert] | None
    receiver: str | None = None
    group_key: str | None = None
    external_url: str | None = field(name="externalURL", default=None)
    reason: str | None = field(name="notification_reason", default=None)
    truncated_alerts: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    group_labels: Raw = _NULL
    common_labels: Raw = _NULL
    common_annotations: Raw = _NULL
    route_labels: Raw = _NULL


class _Severity(msgspec.Struct):
    severity: Raw = _EMPTY


_BODY = msgspec.json.Decoder(_Body)
_MAPPING = msgspec.json.Decoder(dict[str, Raw] | None)
_SEVERITY = msgspec.json.Decoder(_Severity | None)
_STRING = msgspec.json.Decoder(str)


def parse(body: bytes | bytearray, now: float, first: First = None) -> Snapshot:
    """The snapshot in a body of version 4; raises Malformed. Long work for a long body: other threads run meanwhile."""
    try:
        for _ in codecs.iterdecode(_pieces(memoryview(body)), "utf-8"):
            pass  # msgspec does not look into what it skips
        return _snapshot(_BODY.decode(body), now, first)
    except UnicodeDecodeError:
        problem = "it is not UTF-8"
    except RecursionError:
        problem = "it is nested too deeply"
    except msgspec.DecodeError as error:
        problem = str(error)
    raise Malformed(f"This is no Alertmanager's webhook (its receiver must not set `payload`): {problem}.")


def _snapshot(body: _Body, now: float, first: First) -> Snapshot:
    alerts: dict[str, _Alert] = {}
    for alert in islice(body.alerts or (), MOST):
        fingerprint = (alert.fingerprint or blake2b(alert.labels, digest_size=8).hexdigest())[:_NAME]
        if fingerprint not in alerts or alert.firing:
            alerts[fingerprint] = alert
    kept = heapq.nsmallest(KEPT, alerts, key=lambda it: _order(alerts[it], now, first))
    rest = {fingerprint: alert.firing for fingerprint, alert in alerts.items()}
    firing = sum(rest.values())
    for fingerprint in kept:
        del rest[fingerprint]
    group, common = _texts(body.group_labels), _texts(body.common_labels)
    key = body.group_key or msgspec.json.encode(group or common, order="sorted").decode()
    return Snapshot(
        source="alertmanager",
        receiver=_META.sub(r"\1", body.receiver or "")[:_VALUE],
        key=key if len(key) <= _VALUE else sha256(key.encode()).hexdigest(),
        external_url=(body.external_url or "")[:_VALUE],
        reason=(body.reason or "")[:_VALUE],
        truncated=(body.truncated_alerts or 0) + max(0, len(body.alerts or ()) - MOST),
        group_labels=group,
        common_labels=common,
        common_annotations=_texts(body.common_annotations),
        route_labels=_texts(body.route_labels),
        firing=firing,
        resolved=len(alerts) - firing,
        alerts=tuple(_alert(fingerprint, alerts[fingerprint], now) for fingerprint in kept),
        fingerprints=rest,
        received=now,
    )


def _order(alert: _Alert, now: float, first: First) -> tuple[bool, bool, int, float]:
    labels, after = _SEVERITY.decode(alert.labels) or _Severity(), not (first and first(_texts(alert.labels)))
    return after, not alert.firing, -rank(_text(labels.severity)), _time(alert.starts_at) or now


def _alert(fingerprint: str, alert: _Alert, now: float) -> Alert:
    return Alert(
        fingerprint=fingerprint,
        firing=alert.firing,
        starts=_time(alert.starts_at) or now,
        ends=_time(alert.ends_at),
        labels=_texts(alert.labels),
        annotations=_texts(alert.annotations),
        url=_text(alert.url)[:_VALUE],
    )


def _time(text: str | None) -> float | None:
    """None for Go's zero time, and for what is no time."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() if moment.year > 1 else None


def _texts(mapping: Raw) -> dict[str, str]:
    """A mapping, cut to what fits."""
    texts: dict[str, str] = {}
    room = _ROOM
    if len(memoryview(mapping)) <= _READABLE:
        for name, value in islice((_MAPPING.decode(mapping) or {}).items(), _ENTRIES):
            texts[name[:_NAME]] = text = _text(value)[: min(_VALUE, room)]
            room -= len(text)
    return texts


def _text(value: Raw) -> str:
    """What is not text, as it is written in JSON; null is empty."""
    written = bytes(value)
    if written.startswith(b'"'):
        return _STRING.decode(written)
    return "" if value == _NULL else written.decode()


def _pieces(body: memoryview) -> Iterator[bytes]:
    for start in range(0, len(body), 1 << 20):
        yield bytes(body[start : start + (1 << 20)])
