"""Which labels the result of an expression can have, and where an expression contradicts what is declared."""

from __future__ import annotations

from collections.abc import Mapping

from promql_parser import (
    AggModifierType,
    AggregateExpr,
    BinaryExpr,
    BinModifier,
    Call,
    Expr,
    LabelModifierType,
    MatchOp,
    NumberLiteral,
    StringLiteral,
    VectorMatchCardinality,
    VectorSelector,
)

from .families import Series
from .ruleset import children

Labels = frozenset[str]
NONE: Labels = frozenset()
SAME_LABELS = ("topk", "bottomk", "limitk", "limit_ratio")
SETS = ("and", "or", "unless")


class Reader:
    """Reads expressions over known series; what is wrong is collected in `findings`."""

    def __init__(self, known: Mapping[str, Series]) -> None:
        self._known = known
        self.findings: list[str] = []

    def labels(self, node: Expr) -> Labels | None:
        """The labels of its vector; None for a scalar."""
        match node:
            case VectorSelector():
                return self._selector(node)
            case AggregateExpr():
                return self._aggregation(node)
            case BinaryExpr():
                return self._operation(node)
            case Call():
                return self._call(node)
            case NumberLiteral() | StringLiteral():
                return None
        [inner] = children(node)
        return self.labels(inner)

    def _found(self, text: str) -> None:
        self.findings.append(text)

    def _subset(self, labels: list[str], of: Labels, what: str) -> None:
        for label in sorted({*labels} - of):
            self._found(f"{what} {label}, which is not among {sorted(of)}")

    def _selector(self, node: VectorSelector) -> Labels:
        series = self._known.get(node.name or "")
        if series is None:
            self._found(f"nobody declares {node.name}")
            return NONE
        self._subset([matcher.name for matcher in node.matchers.matchers], series.labels, f"{node.name} is matched by")
        return series.labels

    def _aggregation(self, node: AggregateExpr) -> Labels:
        inner = self.labels(node.expr) or NONE
        labels = node.modifier.labels if node.modifier else []
        self._subset(labels, inner, f"{node.op} groups by")
        if str(node.op) in SAME_LABELS:
            return inner
        if node.modifier and node.modifier.type == AggModifierType.Without:
            return inner - set(labels)
        return frozenset(labels)

    def _call(self, node: Call) -> Labels | None:
        inner = [self.labels(argument) for argument in node.args]
        vectors = [labels for labels in inner if labels is not None]
        match node.func.name:
            case "time" | "scalar":
                return None
            case "vector":
                return NONE
            case "absent":
                argument = node.args[0]
                equal = argument.matchers.matchers if isinstance(argument, VectorSelector) else []
                return frozenset(matcher.name for matcher in equal if matcher.op == MatchOp.Equal)
            case "histogram_quantile":
                self._subset(["le"], vectors[0], "histogram_quantile needs")
                return vectors[0] - {"le"}
        return vectors[0]

    def _operation(self, node: BinaryExpr) -> Labels | None:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        if left is None or right is None:
            return right if left is None else left
        modifier = node.modifier
        matching = modifier.matching if modifier else None
        on = matching is not None and matching.type == LabelModifierType.Include
        names = frozenset(matching.labels) if matching else NONE
        if on:
            self._subset(sorted(names), left, f"left of {node.op} there is no")
            self._subset(sorted(names), right, f"right of {node.op} there is no")
        elif left - names != right - names and str(node.op) not in SETS:
            self._found(f"{node.op} never matches: {sorted((left - names) ^ (right - names))} are on one side only")
        if str(node.op) in SETS:
            return left | right if str(node.op) == "or" else left
        return self._joined(left, right, modifier, names if on else None, names)

    def _joined(
        self, left: Labels, right: Labels, modifier: BinModifier | None, on: Labels | None, ignored: Labels
    ) -> Labels:
        extra = (modifier.group_labels if modifier else None) or []
        if modifier and modifier.card == VectorMatchCardinality.ManyToOne:
            self._subset(extra, right, "group_left takes")
            return left | set(extra)
        if modifier and modifier.card == VectorMatchCardinality.OneToMany:
            self._subset(extra, left, "group_right takes")
            return right | set(extra)
        return on if on is not None else left - ignored
