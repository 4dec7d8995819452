"""The dashboards are what the code makes of them, and every panel can be read, found and followed."""

from __future__ import annotations

import filecmp
import json
import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.models import units

from dashboards.generate.theme import STATES
from tests.boards import BOARDS, FOLDER, VARIABLE, links, panels, variables
from tests.conftest import ROOT
from tests.rules.ruleset import ALERT_RULES

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {value for value in vars(units).values() if isinstance(value, str)}
SHOWN_AT_ONCE = 25
BUILT_IN = {"__url_time_range", "__value", "__field"}

each_board = pytest.mark.parametrize("uid", BOARDS)


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    """The committed files are exactly those that the generator writes, and there are no others."""
    subprocess.run([sys.executable, "-m", "dashboards.generate", str(tmp_path)], cwd=ROOT, check=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in FOLDER.glob("*.json"))
    assert filecmp.cmpfiles(tmp_path, FOLDER, names, shallow=False) == (names, [], [])


def test_the_sdk_is_the_one_for_this_schema() -> None:
    """Other versions of the SDK have larger numbers, but are made for older Grafanas."""
    assert version("grafana-foundation-sdk").lstrip("v").startswith("0.0.")
    assert {board["schemaVersion"] for board in BOARDS.values()} == {42}


@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")  # Grafana's files are still classic
@each_board
def test_the_sdk_reads_what_it_wrote(uid: str) -> None:
    """Nothing of a file is unknown to the SDK's own model of dashboards, but what it has no names for."""
    from grafana_foundation_sdk.cog.plugins import register_default_plugins  # noqa: PLC0415 - it warns
    from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: PLC0415

    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(BOARDS[uid]), default=lambda value: value.to_json()))
    assert _missing(BOARDS[uid], read) <= {"titleFormat", "textFormat", "tagKeys"}


def _missing(wanted: Any, found: Any) -> set[str]:
    """The keys of one that the other lacks."""
    if isinstance(wanted, dict):
        lost = {key for key in wanted if key not in found}
        return lost.union(*(_missing(wanted[key], found[key]) for key in wanted if key not in lost))
    if isinstance(wanted, list):
        return set().union(*(_missing(*pair) for pair in zip(wanted, found, strict=True)))
    return set()


def test_names_and_numbers_are_unique() -> None:
    """No two boards share a uid or title, and no two panels of one share a title or id."""
    assert all(board["uid"] == uid for uid, board in BOARDS.items())
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)
    for board in BOARDS.values():
        everything = panels(board) + [each for each in board["panels"] if each["type"] == "row"]
        assert max(Counter(panel["id"] for panel in everything).values()) == 1
        assert max(Counter(panel["title"] for panel in panels(board)).values()) == 1


@each_board
def test_what_boards_share(uid: str) -> None:
    """Nobody edits them in the browser; the source is chosen, never fixed; firing alerts are marked."""
    board = BOARDS[uid]
    assert board["editable"] is False
    assert board["tags"] == ["windsock"]
    assert (board["refresh"], board["graphTooltip"]) == ("1m", 1)
    assert board["links"][0]["type"] == "dashboards" and board["links"][0]["includeVars"]
    assert variables(board)["datasource"]["type"] == "datasource"
    [marks] = board["annotations"]["list"]
    assert marks["expr"].startswith('ALERTS{alertstate="firing", ')
    asked = [marks, *(each for each in variables(board).values() if each["type"] == "query")]
    asked += [each for panel in panels(board) for each in (panel, *panel["targets"])]
    assert all(each["datasource"] == DATASOURCE for each in asked)


@each_board
def test_choices(uid: str) -> None:
    """Variables have a label and are asked anew with each time range; all of several is `.+`, but never all targets."""
    for name, variable in variables(BOARDS[uid]).items():
        assert variable["label"]
        if variable["type"] == "query":
            assert variable["refresh"] == 2
        if variable["multi"]:
            assert variable["includeAll"]
            assert variable.get("allValue") == (None if name in ("job", "instance") else ".+")


@each_board
def test_the_grid(uid: str) -> None:
    """Panels stay within 24 columns, do not overlap, and not too many are asked for before one scrolls or unfolds."""
    board = BOARDS[uid]
    shown: list[dict[str, Any]] = []
    everything = board["panels"] + [each for top in board["panels"] for each in top.get("panels", [])]
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
    for one, other in combinations((panel["gridPos"] for panel in everything), 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    for panel in board["panels"]:
        if panel.get("collapsed"):
            break
        shown += [panel] * (panel["type"] != "row")
    assert len(shown) <= SHOWN_AT_ONCE


@each_board
def test_every_panel_explains_itself(uid: str) -> None:
    """It has a title, sentences that say more than the title, queries with names, and a unit that Grafana has."""
    for panel in panels(BOARDS[uid]):
        assert re.fullmatch(r"[A-Z].+[^.]", panel["title"])
        assert len(panel["title"]) <= 6 * panel["gridPos"]["w"], "it is cut off"
        assert re.fullmatch(r"[A-Z].{40,230}\.", panel["description"]), panel["title"]
        assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFGHIJ"][: len(panel["targets"])]
        if panel["type"] not in ("table", "state-timeline"):
            shown = panel["options"]["yAxis"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]
            assert shown["unit"] in UNITS, panel["title"]


@each_board
def test_states_have_airflows_colours(uid: str) -> None:
    """Wherever states are series, each has its colour; no state has another colour anywhere."""
    for panel in panels(BOARDS[uid]):
        colours = {
            override["matcher"]["options"]: each["value"]["fixedColor"]
            for override in panel["fieldConfig"]["overrides"]
            for each in override["properties"]
            if each["id"] == "color"
        }
        legends = {target.get("legendFormat") for target in panel["targets"]}
        shown = {state: colour for state, colour in STATES.items() if legends & {state, "{{state}}"}}
        assert {state: colours[state] for state in STATES if state in colours} == shown, panel["title"]


@each_board
def test_links_lead_somewhere(uid: str) -> None:
    """To a board that is there, with variables that it has, made from variables that this one has."""
    for title, url in links(BOARDS[uid]):
        names = set(VARIABLE.findall(url))
        assert names <= set(variables(BOARDS[uid])) | BUILT_IN, (title, url)
        if url.startswith("/d/"):
            target, _, query = url.removeprefix("/d/").partition("?")
            given = re.findall(r"var-(\w+)=", query) + re.findall(r"\$\{(\w+):queryparam\}", query)
            assert set(given) <= set(variables(BOARDS[target])), (title, url)
        else:
            assert url.startswith(("/alerting/list?", "${airflow_url}/"))


def test_alerts_lead_to_boards() -> None:
    """Every alert names a board that is there, with variables that it has."""
    for rule in ALERT_RULES:
        link = re.fullmatch(r"https://grafana\.example\.com/d/([\w-]+)(\?.*)?", rule.annotations["dashboard_url"])
        assert link and set(re.findall(r"var-(\w+)=", link[2] or "")) <= set(variables(BOARDS[link[1]])), rule


def test_one_can_reach_every_board() -> None:
    """Tiles, tables and graphs lead from the overview to everything about Airflow."""
    reached = {"airflow-overview"}
    for _ in BOARDS:
        reached |= {
            url.removeprefix("/d/").partition("?")[0]
            for uid in reached
            for _, url in links(BOARDS[uid])
            if url.startswith("/d/")
        }
    assert set(BOARDS) - reached == {"windsock", "airflow-statsd"}  # these are in the menu of every board
