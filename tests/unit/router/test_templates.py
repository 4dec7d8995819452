"""Templates come from the configuration and are trusted; still, a mistake in one costs no alert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.router.incident import gather
from exporter.router.templates import SLOTS, Templates
from tests.unit.router.alerts import INCIDENTS

VARIABLES = gather(INCIDENTS["dag_failed"]).variables() | {"alert": INCIDENTS["dag_failed"].snapshot.alerts[0]}


def rendered(source: str, variables: Mapping[str, Any] = VARIABLES, slot: str = "summary") -> str:
    """What this template makes of an alert."""
    return Templates({slot: source}).render(slot, variables)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ severity_emoji }} {{ alertname }} {{ dag_id | code }}", ":red_circle: AirflowDagRunFailed `etl_load`"),
        ("{{ labels.team | default('nobody') }}'s", "data's"),
        ("{{ status }} {{ severity | upper }} {{ airflow }} {{ firing }}/{{ resolved }}", "firing CRITICAL prod 1/0"),
        ("{{ duration | duration }}", "12 min"),
        ("{{ since | date }}", "<!date^1795316520^{date_short_pretty} at {time}|2026-11-22 03:02 UTC>"),
        ("{{ (since * 1000) | int }}", "1795316520000"),
        (
            "{{ annotations.runbook_url | default('') | link('Read') }}",
            "<https://runbooks.example.com/AirflowDagRunFailed|Read>",
        ),
        (
            "<https://logs.example.com/?q={{ 'a b&c' | urlencode }}|Logs>",
            "<https://logs.example.com/?q=a%20b%26c|Logs>",
        ),
        ("{% if dag_id.startswith('etl_') %}<!subteam^S0ETL>{% endif %}", "<!subteam^S0ETL>"),
        ("{% for it in alerts %}{{ it.labels.get('dag_id') }}{% endfor %}", "etl_load"),
        ("{% set n = firing + resolved %}{{ n }}{# a comment #}", "1"),
    ],
)
def test_what_templates_can_say(source: str, text: str) -> None:
    """Variables, filters, conditions and links."""
    assert rendered(source) == text


@pytest.mark.parametrize(
    "source", ["{{ x }}", "{{ x ~ '' }}", "{{ x | upper | lower }}", "{{ [x] }}", "{{ {x: x} }}", "{{ x | trim }}"]
)
def test_a9_data_is_escaped(source: str) -> None:
    """However it gets into the text."""
    templates = Templates({"summary": source.replace("x", "dag_id")})
    text = templates.render("summary", VARIABLES | {"dag_id": "<!channel> & <http://evil.example|x>\u202e"})
    assert "<" not in text and "\u202e" not in text and "&lt;!channel&gt; &amp; " in text


@pytest.mark.parametrize(
    ("source", "data", "text"),
    [
        ("<{{ dag_id }}>", "!channel", "&lt;!channel&gt;"),
        ("<{{ dag_id }}|Read>", "@U012AB3CD", "&lt;@U012AB3CD|Read&gt;"),
        ("<!{{ dag_id }}>", "here", "&lt;!here&gt;"),
        ("<{{ dag_id }}", "!channel", "&lt;!channel"),
        ("<!date^{{ dag_id }}|x>", "1^{date}^http://evil.example", "&lt;!date^1^{date}^http://evil.example|x&gt;"),
        ("{{ dag_id | code }}", "a`<!here>`b", "`aˋ&lt;!here&gt;ˋb`"),  # noqa: RUF001
        ("{{ dag_id | link('x') }}", "javascript:alert(1)", ""),
    ],
)
def test_a9_data_completes_no_markup(source: str, data: str, text: str) -> None:
    """A mention is in a template word for word, or it is none."""
    assert Templates({"summary": source}).render("summary", VARIABLES | {"dag_id": data}) == text


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ labels.team }}", "'dict object' has no attribute 'team', for a DAG that failed"),
        ("{{ nope }}", "'nope' is undefined"),
        ("{{ alerts[1].labels }}", "for a DAG that failed"),
        ("{{ if }}", "'if' is undefined"),
        ("{% if %}", "Expected an expression"),
        ("{{ since | nope }}", "No filter named 'nope'"),
        ("{{ 1 / resolved }}", "division by zero"),
        ("{{ labels.__class__ }}", "unsafe"),
        ("{{ labels.update({}) }}", "unsafe"),
        ("{% include 'x' %}", "no loader"),
        ("{{ range(10) }}", "'range' is undefined"),
        ("{{ 'x' * 1000000000 }}", "* is for numbers only"),
        ("{{ '%999999999d' % 1 }}", "% is for numbers only"),
        ("{{ 9 ** 999999999 }}", "there is no **"),
        ("{{ 'x'.zfill(1000000000) }}", "unsafe"),
        ("{{ '{:999999999d}'.format(1) }}", "unsafe"),
        ("{{ 'x' | center(1000000000) }}", "No filter named 'center'"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_a_bad_template_is_refused_at_once(source: str, reason: str) -> None:
    """With its slot and the reason, before any alert comes."""
    with pytest.raises(ValueError, match=r"^headline: ") as error:
        Templates({"headline": source})
    assert reason in str(error.value)


def test_a_slow_template_is_refused() -> None:
    """What needs more than its share of processor time."""
    names = "alertname ~ alertname ~ alertname ~ alertname ~ alertname ~ alertname ~ alertname ~ alertname"
    loops = "".join(f"{{% for {name} in {names} %}}" for name in "abcd")
    with pytest.raises(ValueError, match=r"headline: takes longer than 0.5 s, for a DAG that failed"):
        Templates({"headline": f"{loops}{{{{ '' }}}}{4 * '{% endfor %}'}"})


def test_the_documented_example() -> None:
    """It loads, and the documented slots and lengths are those that there are."""
    page = (Path(__file__).parents[3] / "docs" / "slack-messages.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example
    sources = yaml.safe_load(example[1])["templates"]
    assert Templates(sources).render("headline", VARIABLES) == ":red_circle: AirflowDagRunFailed `etl_load` in prod"
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([\d,]+) \|$", page, re.MULTILINE)
    assert {slot: int(size.replace(",", "")) for slot, size in rows} == SLOTS


def test_an_unknown_slot() -> None:
    """It is named, and so are those that there are."""
    with pytest.raises(ValueError, match=r"^colour: .*headline, title, summary, alert, links, footer"):
        Templates({"colour": "x"})


@pytest.mark.parametrize("slot", SLOTS)
def test_every_text_has_its_limit(slot: str) -> None:
    """What is longer is cut, but no link is cut in two."""
    link = "<https://logs.example.com/|Logs> "
    text = Templates({slot: 200 * link}).render(slot, VARIABLES)
    assert SLOTS[slot] - len(link) < len(text) <= SLOTS[slot]
    assert text.count("<") == text.count(">") == text.count(link.strip())


def test_a16_a_template_that_fails_later() -> None:
    """It is counted by its slot, and nothing is filled in."""
    failures: list[str] = []
    templates = Templates({"headline": "{{ 1 // (firing - 40) }}", "title": "x"}, failures.append)
    assert templates.fill("headline", VARIABLES) == "-1"
    assert templates.fill("headline", VARIABLES | {"firing": 40}) is None
    assert templates.fill("title", VARIABLES) == "x"
    assert templates.fill("summary", VARIABLES) is None
    assert failures == ["headline"]
