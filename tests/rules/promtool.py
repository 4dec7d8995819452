"""Prometheus's own tool, in the version of this machine's Debian and in that of its newest suite."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import tool

SUITE = "forky"
CACHE = Path(os.environ.get("WINDSOCK_CACHE", "~/.cache/windsock")).expanduser() / f"debian-{SUITE}"
VERSIONS = ("installed", "newest")


def program(version: str, name: str, package: str = "") -> Path:
    """A program as it is installed, or out of the newest suite's package; a test without it is skipped."""
    if version == "installed":
        return tool(name)
    found = CACHE / "root/usr/bin" / name
    if not found.exists() and not _download(package or name):
        if os.environ.get("WINDSOCK_REQUIRE_TOOLS"):
            pytest.fail(f"{name} cannot be had from Debian's {SUITE}")
        pytest.skip(f"{name} cannot be had from Debian's {SUITE}")
    return found


def _download(package: str) -> bool:
    """Unpacks a package of the newest suite, from the mirror of this machine, into a folder of our own."""
    sources = sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))
    mirrors = [match[1] for path in sources if (match := re.search(r"^URIs: (\S+)", path.read_text(), re.MULTILINE))]
    if not mirrors:
        return False
    for folder in ("lists/partial", "archives/partial", "root"):
        (CACHE / folder).mkdir(parents=True, exist_ok=True)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (CACHE / "sources.list").write_text(f"deb [signed-by={key}] {mirrors[0]} {SUITE} main\n")
    settings = {
        "Dir::State::lists": CACHE / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Etc::sourcelist": CACHE / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Cache": CACHE,
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    for command in ([*apt, "update"], [*apt, "download", package]):
        if subprocess.run(command, cwd=CACHE, capture_output=True, check=False).returncode:
            return False
    for archive in CACHE.glob(f"{package}_*.deb"):
        subprocess.run(["dpkg", "-x", archive, CACHE / "root"], check=True)
    return True


def run(promtool: Path, *arguments: str | Path) -> tuple[bool, str]:
    """Whether it was content, and what it said."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def failures(promtool: Path, files: Iterable[Path]) -> list[str]:
    """The names of the test files that fail, each with the first lines of what promtool says."""
    found = []
    for path in files:
        good, said = run(promtool, "test", "rules", path)
        if not good:
            found.append(f"{path.name}: {said[:2000]}")
    return found
