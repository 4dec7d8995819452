"""podman as the engine that Compose speaks to: its own networks, storage and processes, of which nothing stays."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.conftest import tool
from tests.rules.promtool import program
from tests.stack.compose.images import Image
from windsock_demo.processes import launched, wait_for

# runc and explicit limits work where the defaults ask for rights that a sandbox lacks. Images have no registry.
CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
volumes = {volumes}
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
compat_api_enforce_docker_hub = false
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
"""
STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
PATIENCE = 300.0
"""Seconds that Compose may take for one command."""
ALONE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec")
SERVICE = """
ip link set lo up
mount -t tmpfs tmpfs /dev/shm # where every podman of a machine has the same locks
mount -t tmpfs tmpfs /run
podman system service --time 0 "unix://$1"
"""


class Engine:
    """A running podman; whatever it runs ends with it."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._folder, self._process = folder, process
        self._socket = folder / "api.sock"

    def add_image(self, name: str, image: Image, files: bytes) -> None:
        """Makes an image that starts as the one it stands for."""
        variables = {"PATH": "/image:/usr/bin:/bin", **image.environment}
        changes = [f"ENV {key}={value}" for key, value in variables.items()]
        changes += [f"USER {image.user}", f"STOPSIGNAL SIG{image.stop}"]
        changes += [f"ENTRYPOINT {json.dumps(image.entrypoint)}"] if image.entrypoint else []
        changes += [f"CMD {json.dumps(image.command)}"] if image.command else []
        options = [word for change in changes for word in ("--change", change)]
        self.inside("podman", "import", "--quiet", *options, "-", name, given=files)

    def compose(self, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Compose's answer; of the environment it sees no more than this."""
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "DOCKER_HOST": f"unix://{self._socket}", **environment}
        command = [str(program("newest", "docker-compose")), *arguments]
        return subprocess.run(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def inside(self, *command: str, given: bytes = b"") -> str:
        """What a command says on the machine whose ports the containers publish; it must succeed."""
        entered = ["nsenter", f"--target={self._machine()}", "--net", "--mount", "--pid", *command]
        done = subprocess.run(entered, env=environment(self._folder), input=given, capture_output=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def ask(self, path: str) -> Any:
        """An answer of Docker's or podman's API."""
        connection = _Connection(self._socket)
        try:
            connection.request("GET", path)
            return json.load(connection.getresponse())
        finally:
            connection.close()

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows about each container, also those that ended, by the name without the project."""
        found = [self.ask(f"/containers/{each['Id']}/json") for each in self.ask("/containers/json?all=true")]
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def left(self) -> dict[str, set[str]]:
        """The names of all that is not an image."""
        return {
            "containers": {name for each in self.ask("/containers/json?all=true") for name in each["Names"]},
            "networks": {each["Name"] for each in self.ask("/networks")} - {"bridge"},
            "volumes": {each["Name"] for each in self.ask("/volumes")["Volumes"] or ()},
        }

    def _machine(self) -> str:
        """The first process of the namespaces."""
        (child,) = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return child


class HealthChecks(threading.Thread):
    """Asks for each container's health as long as it is not healthy, for podman leaves that to systemd's timers.

    Each second while the container may take its time to start, and then as often as its file says. One that ended is
    tidied up where podman has not: until then Compose does not see that it has exited.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(daemon=True)
        self._engine, self._asks = engine, dict[str, tuple[float, Future[Any]]]()
        self._pool = ThreadPoolExecutor(24)  # one that is slow keeps no other waiting
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(0.5):
            with suppress(OSError, http.client.HTTPException, KeyError):  # what runs may end at any moment
                for each in self._engine.ask("/containers/json?all=true"):
                    if each["State"] == "running":
                        self._check(each["Id"])
                    elif each["State"] == "stopped":
                        self._pool.submit(self._engine.inside, "podman", "container", "cleanup", each["Id"])
        self._pool.shutdown()

    def _check(self, name: str) -> None:
        found = self._engine.ask(f"/containers/{name}/json")
        check = found["Config"].get("Healthcheck")
        if not check or found["State"]["Health"]["Status"] == "healthy":
            return
        started = datetime.fromisoformat(found["State"]["StartedAt"]).timestamp()
        starting = time.time() - started < check.get("StartPeriod", 0) / 1e9
        last, ask = self._asks.get(name, (0.0, None))
        due = time.monotonic() - last >= (1.0 if starting else check["Interval"] / 1e9)
        if due and (ask is None or ask.done()):
            path = f"/v4.0.0/libpod/containers/{name}/healthcheck"
            self._asks[name] = time.monotonic(), self._pool.submit(self._engine.ask, path)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def environment(folder: Path) -> dict[str, str]:
    """The variables by which podman knows its files."""
    files = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_STORAGE_CONF": "storage.conf"}
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return {"PATH": path, "HOME": str(folder)} | {name: str(folder / file) for name, file in files.items()}


@contextmanager
def engine(folder: Path, volumes: Collection[tuple[str, str]]) -> Iterator[Engine]:
    """An engine whose containers all have these folders and files of this machine, read-only, until the block ends."""
    for name in ("podman", "runc", "nsenter", "ip", "iptables", "curl", "wget"):
        tool(name)
    folder.mkdir()
    mounted = json.dumps([f"{source}:{target}:ro" for source, target in volumes])
    (folder / "containers.conf").write_text(CONFIGURATION.format(folder=folder, volumes=mounted))
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
    variables = [f"{name}={value}" for name, value in environment(folder).items()]
    command = ["env", *variables, *ALONE, SERVICE, "sh", str(folder / "api.sock")]
    with launched(command, folder / "podman.log", stop=signal.SIGKILL) as process:
        running = Engine(folder, process)
        wait_for(process, folder / "podman.log", (folder / "api.sock").exists)
        checks = HealthChecks(running)
        checks.start()
        try:
            yield running
        finally:
            checks.stopping.set()
            checks.join()
