"""All services of a compose file, started in its order and with its health checks; Compose itself reads the file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, tool
from tests.rules.promtool import program
from tests.stack.compose.container import Container, bind, duration
from tests.stack.compose.images import NOT_STARTED, image
from tests.stack.compose.network import Network

TMPFS = ["nosuid", "nodev", "noexec", "mode=1777"]
"""What Docker gives a tmpfs."""
SOMEBODY = 1000
"""A user who has no name in any image."""


class Stack:
    """Services by name; the folder is where compose.yaml and its .env are, `airflow` what stands for its image."""

    def __init__(self, folder: Path, airflow: Path, files: Sequence[str] = (), without: Collection[str] = ()) -> None:
        self._project = configuration(folder, *files)
        self._data = folder.parent / "data"
        self.services: dict[str, dict[str, Any]] = self._project["services"]
        self.left_out = {
            name: NOT_STARTED[repository]
            for name, service in self.services.items()
            if (repository := service["image"].rpartition(":")[0]) in NOT_STARTED
        } | dict.fromkeys(without, "nobody asked for it")
        self.network = Network(sorted(self._project["networks"]))
        self.containers: dict[str, Container] = {}
        for name, service in self.services.items():
            if name not in self.left_out:
                self.network.join(name, sorted(service["networks"]))
                self.containers[name] = Container(
                    name, service, image(service["image"], airflow), self._data, self.network
                )
        self._threads = ThreadPoolExecutor(len(self.containers))  # a container ends with the thread that started it
        self._waiting: dict[str, Future[None]] = {}

    def up(self, deadline: float) -> None:
        """Starts each service as soon as what it depends on is as it must be, until all are."""
        for name in self.containers:
            self._waiting.setdefault(name, Future())
        begun = [self._threads.submit(self._bring_up, name, deadline) for name in self.containers]
        for each in as_completed(begun):
            each.result()

    def address(self, name: str) -> str:
        """Where the port is that a service publishes."""
        (port,) = self.services[name]["ports"]
        return f"{self.network.address(name, min(self.services[name]['networks']))}:{port['target']}"

    def start(self, name: str) -> None:
        """Runs a service; it has a name from now on."""
        self.network.running.add(name)
        self.containers[name].start(self._mounts(name))

    def stop(self, name: str) -> None:
        """Ends a service; nobody finds its name any more."""
        self.containers[name].stop(min(duration(self.services[name].get("stop_grace_period", "10s")), 20.0))
        self.network.running.discard(name)

    def restart(self, names: Collection[str], deadline: float) -> None:
        """Stops services, starts them again, and waits for their health."""
        list(self._threads.map(self.stop, names))
        for name in names:
            self.start(name)
        for name in names:
            self.wait(name, deadline)

    def wait(self, name: str, deadline: float) -> None:
        """Returns once a service is healthy, or has ended well if that is its task; another that ends is run again."""
        container, ends = self.containers[name], self.services[name]["restart"] == "no"
        while not (container.exit_code == 0 if ends else container.check()):
            assert time.monotonic() < deadline, f"not healthy: {tail(container)}"
            assert not (ends and container.exit_code), f"failed: {tail(container)}"
            if container.exit_code is not None and not ends:
                self.start(name)
            time.sleep(0.5)

    def down(self) -> None:
        """Nothing runs any more, and the networks are gone."""
        list(self._threads.map(self.stop, self.containers))
        self._threads.shutdown()
        self.network.close()

    def memory(self) -> dict[str, int]:
        """Bytes that each service takes."""
        return {name: each.memory() for name, each in self.containers.items() if each.exit_code is None}

    def _bring_up(self, name: str, deadline: float) -> None:
        """Waits for those it depends on, and lets those that depend on it wait."""
        try:
            for other in set(self.services[name].get("depends_on") or {}) - set(self.left_out):
                self._waiting[other].result()
            self.start(name)
            self.wait(name, deadline)
        except BaseException as error:
            self._waiting[name].set_exception(error)
            raise
        self._waiting[name].set_result(None)

    def _mounts(self, name: str) -> list[dict[str, Any]]:
        service, found = self.services[name], []
        for path in service.get("tmpfs", []):
            found.append({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": TMPFS})
        for volume in service.get("volumes", []):
            source = volume["source"]
            if volume["type"] == "volume":
                source = self._volume(source, service.get("user") or self.containers[name].image.user)
            assert Path(source).exists(), source
            found.append(bind(source, volume["target"], writable=not volume.get("read_only")))
        for secret in service.get("secrets", []):
            found.append(bind(self._project["secrets"][secret["source"]]["file"], secret["target"]))
        return found

    def _volume(self, name: str, user: str) -> Path:
        """A folder that at first belongs to whom it belongs to in the image."""
        path = self._data / "volumes" / name
        if not path.exists():
            path.mkdir(parents=True)
            os.chown(path, *map(int, user.split(":")))
        return path


def configuration(folder: Path, *files: str) -> dict[str, Any]:
    """What Compose makes of the files and .env."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [str(program("newest", "docker-compose")), *(f"--file={file}" for file in files)]
    command += ["--profile=*", "config", "--format=json"]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def tail(container: Container) -> str:
    """The end of what a container wrote."""
    lines = container.log.read_text(errors="replace").splitlines()[-25:]
    return f"{container.name}, whose exit code is {container.exit_code}\n" + "\n".join(lines)


@contextmanager
def up(
    folder: Path, airflow: Path, deadline: float, files: Sequence[str] = (), without: Collection[str] = ()
) -> Iterator[Stack]:
    """The whole stack, healthy, until the block ends."""
    stack = Stack(folder, airflow, files, without)
    try:
        stack.up(deadline)
        yield stack
    finally:
        stack.down()


def prepared(root: Path) -> Path:
    """A copy of compose/ and its neighbours, initialised for the look-alike of Slack; skips where it cannot be run.

    It is initialised by a user whom no image knows, as is usual.
    """
    for name in ("runc", "ip", "curl", "wget"):
        tool(name)
    if os.geteuid() != 0:
        pytest.skip("only root can make containers without an engine")
    for parent in (root, *root.parents[:-2]):
        parent.chmod(0o755)  # pytest closes its folders to the users that containers have
    for name in ("alerts", "compose", "dashboards", "windsock_demo"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns(".env", "secrets", "logs"))
    (root / "exporter").mkdir()
    subprocess.run(["chown", "--recursive", str(SOMEBODY), root / "compose"], check=True)
    subprocess.run([root / "compose/init", "--look-alike"], user=SOMEBODY, check=True, capture_output=True)
    return root / "compose"
