"""What is mended when Alertmanager's API and its webhooks do not agree, and when: nothing on a mere suspicion."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

import pytest

from exporter.config import Config
from exporter.daemon import FORMATS
from exporter.router import repair, store
from exporter.router.incident import CLEARED
from exporter.router.model import Snapshot, parse
from exporter.router.repair import Group, Judge, Known, Listed, Standing, Verdict, group_interval, standing, where
from exporter.router.routing import Target
from tests.unit.router.alerts import body, dag_failed

NOW, WAIT = 1000.0, 240.0
ACTIVE = Standing("active")
SILENCED = Standing("suppressed", silenced_by=["1"])
INHIBITED = Standing("suppressed", inhibited_by=["2"])
HERE = Known("{}:{a}", NOW, "slack", "http://am", {"dag_id": "etl"})


def listed(*states: Standing, dag: str = "etl") -> list[Listed]:
    """Alerts of a group."""
    return [
        Listed({"dag_id": dag, "task_id": f"t{n}"}, {"summary": "It failed"}, "2026-11-22T03:00:00Z", f"{n}", status=it)
        for n, it in enumerate(states)
    ]


def test_how_a_group_stands() -> None:
    """As its alerts, if all of them are suppressed."""
    assert standing(listed(ACTIVE, SILENCED)) == standing(listed(Standing("unprocessed"))) == ""
    assert standing(listed(SILENCED, INHIBITED)) == "silenced"
    assert standing(listed(INHIBITED, INHIBITED)) == "inhibited"
    assert standing(listed(Standing("suppressed"))) == "muted"


def test_a_silence_is_believed_at_once() -> None:
    """So is its end; and its sender is known from then on."""
    judge, senders = Judge(), set[str]()
    there = {HERE.where: listed(SILENCED)}
    assert [*judge.verdicts(there, [(False, HERE)], senders, NOW, WAIT)] == [Verdict(HERE, "silenced")]
    assert senders == {"http://am"}
    grey = Known("{}:{a}", NOW, "slack", "http://am", {"dag_id": "etl"}, standing="silenced")
    assert [*judge.verdicts(there, [(False, grey)], senders, NOW, WAIT)] == []
    assert [*judge.verdicts({HERE.where: listed(ACTIVE)}, [(False, grey)], senders, NOW, WAIT)] == [Verdict(grey, "")]


def test_what_is_gone_is_given_time() -> None:
    """From when it was missed first, or told of last; anew where it was there meanwhile, or nobody could say."""
    judge, senders = Judge(), {"http://am"}

    def cleared(at: float, group: Known = HERE, *, there: bool = False) -> list[Verdict]:
        listing = {HERE.where: listed(ACTIVE)} if there else {}
        return [*judge.verdicts(listing, [(False, group)], senders, at, WAIT)]

    assert cleared(NOW + 60) == cleared(NOW + 299) == []
    assert cleared(NOW + 300) == [Verdict(HERE, CLEARED)]
    assert cleared(NOW + 310, there=True) == cleared(NOW + 320) == cleared(NOW + 559) == []
    judge.since.clear()
    assert cleared(NOW + 600) == cleared(NOW + 839) == []
    told = Known("{}:{a}", NOW + 800, "slack", "http://am", {"dag_id": "etl"})
    assert cleared(NOW + 900, told) == cleared(NOW + 1039, told) == []
    assert cleared(NOW + 1040, told) == [Verdict(told, CLEARED)]


def test_a_sender_that_is_not_asked() -> None:
    """What a Grafana sends is in no Alertmanager's list, and stays as it is."""
    judge, senders = Judge(), {"http://am"}
    grafana = Known("{}:{b}", NOW, "slack", "http://grafana", {"dag_id": "etl"})
    for at in (NOW, NOW + 10 * WAIT):
        assert [*judge.verdicts({}, [(False, grafana)], senders, at, WAIT)] == []
    assert senders == {"http://am"}


def test_what_is_unknown_here_is_given_time() -> None:
    """It is told if its receiver has ever posted here, under its key where that is known; not if nobody is to hear."""
    judge, senders = Judge(), set[str]()
    there = {
        HERE.where: listed(ACTIVE),
        where("slack", {"dag_id": "new"}): listed(ACTIVE, SILENCED, dag="new"),
        where("slack", {"dag_id": "quiet"}): listed(SILENCED, dag="quiet"),
        where("pager", {"dag_id": "etl"}): listed(ACTIVE),
    }
    over = [(True, HERE)]
    assert [*judge.verdicts(there, over, senders, NOW, WAIT)] == []
    assert [*judge.verdicts(there, over, senders, NOW + WAIT - 1, WAIT)] == []
    found = {it.group.group_labels["dag_id"]: it for it in judge.verdicts(there, over, senders, NOW + WAIT, WAIT)}
    assert sorted(found) == ["etl", "new"]
    assert found["etl"] == Verdict(HERE, "", there[HERE.where])
    unknown = found["new"].group
    assert (unknown.key, unknown.receiver, unknown.external_url) == ("", "slack", "http://am")


@pytest.mark.parametrize(
    ("configuration", "seconds"),
    [
        (
            "route:\n  group_interval: 1m\n  routes:\n  - group_interval: 1h30m\n    receiver: a\n  - receiver: b\n",
            5400.0,
        ),
        ("route:\n  receiver: a\n  repeat_interval: 4h\n", 300.0),
        ("route:\n  group_interval: 1w2d3h4m5s6ms\n", 788_645.006),
    ],
)
def test_the_group_interval(configuration: str, seconds: float) -> None:
    """The longest of all routes, or Alertmanager's default."""
    assert group_interval(json.dumps({"config": {"original": configuration}}).encode()) == seconds


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """The router's tables, empty."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(FORMATS))
    yield connection
    connection.close()


CONFIG = Config.model_validate(
    {
        "slack": {"token": "x"},
        "destinations": {"data": {"channel": "C1"}},
        "watchdogs": [{"match": ["dag_id=watchdog"]}],
    }
)


def groups(connection: sqlite3.Connection) -> list[Snapshot]:
    """All that is known."""
    return [snapshot for _, snapshot in store.known(connection, repair.SOURCE, Snapshot)]


def test_the_webhook_that_was_not_sent(connection: sqlite3.Connection) -> None:
    """It is as Alertmanager would have posted it, but for its key; one that comes at last is of the same group."""
    told = parse(body(dag_failed(), dag_failed(labels={"task_id": "load"})), NOW)
    alerts = [Listed(it.labels, it.annotations, "2026-11-22T03:02:00Z", it.fingerprint, it.url) for it in told.alerts]
    group = Known("", 0.0, "a.b-c", "http://am", told.group_labels)
    repair._mend(connection, Verdict(group, "", alerts), CONFIG, NOW)
    (made,) = groups(connection)
    assert (made.receiver, made.external_url, made.firing) == ("a.b-c", "http://am", 2)
    assert (made.group_labels, made.common_labels) == (told.group_labels, told.common_labels)
    assert made.common_annotations == told.common_annotations
    assert [it.labels for it in made.alerts] == [it.labels for it in told.alerts]
    came = parse(body(dag_failed(), receiver="a.b-c"), NOW + 60)
    assert came.key != made.key
    assert store.accept(connection, came, [Target("data", "")], NOW + 60) == "stored"
    (found,) = groups(connection)
    assert (found.key, found.firing) == (came.key, 1)
    assert connection.execute("SELECT count(*) FROM router_message").fetchone() == (1,)


def test_a_watchdog_is_not_unknown() -> None:
    """Nothing is told of it here either; of what it is grouped with, all is."""
    other = listed(ACTIVE, dag="etl")
    group = Group({}, {"name": "slack"}, [*listed(ACTIVE, dag="watchdog"), *other])
    assert group.to_be_told(CONFIG.watchdogs) == other


def test_a_webhook_that_comes_meanwhile(connection: sqlite3.Connection) -> None:
    """It counts, rather than what was seen before it came."""
    told = parse(body(dag_failed()), NOW)
    store.accept(connection, told, [Target("data", "")], NOW)
    seen = Known(told.key, NOW - 1, told.receiver, told.external_url, told.group_labels)
    repair._mend(connection, Verdict(seen, CLEARED), CONFIG, NOW + 10)
    assert groups(connection) == [told]
    seen = Known(told.key, NOW, told.receiver, told.external_url, told.group_labels)
    repair._mend(connection, Verdict(seen, CLEARED), CONFIG, NOW + 10)
    (cleared,) = groups(connection)
    assert (cleared.standing, cleared.status, cleared.ended) == (CLEARED, "resolved", NOW + 10)
