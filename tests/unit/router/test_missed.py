"""What is told of a time in which Windsock was down: to whom it would have gone, and only what nobody has told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from exporter.config import Config
from exporter.daemon import FORMATS
from exporter.router import store
from exporter.router.missed import tell
from exporter.router.model import Alert, Snapshot
from exporter.router.routing import Target
from tests.delivery import snapshot

GAP, NOW = 10_000.0, 20_000.0
CONFIG = Config.model_validate(
    {
        "slack": {"token": "x"},
        "destinations": {"data": {"channel": "C1"}, "ops": {"channel": "C2"}},
        "routes": [{"match": ["team=data"], "to": ["data"], "mention": "<!here>", "continue": True}, {"to": ["ops"]}],
        "prometheus_match": ["company!=other"],
        "watchdogs": [{"match": ["alertname=Watchdog"]}],
    }
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """The router's tables, and a gap."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(FORMATS))
    store.live(connection, GAP)
    store.live(connection, NOW)
    yield connection
    connection.close()


def fired(name: str, **labels: str) -> Alert:
    """What Prometheus remembers of an alert."""
    return Alert(name, False, GAP + 60, GAP + 90, {"alertname": name, **labels}, {"summary": name}, "")


def told(connection: sqlite3.Connection, *alerts: Alert) -> dict[str, list[str]]:
    """The alerts of the message at each destination."""
    tell(connection, [*alerts], CONFIG, GAP, NOW)
    assert connection.execute("SELECT * FROM router_message WHERE mention <> ''").fetchall() == []
    snapshots = {it.key: it for _, it in store.known(connection, "windsock", Snapshot)}
    return {key.rpartition(" ")[2]: sorted(it.fingerprint for it in found.alerts) for key, found in snapshots.items()}


def test_each_destination_is_told_what_it_missed(connection: sqlite3.Connection) -> None:
    """By the routes, in one message without a mention that is over from the start; then the gap is done with."""
    assert store.heard(connection, store.GAP) == {"": GAP}
    assert told(connection, fired("A"), fired("B", team="data"), fired("C", company="other"), fired("Watchdog")) == {
        "data": ["B"],
        "ops": ["A", "B"],
    }
    found = {it.key: it for _, it in store.known(connection, "windsock", Snapshot)}
    ops = found[f"missed since {GAP:.0f} at ops"]
    assert (ops.status, ops.standing, ops.resolved, ops.ended) == ("resolved", "missed", 2, GAP + 90)
    assert "1970-01-01 02:46 UTC to 1970-01-01 05:33 UTC" in ops.common_annotations["description"]
    assert {name: it.messages for name, it in store.survey(connection, GAP).items()} == {"data": 1, "ops": 1}
    assert store.heard(connection, store.GAP) == {}


def test_what_is_known_is_not_told_again(connection: sqlite3.Connection) -> None:
    """Of a group that is not over, or of which something was heard since; an end before the gap is of another time."""
    for key, firing, at in (("open", ["a"], GAP - 500), ("ended", [], NOW - 10), ("old", [], GAP - 500)):
        it = snapshot(key, firing, [] if firing else ["a"], now=at)
        store.accept(connection, it, [Target("ops", "")], at)
    known = {"severity": "warning", "task_id": "a"}
    alerts = [fired(name, **known) for name in ("open", "ended", "old")] + [fired("open", task_id="b")]
    assert told(connection, *alerts) == {"ops": ["old", "open"]}


def test_nothing_was_missed(connection: sqlite3.Connection) -> None:
    """Then nothing is told, and the gap is done with all the same."""
    assert told(connection) == {}
    assert store.heard(connection, store.GAP) == {}


def test_a_gap_is_kept_until_it_is_told_of(connection: sqlite3.Connection) -> None:
    """Through another one, from the beginning of the first; a restart is none."""
    store.live(connection, NOW + 3600)
    assert store.heard(connection, store.GAP) == {"": GAP}
    store.forget(connection, store.GAP, [""])
    store.live(connection, NOW + 3600 + store.AWAY)
    assert store.heard(connection, store.GAP) == {}
    store.live(connection, NOW + 3600 + 3 * store.AWAY)
    assert store.heard(connection, store.GAP) == {"": NOW + 3600 + store.AWAY}


def test_the_first_start_is_no_gap() -> None:
    """Nobody was down who had never been there."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(store.FORMATS))
    store.live(connection, NOW)
    assert store.heard(connection, store.GAP) == {}
    connection.close()
