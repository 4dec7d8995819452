"""Every query asks for what is exported, for one Airflow, and in a way that survives another pod."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest
import yaml
from promql_parser import Call, Expr, MatchOp, MatrixSelector, VectorSelector

from dashboards.generate.statsd_promql import LABELS as TAGS
from exporter import catalogue
from tests.boards import BOARDS, Query, of_annotations, of_panels, of_variables, panels, variables
from tests.conftest import ROOT
from tests.rules.families import KNOWN, TARGET, Series
from tests.rules.promql import NONE, Reader
from tests.rules.ruleset import RULES, children, nodes, selectors

MAPPINGS = yaml.safe_load((ROOT / "compose/statsd-exporter/mapping.yml").read_text())["mappings"]
MAPPED = {entry["name"]: entry for entry in MAPPINGS if entry.get("action") != "drop"}
UNUSED: dict[str, str] = {}
"""Exported families that no board shows and no alert watches, and why that is right."""

PER_ROW = "Every Airflow"
"""The one panel that is about more than the chosen Airflow."""

ANY_SCOPE = {"ALERTS", "windsock_build_info"}
"""What the boards ask for as a whole: firing alerts, and which daemons there are."""


def known() -> dict[str, Series]:
    """Everything that a query may select: ours, Prometheus's own, the rules' recordings, and Airflow's StatsD."""
    found = dict(KNOWN)
    found["ALERTS"] = Series(KNOWN["ALERTS"].labels | {"dag_id"}, counter=False)
    for name in ("scrape_duration_seconds", "scrape_samples_scraped"):
        found[name] = Series(TARGET, counter=False)
    for name in ("resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds", "cpu_seconds_total"):
        found[f"process_{name}"] = Series(TARGET, counter=name.endswith("_total"))
    for rule in RULES:
        if not rule.is_alert:
            before = found[rule.name].labels if rule.name in found else NONE
            labels = Reader(found).labels(rule.expr) or NONE
            found[rule.name] = Series(before | labels | set(rule.labels), counter=False)
    for tail, tags in TAGS.items():
        name, labels = f"airflow_statsd_{tail}", frozenset(tags) | TARGET | {"airflow"}
        if tail.endswith("_total") or "ttl" in MAPPED[name]:
            found[name] = Series(labels, counter=tail.endswith("_total"))
        else:
            found |= {f"{name}{end}": Series(labels, counter=True) for end in ("_sum", "_count")}
            found[f"{name}_bucket"] = Series(labels | {"le"}, counter=True)
    return found


SERIES = known()
QUERIES = of_panels() + of_annotations() + of_variables()


def findings(query: Query) -> list[str]:
    """Everything that is wrong with a query, in sentences."""
    node = promql_parser.parse(query.parsable())
    reader = Reader(SERIES)
    labels = reader.labels(node) or NONE
    asked = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    return [
        *reader.findings,
        *(f"the legend asks for {label}, which the result does not have" for label in sorted(asked - labels)),
        *_scope(query, node),
        *(() if query.asked_by.startswith("variable ") else _counters(node)),  # of which only labels are asked
        *_windows(query, node),
        *(f"the variable {name} is not there" for name in sorted(_undefined(query))),
    ]


def _scope(query: Query, node: Expr) -> Iterator[str]:
    """Each selector is about the chosen Airflow, or the chosen daemons."""
    about = {"= $airflow", "=~ .+"} if query.asked_by == PER_ROW else {"= $airflow", "!= $airflow"}
    for selector in selectors(node):
        labels = SERIES[selector.name or ""].labels if selector.name in SERIES else NONE
        if selector.name in ANY_SCOPE or query.asked_by in ("variable airflow", "variable job"):
            continue
        given = {each.name: f"{_operator(each.op)} {each.value}" for each in selector.matchers.matchers}
        if "airflow" in labels:
            if given.get("airflow") not in about:
                yield f"{selector.name} is not of the chosen Airflow"
        elif labels >= {"job", "instance"}:
            if query.board != "windsock":
                yield f"{selector.name} cannot be of the chosen Airflow"
            if (given.get("job"), given.get("instance")) != ("=~ $job", "=~ $instance"):
                yield f"{selector.name} is not of the chosen daemons"


def _operator(found: MatchOp) -> str:
    return "=" if found == MatchOp.Equal else "=~" if found == MatchOp.Re else "!="


def _counters(node: Expr, function: str = "") -> Iterator[str]:
    """A counter is meaningless but for its increase, and what is none has no increase."""
    if isinstance(node, VectorSelector):
        series = SERIES.get(node.name or "")
        if series and series.counter != (function in ("increase", "rate")):
            yield f"{node.name} is {'' if series.counter else 'not '}a counter"
        return
    inner = function if isinstance(node, MatrixSelector) else node.func.name if isinstance(node, Call) else ""
    for child in children(node):
        yield from _counters(child, inner)


def _windows(query: Query, node: Expr) -> Iterator[str]:
    """A rate is over Grafana's own interval, so that no graph misses or doubles what happened."""
    for call in (each for each in nodes(node) if isinstance(each, Call)):
        if call.func.name == "rate" and any(_length(each) != 301 for each in call.args):
            yield "rate() is not over $__rate_interval"
    if "irate(" in query.expr or ":]" in query.expr:
        yield "irate() and subqueries show something else each time"


def _length(node: Expr) -> float:
    return node.range.total_seconds() if isinstance(node, MatrixSelector) else 0.0


def _undefined(query: Query) -> set[str]:
    return set(re.findall(r"\$\{?([a-z]\w*)", query.expr)) - set(variables(BOARDS[query.board]))


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_the_linter_finds_nothing(query: Query) -> None:
    """No query selects what nobody exports, loses a label that it names, or forgets which Airflow it is about."""
    assert findings(query) == []


@pytest.mark.parametrize(
    ("expr", "legend", "finding"),
    [
        ('max (airflow_db_upp{airflow="$airflow"})', "", "nobody declares airflow_db_upp"),
        ("max (airflow_db_up)", "", "airflow_db_up is not of the chosen Airflow"),
        ('sum by (dag) (airflow_dag_runs_active{airflow="$airflow"})', "", "sum groups by dag, which is not among"),
        (
            'max (airflow_dag_runs_active{airflow="$airflow", stat="x"})',
            "",
            "airflow_dag_runs_active is matched by stat",
        ),
        ('max (airflow_broker_evicted_keys_total{airflow="$airflow"})', "", "is a counter"),
        ('sum (rate(airflow_db_up{airflow="$airflow"}[$__rate_interval]))', "", "airflow_db_up is not a counter"),
        ('sum (rate(airflow_broker_evicted_keys_total{airflow="$airflow"}[5m]))', "", "not over $__rate_interval"),
        ('max (airflow_db_up{airflow="$airflow"})', "{{pool}}", "the legend asks for pool"),
        ('max (airflow_dag_is_paused{airflow="$airflow", dag_id="$dagid"})', "", "the variable dagid is not there"),
        ("max (windsock_collector_success)", "", "windsock_collector_success cannot be of the chosen Airflow"),
    ],
)
def test_the_linter_would_notice(expr: str, legend: str, finding: str) -> None:
    """Each kind of mistake is found."""
    found = findings(Query("airflow-overview", "a panel", expr, legend))
    assert any(finding in each for each in found), found


def test_every_exported_family_is_shown_or_watched() -> None:
    """On a board or in an alert, but for those that are listed with a reason."""
    used = {selector.name for query in of_panels() for selector in selectors(promql_parser.parse(query.parsable()))}
    used |= {name for rule in RULES for name in rule.metrics}
    names = {re.sub("_(bucket|sum|count)$", "", name or "") for name in used} | used
    assert {entry.name for entry in catalogue.entries()} - names == set(UNUSED)


def test_tries_are_summed_over_tasks() -> None:
    """Where airflow.task_labels split them, the largest of the tasks is not what all of them did."""
    shown = [query.expr for query in of_panels() if "airflow_task_instances_finished_total" in query.expr]
    assert len(shown) == 5
    assert all("max by (dag_id, state, operator, task_id) (increase(" in expr for expr in shown)


@pytest.mark.parametrize("query", [each for each in of_panels() if "by (dag_id)" in each.expr], ids=str)
def test_graphs_have_few_lines(query: Query) -> None:
    """What has a series for each DAG is limited to ten, a table, one number, or one DAG."""
    [panel] = [each for each in panels(BOARDS[query.board]) if each["title"] == query.asked_by]
    one = 'dag_id="$dag_id"' in query.expr or "{{dag_id}}" not in query.legend
    assert one or panel["type"] == "table" or query.expr.startswith("topk(10, ")


def test_links_of_graphs_name_labels_of_their_series() -> None:
    """A click on a series goes where its own label says."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            for label in set(re.findall(r"__field\.labels\.(\w+)", json.dumps(panel))):
                queries = [each for each in of_panels() if (each.board, each.asked_by) == (uid, panel["title"])]
                assert all(f"{{{{{label}}}}}" in each.legend for each in queries), panel["title"]


def test_no_family_of_ours_is_named_like_one_of_airflows_own() -> None:
    """All that the mapping makes is called airflow_statsd_*, and nothing that Windsock exports is."""
    assert all(name.startswith("airflow_statsd_") for name in MAPPED)
    assert not any(entry.name.startswith("airflow_statsd_") for entry in catalogue.entries())


def test_the_mapping_has_what_the_board_shows() -> None:
    """Also the tags that it shows: none of them is taken away."""
    for tail, tags in TAGS.items():
        entry = MAPPED[f"airflow_statsd_{tail}"]
        assert not {name for name, value in entry.get("labels", {}).items() if value == ""} & set(tags)


def test_the_mapping_says_nothing_twice() -> None:
    """Each pattern is there once; only the two outcomes of a run share a name."""
    assert len({entry["match"] for entry in MAPPINGS}) == len(MAPPINGS)
    names = [entry["name"] for entry in MAPPINGS if entry.get("action") != "drop"]
    assert {name for name in names if names.count(name) > 1} == {"airflow_statsd_dagrun_duration_seconds"}
