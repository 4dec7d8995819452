"""The files of `deploy/kubernetes` agree with each other, and with what Windsock reads, serves and exports."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from exporter.__main__ import _parser
from exporter.catalogue import entries
from exporter.config import Config, ConfigError, load
from exporter.web import OPEN_PATHS
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SECRETS = {
    "alertmanager_token": "a-token",
    "broker_url": "redis://redis/0",
    "database_url": "postgresql://windsock@db/postgres",
    "slack_token": "xoxb-a-token",
}
"""What the Secret `windsock` holds; the values are invented."""

TARGET_LABELS = {"container", "endpoint", "instance", "job", "namespace", "node", "pod", "service"}
"""What the Prometheus Operator adds: a metric's own label of such a name would be renamed."""

NAME = {"app.kubernetes.io/name": "windsock"}


def documents(file: str) -> dict[str, Any]:
    """The objects of a file, by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all((FOLDER / file).read_text())}


def deployment() -> dict[str, Any]:
    """The specification of the Deployment."""
    spec: dict[str, Any] = documents("deployment.yaml")["Deployment"]["spec"]
    return spec


def pod() -> dict[str, Any]:
    """The specification of the Deployment's pod."""
    spec: dict[str, Any] = deployment()["template"]["spec"]
    return spec


def sidecar(release: str = "airflow") -> dict[str, Any]:
    """What the values add to the scheduler's pod: the chart renders templates in them, of which one is in use."""
    text = (FOLDER / "airflow-values.yaml").read_text().replace("{{ .Release.Name }}", release)
    assert "{{" not in text
    values = yaml.safe_load(text)
    assert values.keys() == {"scheduler"}
    assert values["scheduler"].keys() == {"extraContainers", "extraVolumes"}
    return {"containers": values["scheduler"]["extraContainers"], "volumes": values["scheduler"]["extraVolumes"]}


def both() -> Iterator[dict[str, Any]]:
    """Both containers."""
    for spec in (pod(), sidecar()):
        (container,) = spec["containers"]
        yield container


def written(folder: Path) -> Path:
    """The folder as the pod has it: the configuration, and the Secret's keys beside it; returns the configuration."""
    for name, value in SECRETS.items():
        (folder / name).write_text(f"{value}\n")
    (folder / "windsock.yml").write_text((FOLDER / "windsock.yml").read_text())
    return folder / "windsock.yml"


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container, each secret being one of ours."""
    broker = {"AIRFLOW__CELERY__BROKER_URL": "redis://chart/0", "WINDSOCK_CELERY__BROKER_URL": SECRETS["broker_url"]}
    database = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://postgres@chart/postgres",
        "WINDSOCK_AIRFLOW__DATABASE_URL": SECRETS["database_url"],
    }
    return {each["name"]: each.get("value") or {**broker, **database}[each["name"]] for each in container["env"]}


def configured(environ: Mapping[str, str]) -> Config | None:
    """What these variables configure."""
    try:
        return load(None, environ, collectors=())
    except ConfigError:
        return None


def test_one_command_applies_the_whole_of_it() -> None:
    """`kubectl apply -k` takes every file but those of the sidecar, and the page explains each."""
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    taken = {*kustomization["resources"], *generated["files"], "kustomization.yaml"}
    files = {path.name for path in FOLDER.iterdir() if path.is_file()}
    assert files - taken == {"airflow-values.yaml", "sidecar-service.yaml"}
    assert taken <= files
    assert {name for name in files if name not in PAGE} == set()


def test_the_configuration_is_valid_with_the_files_beside_it(tmp_path: Path) -> None:
    """`windsock check` accepts what the ConfigMap holds, given the Secret that the page makes."""
    command = [sys.executable, "-m", "exporter", "check", "--config", str(written(tmp_path))]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {key for key in SECRETS if f"secrets/{key}" not in PAGE} == set()


@pytest.mark.parametrize("key", SECRETS)
def test_every_key_of_the_secret_is_needed(tmp_path: Path, key: str) -> None:
    """The configuration names each of them: without one it is not valid."""
    file = written(tmp_path)
    (tmp_path / key).unlink()
    with pytest.raises(ConfigError, match=key):
        load(file, {}, collectors=())


def test_the_pod_runs_with_that_configuration() -> None:
    """The arguments name the file where the volume puts it, and the volume is of the ConfigMap and the Secret."""
    (container,) = pod()["containers"]
    options = _parser().parse_args(container["args"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert options.config == Path(mounts["config"]) / "windsock.yml"
    assert options.only is None
    sources = volumes["config"]["projected"]["sources"]
    assert sources == [{"configMap": {"name": "windsock"}}, {"secret": {"name": "windsock"}}]
    (generated,) = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["configMapGenerator"]
    assert generated == {"name": "windsock", "files": ["windsock.yml"]}
    claim = documents("deployment.yaml")["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == claim


def test_one_process_at_a_time_has_the_state() -> None:
    """There is one pod, the old one ends before the new one starts, and no budget forbids to end it."""
    assert (deployment()["replicas"], deployment()["strategy"]) == (1, {"type": "Recreate"})
    assert "\nkind: PodDisruptionBudget" not in "".join(path.read_text() for path in FOLDER.glob("*.yaml"))


def test_a_sidecar_only_watches() -> None:
    """Each scheduler has one, so that they must not post: they serve the metrics, and have a memory of their own."""
    (container,) = sidecar()["containers"]
    assert _parser().parse_args(container["args"]).only == "exporter"
    assert "readinessProbe" not in container
    assert [volume["name"] for volume in sidecar()["volumes"]] == [mount["name"] for mount in container["volumeMounts"]]


def test_windsock_reads_every_variable() -> None:
    """None is there in vain: without Windsock's own the chart's count, and without any there is nothing to do."""
    (container,) = sidecar()["containers"]
    environ = environment(container)
    chart = {name: value for name, value in environ.items() if name.startswith("AIRFLOW__")}
    for name in environ:
        given = chart if name in chart else environ
        assert configured({**given, name: ""}) != configured(given), name
    found = configured(environ)
    assert found
    assert found.half("exporter").airflow.database_dsn() == SECRETS["database_url"]


def test_the_chart_may_lack_what_is_optional() -> None:
    """Without Windsock's Secret and without Celery the pod starts; without the database's it cannot."""
    (container,) = sidecar(release="prod")["containers"]
    secrets = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
    needed = [(secret["name"], secret["key"]) for secret in secrets if not secret.get("optional")]
    assert needed == [("prod-metadata", "connection")]
    keys = {secret["key"] for secret in secrets if secret["name"] == "windsock"}
    assert keys == {"database_url", "broker_url"}


def test_both_containers_are_the_image() -> None:
    """Version, user, port and volume are those of the Dockerfile, and nothing names a registry."""
    for container in both():
        assert container["image"] == f"windsock:{__version__}"
        assert f"EXPOSE {container['ports'][0]['containerPort']}" in DOCKERFILE
        assert f"VOLUME {container['volumeMounts'][-1]['mountPath']}" in DOCKERFILE
    users = [pod()["securityContext"], next(iter(sidecar()["containers"]))["securityContext"]]
    for user in users:
        assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in DOCKERFILE
        assert user["runAsNonRoot"]
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}


def test_no_right_that_is_not_needed() -> None:
    """Neither container may write its root, gain privileges, or take more memory; the pod has no token."""
    for container in both():
        context = container["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"].keys() == {"memory"}
    assert pod()["automountServiceAccountToken"] is False
    account = documents("deployment.yaml")["ServiceAccount"]
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["name"] == pod()["serviceAccountName"]


def test_probes_ask_what_windsock_answers() -> None:
    """Each probe asks a path that is open to everybody, at a port of the container; liveness is not readiness."""
    for container in both():
        probes = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
        assert {probe["path"] for probe in probes.values()} <= OPEN_PATHS
        assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}
        assert probes["livenessProbe"]["path"] == "/-/healthy"
    assert pod()["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/-/ready"


def test_services_lead_to_the_pods() -> None:
    """A Service selects the labels of its pods and a port that its container has; so does the network policy."""
    service = documents("deployment.yaml")["Service"]["spec"]
    for selector in (service["selector"], deployment()["selector"]["matchLabels"]):
        assert selector == deployment()["template"]["metadata"]["labels"] == NAME
    assert service["ports"][0]["targetPort"] == pod()["containers"][0]["ports"][0]["name"]
    scheduler = documents("sidecar-service.yaml")["Service"]["spec"]
    assert scheduler["selector"] == {"tier": "airflow", "component": "scheduler", "release": "airflow"}
    assert scheduler["ports"][0]["targetPort"] == sidecar()["containers"][0]["ports"][0]["name"]


def test_prometheus_gives_the_job_that_the_rules_know() -> None:
    """The monitor selects both Services by a label, whose value is the job of every rule; its port is theirs."""
    monitor = documents("service-monitor.yaml")["ServiceMonitor"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    (endpoint,) = monitor["spec"]["endpoints"]
    jobs = set(re.findall(r'job="([^"]+)"', (ROOT / "alerts" / "airflow.rules.yml").read_text()))
    for file in ("deployment.yaml", "sidecar-service.yaml"):
        service = documents(file)["Service"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert {service["metadata"]["labels"][monitor["spec"]["jobLabel"]]} == jobs
        assert endpoint == {"port": service["spec"]["ports"][0]["name"], "path": "/metrics", "interval": "15s"}
    assert {entry.name for entry in entries() if TARGET_LABELS & set(entry.labels)} == set()


def test_the_network_is_open_where_it_must_be() -> None:
    """In come scrapes and webhooks, out go names, the database, the broker and Slack, and nothing else."""
    spec = documents("network-policy.yaml")["NetworkPolicy"]["spec"]
    assert spec["podSelector"]["matchLabels"] == deployment()["template"]["metadata"]["labels"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (ingress,) = spec["ingress"]
    (visitors,) = ingress["from"]
    assert visitors["podSelector"]["matchExpressions"][0]["values"] == ["prometheus", "alertmanager"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": pod()["containers"][0]["ports"][0]["name"]}]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]] == [[53, 53], [5432, 6379], [443]]
    assert all(rule["to"] for rule in spec["egress"])
