"""The task instances that failed in a DAG run, a line for each."""

from __future__ import annotations

from collections.abc import Iterator

from . import links
from .incident import FailedTask, Incident
from .markup import clip, code, duration, length, line, link

LONGEST = 300


def lines(incident: Incident) -> Iterator[str]:
    """Those that are known, and how many more there are."""
    failed, labels = incident.background.failed, incident.snapshot.labels
    for task in failed:
        place = {"task_id": task.task_id, "map_index": str(task.map_index)}
        log = links.log(incident.base_url, incident.airflow_major, labels | place) if incident.base_url else ""
        name = f"{task.task_id}[{task.map_index}]" if task.map_index >= 0 else task.task_id
        tail = f" · {link(log, 'Log')}" if log and length(link(log, "Log")) < LONGEST // 2 else ""
        yield clip(f"• {code(name, 80)} {line(' · '.join(_told(task)), 200)}", LONGEST - length(tail)) + tail
    if failed and failed[0].failures > len(failed):
        yield f"…and {failed[0].failures - len(failed):,} more task instances failed"


def _told(task: FailedTask) -> Iterator[str]:
    yield f"try {task.try_number} of {max(task.tries, task.try_number)}"
    if task.operator:
        yield task.operator
    if task.duration is not None:
        yield duration(task.duration) + (f", usually {duration(task.usual)}" if task.usual is not None else "")
    if task.queue:
        yield f"queue {task.queue}"
    if task.pool:
        yield f"pool {task.pool}"
