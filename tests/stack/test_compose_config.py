"""Compose v2 itself reads the files, in every combination that the documentation names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from exporter.config.loading import load
from tests.conftest import ROOT
from tests.rules.promtool import program

pytestmark = pytest.mark.system

PROFILES = {"redis-exporter", "postgres-exporter", "slack"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of compose/, where compose.yaml looks for its neighbours, too."""
    for name in ("alerts", "compose", "dashboards", "exporter", "windsock_demo"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "compose").unlink()
    ignored = shutil.ignore_patterns(".env", "secrets", "logs")
    shutil.copytree(ROOT / "compose", tmp_path / "compose", ignore=ignored)
    return tmp_path / "compose"


def compose(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Compose's answer; of the environment it sees no more than this."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment}
    command = [str(program("newest", "docker-compose")), *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def initialised(folder: Path, *arguments: str, **environment: str) -> None:
    """Runs ./init, for the look-alike of Slack."""
    subprocess.run(
        [folder / "init", "--look-alike", *arguments], env={"PATH": "/usr/bin:/bin", **environment}, check=True
    )


def services(folder: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """What Compose would start, without a warning."""
    done = compose(folder, *arguments, "config", "--format", "json", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["services"]
    assert isinstance(found, dict)
    return found


def test_the_stack(folder: Path) -> None:
    """After ./init all is set; what is optional comes with its profile."""
    initialised(folder)
    everything = set(services(folder, COMPOSE_PROFILES="*"))
    assert set(services(folder, COMPOSE_PROFILES="")) == everything - PROFILES
    assert set(services(folder)) == everything - PROFILES | {"slack"}


def test_airflow_2(folder: Path) -> None:
    """The override changes what Airflow runs, and adds no service; Windsock and the servers stay as they are."""
    initialised(folder)
    three = services(folder)
    two = services(folder, "-f", "compose.yaml", "-f", "airflow-2.yaml")
    changed = {name for name in three if three[name] != two[name]}
    assert set(two) == set(three)
    assert changed == {name for name in three if name == "flower" or name.startswith("airflow-")}
    assert {two[name]["image"] for name in changed} == {"apache/airflow:2.11.2"}
    assert two["airflow-api-server"]["command"][1] == "webserver"


def test_an_airflow_that_exists(folder: Path) -> None:
    """Its .env alone makes Compose start what watches, and nothing of an Airflow; none of them waits for one."""
    given = {"DATABASE_URL": "postgresql://windsock:p@db/airflow", "BROKER_URL": "redis://windsock:p@redis/0"}
    initialised(folder, "--existing", **given)
    found = services(folder)
    assert set(found) == {"windsock", "statsd-exporter", "prometheus", "alertmanager", "grafana", "slack"}
    assert {other for service in found.values() for other in service.get("depends_on") or {}} <= set(found)
    assert {network for service in found.values() for network in service["networks"]} == {"monitoring"}


@pytest.mark.parametrize("broker", ["redis://windsock:p@redis/0", ""])
def test_an_airflow_may_have_no_celery(folder: Path, broker: str) -> None:
    """Windsock is given no file for the address of a broker then, and takes what it is given."""
    initialised(folder, "--existing", DATABASE_URL="postgresql://windsock:p@db/airflow", BROKER_URL=broker)
    windsock = services(folder)["windsock"]
    given = {key: value.replace("/run", str(folder)) for key, value in windsock["environment"].items()}
    settings = folder / "windsock/app.yml"
    settings.write_text(settings.read_text().replace("/run", str(folder)))
    config = load(settings, given | {"WINDSOCK_CONFIG": ""}, collectors=())
    assert (config.airflow.has_database, config.celery.has_broker) == (True, bool(broker))


@pytest.mark.parametrize("files", ["compose.yaml", "existing.yaml"])
def test_without_init_a_sentence_says_what_to_do(folder: Path, files: str) -> None:
    """It names a variable that is missing, and nothing else is said."""
    done = compose(folder, "-f", files, "config")
    assert done.returncode != 0
    assert re.fullmatch(r"error while .*required variable \w+ is missing a value: run ./init first.*\n", done.stderr)


@pytest.mark.parametrize("line", ["AIRFLOW_PORT=web", ""])
def test_a_typing_error_in_a_file_is_found(folder: Path, line: str) -> None:
    """Neither a port that is none nor a key that Compose does not know is taken."""
    initialised(folder)
    if line:
        (folder / ".env").write_text((folder / ".env").read_text() + f"{line}\n")
    else:
        text = (folder / "compose.yaml").read_text()
        (folder / "compose.yaml").write_text(text.replace("mem_limit:", "mem_limits:", 1))
    done = compose(folder, "config")
    assert done.returncode != 0
    assert ("web" if line else "mem_limits") in done.stderr
