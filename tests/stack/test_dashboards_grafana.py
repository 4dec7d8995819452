"""Grafana understands the dashboards: its own code converts them to each of its schemas; a stack's has loaded them.

`GRAFANA_URL` names that of a stack, such as http://admin:PASSWORD@localhost:3000.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.boards import BOARDS, FOLDER, panels
from tests.go_programs import go_program
from tests.stack.test_dashboards import filled

pytestmark = pytest.mark.system

GRAFANA = os.environ.get("GRAFANA_URL", "").rstrip("/")


@pytest.fixture(scope="module")
def conversion() -> Path:
    """The program that converts as Grafana does, built from Grafana's own module."""
    return go_program("grafana-conversion")


def test_grafanas_conversion_keeps_everything(conversion: Path) -> None:
    """From classic to v1 to v2 and back to v1: no error, no loss that Grafana notices, and no text that is gone."""
    files = [str(path) for path in sorted(FOLDER.glob("*.json"))]
    done = subprocess.run([conversion, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(BOARDS)


def test_the_conversion_notices_a_loss(conversion: Path, tmp_path: Path) -> None:
    """A variable of a kind that the newest schema lacks does not survive, and that is told."""
    board = (FOLDER / "airflow-dag.json").read_text()
    assert '"type": "textbox"' in board
    (tmp_path / "board.json").write_text(board.replace('"type": "textbox"', '"type": "unheard-of"'))
    done = subprocess.run([conversion, tmp_path / "board.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr


@pytest.mark.skipif(not GRAFANA, reason="GRAFANA_URL is not set: no real Grafana has loaded the dashboards here")
@pytest.mark.parametrize("uid", BOARDS)
async def test_the_grafana_of_the_stack_has_it_and_answers(uid: str) -> None:
    """It took the file from where compose.yaml mounts it, keeps every panel, and refuses no query of any."""
    async with aiohttp.ClientSession() as session:
        sources = await ask(session, "GET", "/api/datasources")
        source = next({"type": each["type"], "uid": each["uid"]} for each in sources if each["type"] == "prometheus")
        loaded = await ask(session, "GET", f"/api/dashboards/uid/{uid}")
        assert loaded.get("meta", loaded).items() >= {"provisioned": True, "folderTitle": "Airflow"}.items()
        assert {panel["id"]: panel["title"] for panel in panels(loaded["dashboard"])} == {
            panel["id"]: panel["title"] for panel in panels(BOARDS[uid])
        }
        for panel in panels(BOARDS[uid]):
            queries = [
                {**target, "expr": filled(target["expr"]), "datasource": source, "intervalMs": 15_000}
                for target in panel["targets"]
            ]
            found = await ask(session, "POST", "/api/ds/query", queries=queries, **{"from": "now-1h", "to": "now"})
            answered = {name: result.get("error") for name, result in found["results"].items()}
            assert answered == dict.fromkeys(target["refId"] for target in panel["targets"]), panel["title"]


async def ask(session: aiohttp.ClientSession, method: str, path: str, **content: Any) -> Any:
    """What Grafana answers, also when it refuses."""
    async with session.request(method, GRAFANA + path, json=content or None) as response:
        return await response.json()
