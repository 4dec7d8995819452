"""The kinds of panels there are, and how each looks."""

# ruff: noqa: PLR0913 - a panel has many properties, and most calls name two or three

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import NamedTuple, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .theme import NEUTRAL, STATES, Names, Steps

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
KEEP = "${datasource:queryparam}&${__url_time_range}"
COARSE = "5m"
"""The shortest step where a shorter one shows little, as what ends is rare, or is dear, as each DAG has series."""

AnyPanel = stat.Panel | timeseries.Panel | table.Panel | heatmap.Panel | statetimeline.Panel | bargauge.Panel
P = TypeVar("P", stat.Panel, timeseries.Panel, table.Panel, heatmap.Panel, statetimeline.Panel, bargauge.Panel)


class Panel(NamedTuple):
    """A panel without a place: what it is called, the SDK's builder, and how large it is in cells of the grid."""

    title: str
    builder: AnyPanel
    width: int
    height: int


class Query(NamedTuple):
    """An expression, and what its series are called: `{{label}}`, or a word."""

    expr: str
    legend: str = ""


class Column(NamedTuple):
    """A column of a table: its heading, unit, thresholds and words; a query's value, unless it is a label's."""

    heading: str
    unit: str = ""
    steps: Steps = ()
    names: Names = ()
    link: str = ""


def to(board: str, **fields: str) -> str:
    """The address of another board for the same Airflow and time; fields become its variables."""
    wanted = "".join(f"&var-{name}={value}" for name, value in fields.items())
    return f"/d/{board}?${{airflow:queryparam}}{wanted}&{KEEP}"


def tile(
    title: str,
    description: str,
    expr: str,
    unit: str = "none",
    *,
    steps: Steps = NEUTRAL,
    names: Names = (),
    link: str = "",
    legend: str = "",
    none: str = "-",
    width: int = 3,
) -> Panel:
    """One number, now, with a colour that says whether it is well."""
    panel = _common(stat.Panel(), title, description, [Query(expr, legend)], instant=True)
    panel.unit(unit).thresholds(_thresholds(steps)).mappings(_words(names)).no_value(none).decimals(
        0 if unit == "none" else 1
    )
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(shapes.BigValueColorMode.VALUE).graph_mode(shapes.BigValueGraphMode.NONE)
    panel.text_mode(shapes.BigValueTextMode.VALUE_AND_NAME if legend else shapes.BigValueTextMode.VALUE)
    if link:
        panel.data_links([DashboardLink("Why?").url(link)])
    return Panel(title, panel, width, 4)


def lines(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "none",
    limit: str = "",
    steps: Steps = (),
    low: float | None = 0,
    top: float | None = None,
    link: str = "",
    many: bool = False,
    coarse: bool = False,
    width: int = 12,
) -> Panel:
    """Values over time; `limit` names the series that is a dashed line, and `many` are listed at the side."""
    panel = (
        _graph(title, description, queries, unit, link, many=many)
        .line_width(1)
        .fill_opacity(8 if len(queries) < 3 and not many else 0)
    )
    if coarse:
        panel.interval(COARSE)
    if unit == "none":
        panel.axis_soft_max(1)  # what is always 0 has no axis up to 100
    if low is not None:
        panel.min(low)
    if top is not None:
        panel.max(top)
    if limit:
        _dashed(panel, limit)
    if steps:
        panel.thresholds(_thresholds(steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED)
        )
    return Panel(title, panel, width, 8)


def areas(title: str, description: str, *queries: Query, unit: str = "none", link: str = "", width: int = 12) -> Panel:
    """Parts of a whole over time, one upon the other."""
    panel = _graph(title, description, queries, unit, link).min(0).line_width(0).fill_opacity(70)
    panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    return Panel(title, panel, width, 8)


def bars(
    title: str,
    description: str,
    *queries: Query,
    ends: Mapping[str, str] | None = None,
    link: str = "",
    width: int = 12,
) -> Panel:
    """How many there were within each step, one part upon the other; `ends` colours names by patterns of their ends."""
    panel = _graph(title, description, queries, "none", link).min(0).line_width(0).fill_opacity(80).axis_soft_max(1)
    panel.interval(COARSE).draw_style(shapes.GraphDrawStyle.BARS).decimals(0)
    panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    for pattern, colour in (ends or {}).items():
        panel.override_by_regexp(f"/ {pattern}$/", [_fixed(colour)])
    return Panel(title, panel, width, 8)


def heat_map(title: str, description: str, expr: str, *, unit: str = "s", width: int = 12) -> Panel:
    """A histogram over time, from its buckets."""
    query = Query(expr, "{{le}}")
    panel = _common(heatmap.Panel(), title, description, [query], format_=PromQueryFormat.HEATMAP)
    panel.interval(COARSE).cell_gap(1)
    panel.color(heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Blues").steps(32))
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(shapes.AxisPlacement.LEFT))
    return Panel(title, panel, width, 8)


def timeline(title: str, description: str, *queries: Query, names: Names, width: int = 24, height: int = 6) -> Panel:
    """When each series had which of a few values."""
    panel = _common(statetimeline.Panel(), title, description, queries)
    panel.mappings(_words(names)).show_value(shapes.VisibilityMode.NEVER).row_height(0.8).fill_opacity(80)
    panel.thresholds(_thresholds(NEUTRAL))
    panel.legend(common.VizLegendOptions().show_legend(False))
    return Panel(title, panel, width, height)


def gauges(
    title: str, description: str, *queries: Query, unit: str, steps: Steps, top: float | None = None, width: int = 12
) -> Panel:
    """One bar for each series, now."""
    panel = _common(bargauge.Panel(), title, description, queries, instant=True)
    panel.unit(unit).min(0).thresholds(_thresholds(steps)).display_mode(shapes.BarGaugeDisplayMode.BASIC)
    panel.orientation(shapes.VizOrientation.HORIZONTAL)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if top is not None:
        panel.max(top)
    return Panel(title, panel, width, 8)


def rows(
    title: str,
    description: str,
    label: str,
    queries: Sequence[tuple[Column, str]],
    *,
    labels: Sequence[tuple[str, Column]] = (),
    hidden: Sequence[str] = (),
    height: int = 9,
    width: int = 24,
) -> Panel:
    """A table with a row for each value of `label`, a column for each query, and one for each further label."""
    panel = _common(
        table.Panel(),
        title,
        description,
        [Query(expr) for _, expr in queries],
        instant=True,
        format_=PromQueryFormat.TABLE,
    )
    values = (
        ["Value"] if len(queries) == 1 else [f"Value #{ref}" for ref, _ in zip(ascii_uppercase, queries, strict=False)]
    )
    shown = [*labels, *((value, column) for value, (column, _) in zip(values, queries, strict=True))]
    if len(queries) > 1:
        panel.with_transformation(
            model.DataTransformerConfig(id_val="joinByField", options={"byField": label, "mode": "outer"})
        )
    times = ["Time", *(f"Time {number}" for number in range(1, len(queries) + 1))]
    panel.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys([*times, *hidden], True),
                "indexByName": {name: place for place, (name, _) in enumerate(shown)},
                "renameByName": {name: column.heading for name, column in shown},
            },
        )
    )
    panel.thresholds(_thresholds(NEUTRAL)).no_value("-")
    for _, column in shown:
        if column.heading:
            panel.override_by_name(column.heading, _column(column))
    return Panel(title, panel, width, height)


def _common(
    panel: P,
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    instant: bool = False,
    format_: PromQueryFormat | None = None,
) -> P:
    panel.title(title).description(description).datasource(DATASOURCE)
    for ref, query in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).datasource(DATASOURCE)
        target = target.instant() if instant else target.range()
        panel.with_target(target.format(format_) if format_ else target)
    return panel


def _thresholds(steps: Steps) -> ThresholdsConfig:
    found = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def _words(names: Names) -> list[model.ValueMapping]:
    if not names:
        return []
    results = {
        str(value): model.ValueMappingResult(text=text, color=colour, index=place)
        for place, (value, text, colour) in enumerate(names)
    }
    return [model.ValueMap(options=results)]


def _graph(
    title: str, description: str, queries: Sequence[Query], unit: str, link: str, *, many: bool = False
) -> timeseries.Panel:
    panel = _common(timeseries.Panel(), title, description, queries)
    panel.unit(unit).show_points(shapes.VisibilityMode.NEVER)
    legend = common.VizLegendOptions().show_legend(True)
    if many:
        legend.display_mode(shapes.LegendDisplayMode.TABLE).placement(shapes.LegendPlacement.RIGHT).calcs(
            ["lastNotNull"]
        )
    else:
        legend.display_mode(shapes.LegendDisplayMode.LIST).placement(shapes.LegendPlacement.BOTTOM)
    panel.legend(legend)
    panel.tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))
    legends = {query.legend for query in queries}
    for state, colour in STATES.items():
        if legends & {state, "{{state}}"}:
            panel.override_by_name(state, [_fixed(colour)])
    return panel.data_links([DashboardLink("Open").url(link)]) if link else panel


def _dashed(panel: timeseries.Panel, name: str) -> None:
    style = model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 8]})
    flat = model.DynamicConfigValue(id_val="custom.fillOpacity", value=0)
    panel.override_by_name(name, [_fixed("text"), style, flat])


def _fixed(colour: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


def _column(column: Column) -> list[model.DynamicConfigValue]:
    properties = []
    unit = ("unit", column.unit) if column.unit else ("decimals", 0)
    properties.append(model.DynamicConfigValue(id_val=unit[0], value=unit[1]))
    if column.steps:
        steps = [{"value": value, "color": colour} for value, colour in column.steps]
        properties.append(model.DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": steps}))
    if column.steps or column.names:
        properties.append(model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    if column.names:
        options = {str(value): {"text": text, "color": colour} for value, text, colour in column.names}
        properties.append(model.DynamicConfigValue(id_val="mappings", value=[{"type": "value", "options": options}]))
    if column.link:
        link = {"title": f"Open {column.heading}", "url": column.link}
        properties.append(model.DynamicConfigValue(id_val="links", value=[link]))
    return properties
