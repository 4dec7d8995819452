"""The dashboards as Grafana reads them, and their queries as Prometheus gets them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.conftest import ROOT

FOLDER = ROOT / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
MACROS = {"$__rate_interval": "301s", "$__range": "1h"}
"""The first is a length that nobody would write down."""
VARIABLE = re.compile(r"\$\{?(\w+)(?:[.\[:][^}]*)?\}?")


class Query(NamedTuple):
    """An expression of a board: the panel, variable or annotation that asks it, and what its series are called."""

    board: str
    asked_by: str
    expr: str
    legend: str = ""

    def __str__(self) -> str:
        return f"{self.board}: {self.asked_by}"

    def parsable(self) -> str:
        """The expression with example durations for Grafana's own; its other variables stand in quotes anyway."""
        text = self.expr
        for macro, example in MACROS.items():
            text = text.replace(macro, example)
        return text


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All panels of a board but the rows, also those inside collapsed ones."""
    return [panel for top in board["panels"] for panel in (top.get("panels", []) if top["type"] == "row" else [top])]


def variables(board: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Its variables by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def of_panels() -> list[Query]:
    """What panels ask."""
    return [
        Query(uid, panel["title"], target["expr"], target.get("legendFormat", ""))
        for uid, board in BOARDS.items()
        for panel in panels(board)
        for target in panel["targets"]
    ]


def of_annotations() -> list[Query]:
    """What marks are drawn from."""
    return [
        Query(uid, f"annotation {each['name']}", each["expr"])
        for uid, board in BOARDS.items()
        for each in board["annotations"]["list"]
    ]


def of_variables() -> list[Query]:
    """What the choices of variables are made from: the selector of label_values, or the expression of query_result."""
    found = []
    for uid, board in BOARDS.items():
        for name, variable in variables(board).items():
            if variable["type"] == "query":
                wanted = re.fullmatch(r"label_values\((.+), (\w+)\)|query_result\((.+)\)", variable["query"])
                assert wanted, variable["query"]
                legend = f"{{{{{wanted[2]}}}}}" if wanted[2] else ""
                found.append(Query(uid, f"variable {name}", _spelt_out(wanted[1] or wanted[3]), legend))
    return found


def links(board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where one can go from a board: by which panel, or by none, and the address."""
    yield from (("", link["url"]) for link in board["links"] if link["type"] == "link")
    for panel in panels(board):
        for each in re.findall(r'"url": "([^"]+)"', json.dumps(panel)):
            yield panel["title"], each


def _spelt_out(expr: str) -> str:
    """With the names that a selector matches by a pattern as selectors of their own."""
    return re.sub(
        r'\{__name__=~"([^"]+)"(?:, )?([^}]*)\}',
        lambda found: "(" + " or ".join(f"{name}{{{found[2]}}}" for name in found[1].split("|")) + ")",
        expr,
    )
