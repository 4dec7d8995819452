"""What is accepted is shown where it belongs, once, in its newest state, and nothing is forgotten before its time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.router import store
from exporter.router.model import Snapshot
from exporter.router.routing import Target
from exporter.router.store import Claim, May, Waiting
from exporter.state import Full
from tests.delivery import snapshot

NOW = 1_790_000_000.0
DATA, OPS = Target("data", "<!here>", 0.0), Target("ops", "", 0.0)
"""What fires again there is a new message; test_life.py has the others."""


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """The tables, empty."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(store.FORMATS))
    yield connection
    connection.close()


def accept(connection: sqlite3.Connection, told: Snapshot, *targets: Target, now: float = NOW) -> str:
    """For #data, unless told otherwise."""
    return store.accept(connection, told, targets or [DATA], now)


EDITOR, HOOK = May(edit=True), May(edit=False)


def claim(connection: sqlite3.Connection, lane: str = "data", now: float = NOW, may: May = EDITOR) -> Claim | None:
    """The next message of a lane."""
    return store.claim(connection, lane, now, may)


def show(connection: sqlite3.Connection, lane: str = "data", now: float = NOW, may: May = EDITOR) -> Claim:
    """Claims the next message, which succeeds."""
    found = claim(connection, lane, now, may)
    assert found
    store.shown(connection, found, "C1" if may.edit else None, (found.ts or str(found.id)) if may.edit else None, now)
    return found


def waiting(connection: sqlite3.Connection) -> dict[str, int]:
    """How many messages wait, where any do, without the lines of their threads."""
    return {name: it.messages for name, it in store.survey(connection, -1.0).items() if it.messages}


def test_a_group_is_one_message(connection: sqlite3.Connection) -> None:
    """Posted once at each target, then updated there with the newest state only, until all is over."""
    assert accept(connection, snapshot(now=NOW), DATA, OPS) == "stored"
    first = show(connection)
    assert (first.ts, first.mention, first.times, first.since) == (None, "<!here>", 1, NOW)
    for names in (["a", "b"], ["a", "b", "c"]):
        assert accept(connection, snapshot(firing=names, now=NOW + 60), now=NOW + 60) == "stored"
    update = show(connection)
    assert (update.id, update.ts, update.times, update.since) == (first.id, str(first.id), 3, NOW + 60)
    assert [alert.fingerprint for alert in update.snapshot.alerts] == ["a", "b", "c"]
    accept(connection, snapshot(firing=[], resolved="abc", now=NOW + 90), now=NOW + 90)
    assert show(connection).ts == str(first.id)
    accept(connection, snapshot(firing=[], resolved="ab", now=NOW + 99), now=NOW + 99)
    assert claim(connection) is None, "that it is over is told once"
    assert show(connection, "ops").snapshot.status == "resolved"
    assert waiting(connection) == {}


def test_what_fires_again_is_a_new_message(connection: sqlite3.Connection) -> None:
    """Once Slack shows that all was over; the old message stays as it is, and time and count begin anew."""
    accept(connection, snapshot(now=NOW))
    first = show(connection)
    accept(connection, snapshot(firing=[], resolved=["a"], now=NOW))
    show(connection)
    accept(connection, snapshot(now=NOW + 500), now=NOW + 500)
    again = show(connection)
    assert (again.ts, again.first, again.times) == (None, NOW + 500, 1)
    assert again.id > first.id


def test_what_fires_again_before_it_is_shown_as_over(connection: sqlite3.Connection) -> None:
    """It stays in its message: whoever reads it saw it fire all the time."""
    accept(connection, snapshot(now=NOW))
    first = show(connection)
    accept(connection, snapshot(firing=[], resolved=["a"], now=NOW))
    accept(connection, snapshot(now=NOW + 500), now=NOW + 500)
    assert show(connection).ts == str(first.id)
    assert claim(connection) is None


@pytest.mark.parametrize("over", [False, True])
def test_what_fires_again_while_its_end_is_under_way(connection: sqlite3.Connection, over: bool) -> None:
    """It is a new message, be it over again by then; the end of an end is none."""
    accept(connection, snapshot(now=NOW))
    first = show(connection)
    accept(connection, snapshot(firing=[], resolved=["a"], now=NOW))
    under_way = claim(connection)
    assert under_way
    accept(connection, snapshot(now=NOW + 500), now=NOW + 500)
    if over:
        accept(connection, snapshot(firing=[], resolved=["a"], now=NOW + 900), now=NOW + 900)
    store.shown(connection, under_way, "C1", str(first.id), NOW + 900)
    new = show(connection)
    assert (new.ts, new.snapshot.status) == (None, "resolved" if over else "firing")
    assert claim(connection) is None


def test_a_change_while_a_message_is_under_way(connection: sqlite3.Connection) -> None:
    """It waits, as an update of the message that is under way, and since when it came."""
    accept(connection, snapshot(now=NOW))
    under_way = claim(connection)
    assert under_way
    accept(connection, snapshot(firing="ab", now=NOW + 5), now=NOW + 5)
    store.shown(connection, under_way, "C1", "1.5", NOW + 6)
    update = show(connection, now=NOW + 7)
    assert (update.ts, update.channel, update.since, len(update.snapshot.alerts)) == ("1.5", "C1", NOW + 6, 2)


def test_without_edits_only_news_are_told(connection: sqlite3.Connection) -> None:
    """An incoming webhook posts what begins to fire, and that all is over; nothing else is worth a message."""
    accept(connection, snapshot(firing="ab", now=NOW), OPS)
    show(connection, "ops", may=HOOK)
    accept(connection, snapshot(firing="b", resolved="a", now=NOW), OPS)
    assert claim(connection, "ops", may=HOOK) is None
    accept(connection, snapshot(firing="bc", resolved="a", now=NOW), OPS)
    assert show(connection, "ops", may=HOOK).snapshot.firing == 2
    accept(connection, snapshot(firing=[], resolved="bc", now=NOW), OPS)
    assert show(connection, "ops", may=HOOK).snapshot.status == "resolved"
    accept(connection, snapshot(firing=[], resolved="b", now=NOW), OPS)
    assert claim(connection, "ops", may=HOOK) is None
    assert waiting(connection) == {}


def test_an_end_goes_where_the_beginning_went(connection: sqlite3.Connection) -> None:
    """Where routes lead by now matters only to what fires; nobody is told of the end of something untold."""
    accept(connection, snapshot(now=NOW), DATA)
    accept(connection, snapshot(firing="ab", severity="critical", now=NOW), OPS)
    assert waiting(connection) == {"data": 1, "ops": 1}
    accept(connection, snapshot(firing=[], resolved="ab", now=NOW), Target("elsewhere", ""))
    assert waiting(connection) == {"data": 1, "ops": 1}
    accept(connection, snapshot("unknown", [], "a", now=NOW), Target("elsewhere", ""))
    assert waiting(connection) == {"data": 1, "ops": 1, "elsewhere": 1}


def test_doubles(connection: sqlite3.Connection) -> None:
    """What tells nothing new is a duplicate, whoever sends it; after a while it counts as told once more."""
    told = snapshot(now=NOW)
    accept(connection, told)
    show(connection)
    assert accept(connection, told, now=NOW + 119) == "duplicate"
    assert accept(connection, snapshot(now=NOW, external_url="http://am-2"), now=NOW + 5) == "duplicate"
    assert accept(connection, told, now=NOW + 500) == "duplicate"
    assert claim(connection) is None
    accept(connection, snapshot(firing="ab", now=NOW + 600), now=NOW + 600)
    assert show(connection).times == 3


PEER = "http://am-2"


@pytest.fixture
def over(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Alerts `a` and `b` began at NOW, ended 30 seconds later, and Slack shows it."""
    accept(connection, snapshot(firing="ab", now=NOW))
    show(connection)
    accept(connection, snapshot(firing=[], resolved="b", now=NOW + 30, starts=NOW), now=NOW + 32)
    assert show(connection, now=NOW + 32).snapshot.status == "resolved"
    return connection


@pytest.mark.parametrize("firing", ["ab", "a", "b", "c"])
def test_a_late_double_of_a_pair(over: sqlite3.Connection, firing: str) -> None:
    """What fired before it was over fires no more because the other Alertmanager is a flush behind, whatever it has."""
    late = snapshot(firing=firing, now=NOW + 3, external_url=PEER)
    assert accept(over, late, now=NOW + 152) == "stored"
    accept(over, snapshot(firing=firing, resolved="d", now=NOW + 3, external_url=PEER), now=NOW + 160)
    assert claim(over, now=NOW + 400) is None
    assert claim(over, "data", NOW + 400, HOOK) is None
    accept(over, snapshot(firing=[], resolved=firing, now=NOW + 31, external_url=PEER), now=NOW + 452)
    assert claim(over, now=NOW + 9999) is None
    assert waiting(over) == {}
    accept(over, snapshot(firing="a", now=NOW + 999), now=NOW + 1000)
    assert show(over, now=NOW + 1000).ts is None, "it is over, and fires again"


def test_what_is_held_fires_after_all(over: sqlite3.Connection) -> None:
    """Nobody says that it is over: it is a new message, if a late one, and is updated as any other."""
    accept(over, snapshot(firing="ab", now=NOW + 3, external_url=PEER), now=NOW + 40)
    assert claim(over, now=NOW + 369) is None
    new = show(over, now=NOW + 371)
    assert (new.ts, new.since, new.snapshot.status) == (None, NOW + 370, "firing")
    accept(over, snapshot(firing="a", resolved="b", now=NOW + 400), now=NOW + 400)
    assert show(over, now=NOW + 400).ts


def test_more_fires_while_some_is_held(over: sqlite3.Connection) -> None:
    """It is told at once, with what was held."""
    accept(over, snapshot(firing="a", now=NOW + 3, external_url=PEER), now=NOW + 40)
    accept(over, snapshot(firing="ac", now=NOW + 50, external_url=PEER), now=NOW + 50)
    assert show(over, now=NOW + 50).since == NOW + 50


def test_the_end_of_what_was_held_in_vain(over: sqlite3.Connection) -> None:
    """Once it was not held any more, it is told that it fired, even where Slack heard of it when it was over."""
    accept(over, snapshot(firing="a", now=NOW + 3, external_url=PEER), now=NOW + 40)
    accept(over, snapshot(firing=[], resolved="a", now=NOW + 500, external_url=PEER), now=NOW + 500)
    assert show(over, now=NOW + 500).snapshot.status == "resolved"


@pytest.mark.parametrize(
    ("url", "starts", "told"),
    [("http://am-1", NOW + 3, NOW + 40), (PEER, NOW + 31, NOW + 40), (PEER, NOW + 3, NOW + 153)],
    ids=["by the one that ended it", "begun after the end", "long after the end"],
)
def test_what_is_believed_at_once(over: sqlite3.Connection, url: str, starts: float, told: float) -> None:
    """Alerts that were over fire again."""
    accept(over, snapshot(firing="a", now=starts, external_url=url), now=told)
    assert show(over, now=told).snapshot.status == "firing"


def test_a_late_double_while_the_end_waits(connection: sqlite3.Connection) -> None:
    """The message that is there shows what is told last, and no other comes of it."""
    accept(connection, snapshot(now=NOW))
    first = show(connection)
    accept(connection, snapshot(firing=[], resolved="a", now=NOW + 30, starts=NOW), now=NOW + 30)
    accept(connection, snapshot(now=NOW, external_url=PEER), now=NOW + 31)
    accept(connection, snapshot(firing=[], resolved="a", now=NOW + 30, starts=NOW), now=NOW + 32)
    assert show(connection, now=NOW + 33).ts == str(first.id)
    assert claim(connection, now=NOW + 9999) is None


told = st.tuples(
    st.sampled_from(["http://am-1", PEER]),
    st.sampled_from(["", "a", "ab"]),
    st.sampled_from([1.0, 200.0, 400.0]),
    st.sampled_from([0.0, 1000.0]),
    st.sampled_from([True, True, False]),
)


@given(st.lists(told, min_size=1, max_size=8), st.sampled_from([0.0, 300.0, 3600.0]))
@example([("http://am-1", "", 1.0, 1000.0, True), (PEER, "a", 1.0, 1000.0, True)], 0.0)
@example([("http://am-1", "", 1.0, 1000.0, True), (PEER, "a", 1.0, 1000.0, True), (PEER, "", 1.0, 1000.0, True)], 0.0)
@settings(max_examples=150, deadline=None)
def test_what_is_told_last_is_shown_in_the_end(
    webhooks: list[tuple[str, str, float, float, bool]], reopen: float
) -> None:
    """Whatever two Alertmanagers tell, and however late: what fires is red, and what is over is nowhere red."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("".join(store.FORMATS))
    now, slack = NOW, dict[str, Snapshot]()

    def deliver() -> None:
        while found := claim(connection, now=now):
            ts = found.ts or str(len(slack))
            slack[ts] = found.snapshot
            store.shown(connection, found, "C1", ts, now)

    for url, firing, later, age, delivered in webhooks:
        now += later
        over = sorted({*"ab"} - {*firing})
        last = snapshot(firing=firing, resolved=over, now=now, starts=now - age, external_url=url)
        accept(connection, last, Target("data", "", reopen), now=now)
        if delivered:
            deliver()
    now += store.HOLD + 1
    deliver()
    red = {it.fingerprint for shown in slack.values() for it in shown.alerts if shown.status == "firing" and it.firing}
    assert red == {*webhooks[-1][1]}
    assert waiting(connection) == {}
    connection.close()


def test_a_truncated_group_is_never_over(connection: sqlite3.Connection) -> None:
    """It is shown as firing, in the same message, whatever its status says."""
    accept(connection, snapshot(firing="abc", now=NOW))
    show(connection)
    accept(connection, snapshot(firing=[], resolved="abc", truncated=7, now=NOW))
    assert show(connection).snapshot.status == "firing"
    accept(connection, snapshot(firing=[], resolved="abc", now=NOW))
    assert show(connection).ts


def test_the_critical_first_then_the_oldest(connection: sqlite3.Connection) -> None:
    """Whatever came first; what is over is not critical any more."""
    for number, severity in enumerate(("warning", "critical", "", "critical")):
        accept(connection, snapshot(f"group {number}", severity=severity, now=NOW), now=NOW + number)
    accept(connection, snapshot("group 1", [], "a", severity="critical", now=NOW), now=NOW + 9)
    assert [show(connection).snapshot.key[-1] for _ in range(4)] == ["3", "0", "1", "2"]


def test_updates_wait_while_there_are_too_many(connection: sqlite3.Connection) -> None:
    """New messages go ahead of them."""
    accept(connection, snapshot(severity="critical", now=NOW))
    show(connection)
    accept(connection, snapshot(firing="ab", severity="critical", now=NOW))
    accept(connection, snapshot("other", now=NOW + 9), now=NOW + 9)
    assert show(connection, may=May(edit=True, update=False)).snapshot.key == "other"
    assert claim(connection, may=May(edit=True, update=False)) is None
    assert show(connection).ts


def test_what_is_put_off(connection: sqlite3.Connection) -> None:
    """It waits until then, others do not; a clock that is set back does not stop it."""
    accept(connection, snapshot(now=NOW))
    found = claim(connection)
    assert found
    store.put(connection, found.id, sent=None, not_before=NOW + 200, attempts=1)
    accept(connection, snapshot("other", now=NOW))
    assert show(connection, now=NOW + 1).snapshot.key == "other"
    assert claim(connection, now=NOW + 199) is None
    assert claim(connection, now=NOW - 86400)
    store.put(connection, found.id, sent=None)
    accept(connection, snapshot("new", now=NOW + 1))
    probes = []
    for attempts in (2, 1, 2):
        probe = claim(connection, may=May(edit=True, probe=True))
        assert probe
        probes.append(probe.snapshot.key)
        store.put(connection, probe.id, sent=None, not_before=NOW + 200, attempts=attempts)
    assert probes == ["new", "etl", "etl"], "what was tried least"
    assert claim(connection) is None
    store.hurry(connection, "data")
    assert claim(connection)


def test_a_post_without_an_answer(connection: sqlite3.Connection) -> None:
    """Whoever claims it again knows, and knows its key; what changed meanwhile does not hide that."""
    accept(connection, snapshot(now=NOW))
    first = claim(connection)
    assert first
    assert not first.unsure
    accept(connection, snapshot(firing="ab", now=NOW + 5), now=NOW + 5)
    again = claim(connection, now=NOW + 9)
    assert again
    assert (again.unsure, again.key, again.sent) == (True, first.key, NOW)
    assert claim(connection, may=May(edit=True, look=False)) is None
    store.put(connection, first.id, sent=None)
    fresh = claim(connection, now=NOW + 9)
    assert fresh
    assert (fresh.unsure, fresh.key == first.key) == (False, False)


def test_dead_letters(connection: sqlite3.Connection) -> None:
    """They wait no more; retried they do, dropped they are over, and whatever is new to their group revives them."""
    for key in ("retried", "dropped", "revived", "kept"):
        accept(connection, snapshot(key, now=NOW))
    for number in range(4):
        found = claim(connection)
        assert found
        store.put(connection, found.id, dead=NOW + number, reason="no_text", lane="ops", level=2, attempts=9)
    ids = {letter.snapshot.key: letter.id for letter in store.dead_letters(connection)}
    assert [*ids] == ["retried", "dropped", "revived", "kept"]
    assert store.survey(connection, NOW) == {"data": Waiting(0, None, 4)}
    assert store.retry(connection, [ids["retried"], 999], NOW + 50) == 1
    assert store.drop(connection, [ids["dropped"]]) == 1
    accept(connection, snapshot("revived", "ab", now=NOW + 60), now=NOW + 60)
    assert [letter.id for letter in store.dead_letters(connection)] == [ids["kept"]]
    store.put(connection, ids["retried"], sent=None)
    retried = show(connection)
    assert (retried.id, retried.level, retried.attempts, retried.since) == (ids["retried"], 0, 0, NOW + 50)
    assert store.drop(connection, [ids["retried"]]) == 0, "it is none any more"
    accept(connection, snapshot("dropped", [], "a", now=NOW + 70), now=NOW + 70)
    assert show(connection).snapshot.status == "resolved", "its end is told"


def test_news_of_what_is_given_up(connection: sqlite3.Connection) -> None:
    """They came while the last attempt was under way: they are told, and nothing is given up."""
    accept(connection, snapshot(now=NOW))
    found = claim(connection)
    assert found
    accept(connection, snapshot(firing="ab", now=NOW))
    store.give_up(connection, found, "no_text", None, NOW)
    assert store.dead_letters(connection) == []
    last = claim(connection)
    assert last
    store.give_up(connection, last, "no_text", None, NOW)
    assert [letter.id for letter in store.dead_letters(connection)] == [found.id]


def test_another_destination(connection: sqlite3.Connection) -> None:
    """What is diverted is new there, and may be a repeat if it was under way; its next message is its own's again."""
    accept(connection, snapshot(now=NOW))
    accept(connection, snapshot("shown", now=NOW))
    show(connection)
    claim(connection)
    store.put(connection, 1, lane="data")
    accept(connection, snapshot("etl", "ab", now=NOW))
    assert store.divert(connection, "data", "ops", displayed=False) == 1
    assert waiting(connection) == {"ops": 1, "data": 1}
    assert store.divert(connection, "data", "ops", displayed=True) == 1
    diverted = [show(connection, "ops") for _ in range(2)]
    assert [(it.destination, it.ts) for it in diverted] == [("data", None)] * 2
    assert sum(it.repeat for it in diverted) == 1
    accept(connection, snapshot("etl", [], "ab", now=NOW))
    assert show(connection, "ops").ts
    accept(connection, snapshot("etl", "a", now=NOW + 500), now=NOW + 500)
    assert waiting(connection) == {"data": 1}


def test_no_such_destination(connection: sqlite3.Connection) -> None:
    """What waits for one that is no more is a dead letter; what was diverted there is not."""
    accept(connection, snapshot(now=NOW), DATA, OPS)
    store.divert(connection, "data", "ops", displayed=False)
    assert store.bury(connection, ["ops"], NOW) == 1
    assert waiting(connection) == {"data": 1}
    assert [letter.reason for letter in store.dead_letters(connection)] == ["there is no such destination"]


def test_what_is_forgotten(connection: sqlite3.Connection) -> None:
    """Groups that were over a week ago, and those unheard of for a month; never what waits, or was given up."""
    day = 86400.0
    ages = {"over": 8, "newly over": 6, "firing": 29, "unheard": 31, "waiting": 40, "dead": 40}
    for key, days in ages.items():
        accept(connection, snapshot(key, now=NOW), now=NOW - days * day)
        if key not in ("waiting", "dead"):
            show(connection)
        if key.endswith("over"):
            accept(connection, snapshot(key, [], "a", now=NOW), now=NOW - days * day)
            show(connection)
        if key in ("waiting", "dead"):
            connection.execute("UPDATE router_message SET lane = ? WHERE shown < wanted AND lane = 'data'", (key,))
    connection.execute("UPDATE router_message SET dead = 1 WHERE lane = 'dead'")
    store.prune(connection, NOW)
    left = {key for (key,) in connection.execute("SELECT key FROM router_group")}
    assert left == {"newly over", "firing", "waiting", "dead"}
    assert connection.execute("SELECT count(*) FROM router_message").fetchone() == (4,)


def test_what_lasts_is_not_forgotten(connection: sqlite3.Connection) -> None:
    """Nobody repeats what Airflow's database says, so that it turns green however late; but a failed run need not."""
    run = {"airflow": "prod", "dag_id": "etl", "run_id": "1"}
    for key, labels in {"dag_overdue:etl": {}, "run:etl:1": run}.items():
        accept(connection, snapshot(key, source="airflow", common_labels=labels, now=NOW))
        show(connection)
    store.prune(connection, NOW + 365 * 86400.0)
    assert connection.execute("SELECT key FROM router_group").fetchall() == [("dag_overdue:etl",)]


def test_a_full_file(connection: sqlite3.Connection) -> None:
    """Beyond 95 % of its size nothing new is accepted, but duplicates are no burden; what is forgotten makes room."""
    connection.execute("PRAGMA max_page_count = 100")
    told: list[Snapshot] = []
    with pytest.raises(Full, match=r"state\.max_size"):
        for number in range(1000):
            told.append(snapshot(f"group {number}", common_annotations={"text": "x" * 3000}, now=NOW))
            accept(connection, told[-1], now=NOW - 40 * 86400)
    assert len(told) > 50
    assert accept(connection, told[0]) == "duplicate"
    connection.execute("UPDATE router_message SET shown = wanted")
    store.prune(connection, NOW)
    assert accept(connection, told[-1]) == "stored"


def test_what_is_told_of_a_group_that_began_before(connection: sqlite3.Connection) -> None:
    """It began with the oldest alert that fires, whenever it was told."""
    old: dict[str, Any] = {"starts": NOW - 3000, "now": NOW}
    accept(connection, snapshot(**old))
    assert show(connection).first == NOW - 3000
    accept(connection, snapshot(firing=[], resolved="a", **old))
    assert show(connection).first == NOW - 3000
