"""What is wrong with a rule, in sentences; nothing for a good one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from promql_parser import BinaryExpr, Call, Expr, MatchOp, MatrixSelector, VectorSelector

from .families import BROKER, BUCKETS, Series
from .promql import NONE, Labels, Reader
from .ruleset import Rule, children, nodes, placeholders, selectors

READ = "windsock_collector_last_success_timestamp_seconds"
COUNTER_FUNCTIONS = ("increase", "rate", "irate", "resets")
UNITS = re.compile(r"humanize\w*|printf \"%\.0f\" \$value")
SOURCE_DOWN = {
    "AirflowMetadataDatabaseDown": 15,
    "AirflowBrokerDown": 15,
    "WindsockDown": 30,
    "WindsockAbsent": 300,
    "WindsockRouterDown": 300,
}
"""How long each may wait, in seconds: the first three are told within a minute, where reads, scrapes and evaluations
are 15 seconds apart each."""


def findings(rule: Rule, known: Mapping[str, Series]) -> list[str]:
    """Everything that is wrong with an expression, and with what is said about its result."""
    reader = Reader(known)
    labels = reader.labels(rule.expr) or NONE
    return [
        *reader.findings,
        *_result(rule, labels, known),
        *counters(rule.expr, known),
        *_ages(rule.expr, known),
        *_values(rule.expr, known),
        *_texts(rule, labels),
    ]


def _result(rule: Rule, labels: Labels, known: Mapping[str, Series]) -> Iterator[str]:
    """Another pod is no other alert; every alert about one Airflow says which, and one about a DAG says whose it is."""
    for label in sorted(labels & {"instance", "pod"}):
        yield f"the result has the label {label}"
    airflow = any("airflow" in known[name].labels for name in rule.metrics if name in known)
    if airflow and "airflow" not in labels:
        yield "the result does not say which Airflow"
    if rule.is_alert and "dag_id" in labels and not labels >= {"owners", "team"}:
        yield "the result does not say whose DAG it is"


def counters(node: Expr, known: Mapping[str, Series], function: str = "") -> Iterator[str]:
    """A counter is meaningless but for its increase."""
    if isinstance(node, VectorSelector):
        series = known.get(node.name or "")
        if series and series.counter != (function in COUNTER_FUNCTIONS):
            yield f"{node.name} is {'' if series.counter else 'not '}a counter"
        return
    inner = function if isinstance(node, MatrixSelector) else node.func.name if isinstance(node, Call) else ""
    for child in children(node):
        yield from counters(child, known, inner)


def _ages(root: Expr, known: Mapping[str, Series]) -> Iterator[str]:
    """The age of what was read is its age when it was read: the collector's last success minus the time."""
    measured = set()
    for node in nodes(root):
        if isinstance(node, BinaryExpr) and str(node.op) == "-" and isinstance(node.rhs, VectorSelector):
            name = node.rhs.name or ""
            if isinstance(node.lhs, VectorSelector) and node.lhs.name == READ:
                [collector] = [m.value for m in node.lhs.matchers.matchers if m.name == "collector"] or [""]
                if collector != known[name].collector:
                    yield f"{name} is read by {known[name].collector}, not by {collector}"
                measured.add(name)
            elif isinstance(node.lhs, Call) and known[name].source == "windsock":
                measured.add(name)
    for name in [selector.name or "" for selector in selectors(root)]:
        if "_timestamp_seconds" in name and name not in measured | {READ}:
            yield f"{name} is not compared with when it was read"


def _values(root: Expr, known: Mapping[str, Series]) -> Iterator[str]:
    """A matcher for all collectors of the broker names them, and a bucket that is asked for exists."""
    for selector in selectors(root):
        for matcher in selector.matchers.matchers:
            several = matcher.name == "collector" and matcher.op in (MatchOp.Re, MatchOp.NotRe)
            if several and set(matcher.value.split("|")) != BROKER:
                yield f"the collectors of the broker are {sorted(BROKER)}"
            if matcher.name == "le" and matcher.value not in BUCKETS[selector.name or ""]:
                yield f"{selector.name} has no bucket {matcher.value}"


def _texts(rule: Rule, labels: Labels) -> Iterator[str]:
    """Texts ask only for labels of the result, and give numbers with a unit."""
    for key, template in rule.annotations.items():
        for label in sorted(placeholders(template) - labels):
            yield f"{key} asks for the label {label}, which the result does not have"
        for value in re.findall(r"\{\{[^}]*\$value[^}]*\}\}", template):
            if not UNITS.search(value):
                yield f"{key} has a bare {value}"


def severities(rule: Rule) -> Iterator[str]:
    """How long an alert waits and holds, and what it is labelled with."""
    if rule.labels.get("severity") not in ("critical", "warning", "info", "none"):
        yield f"the severity is {rule.labels.get('severity')}"
    if rule.labels.get("component") not in COMPONENTS:
        yield f"the component is {rule.labels.get('component')}"
    if rule.name.startswith("Windsock") != (rule.labels.get("component") == "windsock"):
        yield "the name and the component disagree"
    if rule.name in SOURCE_DOWN:
        if rule.hold > SOURCE_DOWN[rule.name]:
            yield "a source that is down is told too late"
    elif rule.metrics - {"up"} and rule.keep < 900:
        yield "an outage of ten minutes would resolve it"


COMPONENTS = {
    "broker",
    "celery",
    "dag",
    "dag_processor",
    "database",
    "pool",
    "scheduler",
    "task",
    "triggerer",
    "windsock",
}
