"""A board: rows of panels on Grafana's grid of 24 columns, and what all boards share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from .panels import DATASOURCE, AnyPanel, Panel

COLUMNS = 24
TAG = "windsock"
NOISE = {
    "placement": "inControlsMenu",
    "repeatDirection": "h",
    "transparent": False,
    "auto": False,
    "auto_count": 30,
    "auto_min": "10s",
}
"""What the SDK writes although nobody said it; the first would hide links in a menu."""

MARKS = {
    "titleFormat": "{{alertname}}",
    "textFormat": "{{dag_id}}{{queue}}{{pool}}{{collector}}",
    "tagKeys": "severity",
}
"""How Grafana's Prometheus source words an alert that fired; the SDK has no names for these."""

AIRFLOW = (
    dashboard.QueryVariable("airflow")
    .label("Airflow")
    .query('label_values({__name__=~"airflow_db_up|airflow_broker_up"}, airflow)')
)


def choice(
    name: str, label: str, query: str, *, several: bool = False, every: str = ".+", regex: str = ""
) -> dashboard.QueryVariable:
    """A variable from a query; of several, `every` stands for all, or, where it is empty, all that were found."""
    variable = dashboard.QueryVariable(name).label(label).query(query)
    if several:
        variable.multi(True).include_all(True)
        variable.current(model.VariableOption(text="All", value="$__all", selected=True))
        if every:
            variable.all_value(every)
    return variable.regex(regex) if regex else variable


class Board:
    """A dashboard that is put together row by row; `alerts` selects those that it marks while they fire."""

    def __init__(
        self,
        uid: str,
        title: str,
        description: str,
        *,
        alerts: str,
        variables: Sequence[dashboard.QueryVariable] = (AIRFLOW,),
        texts: Sequence[dashboard.TextBoxVariable] = (),
    ) -> None:
        self.uid = uid
        self._y = 0
        self._board = (
            dashboard.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags([TAG])
            .readonly()
            .time("now-6h", "now")
            .refresh("1m")
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .link(_siblings())
            .annotation(_firing(alerts))
            .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        )
        for variable in variables:
            self._board.with_variable(
                variable.datasource(DATASOURCE)
                .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
                .sort(model.VariableSort.ALPHABETICAL_ASC)
            )
        for text in texts:
            self._board.with_variable(text)

    def link(self, title: str, url: str) -> None:
        """A link beside those to the other boards."""
        self._board.link(dashboard.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url).target_blank(True))

    def row(self, title: str, *panels: Panel, collapsed: bool = False) -> None:
        """Panels from left to right, on a new line where the next one does not fit; collapsed, they show on demand."""
        row = dashboard.Row(title).id(_id(f"row {title}")).grid_pos(model.GridPos(h=1, w=COLUMNS, x=0, y=self._y))
        self._board.with_row(row.collapsed(collapsed))
        placed = self._placed(panels)
        for panel in placed:
            if collapsed:
                row.with_panel(panel)
            else:
                self._board.with_panel(panel)

    def json(self) -> str:
        """The file: classic JSON, the same for the same input."""
        encoded = json.loads(JSONEncoder(sort_keys=True).encode(self._board.build()))
        encoded["annotations"]["list"][0].update(MARKS)
        return json.dumps(_tidied(encoded), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def _placed(self, panels: Sequence[Panel]) -> list[AnyPanel]:
        self._y += 1
        x = height = 0
        placed = []
        for panel in panels:
            if x + panel.width > COLUMNS:
                self._y, x, height = self._y + height, 0, 0
            panel.builder.grid_pos(model.GridPos(h=panel.height, w=panel.width, x=x, y=self._y)).id(_id(panel.title))
            placed.append(panel.builder)
            x, height = x + panel.width, max(height, panel.height)
        self._y += height
        return placed


def _id(title: str) -> int:
    """A number that stays while the title does, so that links to a panel outlive the insertion of another."""
    return crc32(title.encode()) % 1_000_000 + 1


def _siblings() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Windsock").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).include_vars(True).keep_time(True)


def _firing(alerts: str) -> dashboard.AnnotationQuery:
    found = dashboard.AnnotationQuery().name("Firing alerts").datasource(DATASOURCE).enable(True).icon_color("red")
    return found.expr(f'ALERTS{{alertstate="firing", {alerts}}}')


def _tidied(value: Any) -> Any:
    """Without what only repeats a default; links of a field or panel keep what such links have."""
    if isinstance(value, list):
        return [_tidied(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "asDropdown" in value and not value["asDropdown"]:
        kept = ("title", "type", "url", "targetBlank", "icon", "tooltip") if value["targetBlank"] else ("title", "url")
        return {name: value[name] for name in kept}
    return {name: _tidied(each) for name, each in value.items() if name not in NOISE or each != NOISE[name]}
