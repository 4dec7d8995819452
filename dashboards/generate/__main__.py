"""Writes every board as classic JSON into the folder that is named, or else beside this package."""

from __future__ import annotations

import sys
from pathlib import Path

from . import celery, dag, overview, scheduler, slo, statsd, tasks, windsock

BOARDS = (
    overview.BOARD,
    dag.BOARD,
    tasks.BOARD,
    scheduler.BOARD,
    celery.BOARD,
    slo.BOARD,
    windsock.BOARD,
    statsd.BOARD,
)

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    for board in BOARDS:
        (folder / f"{board.uid}.json").write_text(board.json())
