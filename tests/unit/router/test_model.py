"""What becomes of a webhook's body: whoever sends it, whatever is in it, and however much."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.router.model import KEPT, MOST, Malformed, Snapshot, parse, rank

PAYLOADS = Path(__file__).parents[2] / "integration/router/payloads"
NOW = 1795350000.0
LABELS = {"alertname": "AirflowTaskFailed", "dag_id": "etl"}


def alert(number: int = 0, status: str = "firing", **more: Any) -> dict[str, Any]:
    """One alert as Alertmanager writes it; the higher the number, the younger."""
    return {
        "status": status,
        "labels": {**LABELS, "task_id": f"load_{number}", "severity": "warning"},
        "annotations": {"summary": f"load_{number} failed"},
        "startsAt": f"2026-11-22T12:{number % 60:02}:00Z",
        "endsAt": "2026-11-22T13:00:00Z" if status == "resolved" else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.com/graph",
        "fingerprint": f"{number:016x}",
        **more,
    }


def body(*alerts: dict[str, Any], **more: Any) -> bytes:
    """A group's body of version 4."""
    fields = {
        "version": "4",
        "groupKey": '{}:{dag_id="etl"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "slack",
        "groupLabels": {"dag_id": "etl"},
        "commonLabels": LABELS,
        "commonAnnotations": {},
        "externalURL": "http://am-0.example.com",
        "alerts": alerts,
    }
    return json.dumps(fields | more).encode()


def recorded(name: str) -> Snapshot:
    """What becomes of a recorded body."""
    return parse((PAYLOADS / f"{name}.json").read_bytes(), NOW)


def test_a_whole_body() -> None:
    """Every field arrives; a receiver's name is not quoted any more, and the zero time of what fires is none."""
    snapshot = recorded("alertmanager-0.34-partly-resolved")
    assert (snapshot.source, snapshot.receiver) == ("alertmanager", "slack.dag+team(1) x")
    assert snapshot.key.startswith('{}/{team="data"}:{alertname="AirflowTaskFailed"')
    assert snapshot.external_url == "http://alertmanager.example.com:9093"
    assert (snapshot.reason, snapshot.truncated, snapshot.received) == ("some alerts resolved", 0, NOW)
    assert snapshot.group_labels == {"alertname": "AirflowTaskFailed", "dag_id": "etl & <load>"}
    assert snapshot.common_labels == {**snapshot.group_labels, "team": "data"}
    assert snapshot.common_annotations == {"runbook_url": "https://runbooks.example.com/AirflowTaskFailed"}
    assert snapshot.route_labels == {"slack_channel": "data-alerts"}
    assert (snapshot.firing, snapshot.resolved, snapshot.fingerprints) == (1, 1, {})
    firing, resolved = snapshot.alerts
    assert (firing.firing, firing.ends, firing.labels["task_id"]) == (True, None, "load_1")
    assert (resolved.firing, resolved.labels["task_id"]) == (False, "load_0")
    assert resolved.ends and resolved.ends > resolved.starts > 1.79e9
    assert firing.url.startswith("http://prometheus.example.com:9090/graph?g0.expr=") and "&" in firing.url
    assert re.fullmatch("[0-9a-f]{16}", firing.fingerprint)
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot


@pytest.mark.parametrize("version", ["0.25", "0.33", "0.34"])
def test_a20_a_truncated_group_is_never_resolved(version: str) -> None:
    """Alertmanager says `resolved` of it, since all that it left in the body is, while an alert that it cut fires."""
    name = f"alertmanager-{version}-truncated"
    assert json.loads((PAYLOADS / f"{name}.json").read_bytes())["status"] == "resolved"
    snapshot = recorded(name)
    assert (snapshot.firing, snapshot.resolved, snapshot.truncated) == (0, 3, 1)
    assert snapshot.status == "firing"


@pytest.mark.parametrize(
    ("name", "status", "severity", "firing", "resolved"),
    [
        *((f"alertmanager-{version}-firing", "firing", "critical", 2, 0) for version in ("0.25", "0.33", "0.34")),
        *((f"alertmanager-{version}-resolved", "resolved", "critical", 0, 1) for version in ("0.25", "0.33", "0.34")),
        ("made-grafana-firing", "firing", "critical", 1, 0),
        ("made-grafana-no-data-resolved", "resolved", "", 0, 1),
        ("made-mimir-firing", "firing", "page", 1, 0),
        ("made-vmalert-firing", "firing", "warning", 1, 0),
    ],
)
def test_a25_bodies(name: str, status: str, severity: str, firing: int, resolved: int) -> None:
    """Those recorded from real Alertmanagers, and those of senders that imitate it."""
    snapshot = recorded(name)
    assert (snapshot.status, snapshot.severity) == (status, severity)
    assert (snapshot.firing, snapshot.resolved) == (firing, resolved)
    assert all(NOW - 86400 < alert.starts < NOW + 7200 for alert in snapshot.alerts)
    assert all((alert.ends is None) == alert.firing for alert in snapshot.alerts)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("made-payload-template", "Object missing required field `alerts`"), ("made-vmalert-api", "Expected `object`")],
)
def test_a_body_of_something_else_is_malformed(name: str, problem: str) -> None:
    """Of a receiver with `payload`, of a vmalert that takes us for an Alertmanager; a sentence says what is missing."""
    with pytest.raises(Malformed, match="its receiver must not set `payload`") as caught:
        recorded(name)
    assert problem in str(caught.value)


def test_what_imitators_leave_out() -> None:
    """No fingerprint, key, texts, or null in their place; labels that are no text are shown as JSON."""
    labels = {"alertname": "X", "count": 3, "ok": True, "none": None, "deep": {"a": [1]}}
    alerts = [{"status": "firing", "labels": labels, "startsAt": "2026-11-22T12:00:00+01:00"}]
    empty = {"annotations": None, "generatorURL": None, "fingerprint": None, "endsAt": None}
    snapshot = parse(json.dumps({"alerts": alerts, "receiver": None, "extra": {"a": 1}}).encode(), NOW)
    (only,) = snapshot.alerts
    assert only.labels == {"alertname": "X", "count": "3", "ok": "true", "none": "", "deep": '{"a": [1]}'}
    assert (only.starts, only.ends, only.url, only.annotations) == (1795345200.0, None, "", {})
    assert (len(only.fingerprint), snapshot.receiver, snapshot.key) == (16, "", "{}")
    with_nulls = parse(json.dumps({"alerts": [alerts[0] | empty], "groupLabels": None, "groupKey": ""}).encode(), NOW)
    assert with_nulls.identity == snapshot.identity
    other = parse(json.dumps({"alerts": alerts, "groupLabels": {"b": "2", "a": "1"}}).encode(), NOW)
    assert other.key == '{"a":"1","b":"2"}'


def test_a_body_without_alerts() -> None:
    """It is no error; what is left out by the sender fires."""
    for alerts in ("[]", "null"):
        snapshot = parse(f'{{"alerts": {alerts}, "truncatedAlerts": 2}}'.encode(), NOW)
        assert (snapshot.alerts, snapshot.status, snapshot.severity) == ((), "firing", "")


def test_times() -> None:
    """Nanoseconds and offsets are read; what is no time is now for a start, and unknown for an end."""
    told = parse(
        body(
            alert(1, startsAt="2026-11-22T12:00:00.123456789Z"),
            alert(2, startsAt="2026-11-22T13:00:00.5+01:00"),
            alert(3, "resolved", startsAt="0001-01-01T00:00:00Z", endsAt="soon"),
            alert(4, "resolved", startsAt="2026-11-22T12:00:00", endsAt="9999-12-31T23:59:59-12:00"),
        ),
        NOW,
    )
    found = {it.fingerprint[-1]: (it.starts, it.ends) for it in told.alerts}
    assert found["1"] == (1795348800.123456, None)
    assert found["2"] == (1795348800.5, None)
    assert found["3"] == (NOW, None)
    assert found["4"] == (1795348800.0, 253402343999.0)


def test_the_same_alert_twice_is_one() -> None:
    """It fires if one of them does, in whatever order they come."""
    for pair in ((alert(1, "resolved"), alert(1)), (alert(1), alert(1, "resolved"))):
        snapshot = parse(body(*pair), NOW)
        assert (snapshot.firing, snapshot.resolved, len(snapshot.alerts)) == (1, 0, 1)


def test_the_worst_are_kept_in_full() -> None:
    """Firing before resolved, then the worst, then the oldest; the others are counted, and known by fingerprint."""
    labels = {**LABELS, "severity": "critical"}
    alerts = [alert(number, "resolved" if number % 3 == 0 else "firing") for number in range(1200)]
    alerts[601] = alert(601, labels=labels)
    alerts[600] = alert(600, "resolved", labels=labels)
    snapshot = parse(body(*alerts), NOW)
    assert (snapshot.firing, snapshot.resolved) == (800, 400)
    assert len(snapshot.alerts) == KEPT and len(snapshot.fingerprints) == 1200 - KEPT
    assert snapshot.alerts[0].fingerprint == f"{601:016x}"
    assert all(it.firing for it in snapshot.alerts)
    assert [it.starts for it in snapshot.alerts[1:]] == sorted(it.starts for it in snapshot.alerts[1:])
    assert sum(snapshot.fingerprints.values()) == 800 - KEPT
    assert not {it.fingerprint for it in snapshot.alerts} & snapshot.fingerprints.keys()
    assert parse(body(*reversed(alerts)), NOW).identity == snapshot.identity


def test_labels_are_what_all_alerts_share_and_the_worst_severity() -> None:
    """Else a group with one critical alert among warnings would not be routed as critical."""
    worst = alert(1, labels={**LABELS, "severity": "Critical"})
    snapshot = parse(body(worst, alert(2), groupLabels={"a": "1"}, routeLabels={"dag_id": "other"}), NOW)
    assert snapshot.labels == {"severity": "Critical", **LABELS, "a": "1", "dag_id": "other"}
    worst["status"] = "resolved"
    assert parse(body(worst, alert(2)), NOW).severity == "warning"
    assert parse(body(worst, alert(2, "resolved")), NOW).severity == "Critical"
    assert parse(body(alert(1, labels={}), commonLabels={}, groupLabels={}), NOW).labels == {}
    assert parse(body(worst, commonLabels={"severity": "info"}), NOW).labels["severity"] == "info"


def test_ranks() -> None:
    """Names of severities are many; one that is not known is not taken lightly."""
    ordered = ["", "info", "sev3", "error", "CRITICAL"]
    assert sorted(ordered, key=rank) == ordered
    assert rank("page") == rank("critical")


SAME: list[dict[str, Any]] = [
    {"externalURL": "http://am-1.example.com"},
    {"notification_reason": "repeat interval elapsed"},
    {"version": "5", "whatever": [1]},
]
OTHER: list[dict[str, Any]] = [
    {"groupKey": "{}:{}"},
    {"receiver": "other"},
    {"truncatedAlerts": 1},
    {"alerts": [alert(1)]},
    {"alerts": [alert(1), alert(2)]},
    {"alerts": [alert(1), alert(2, "resolved", startsAt="2026-11-22T11:00:00Z")]},
    {"alerts": [alert(1), alert(2, "resolved", endsAt="2026-11-22T13:00:01Z")]},
]


def test_identity() -> None:
    """Both Alertmanagers of a pair tell the same, in whatever order; what changes the picture changes the identity."""
    first = parse(body(alert(1), alert(2, "resolved")), NOW)
    assert re.fullmatch("[0-9a-f]{64}", first.identity)
    for more in SAME:
        assert parse(body(alert(2, "resolved"), alert(1), **more), NOW + 60).identity == first.identity
    others = {parse(body(alert(1), alert(2, "resolved"), **more), NOW).identity for more in OTHER}
    assert len(others | {first.identity}) == len(OTHER) + 1


MALFORMED: dict[bytes, str] = {
    b"": "truncated",
    b"alerts": "malformed",
    b"[]": "Expected `object`",
    b'{"alerts": [1]}': "Expected `object`",
    b'{"alerts": [{}]}': "missing required field `status`",
    b'{"alerts": [], "x": NaN}': "malformed",
    b'{"alerts": [], "x": 1e}': "malformed|invalid",
    b'{"alerts": []}{': "trailing",
    b'{"alerts": [], "x": "\xff"}': "not UTF-8",
    b'{"alerts": [], "x": "\xed\xa0\x80"}': "not UTF-8",
    b'{"alerts": [], "groupKey": "\\ud800"}': "truncated|surrogate|invalid",
    b'{"alerts": [], "truncatedAlerts": -1}': ">= 0",
    b'{"alerts": [], "truncatedAlerts": 1e999}': "out of range|Expected",
    b'{"alerts": [], "groupLabels": [1]}': "Expected `object",
    b'{"alerts": [{"status": "firing", "startsAt": "", "labels": "x"}]}': "Expected `object",
    b'{"alerts": [], "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "nested too deeply",
    b'{"alerts": [], "groupLabels": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}": "nested too deeply",
    b'{"alerts": [{"status": "", "startsAt": "", "labels": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}": "nested too",
}


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:40].decode("latin-1"))
def test_a19_malformed(text: bytes) -> None:
    """One sentence, which repeats nothing of what was sent."""
    with pytest.raises(Malformed, match=MALFORMED[text]) as caught:
        parse(text, NOW)
    assert len(str(caught.value)) < 200


def test_a19_texts_are_cut() -> None:
    """Names, values, their number, and all of them together; a mapping of a megabyte is not looked into."""
    long = "x" * 100_000
    wide = {f"name_{number}": "v" * 4096 for number in range(100)}
    huge = {"a": "x" * 2_000_000}
    snapshot = parse(
        body(
            alert(1, labels={long: long, "b": "1"}, annotations=wide),
            alert(2, labels=huge, annotations={"summary": "s"}, fingerprint=long),
            groupKey=long,
            receiver=long,
            externalURL=long,
        ),
        NOW,
    )
    cut, unread = snapshot.alerts
    assert cut.labels == {"x" * 256: "x" * 4096, "b": "1"}
    assert len(cut.annotations) == 64 and sum(map(len, cut.annotations.values())) == 65_536
    assert (unread.labels, unread.annotations, len(unread.fingerprint)) == ({}, {"summary": "s"}, 256)
    assert (len(snapshot.key), len(snapshot.receiver), len(snapshot.external_url)) == (64, 4096, 4096)
    assert parse(body(alert(1), groupKey=long + "y"), NOW).key != snapshot.key


def test_a19_alerts_beyond_the_most_count_as_truncated() -> None:
    """They are not looked at, so nothing says that they are over."""
    tiny = b'{"status":"resolved","labels":{"a":"%d"},"startsAt":""}'
    alerts = b",".join(tiny % number for number in range(MOST + 5))
    snapshot = parse(b'{"alerts":[%b]}' % alerts, NOW)
    assert (snapshot.resolved, snapshot.truncated, snapshot.status) == (MOST, 5, "firing")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NAMES = ("status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint")
FIELDS = ("receiver", "groupKey", "externalURL", "truncatedAlerts", "groupLabels", "commonLabels", "routeLabels")


@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), JSON),
    alerts=JSON | st.lists(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=7), max_size=3),
    ascii_only=st.booleans(),
)
def test_a19_any_json(fields: dict[str, object], alerts: object, ascii_only: bool) -> None:
    """Nothing but Malformed is raised; and what is not malformed can be stored, read back, and told apart."""
    text = json.dumps(json.loads(body(alert())) | fields | {"alerts": alerts}, ensure_ascii=ascii_only)
    try:
        snapshot = parse(text.encode("utf-8", "surrogatepass"), NOW)
    except Malformed:
        return
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot).identity == snapshot.identity
    assert snapshot.firing + snapshot.resolved == len(snapshot.alerts)
