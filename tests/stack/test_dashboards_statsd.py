"""What Airflow's own code sends by StatsD arrives under the names that the board asks for; states have its colours."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from dashboards.generate.statsd_promql import LABELS as TAGS
from dashboards.generate.theme import STATES
from tests.airflow_install import AIRFLOWS, installed
from tests.boards import of_panels, of_variables
from tests.conftest import NEWEST, ROOT, lacking, tool
from tests.go_programs import go_program
from tests.stack.test_dashboards import unanswered
from windsock_demo import servers
from windsock_demo.processes import launched

pytestmark = pytest.mark.system

AIRFLOW = next(airflow for airflow in AIRFLOWS if airflow.minor == NEWEST)
MAPPING = ROOT / "compose" / "statsd-exporter" / "mapping.yml"
SENDER = Path(__file__).with_name("send-statsd")
"""A program for Airflow's Python: it sends everything that Airflow's own registry of metrics has."""


@functools.cache
def airflow() -> Path:
    """The Python of a real Airflow, with Airflow's own client of StatsD."""
    try:
        return installed(AIRFLOW) / "bin" / "python"
    except (OSError, RuntimeError) as error:
        lacking(f"Airflow {AIRFLOW.version} cannot be installed: {error}")


@contextmanager
def running(directory: Path) -> Iterator[tuple[int, int]]:
    """A statsd-exporter with the shipped mapping: the ports where it listens and where it is scraped."""
    statsd, web = servers.free_port(), servers.free_port()
    command = [str(go_program("statsd_exporter")), f"--statsd.mapping-config={MAPPING}", "--statsd.listen-tcp="]
    command += [f"--statsd.listen-udp={servers.HOST}:{statsd}", f"--web.listen-address={servers.HOST}:{web}"]
    with launched(command, directory / "statsd-exporter.log"):
        for _ in range(100):
            if page(web):
                break
            time.sleep(0.1)
        yield statsd, web


def page(port: int) -> str:
    """What it exports; nothing before it has started."""
    try:
        with urllib.request.urlopen(f"http://{servers.HOST}:{port}/metrics", timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def send(port: int, directory: Path, rounds: int = 1, names: str = "legacy") -> list[dict[str, str]]:
    """Lets Airflow's own code send each metric of its registry; returns the registry."""
    environ = {**os.environ, "AIRFLOW_HOME": str(directory)}
    done = subprocess.run(
        [airflow(), SENDER, str(port), str(rounds), names], env=environ, capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def samples(text: str) -> dict[str, set[str]]:
    """The names of Airflow's metrics, and the labels of each that are not empty."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(airflow_\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="[^"]', labels))
    return found


def test_states_have_the_colours_that_airflow_gives_them(tmp_path: Path) -> None:
    """All states of tasks, in Airflow's own table of colours; what that calls by name is the same in hexadecimal."""
    hexadecimal = {
        "darkorange": "#ff8c00",
        "gold": "#ffd700",
        "gray": "#808080",
        "green": "#008000",
        "hotpink": "#ff69b4",
        "lightgrey": "#d3d3d3",
        "lime": "#00ff00",
        "mediumpurple": "#9370db",
        "orange": "#ffa500",
        "red": "#ff0000",
        "tan": "#d2b48c",
        "turquoise": "#40e0d0",
        "violet": "#ee82ee",
    }
    program = "import json; from airflow.utils.state import State as S; "
    program += "print(json.dumps({str(state): name for state, name in S.state_color.items() if state}))"
    environ = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run([airflow(), "-c", program], env=environ, capture_output=True, check=True)
    assert {state: hexadecimal[name] for state, name in json.loads(done.stdout).items()} == STATES


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, str]], str]:
    """Airflow's registry, and what the exporter makes of all of it."""
    directory = tmp_path_factory.mktemp("statsd")
    with running(directory) as (port, web):
        registry = send(port, directory)
        time.sleep(2)
        return registry, page(web)


def test_all_that_airflow_sends_is_named(sent: tuple[list[dict[str, str]], str]) -> None:
    """Each metric of Airflow's registry has an entry of its own, and nothing arrives twice, or under another's name."""
    registry, text = sent
    found = samples(text)
    mapped = {each["name"] for each in yaml.safe_load(MAPPING.read_text())["mappings"] if each.get("action") != "drop"}
    assert set(found) <= mapped  # what has no entry would be named by the last one
    assert mapped - set(found) == {
        "airflow_statsd_$1",
        "airflow_statsd_deadline_alerts_callback_failed_total",  # these three are sent, though not in the registry
        "airflow_statsd_deadline_alerts_callback_success_total",
        "airflow_statsd_ti_awaiting_input",
    }
    legacy = [each for each in registry if each["legacy"]]
    assert len(legacy) > 40
    assert (
        f'statsd_exporter_events_actions_total{{action="drop"}} {len(legacy) + 1}\n' in text
    )  # and one that goes down
    assert f'statsd_exporter_events_actions_total{{action="map"}} {len(registry) - 1}\n' in text
    assert not re.search(r"^statsd_exporter_(tag|sample)_errors_total\S* [1-9]", text, re.MULTILINE)
    values = re.findall(r"^airflow_statsd_\w+_total(?:\{.*\})? (\S+)$", text, re.MULTILINE)
    assert set(values) == {"1"}


def test_tags_become_labels(sent: tuple[list[dict[str, str]], str]) -> None:
    """Those that the board names are there; a task, a run and a file have no series of their own."""
    found = samples(sent[1])
    for tail, tags in TAGS.items():
        assert set(tags) <= found[f"airflow_statsd_{tail}"], tail
    counted = {name: labels for name, labels in found.items() if name.endswith(("_total", "_seconds"))}
    assert not {label for labels in counted.values() for label in labels} & {"task_id", "job_id", "dagrun_id", "run_id"}


def test_without_legacy_names_nothing_is_missing(tmp_path: Path) -> None:
    """The setting that the mapping's first lines advise costs no metric."""
    with running(tmp_path) as (port, web):
        registry = send(port, tmp_path, names="modern")
        time.sleep(2)
        text = page(web)
    assert f'statsd_exporter_events_actions_total{{action="map"}} {len(registry) - 1}\n' in text
    assert 'statsd_exporter_events_actions_total{action="drop"} 1\n' in text


def test_the_board_shows_them(tmp_path: Path) -> None:
    """Every query of the StatsD board, and of its choice, is answered by a real Prometheus that has nothing else."""
    web = servers.free_port()
    with running(tmp_path) as (port, scraped):
        target = {"targets": [f"{servers.HOST}:{scraped}"], "labels": {"airflow": "demo"}}
        configuration = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "statsd", "static_configs": [target]}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(configuration))
        command = [str(tool("prometheus")), f"--config.file={tmp_path / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address={servers.HOST}:{web}"]
        with launched(command, tmp_path / "prometheus.log"):
            send(port, tmp_path, rounds=4)
            time.sleep(2)
            asked = [each for each in (*of_panels(), *of_variables()) if each.board == "airflow-statsd"]
            text = {(str(each), number): each.expr for number, each in enumerate(asked)}
            macros = (("$airflow", "demo"), ("$__rate_interval", "1m"), ("$__range", "1m"))
            for macro, value in macros:
                text = {name: expr.replace(macro, value) for name, expr in text.items()}
            assert unanswered(web, text) == {}
