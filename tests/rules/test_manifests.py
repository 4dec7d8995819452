"""What deploy/kubernetes says is what alerts/ and dashboards/ say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

from .ruleset import FILES, document

FOLDER = ROOT / "deploy/kubernetes"
DASHBOARDS = sorted((ROOT / "dashboards").glob("*.json"))
ANNOTATION = 262_144
"""Bytes that `kubectl apply` can keep of a manifest in its annotation; a ConfigMap may have four times as many."""


def manifests(folder: str) -> list[Path]:
    """Those of one kind."""
    return sorted((FOLDER / folder).glob("*.yaml"))


def loaded(path: Path) -> Any:
    """A manifest as Kubernetes reads it."""
    return yaml.safe_load(path.read_text())


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    """The committed files are exactly those that the script writes, and there are no others."""
    subprocess.run([ROOT / "scripts/generate-manifests", tmp_path], check=True)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.yaml")}
    assert made == {path.relative_to(FOLDER): path.read_text() for path in manifests("rules") + manifests("dashboards")}


def test_rules_are_those_of_alerts() -> None:
    """A PrometheusRule per file, whose spec is the file, templates and all."""
    found = {path.stem: loaded(path) for path in manifests("rules")}
    assert {name: manifest["spec"] for name, manifest in found.items()} == {
        path.name.removesuffix(".rules.yml").replace("_", "-"): document(path) for path in FILES
    }
    assert {(each["apiVersion"], each["kind"]) for each in found.values()} == {
        ("monitoring.coreos.com/v1", "PrometheusRule")
    }
    assert "{{ $value | humanizeDuration }}" in (FOLDER / "rules/airflow.yaml").read_text()


def test_dashboards_are_those_of_dashboards() -> None:
    """A ConfigMap per dashboard, which Grafana's sidecar finds by its label."""
    found = [loaded(path) for path in manifests("dashboards")]
    assert [each["data"] for each in found] == [{path.name: path.read_text()} for path in DASHBOARDS]
    assert {(each["apiVersion"], each["kind"]) for each in found} == {("v1", "ConfigMap")}
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in found)


@pytest.mark.parametrize("path", manifests("rules") + manifests("dashboards"), ids=lambda path: path.stem)
def test_kubernetes_can_keep_it(path: Path) -> None:
    """Its name is one of DNS, its labels are strings, and `kubectl apply` can remember it."""
    metadata = loaded(path)["metadata"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", metadata["name"])
    assert all(isinstance(value, str) for value in metadata["labels"].values())
    assert path.stat().st_size < ANNOTATION
