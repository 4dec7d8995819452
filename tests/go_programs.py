"""Programs that scripts/go-programs builds, and keeps below $WINDSOCK_CACHE or ~/.cache/windsock."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from tests.cache import CACHE
from tests.conftest import ROOT, lacking, tool

PATIENCE = 240.0
"""Seconds that it may take, less than a test may: far too little for the first time."""


def go_program(name: str) -> Path:
    """A program, as its sources are now; without it, the test is skipped, or fails where the tools are required."""
    tool("go")
    if trouble := _build():
        lacking(f"scripts/go-programs: {trouble}")
    return CACHE / "go" / "bin" / name


@functools.cache
def _build() -> str:
    """Why they cannot be built; empty if they are."""
    script = str(ROOT / "scripts" / "go-programs")
    try:
        done = subprocess.run([script], capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"not done after {PATIENCE:.0f} s; run it by hand, once"
    return done.stderr if done.returncode else ""
