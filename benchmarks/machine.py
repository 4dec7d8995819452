"""What the machine and its processes say about themselves, in /proc."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path


def facts() -> str:
    """Where and when a part was measured: sizes and versions, no names."""
    total = int(_field(Path("/proc/meminfo"), "MemTotal")) / 1024**2
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {total:.0f} GiB, Linux, "
        f"Python {platform.python_version()}; load average at the start {load:.1f}"
    )


def resident(pid: int) -> float:
    """The process's resident memory in MB."""
    return int(_field(Path(f"/proc/{pid}/status"), "VmRSS")) * 1024 / 1e6


def peak(pid: int) -> float:
    """The most that it ever was."""
    return int(_field(Path(f"/proc/{pid}/status"), "VmHWM")) * 1024 / 1e6


def processor(pid: int) -> float:
    """Seconds of processor time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written() -> int:
    """Bytes that this process has sent to disks since its start."""
    return int(_field(Path("/proc/self/io"), "write_bytes"))


def _field(file: Path, name: str) -> str:
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    return lines[name].split()[0]
