"""Who raises the demo's alerts: Prometheus and Alertmanager where both are on the PATH, else a stand-in for them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exporter.config.values import Address
from exporter.webhook import PATH

from . import servers
from .http import get, post
from .processes import launched, wait_for

TICK = 1.0
ALERT = {"alertname": "AirflowDagFailed", "severity": "warning"}
SUMMARY = "The last run of %s failed"
EXPRESSION = "(airflow_dag_last_run_success == 0) + on (airflow, dag_id) group_left (owners) airflow_dag_info"

_SAMPLE = re.compile(r"(airflow_dag_info|airflow_dag_last_run_success)\{(.*)\} ([01])")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ZERO = "0001-01-01T00:00:00Z"


@contextmanager
def raised(address: Address, directory: Path) -> Iterator[str | None]:
    """Both programs, watching the daemon there; gives Prometheus's address, or None where one of them is missing."""
    prometheus = shutil.which("prometheus")
    alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if not prometheus or not alertmanager:
        yield None
        return
    here, there = (f"{servers.HOST}:{servers.free_port()}" for _ in range(2))
    rule = {
        "alert": ALERT["alertname"],
        "expr": EXPRESSION,
        "labels": {"severity": ALERT["severity"]},
        "annotations": {"summary": SUMMARY % "{{ $labels.dag_id }}"},
    }
    _write(directory / "rules.yml", groups=[{"name": "demo", "interval": "2s", "rules": [rule]}])
    _write(
        directory / "prometheus.yml",
        {"scrape_interval": "2s"},
        rule_files=["rules.yml"],
        scrape_configs=[{"job_name": "windsock", "static_configs": [{"targets": [str(address)]}]}],
        alerting={"alertmanagers": [{"static_configs": [{"targets": [there]}]}]},
    )
    times = {"group_wait": "1s", "group_interval": "2s", "repeat_interval": "4h"}
    _write(
        directory / "alertmanager.yml",
        route={"receiver": "windsock", "group_by": ["alertname", "severity", "owners"], **times},
        receivers=[{"name": "windsock", "webhook_configs": [{"url": f"http://{address}{PATH}", "max_alerts": 0}]}],
    )
    with (
        _server(prometheus, directory / "prometheus", here, "tsdb."),
        _server(alertmanager, directory / "alertmanager", there, "", "--cluster.listen-address="),
    ):
        yield f"http://{here}"


@contextmanager
def _server(program: str, place: Path, address: str, storage: str, *more: str) -> Iterator[None]:
    log = place.with_suffix(".log")
    flags = [f"--config.file={place}.yml", f"--storage.{storage}path={place}", f"--web.listen-address={address}", *more]
    with launched([program, *flags], log) as process:
        host, _, port = address.partition(":")
        wait_for(process, log, lambda: bool(get(Address(host, int(port)), "/-/ready")))
        yield


async def stand_in(address: Address, stop: threading.Event) -> None:
    """Looks at /metrics each TICK, and posts what changed in a group of alerts, as Alertmanager would."""
    told: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    while not stop.is_set():
        failing = _failing(await asyncio.to_thread(get, address, "/metrics"))
        for owners in told.keys() | set(failing.values()):
            group = told[owners]
            dags = {dag_id for dag_id, owner in failing.items() if owner == owners}
            firing = {dag_id for dag_id, alert in group.items() if alert["status"] == "firing"}
            if dags != firing:
                now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
                group.update({dag_id: _alert(dag_id, owners, now) for dag_id in dags - firing})
                for dag_id in firing - dags:
                    group[dag_id] |= {"status": "resolved", "endsAt": now}
                if await asyncio.to_thread(post, address, PATH, _body(owners, group)) and not dags:
                    group.clear()
        await asyncio.to_thread(stop.wait, TICK)


def _failing(metrics: str) -> dict[str, str]:
    """The DAGs whose last run failed, and who owns them."""
    samples: dict[str, dict[str, tuple[dict[str, str], str]]] = defaultdict(dict)
    for name, labels, value in _SAMPLE.findall(metrics):
        found = dict(_LABEL.findall(labels))
        samples[name][found["dag_id"]] = found, value
    owners = {dag_id: labels["owners"] for dag_id, (labels, _) in samples["airflow_dag_info"].items()}
    runs = samples["airflow_dag_last_run_success"].items()
    return {dag_id: owners[dag_id] for dag_id, (_, success) in runs if success == "0" and dag_id in owners}


def _alert(dag_id: str, owners: str, now: str) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {**ALERT, "airflow": "demo", "dag_id": dag_id, "owners": owners},
        "annotations": {"summary": SUMMARY % dag_id},
        "startsAt": now,
        "endsAt": _ZERO,
        "generatorURL": "",
        "fingerprint": dag_id,
    }


def _body(owners: str, group: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    shared = {**ALERT, "owners": owners}
    return {
        "version": "4",
        "groupKey": f"{{}}:{json.dumps(shared)}",
        "status": "firing" if any(alert["status"] == "firing" for alert in group.values()) else "resolved",
        "receiver": "windsock",
        "groupLabels": shared,
        "commonLabels": {**shared, "airflow": "demo"},
        "commonAnnotations": {},
        "externalURL": "",
        "truncatedAlerts": 0,
        "alerts": list(group.values()),
    }


def _write(path: Path, everywhere: object = None, **content: Any) -> None:
    path.write_text(json.dumps(({"global": everywhere} if everywhere else {}) | content))
