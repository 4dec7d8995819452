"""Compose itself runs compose.yaml on podman, which has networks, names, ports and volumes as Docker has them.

The images are stand-ins (tests/stack/compose/stand_ins.py): real servers, and scripts in place of Airflow and Grafana.
"""

from __future__ import annotations

import faulthandler
import json
import re
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.stack.compose.engine import Engine, engine
from tests.stack.compose.stack import configuration, prepared
from tests.stack.compose.stand_ins import files, mounts, stand_in

pytestmark = pytest.mark.system

PATIENCE = 120.0
"""Seconds for what follows from one cause."""
EVERYTHING = {"COMPOSE_PROFILES": "slack,redis-exporter,postgres-exporter"}
OTHERS = {"valkey/valkey:9.1.0": "redis", "silent:1": "statsd-exporter"}
"""Images that are not in the file, and the service that gets them."""
ONCE = {"airflow-init", "windsock-grants"}
VOLUMES = {f"windsock_{name}" for name in ("alertmanager", "grafana", "postgres", "prometheus", "redis", "windsock")}


class Project:
    """A folder with a compose.yaml and its .env, on an engine."""

    def __init__(self, docker: Engine, folder: Path) -> None:
        self.docker, self.folder = docker, folder

    def compose(self, *arguments: str, **environment: str) -> str:
        """What Compose prints; it must succeed."""
        done = self.docker.compose(self.folder, *arguments, **environment)
        assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
        return done.stdout

    def health(self) -> dict[str, str]:
        """Of each container of all projects, or how it ended."""
        found = {name: each["State"] for name, each in self.docker.containers().items()}
        return {name: (each.get("Health") or {}).get("Status") or _end(each) for name, each in found.items()}

    def query(self, expression: str) -> dict[str, float]:
        """Prometheus's answer, by job."""
        answer = self.page(f":9090/api/v1/query?query={expression}")
        return {each["metric"]["job"]: float(each["value"][1]) for each in json.loads(answer)["data"]["result"]}

    def page(self, address: str) -> str:
        """What is at a port of 127.0.0.1, where users of the machine are."""
        return self.docker.inside("curl", "--silent", "--globoff", f"http://127.0.0.1{address}")


@pytest.fixture(autouse=True)
def no_limit_for_a_test() -> None:
    """Every wait here has an end of its own, and together they may take longer than pytest lets a test take."""
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what compose.yaml mounts, initialised for the look-alike of Slack."""
    return prepared(tmp_path_factory.mktemp("podman"))


@pytest.fixture(scope="module")
def docker(folder: Path) -> Iterator[Engine]:
    """An engine with all images."""
    faulthandler.cancel_dump_traceback_later()  # module fixtures come before the one above
    services = configuration(folder)["services"]
    by_image: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for service in services.values():
        by_image[service["image"]].append(service)
    for name, replaced in OTHERS.items():
        by_image[name].append(services[replaced])
    images = {name: stand_in(name) for name in by_image}
    nothing = folder.parent / "nothing"
    nothing.touch()
    with engine(folder.parent / "engine", mounts(images.values(), nothing)) as running:
        for name, image in images.items():
            running.add_image(name, image, files(image, by_image[name]))
        yield running


@pytest.fixture(scope="module")
def running(docker: Engine, folder: Path) -> Project:
    """All services, those of the profiles too."""
    project = Project(docker, folder)
    project.compose("up", "--detach", "--wait", **EVERYTHING)
    return project


@pytest.fixture
def project(docker: Engine, folder: Path) -> Iterator[Project]:
    """Nothing runs, neither before nor afterwards."""
    project = Project(docker, folder)
    project.compose("--profile=*", "down", "--volumes")
    yield project
    project.compose("--profile=*", "down", "--volumes", "--timeout=1")


def test_up_ends_once_all_are_healthy_in_the_order_of_the_file(running: Project) -> None:
    """Each started after what it depends on had passed its health check, or had ended well."""
    services = configuration(running.folder)["services"]
    assert running.health() == {name: "ended with 0" if name in ONCE else "healthy" for name in services}
    states = {name: each["State"] for name, each in running.docker.containers().items()}
    for name, service in services.items():
        started = datetime.fromisoformat(states[name]["StartedAt"])
        for other in service.get("depends_on") or {}:
            assert _ready(states[other]) <= started, f"{name} did not wait for {other}"


def test_every_published_port_answers(running: Project) -> None:
    """At 127.0.0.1, each with HTTP."""
    services = configuration(running.folder)["services"].values()
    ports = {port["published"]: port["host_ip"] for each in services for port in each.get("ports", ())}
    assert set(ports) >= {"3000", "5555", "8080", "9090", "9093", "9780", "9781"}
    for port, address in ports.items():
        assert address == "127.0.0.1"
        running.page(f":{port}/")


def test_services_find_each_other_by_name(running: Project) -> None:
    """Prometheus's targets are up; Windsock reads database and broker, whose names Prometheus does not know."""
    jobs = ("windsock", "statsd-exporter", "prometheus", "alertmanager", "redis", "postgres")
    wait(lambda: running.query("up") == dict.fromkeys(jobs, 1.0))
    wait(lambda: reads_both(running))
    running.compose("exec", "-T", "windsock", "getent", "hosts", "postgres")
    with pytest.raises(AssertionError):
        running.compose("exec", "-T", "prometheus", "getent", "hosts", "postgres")


def test_what_gets_another_address_is_found_again(running: Project) -> None:
    """Redis by Windsock, and Windsock by Prometheus."""
    before = {name: addresses(running, name) for name in ("redis", "windsock")}
    began = time.time()
    running.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "windsock", **EVERYTHING)
    running.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "redis", **EVERYTHING)
    assert not any(before[name] & addresses(running, name) for name in before)
    for metric in ("process_start_time_seconds", "airflow_broker_start_timestamp_seconds"):
        wait(partial(started_after, running, metric, began - 1))


def test_down_keeps_the_data_and_down_with_volumes_keeps_nothing(running: Project) -> None:
    """What was written to PostgreSQL and Redis is there after the next `up`."""
    psql = (
        "exec",
        "-T",
        "postgres",
        "psql",
        "--host=/var/run/postgresql",
        "--username=postgres",
        "--tuples-only",
        "--no-align",
        "airflow",
        "--command",
    )
    password = str(urlsplit((running.folder / "secrets/airflow_broker_url").read_text()).password)
    redis = ("exec", "-T", "redis", "redis-cli", "--user", "default", "--pass", password, "--no-auth-warning")
    running.compose(*psql, "CREATE TABLE kept AS SELECT 42 AS answer")
    running.compose(*redis, "rpush", "kept", "a", "b")
    running.compose("down", **EVERYTHING)
    assert running.docker.left() == {"containers": set(), "networks": set(), "volumes": VOLUMES}
    running.compose("up", "--detach", "--wait", "postgres", "redis")
    assert running.compose(*psql, "SELECT answer FROM kept").strip() == "42"
    assert running.compose(*redis, "llen", "kept").strip() == "2"
    running.compose("down", "--volumes", **EVERYTHING)
    assert running.docker.left() == {"containers": set(), "networks": set(), "volumes": set()}


def test_an_unhealthy_service_is_named_and_nothing_starts_that_needs_it(project: Project) -> None:
    """`up --wait` fails and says which; its check is hurried, for it is the real one's."""
    override = project.folder / "hurried.yaml"
    check = "{interval: 1s, start_period: 1s, retries: 2}"
    override.write_text(f"services: {{statsd-exporter: {{healthcheck: {check}}}}}\n")
    arguments = ("-f", "compose.yaml", "-f", override.name, "up", "--detach", "--wait")
    done = project.docker.compose(project.folder, *arguments, STATSD_EXPORTER_IMAGE="silent:1")
    assert done.returncode == 1
    assert "container windsock-statsd-exporter-1 is unhealthy" in done.stderr
    health = project.health()
    assert health["statsd-exporter"] == "unhealthy"
    assert health["airflow-init"] == health["prometheus"] == "created"


def test_valkey_in_place_of_redis_and_without_what_can_be_left_out(project: Project) -> None:
    """One variable, and a `scale: 0` for each in the file that Compose reads by itself: the rest is healthy."""
    left_out = ("alertmanager", "flower", "grafana", "statsd-exporter")
    override = project.folder / "compose.override.yaml"
    override.write_text("services:\n" + "".join(f"  {name}: {{scale: 0}}\n" for name in left_out))
    try:
        project.compose("up", "--detach", "--wait", REDIS_IMAGE="valkey/valkey:9.1.0")
        expected = set(configuration(project.folder)["services"]) - {*left_out, "redis-exporter", "postgres-exporter"}
    finally:
        override.unlink()
    assert project.health() == {name: "ended with 0" if name in ONCE else "healthy" for name in expected}
    wait(lambda: reads_both(project))
    assert 'server="valkey"' in project.page(":9780/metrics")


def test_an_airflow_that_is_there_already(project: Project, tmp_path: Path) -> None:
    """existing.yaml watches the Airflow of another project, whose network Windsock joins, and takes StatsD's lines."""
    project.compose("--project-name=there", "up", "--detach", "--wait", "windsock", WINDSOCK_PORT="9000")
    for name in ("alerts", "compose", "dashboards", "windsock_demo"):
        ignored = shutil.ignore_patterns(".env", "secrets", "logs")
        shutil.copytree(project.folder.parent / name, tmp_path / name, ignore=ignored)
    watching = Project(project.docker, tmp_path / "compose")
    given = {"DATABASE_URL": "windsock_database_url", "BROKER_URL": "windsock_broker_url"}
    urls = {name: (project.folder / "secrets" / secret).read_text() for name, secret in given.items()}
    init = [str(watching.folder / "init"), "--look-alike", "--existing"]
    subprocess.run(init, env={"PATH": "/usr/bin:/bin", **urls}, check=True, capture_output=True)
    joining = "services: {windsock: {networks: [there]}}\nnetworks: {there: {external: true, name: there_airflow}}\n"
    (watching.folder / "joining.yaml").write_text(joining)
    both = {"COMPOSE_FILE": "existing.yaml:joining.yaml"}
    watching.compose("up", "--detach", "--wait", **both)
    wait(lambda: reads_both(watching))
    jobs = ("windsock", "statsd-exporter", "prometheus", "alertmanager")
    wait(lambda: watching.query("up") == dict.fromkeys(jobs, 1.0))
    watching.docker.inside("bash", "-c", "echo 'airflow.scheduler_heartbeat:1|c' > /dev/udp/127.0.0.1/9125")
    wait(lambda: watching.query("airflow_statsd_scheduler_heartbeat_total").get("statsd-exporter"))
    watching.compose("down", "--volumes", **both)
    project.compose("--project-name=there", "down", "--volumes", "--timeout=1")
    assert project.docker.left() == {"containers": set(), "networks": set(), "volumes": set()}


def wait(holds: Callable[[], object]) -> None:
    """Returns as soon as it is so."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s"
        time.sleep(1)


def started_after(project: Project, metric: str, moment: float) -> bool:
    """Whether Prometheus has it from Windsock that a process is younger than this."""
    return project.query(metric).get("windsock", 0) > moment


def reads_both(project: Project) -> bool:
    """Whether Windsock has found the database and the broker."""
    page = project.page(":9780/metrics")
    return all(re.search(rf"^airflow_{source}_up{{.*}} 1(\.0)?$", page, re.MULTILINE) for source in ("db", "broker"))


def addresses(project: Project, service: str) -> set[str]:
    """Those of a container, in all its networks."""
    networks = project.docker.containers()[service]["NetworkSettings"]["Networks"]
    return {each["IPAddress"] for each in networks.values()}


def _ready(state: dict[str, Any]) -> datetime:
    """Since when others may start: its check passed, after which it was not asked again; or it ended."""
    if "Health" not in state or not state["Health"]["Status"]:
        return datetime.fromisoformat(state["FinishedAt"])
    last = state["Health"]["Log"][-1]
    assert last["ExitCode"] == 0
    return datetime.fromisoformat(last["End"])


def _end(state: dict[str, Any]) -> str:
    """How a container ended that has no health check; its status, unless it has."""
    return f"ended with {state['ExitCode']}" if state["Status"] == "exited" else str(state["Status"])
