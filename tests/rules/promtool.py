"""Prometheus's own tool, in the version of this machine's Debian and in that of its newest suite."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which

from tests.cache import CACHE, alone
from tests.conftest import lacking, tool

SUITE = "forky"
UNPACKED = CACHE / f"debian-{SUITE}"
VERSIONS = ("installed", "newest")


def program(version: str, name: str, package: str = "") -> Path:
    """A program as it is installed, or out of the newest suite's package; a test without it is skipped."""
    if version == "installed":
        return tool(name)
    found = UNPACKED / "root/usr/bin" / name
    with alone():
        if not found.exists() and not _download(package or name):
            lacking(f"{name} cannot be had from Debian's {SUITE}")
    return found


def _mirror() -> str:
    """The first that apt is configured to have Debian from."""
    if not which("apt-get"):
        return ""
    wanted = ["--format=$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian"]
    done = subprocess.run(["apt-get", "indextargets", *wanted], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _download(package: str) -> bool:
    """Unpacks a package of the newest suite into a folder of our own; the system's packages stay as they are."""
    if not (mirror := _mirror()):
        return False
    for folder in ("lists/partial", "archives/partial", "root"):
        (UNPACKED / folder).mkdir(parents=True, exist_ok=True)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (UNPACKED / "sources.list").write_text(f"deb [signed-by={key}] {mirror} {SUITE} main\n")
    settings = {
        "Dir::State::lists": UNPACKED / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Etc::sourcelist": UNPACKED / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Cache": UNPACKED,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    update, download = [*apt, "update"], [*apt, "download", package]
    if not any(all(_succeeds(command) for command in commands) for commands in ([download], [update, download])):
        return False
    for archive in UNPACKED.glob(f"{package}_*.deb"):
        subprocess.run(["dpkg", "-x", archive, UNPACKED / "root"], check=True)
    return True


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, cwd=UNPACKED, capture_output=True, check=False).returncode == 0


def run(promtool: Path, *arguments: str | Path) -> tuple[bool, str]:
    """Whether it was content, and what it said."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def failures(promtool: Path, files: Iterable[Path]) -> list[str]:
    """The names of the test files that fail, each with the first lines of what promtool says; two run at a time."""

    def failure(path: Path) -> str:
        good, said = run(promtool, "test", "rules", path)
        return "" if good else f"{path.name}: {said[:2000]}"

    with ThreadPoolExecutor(2) as pool:
        return [found for found in pool.map(failure, files) if found]
