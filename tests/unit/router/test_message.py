"""What an engineer gets to read: right, within Slack's limits, and never a mention that the route does not have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from exporter.router.incident import GREEN, Background, FailedTask
from exporter.router.limits import violations
from exporter.router.lines import render_line
from exporter.router.markup import duration
from exporter.router.message import Incident, Level, preview, render
from exporter.router.model import parse
from exporter.router.routing import Target
from exporter.router.templates import SLOTS, Templates
from tests.unit.router.alerts import (
    INCIDENTS,
    MESSAGES,
    NOW,
    QUERY,
    alert,
    body,
    dag_failed,
    incident,
    message,
    task_failed,
)

LEVELS: tuple[Level, ...] = get_args(Level)
BUILT_IN = Templates({})
WORDED = Templates(
    {
        "headline": "{{ severity_emoji }} {{ alertname }} {{ dag_id | code }} {{ summary }}",
        "title": "{{ alertname }} {{ labels }}",
        "summary": "{{ description }}\n<{{ annotations.get('runbook_url', 1) }}|Read> <{{ summary }}> {{ '<!here>' }}",
        "alert": "{{ alert.labels }} {{ alert.url | link(alertname) }} {{ alert.starts | date }}",
        "links": "<https://logs.example.com/?q={{ dag_id | urlencode }}|Logs> {{ receiver | link('Receiver') }}",
        "footer": "{{ duration | duration }} {{ airflow | code }} <!date^{{ dag_id }}^{date}|x> {{ severity | upper }}",
    }
)


def told(payload: dict[str, Any]) -> list[str]:
    """Every text of a message, the phone's first."""

    def texts(value: Any) -> Iterator[str]:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if key in ("text", "fallback") and isinstance(item, str):
                yield item
            elif isinstance(item, dict | list):
                yield from texts(item)

    return [*texts(payload)]


def shown(payload: dict[str, Any]) -> str:
    """All texts together, links as their labels and dates in UTC."""
    return re.sub(r"<[^<>|]*\|([^<>]*)>", r"\1", "\n".join(told(payload)))


@pytest.mark.parametrize("name", INCIDENTS)
def test_messages_read_as_they_were_read(name: str) -> None:
    """A person has read these files; `python -m tests.unit.router.alerts` writes them anew, to be read again."""
    assert (MESSAGES / f"{name}.json").read_text() == message(name)


@pytest.mark.parametrize("name", INCIDENTS)
@pytest.mark.parametrize("level", LEVELS)
def test_the_headline_is_for_a_phone(name: str, level: Level) -> None:
    """Its first line says how bad it is, where, and what, in the length of a notification, without markup."""
    first = str(render(INCIDENTS[name]._replace(mention=""), BUILT_IN, level)["text"]).splitlines()[0]
    assert re.match(r":\w+: (CRITICAL|WARNING|RESOLVED|SILENCED|CLEARED|FIRING) prod: \S", first)
    assert len(first) <= 220 and not re.search(r"[`*<>]", first)


@pytest.mark.parametrize("level", LEVELS)
def test_a20_a_truncated_group_never_turns_green(level: Level) -> None:
    """With max_alerts, Alertmanager calls a group resolved of which seven alerts fire; the message knows better."""
    payload = render(INCIDENTS["truncated_resolved"], BUILT_IN, level)
    assert json.loads(body(dag_failed(lasted=5), truncatedAlerts=7))["status"] == "resolved"
    assert GREEN not in json.dumps(payload)
    assert "RESOLVED" not in shown(payload) and "green" not in shown(payload)
    assert "3 resolved, 7 cut off by Alertmanager" in shown(payload)
    assert "<!subteam^S0ONCALL>" in str(payload["text"])


@pytest.mark.parametrize("level", LEVELS)
def test_resolved(level: Level) -> None:
    """It is green, says how long it lasted, and calls nobody."""
    payload = render(INCIDENTS["dag_failed_resolved"], BUILT_IN, level)
    assert str(payload["text"]).startswith(
        ":large_green_circle: RESOLVED prod: The last run of etl_load failed (after 11 min 30 s)"
    )
    assert all(it["color"] == GREEN for it in payload["attachments"])  # type: ignore[attr-defined]
    assert "<!subteam" not in str(payload["text"])
    assert "silences" not in json.dumps(payload)


def test_partly_resolved() -> None:
    """It keeps its colour; what fires comes first, and what does not any more has its own mark and duration."""
    payload = render(INCIDENTS["tasks_partly_resolved"], BUILT_IN, "full")
    text = shown(payload)
    assert "(3 firing, 9 resolved): load_table_00, load_table_01, load_table_02" in text
    assert GREEN not in json.dumps(payload)
    assert text.index("• `load_table_02`") < text.index(":white_check_mark: `load_table_03`")
    assert "Task load_table_03 failed after 3 tries · after 2 min" in text
    assert "…and 4 more" in text


def test_more_alerts_than_are_kept() -> None:
    """Eight are listed, all are counted."""
    known = incident(body(*map(task_failed, range(1200))))
    text = shown(render(known, BUILT_IN, "full"))
    assert "1,200 firing" in text and "…and 1,192 more" in text
    assert text.count("•") == 8


def test_what_happened_to_the_message_itself() -> None:
    """A repeat after a crash and a message that belongs elsewhere say so, at every level."""
    known = INCIDENTS["dag_failed"]._replace(repeat=True, misrouted_from="data`<!here>")
    for level in LEVELS:
        text = shown(render(known, BUILT_IN, level))
        assert "possible repeat" in text and "misrouted from `dataˋ&lt;!here&gt;`" in text  # noqa: RUF001
    assert "possible repeat" not in shown(render(INCIDENTS["dag_failed"], BUILT_IN, "full"))


@pytest.mark.parametrize(
    ("labels", "three", "two"),
    [
        ({}, "", "/grid"),
        ({"run_id": "a/b"}, "/runs/a%2Fb", "/grid?dag_run_id=a%2Fb"),
        ({"task_id": "t"}, "/tasks/t", "/grid?task_id=t"),
        ({"run_id": "r", "task_id": "t", "map_index": "-1"}, "/runs/r/tasks/t", "/grid?dag_run_id=r&task_id=t"),
        (
            {"run_id": "r", "task_id": "t", "map_index": "3"},
            "/runs/r/tasks/t/mapped/3",
            "/grid?dag_run_id=r&task_id=t&map_index=3",
        ),
    ],
)
def test_airflows_grid(labels: dict[str, str], three: str, two: str) -> None:
    """The link leads as deep as the labels tell, in the shape of the Airflow that there is."""
    known = incident(body(dag_failed("my dag", labels=labels)))
    for major, path in ((3, three), (2, two)):
        text = json.dumps(render(known._replace(airflow_major=major), BUILT_IN, "full"))
        assert f"<https://airflow.example.com/dags/my%20dag{path.replace('&', '&amp;')}|Airflow>" in text
    for other in (known._replace(base_url=None), known._replace(airflow="staging")):
        assert "|Airflow>" not in json.dumps(render(other, BUILT_IN, "full"))


def test_links_to_alertmanager() -> None:
    """A silence is for the labels of the group, quoted as Alertmanager reads them; Grafana has other pages."""
    known = {"alertname": 'a"b\\c', "my.label": "ü|>"}
    text = json.dumps(render(incident(body(alert(1, known, {}), group=(*known,))), BUILT_IN, "full"))
    assert (
        "<http://alertmanager.example.com/#/silences/new?filter="
        "%7Balertname%3D%22a%5C%22b%5C%5Cc%22%2C%22my.label%22%3D%22%C3%BC%7C%3E%22%7D|Silence>" in text
    )
    grafana = alert(1, known, {}) | {"generatorURL": "https://grafana.example.com/alerting/grafana/x/view"}
    assert "|Silence>" not in json.dumps(render(incident(body(grafana)), BUILT_IN, "full"))


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "//x", "ftp://x/", "http://", "https://" + 1000 * "x", "x", "", "java\nscript:x"]
)
def test_only_web_pages_are_linked(url: str) -> None:
    """Other schemes and addresses beyond all bounds are left out."""
    failed = dag_failed()
    failed["annotations"]["runbook_url"] = failed["generatorURL"] = url
    text = json.dumps(render(incident(body(failed)), BUILT_IN, "full"))
    assert "|Runbook>" not in text and "|Query>" not in text and "|Dashboard>" in text


def test_slack_does_not_read_plain_text() -> None:
    """Neither a post nor an update looks for names, channels and addresses in what is not marked as such."""
    payload = render(INCIDENTS["tasks_40"], BUILT_IN, "full")
    texts = re.findall(r'{"type": "mrkdwn"[^{}]*(?:{[^{}]*}[^{}]*)*}', json.dumps(payload))
    assert len(texts) > 5 and all('"verbatim": true' in text for text in texts)
    assert {key: payload[key] for key in payload if key not in ("text", "attachments")} == {
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def test_a16_a_failing_template() -> None:
    """The alert is told in the built-in words, and each failure is counted by its slot; what does not fail is used."""
    failures: list[str] = []
    sources = dict.fromkeys(SLOTS, "{{ 1 / (firing - 40) }}") | {"footer": "our own footer"}
    known = INCIDENTS["tasks_40"]
    payload = render(known, Templates(sources, failures.append), "full")
    expected = json.dumps(render(known, BUILT_IN, "full"))
    footer = re.search(r'"elements": \[{"type": "mrkdwn", "text": "(prod[^"]*)"', expected)
    assert footer and json.dumps(payload) == expected.replace(footer[1], "our own footer")
    assert {*failures} == {*SLOTS} - {"footer"}
    assert render(known, Templates(sources, failures.append), "plain") == render(known, BUILT_IN, "plain")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.4, "0 s"), (59.6, "1 min"), (690.0, "11 min 30 s"), (3600.0, "1 h"), (11_130.0, "3 h 5 min")),
        *((90_061.0, "1 d 1 h"), (-3.0, "0 s"), (float("nan"), "0 s"), (float("inf"), "0 s")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """In the two largest units; what no clock could measure is nothing."""
    assert duration(seconds) == text


def test_preview() -> None:
    """Each destination's request, with the mention of its route, and what Slack would refuse of it."""
    one, two = preview(
        parse(body(dag_failed()), NOW), [Target("ops", ""), Target("data", "<!here>")], BUILT_IN, "prod", None
    )
    assert one["destination"] == "ops" and two["violations"] == []
    assert "(12 min)" in json.dumps(one["request"]) and "<!here>" in json.dumps(two["request"])


HOSTILE = (
    *(
        "<!channel>",
        "<@U012AB3CD>",
        "<#C1>",
        "<!subteam^S1|x>",
        "<http://evil.example|bank>",
        "<!date^1^{date}^http://e|x>",
    ),
    *(
        "&",
        "&lt;!here&gt;",
        "@here",
        "`",
        "```",
        "*",
        "|",
        ">",
        "<",
        "!channel",
        "@U1",
        '"',
        "\\",
        "{{ 7 * 7 }}",
        "{% for",
    ),
    *("http://evil.example/?a=b|c&d", "https://x.example/`<", "javascript:x", "\n", "\r\n\t\u2028", "\x00\x1b[31m\x7f"),
    *("\u202e\u2066", "\u200b\u200d\ufeff", "\ud800", "\U0001f525", "é", "\u706b", "prod", "critical"),
)
NAMES = (
    "alertname",
    "severity",
    "airflow",
    "dag_id",
    "task_id",
    "run_id",
    "map_index",
    "queue",
    "job",
    "summary",
    "title",
)
NOTES = ("summary", "title", "description", "message", "runbook_url", "dashboard_url", "log_url", "grafana_url")


def generated(pool: list[str], seed: int) -> Incident:
    """A body made of these texts, in an order that the seed determines, and what else a message may have to tell."""
    random = Random(seed)

    def text() -> str:
        once = "".join(random.choices(pool, k=random.choice((1, 1, 2, 9))))
        return (once * random.choice((1, 1, 1, 9, 40, 300)))[:2500]

    def mapping(names: tuple[str, ...]) -> dict[str, str]:
        known = {random.choice(names): text() for _ in range(random.randrange(9))}
        return known | {random.choice(pool): text() for _ in range(random.choice((0, 0, 0, 9)))}

    alerts = [
        alert(random.uniform(-9, 1e6), mapping(NAMES), mapping(NOTES), random.choice((None, 0, -5, 7.5, 1e6)))
        | {"generatorURL": random.choice((text(), QUERY, "https://x.example/?" + text()))}
        for _ in range(random.choice((0, 1, 1, 1, 2, 9)))
    ]
    whole: dict[str, Any] = {
        "alerts": alerts,
        "truncatedAlerts": random.choice((0, 0, 7, 10**9)),
        "receiver": text(),
        "externalURL": random.choice((text(), "https://x.example/" + text())),
    }
    for key in ("groupLabels", "commonLabels", "routeLabels"):
        whole[key] = mapping(NAMES)
    whole["commonAnnotations"] = mapping(NOTES)
    snapshot = parse(json.dumps(whole, ensure_ascii=False).encode(errors="replace"), NOW)
    return Incident(
        snapshot=replace(snapshot, firing=snapshot.firing * random.choice((1, 1, 50_000))),
        airflow=text(),
        base_url=random.choice((None, "https://airflow.example.com")),
        mention=random.choice(("", "<!subteam^S0ONCALL>", " ".join(["<@U0AAAAAAA>"] * 20))),
        first=random.choice((NOW - 60, 0.0, -1e18, 1e18, float("nan"), NOW + 9)),
        shown_before=random.randrange(10**9),
        repeat=random.random() < 0.3,
        misrouted_from=random.choice((None, text())),
        id=text(),
        airflow_major=random.choice((2, 3)),
        background=random.choice((Background(), background(random, lambda: text().encode(errors="replace").decode()))),
    )


def background(random: Random, text: Callable[[], str]) -> Background:
    """As many tasks as are ever read, of these texts."""
    number = (None, 0.0, 7.5, 1e9)
    failed = [
        FailedTask(
            task_id=text(),
            map_index=random.choice((-1, 10**6)),
            try_number=random.choice((0, 10**9)),
            tries=1,
            operator=text(),
            duration=random.choice(number),
            usual=random.choice(number),
            queue=text(),
            pool=text(),
            failures=10**9,
        )
        for _ in range(5)
    ]
    return Background(random.choice((None, NOW, 1e18)), random.choice((None, 0, 10**9)), failed)


given_alerts = given(
    st.lists(st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=8), min_size=1, max_size=6), st.integers(0, 2**64)
)

OURS = re.compile(
    r"<https?://[^\s<>|]+\|(Airflow|Runbook|Dashboard|Log|Query|Silence|all in Alertmanager)>"
    r"|<!date\^\d+\^\{date_short_pretty} at \{time}\|[-\d: ]+UTC>"
)
WORDS = re.compile(rf"{OURS.pattern}|<https?://[^<>]+>|<!date\^\d+\^[^<>^]+>")


def is_harmless(payload: dict[str, Any], mention: str, ours: re.Pattern[str]) -> None:
    """Nothing in angle brackets but what is ours, no half entity, and nothing that hides or turns what is read."""
    head, *rest = told(payload)
    for text in (head.removesuffix(f"  {mention}"), *rest):
        plain = ours.sub("", text)
        assert not re.search(r"<|&(?!(amp|lt|gt);)|```", plain), plain
        assert plain.replace("\n", "").isprintable(), plain


Way = tuple[Templates, Level, re.Pattern[str]]
FULL: Way = (BUILT_IN, "full", OURS)
OTHERS: tuple[Way, ...] = (
    (WORDED, "full", WORDS),
    (BUILT_IN, "compact", OURS),
    (BUILT_IN, "plain", OURS),
)


def check(pool: list[str], seed: int) -> None:
    """In full and in our own words, and then in one of the other ways."""
    known = generated(pool, seed)
    mention = known.mention if known.snapshot.status == "firing" else "nobody"
    for templates, level, ours in (FULL, OTHERS[seed % 3]):
        payload: dict[str, Any] = render(known, templates, level)
        assert violations(payload) == []
        is_harmless(payload, mention, ours)
        assert level != "plain" or len(payload["text"]) <= 1500
        assert bool(payload["attachments"]) == (level != "plain")
    fires = sorted(known.snapshot.fires)
    for knew in ((), fires[1:], [*fires, "gone"]):
        line = render_line(known, knew, NOW + 60, reminder=bool(seed % 2))
        assert violations(line) == []
        is_harmless(line, known.mention, OURS)


@pytest.mark.parametrize(
    ("major", "log"),
    [
        (3, "/dags/etl_load/runs/manual__1/tasks/load/mapped/7"),
        (2, "/dags/etl_load/grid?dag_run_id=manual__1&amp;task_id=load&amp;map_index=7&amp;tab=logs"),
    ],
)
def test_what_failed_in_a_run(major: int, log: str) -> None:
    """Each task instance with its try, operator, times, queue, pool and log, and how many more there are."""
    labels = {"alertname": "AirflowRunFailed", "airflow": "prod", "dag_id": "etl_load", "run_id": "manual__1"}
    first = FailedTask("load", 7, 3, 3, "BashOperator", 40.0, 5.0, "heavy", "default_pool", 200)
    second = FailedTask("check <!here>", -1, 2, 1, None, None, None, None, None, 200)
    known = Background(last_success=NOW - 86400, failed_in_a_row=4, failed=[first, second])
    failed = incident(body(alert(5, labels, {})), background=known, airflow_major=major)
    told_of = told(render(failed, BUILT_IN, "full"))
    (tasks,) = [text for text in told_of if "try" in text]
    link = f"<https://airflow.example.com{log}|Log>"
    about = "try 3 of 3 · BashOperator · 40 s, usually 5 s · queue heavy · pool default_pool"
    assert tasks.splitlines() == [
        f"• `load[7]` {about} · {link}",
        f"• `check &lt;!here&gt;` try 2 of 2 · <{log_of(tasks, 1)}|Log>",
        "…and 198 more task instances failed",
    ]
    assert "*Failed in a row*\n4" in told_of and any(text.startswith("*Last success*\n<!date^") for text in told_of)
    over = incident(body(alert(5, labels, {}, 3)), background=known)
    assert not [text for text in told(render(over, BUILT_IN, "full")) if "try" in text or "in a row" in text]


def log_of(text: str, row: int) -> str:
    """The address in a line."""
    (found,) = re.findall(r"<(https?://[^|]+)\|Log>", text.splitlines()[row])
    return str(found)


@given_alerts
@settings(max_examples=2000, deadline=None)
@example(["&"], 139)  # an address of Alertmanager that is five times as long once it is escaped
def test_a8_limits_a9_injection(pool: list[str], seed: int) -> None:
    """Whatever an alert holds, Slack accepts its message, and no data mentions or links: only the route mentions."""
    check(pool, seed)


@pytest.mark.system
@given_alerts
@settings(max_examples=20_000, deadline=None)
def test_a8_limits_a9_injection_at_length(pool: list[str], seed: int) -> None:
    """The same, for 20,000 payloads."""
    check(pool, seed)
