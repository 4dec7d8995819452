"""A service of a compose file as a container of runc, the runtime below Docker, over this machine's own /usr."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.conftest import tool
from tests.stack.compose.images import Image
from tests.stack.compose.network import Network
from windsock_demo.processes import launched

DEVICES = ("nosuid", "noexec", "strictatime", "mode=755", "size=65536k")
PATIENCE = 120.0
"""Seconds for a command in a container: more than the file says, for the machine may be slow."""
PASSWD = """\
root:x:0:0::/root:/bin/sh
postgres:x:999:999::/var/lib/postgresql:/bin/sh
airflow:x:50000:0::/home/airflow:/bin/sh
"""
SHARED = (
    "/usr",
    "/etc/ssl",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/protocols",
)


class Container:
    """What runs a service; it can be started and stopped again and again, and its volumes are kept."""

    def __init__(self, name: str, service: dict[str, Any], image: Image, folder: Path, network: Network) -> None:
        self.name, self.service, self.image = name, service, image
        self._id = f"windsock-{name}-{secrets.token_hex(3)}"
        self._network = network
        self._stack: ExitStack | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"{name}.log"
        self.bundle = folder / "bundles" / name

    def start(self, mounts: list[dict[str, Any]]) -> None:
        """Runs it with what is mounted besides the image; nothing of an earlier run is there."""
        self.stop()
        shutil.rmtree(self.bundle, ignore_errors=True)
        root = self.bundle / "root"
        (root / "etc").mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            (root / link).symlink_to(f"usr/{link}")
        (root / "etc/passwd").write_text(PASSWD)
        (root / "etc/group").write_text("root:x:0:\n")
        (self.bundle / "config.json").write_text(json.dumps(self._configuration(mounts)))
        (self.bundle / "resolv.conf").write_text(self._network.resolver(self.name))
        self._stack = ExitStack()
        command = [str(tool("runc")), "run", "--bundle", str(self.bundle), self._id]
        self._process = self._stack.enter_context(launched(command, self.log))

    def stop(self, seconds: float = 10.0) -> None:
        """As `docker stop`: a signal, some time, and an end."""
        if self._stack and self._process:
            self._runc("kill", self._id, self.image.stop)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._runc("kill", self._id, "KILL")
            self._stack.close()
            self._runc("delete", "--force", self._id)
            self._stack = None

    @property
    def exit_code(self) -> int | None:
        """Its program's; None while it runs."""
        return self._process.poll() if self._process else None

    def check(self) -> bool:
        """Whether its health check passes now."""
        kind, *words = self.service["healthcheck"]["test"]
        command = ["sh", "-c", words[0].replace("$$", "$")] if kind == "CMD-SHELL" else words
        try:
            done = self._runc("exec", self._id, *command, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        if done.returncode:
            with self.log.open("ab") as log:
                log.write(b"unhealthy: " + (done.stdout + done.stderr)[-500:] + b"\n")
        return done.returncode == 0

    def run(self, *command: str) -> str:
        """What a command says in the container; it must succeed."""
        done = self._runc("exec", self._id, *command, timeout=PATIENCE)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def memory(self) -> int:
        """Bytes that its processes take, what they share counted once."""
        pids = json.loads(self._runc("ps", "--format", "json", self._id).stdout or "[]")
        total = 0
        for pid in pids:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        return total

    def _runc(self, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([tool("runc"), *arguments], capture_output=True, check=False, timeout=timeout)

    def _configuration(self, mounts: list[dict[str, Any]]) -> dict[str, Any]:
        uid, _, gid = str(self.service.get("user") or self.image.user).partition(":")
        variables = {"PATH": "/image:/usr/local/bin:/usr/bin:/bin", "HOSTNAME": self.name, "HOME": "/", "TZ": "UTC"}
        variables |= {**self.image.environment, **(self.service.get("environment") or {})}
        dropped = self.service.get("cap_drop") == ["ALL"]
        assert dropped, "only containers without capabilities are made here"
        arguments = self.service.get("entrypoint") or [*self.image.entrypoint]
        arguments = arguments + (
            self.service.get("command") or ([] if self.service.get("entrypoint") else [*self.image.command])
        )
        return {
            "ociVersion": "1.0.2",
            "hostname": self.name,
            "root": {"path": "root", "readonly": self.service["read_only"]},
            "process": {
                "user": {"uid": int(uid), "gid": int(gid), "umask": 0o022},
                "args": [str(each).replace("$$", "$") for each in arguments],
                "env": [f"{key}={value}" for key, value in variables.items()],
                "cwd": "/",
                "noNewPrivileges": "no-new-privileges:true" in self.service["security_opt"],
                "capabilities": {},
            },
            "mounts": [*self._system(), *sorted(mounts, key=lambda mount: str(mount["destination"]).count("/"))],
            "linux": {
                "cgroupsPath": f"/{self._id}",
                "resources": {"memory": {"limit": int(self.service["mem_limit"])}},
                "namespaces": [
                    *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                    {"type": "network", "path": str(self._network.join(self.name, list(self.service["networks"])))},
                ],
            },
        }

    def _system(self) -> list[dict[str, Any]]:
        shared = [bind(path, path) for path in SHARED if os.path.exists(path)]  # noqa: PTH110
        image = [bind(source, target) for source, target in self.image.mounts.items()]
        return [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": DEVICES},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]},
            *shared,
            *image,
            bind(self.bundle / "resolv.conf", "/etc/resolv.conf"),
        ]


def bind(source: object, target: str, *, writable: bool = False) -> dict[str, Any]:
    """A mount of something that is on this machine."""
    options = ["rbind", "rw" if writable else "ro"]
    return {"destination": target, "type": "bind", "source": str(source), "options": options}


def duration(text: str) -> float:
    """Seconds of 1m30s."""
    return sum(
        float(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text)
    )
