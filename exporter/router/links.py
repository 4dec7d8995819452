"""Where an alert leads to: addresses out of its data and the configuration, not escaped yet."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import quote

from .markup import MAX_URL
from .model import Snapshot

_ANNOTATED = {
    "Runbook": ("runbook_url", "runbook"),
    "Dashboard": ("dashboard_url", "dashboard", "grafana_url"),
    "Log": ("log_url", "logs_url"),
}
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


def airflow(base_url: str, major: int, labels: Mapping[str, str]) -> str:
    """The DAG, its run or its task in the grid of Airflow 3 or 2, as far as the labels tell; nothing without a DAG."""
    known = [labels.get(name, "") for name in ("dag_id", "run_id", "task_id", "map_index")]
    if not known[0] or sum(map(len, known)) > MAX_URL:
        return ""
    dag, run, task, index = (quote(text, "") for text in known)
    if major < 3:
        chosen = (("dag_run_id", run), ("task_id", task), ("map_index", index if index != "-1" else ""))
        query = "&".join(f"{name}={text}" for name, text in chosen if text)
        return f"{base_url}/dags/{dag}/grid" + (f"?{query}" if query else "")
    parts = (("runs", run), ("tasks", task), ("mapped", index if run and task and index != "-1" else ""))
    return f"{base_url}/dags/{dag}" + "".join(f"/{name}/{text}" for name, text in parts if text)


def log(base_url: str, major: int, labels: Mapping[str, str]) -> str:
    """The log of a task instance, its newest try's."""
    page = airflow(base_url, major, labels)
    return f"{page}&tab=logs" if page and major < 3 else page


def alertmanager(snapshot: Snapshot, page: str) -> str:
    """Its page `alerts` or `silences/new` for this group; nothing if the sender is a Grafana, which has other pages."""
    labels = snapshot.group_labels or snapshot.common_labels
    grafana = any("/alerting/grafana/" in alert.url for alert in snapshot.alerts[:1])
    if not labels or not snapshot.external_url or grafana or sum(map(len, labels.values())) > MAX_URL:
        return ""
    matchers = ",".join(f"{_quoted(name)}={json.dumps(text, ensure_ascii=False)}" for name, text in labels.items())
    return f"{snapshot.external_url.rstrip('/')}/#/{page}?filter={quote(f'{{{matchers}}}', '')}"


def annotated(annotations: Mapping[str, str]) -> dict[str, str]:
    """By label, the addresses that annotations are known to hold."""
    return {
        label: next((annotations[name] for name in names if name in annotations), "")
        for label, names in _ANNOTATED.items()
    }


def _quoted(name: str) -> str:
    return name if _NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)
