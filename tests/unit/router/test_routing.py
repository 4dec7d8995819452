"""Which destinations a group reaches, and matchers as Alertmanager reads them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from exporter.config import Config
from exporter.router.routing import Matcher, Target, parse_matcher, route

LABELS = {"severity": "critical", "team": "data", "dag_id": "etl_load", "quoted": 'a "b", c', "lines": "a\nb"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ('severity="critical"', True),
        ("severity=critical", True),
        (' severity = "critical" ', True),
        ("severity=warning", False),
        ("severity!=warning", True),
        ("severity!=critical", False),
        ('team=~"data|ml"', True),
        ("team=~data|ml", True),
        ('team=~"dat"', False),
        ('team=~".*at.*"', True),
        ('team!~"dat"', True),
        ("team!~data|ml", False),
        ("dag_id=~etl_.+", True),
        (r"dag_id=~etl_\w+", True),
        (r'dag_id=~"etl_\\w+"', True),
        (r'dag_id=~"etl_\w+"', True),
        ("dag_id=~(?i)ETL_.{4}", True),
        ('missing=""', True),
        ("missing=", True),
        ("missing!=x", True),
        ('missing=~".*"', True),
        ('missing=~".+"', False),
        ('missing!~".+"', True),
        (r'quoted="a \"b\", c"', True),
        (r'lines="a\nb"', True),
        (r'lines=~"a.b"', False),
        ('"severity"="critical"', True),
        ('"dag.größe"=""', True),
        ("dag.größe=", True),
    ],
)
def test_matchers(text: str, matches: bool) -> None:
    """Values are whole, quoted or not; a label that is missing is empty."""
    assert parse_matcher(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    "text",
    [
        *("", "severity", "=critical", '""="x"', "severity==critical", "severity=~=x", "severity>1", "a b=c"),
        *('severity="critical', 'severity=critical"', 'severity="a" b', "severity='critical'", "{severity=critical}"),
        *("a=b,c=d", 'a="b",c="d"', "a=b\nc='d'"),
    ],
)
def test_what_is_no_matcher(text: str) -> None:
    """Several in one line are not taken either: each has a line of its own."""
    with pytest.raises(ValueError, match=r'^must be one matcher, such as severity="critical" or team=~"data\|ml"$'):
        parse_matcher(text)


@pytest.mark.parametrize("value", ["(", "*", "[[:alpha:]]", "a(?i)b", r"\z", "(?P<a"])
def test_what_is_no_regular_expression(value: str) -> None:
    """Also what Go takes but Python would take for something else."""
    with pytest.raises(ValueError, match=r"^the regular expression is not valid: ."):
        parse_matcher(f"team=~{value}")


def test_a_matcher_is_a_value() -> None:
    """Equal texts make equal matchers, however they are quoted."""
    assert parse_matcher("a=~b|c") == parse_matcher('a =~ "b|c"') == Matcher("a", False, re.compile("b|c"))
    assert len({parse_matcher(text) for text in ("a=b", "a!=b", "a=~b", "a!~b", "b=b")}) == 5


def config(*routes: dict[str, Any], destinations: tuple[str, ...] = ("data", "ops", "lead")) -> Config:
    """With these routes and destinations."""
    hook = {"webhook_url": "https://hooks.example.com/services/T/B/x"}
    return Config.model_validate({"routes": routes, "destinations": dict.fromkeys(destinations, hook)})


ROUTES: tuple[dict[str, Any], ...] = (
    {"match": ['team="data"', 'severity="critical"'], "to": ["data", "lead"], "mention": "<!here>", "continue": True},
    {"match": ['team="data"'], "to": ["data"], "mention": "<@U1>"},
    {"match": ['severity="critical"'], "to": ["lead"]},
    {"to": ["ops"]},
)


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        ({}, [Target("ops", "")]),
        ({"severity": "critical"}, [Target("lead", "")]),
        ({"team": "data"}, [Target("data", "<@U1>")]),
        ({"team": "data", "severity": "critical"}, [Target("data", "<!here>"), Target("lead", "<!here>")]),
    ],
)
def test_the_first_match_wins(labels: dict[str, str], targets: list[Target]) -> None:
    """Unless it goes on; then each destination is reached once, with the first mention."""
    assert route(config(*ROUTES), labels, "slack") == targets


def test_a_receiver_that_is_named_like_a_destination() -> None:
    """It needs no route, and no route counts."""
    assert route(config(*ROUTES), {"team": "data"}, "lead") == [Target("lead", "")]
    assert route(config(destinations=("a", "b")), {}, "b") == [Target("b", "")]


def test_the_only_destination_needs_no_route() -> None:
    """Everything goes there."""
    assert route(config(destinations=("only",)), LABELS, "slack") == [Target("only", "")]
