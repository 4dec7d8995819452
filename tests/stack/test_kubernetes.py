"""What `deploy/kubernetes` gives a cluster is valid, and a daemon that is started like its pods does its work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.airflow_install import uv
from tests.cache import CACHE, alone
from tests.conftest import AirflowDatabase
from tests.rules.promtool import program
from tests.unit import test_kubernetes as files
from windsock_demo import servers
from windsock_demo.processes import START_SECONDS, launched

pytestmark = pytest.mark.system

VALIDATOR = "kubernetes-validate==1.37.0"
VERSIONS = ("1.30", "1.37")
"""The oldest Kubernetes that Airflow 3.3 supports, and the newest whose schemas the validator brings."""


def validator() -> Path:
    """A validator that brings Kubernetes's own schemas; installed once, for it has more than 100 MB of them."""
    home = CACHE / VALIDATOR.replace("==", "-")
    with alone():
        if not (home / "bin" / "kubernetes-validate").exists():
            subprocess.run([uv(), "venv", "--quiet", "--clear", str(home)], check=True)
            install = [uv(), "pip", "install", "--quiet", "--python", str(home / "bin" / "python"), VALIDATOR]
            subprocess.run(install, check=True)
    return home / "bin" / "kubernetes-validate"


def rendered() -> list[dict[str, Any]]:
    """The objects that `kubectl apply -k` would send."""
    command = [str(program("newest", "kubectl")), "kustomize", str(files.FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def documented() -> list[dict[str, Any]]:
    """The objects that the page shows."""
    blocks = re.findall(r"```yaml\n(apiVersion:.*?)```", files.PAGE, re.DOTALL)
    return [document for block in blocks for document in yaml.safe_load_all(block)]


def scheduler() -> dict[str, Any]:
    """A pod with what the values add to the scheduler's."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "scheduler"}, "spec": files.sidecar()}


def refused(tmp_path: Path, version: str, *objects: dict[str, Any]) -> str:
    """What is wrong with these objects; empty if nothing is, and each has a schema."""
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    command = [str(validator()), "--strict", "-k", version, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout.count(" passed ") == len(objects):
        return ""
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_it(tmp_path: Path, version: str) -> None:
    """Every object fits the schemas, without an unknown key; the monitor has none, being the Prometheus Operator's."""
    ours = [each for each in rendered() if each["kind"] != "ServiceMonitor"]
    assert len(ours) == len(rendered()) - 1
    sidecar = files.documents("sidecar-service.yaml")["Service"]
    assert len(documented()) == 2
    assert refused(tmp_path, version, *ours, *documented(), sidecar, scheduler()) == ""


def test_the_validator_finds_mistakes(tmp_path: Path) -> None:
    """It refuses an unknown key, in the Deployment as in the sidecar."""
    (deployment,) = (each for each in rendered() if each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True
    pod = scheduler()
    pod["spec"]["containers"][0]["livenessProbe"]["periodSecond"] = 1
    assert "readOnly" in refused(tmp_path, VERSIONS[-1], deployment)
    assert "periodSecond" in refused(tmp_path, VERSIONS[-1], pod)


def test_a_changed_configuration_is_a_new_pod() -> None:
    """Everything is in one namespace, and the pod mounts the ConfigMap by the name that has its content's hash."""
    objects = {each["kind"]: each for each in rendered()}
    assert {each["metadata"]["namespace"] for each in objects.values()} == {"airflow"}
    name = objects["ConfigMap"]["metadata"]["name"]
    config, _ = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert config["projected"]["sources"][0]["configMap"]["name"] == name != "windsock"


def answer(request: str | urllib.request.Request) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def settled(address: str, log: Path, *lines: str) -> None:
    """Waits until a page of metrics has these lines."""
    deadline, page = time.monotonic() + START_SECONDS, ""
    while not all(line in page for line in lines):
        assert time.monotonic() < deadline, f"{page}\n{log.read_text()}"
        time.sleep(0.2)
        try:
            _, page = answer(f"{address}/metrics")
        except OSError:
            continue


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Starts a container's command on a free port of loopback, its volume being a folder of ours."""

    def start(container: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Any, str, Path]:
        address, log = f"127.0.0.1:{servers.free_port()}", tmp_path / "daemon.log"
        own = {"WINDSOCK_LISTEN": address, "WINDSOCK_STATE__DIR": str(tmp_path / "state")}
        for name in [name for name in os.environ if name.startswith(("AIRFLOW", "WINDSOCK"))]:
            monkeypatch.delenv(name)
        for name, value in {**environ, **own}.items():
            monkeypatch.setenv(name, value)
        arguments = [argument.replace("/etc/windsock", str(tmp_path)) for argument in container["args"]]
        return launched([sys.executable, "-m", "exporter", *arguments], log), f"http://{address}", log

    return start


def test_the_pod_does_its_work(
    tmp_path: Path,
    started: Callable[..., Any],
    airflow_database: Callable[..., AirflowDatabase],
    valkey: servers.Valkey,
) -> None:
    """With its arguments, file and secrets: its probes are answered, it reads both sources, and asks for the token."""
    (container,) = files.pod()["containers"]
    files.written(tmp_path)
    (tmp_path / "database_url").write_text(airflow_database().reader_url)
    (tmp_path / "broker_url").write_text(valkey.url)
    daemon, address, log = started(container, {})
    with daemon:
        settled(address, log, 'airflow_db_up{airflow="prod"} 1', 'airflow_broker_up{airflow="prod"} 1')
        for probe in ("livenessProbe", "readinessProbe"):
            assert answer(address + container[probe]["httpGet"]["path"])[0] == 200
        url = f"{address}/webhook/alertmanager"
        webhook = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"})  # noqa: S310
        assert answer(webhook)[0] == 401
        webhook.add_header("Authorization", f"Bearer {files.SECRETS['alertmanager_token']}")
        assert answer(webhook)[0] == 400


def test_the_sidecar_does_its_work(
    started: Callable[..., Any], airflow_database: Callable[..., AirflowDatabase], valkey: servers.Valkey
) -> None:
    """With the chart's variables alone it reads both sources, and its probe is answered."""
    (container,) = files.sidecar()["containers"]
    chart = {
        "WINDSOCK_AIRFLOW__NAME": files.environment(container)["WINDSOCK_AIRFLOW__NAME"],
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow_database().url,
        "AIRFLOW__CELERY__BROKER_URL": valkey.url,
    }
    daemon, address, log = started(container, chart)
    with daemon:
        settled(address, log, 'airflow_db_up{airflow="prod"} 1', 'airflow_broker_up{airflow="prod"} 1')
        assert answer(address + container["livenessProbe"]["httpGet"]["path"])[0] == 200
