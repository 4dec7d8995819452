"""The rules, as the files of alerts/ have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from tests.conftest import ROOT

ALERTS = ROOT / "alerts"
FILES = sorted(ALERTS.glob("*.rules.yml"))
DEFAULT = "airflow.rules.yml"


@dataclass(frozen=True)
class Rule:
    """A recording rule or an alert; `hold` and `keep` are its `for` and `keep_firing_for`, in seconds."""

    file: str
    group: str
    name: str
    expr: promql_parser.Expr
    text: str
    is_alert: bool
    labels: dict[str, str]
    annotations: dict[str, str]
    hold: float
    keep: float

    def __str__(self) -> str:
        return self.name

    @property
    def metrics(self) -> set[str]:
        """The names of everything that it selects."""
        return {selector.name for selector in selectors(self.expr) if selector.name}


def read(path: Path) -> list[Rule]:
    """The rules of a file, in order."""
    return [_rule(path.name, group["name"], rule) for group in document(path)["groups"] for rule in group["rules"]]


def document(path: Path) -> dict[str, Any]:
    """A file as YAML has it."""
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def _rule(file: str, group: str, rule: dict[str, Any]) -> Rule:
    text = str(rule["expr"])
    return Rule(
        file=file,
        group=group,
        name=rule.get("alert") or rule["record"],
        expr=promql_parser.parse(text),
        text=text,
        is_alert="alert" in rule,
        labels=rule.get("labels", {}),
        annotations=rule.get("annotations", {}),
        hold=seconds(rule.get("for", "")),
        keep=seconds(rule.get("keep_firing_for", "")),
    )


def seconds(duration: str) -> float:
    """What Prometheus makes of a duration such as 1h30m; 0 for none."""
    return promql_parser.parse_duration(duration).total_seconds() if duration.strip("0s") else 0.0


def children(node: promql_parser.Expr) -> list[promql_parser.Expr]:
    """The expressions that a node is made of."""
    found = [getattr(node, name, None) for name in ("vector_selector", "lhs", "rhs", "expr", "param")]
    found += getattr(node, "args", None) or []
    return [child for child in found if isinstance(child, _NODES)]


def nodes(node: promql_parser.Expr) -> Iterator[promql_parser.Expr]:
    """A node and everything below it."""
    yield node
    for child in children(node):
        yield from nodes(child)


def selectors(node: promql_parser.Expr) -> list[promql_parser.VectorSelector]:
    """Everything that an expression selects."""
    return [found for found in nodes(node) if isinstance(found, promql_parser.VectorSelector)]


_NODES = (
    promql_parser.AggregateExpr,
    promql_parser.BinaryExpr,
    promql_parser.Call,
    promql_parser.MatrixSelector,
    promql_parser.NumberLiteral,
    promql_parser.ParenExpr,
    promql_parser.StringLiteral,
    promql_parser.SubqueryExpr,
    promql_parser.UnaryExpr,
    promql_parser.VectorSelector,
)

RULES = [rule for path in FILES for rule in read(path)]
ALERT_RULES = [rule for rule in RULES if rule.is_alert]
NAMES = sorted({rule.name for rule in ALERT_RULES})


def placeholders(template: str) -> set[str]:
    """The labels that a template of an annotation asks for."""
    return set(re.findall(r"\$labels\.(\w+)", template))
