"""Bodies as Alertmanager sends them, of what goes wrong with an Airflow at night."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

from msgspec.structs import replace

from exporter.router.message import Incident, Level, render
from exporter.router.model import parse
from exporter.router.templates import Templates

NOW = datetime(2026, 11, 22, 3, 14, tzinfo=UTC).timestamp()
"""When every body arrives."""
QUERY = "http://prometheus.example.com/graph?g0.expr=airflow_dag_last_run_failed+%3D%3D+1&g0.tab=1"


def alert(
    minutes: float, labels: dict[str, str], annotations: dict[str, str], lasted: float | None = None
) -> dict[str, Any]:
    """An alert that began so long ago, and lasted so long if it is over."""
    starts = NOW - 60 * minutes
    ends = "0001-01-01T00:00:00Z" if lasted is None else stamp(starts + 60 * lasted)
    return {
        "status": "firing" if lasted is None else "resolved",
        "labels": labels,
        "annotations": annotations,
        "startsAt": stamp(starts),
        "endsAt": ends,
        "generatorURL": QUERY,
        "fingerprint": blake2b(repr(sorted(labels.items())).encode(), digest_size=8).hexdigest(),
    }


def stamp(when: float) -> str:
    """A time as Go writes it."""
    return datetime.fromtimestamp(when, UTC).isoformat().replace("+00:00", "Z")


def body(*alerts: dict[str, Any], group: tuple[str, ...] = ("alertname", "dag_id"), **more: Any) -> bytes:
    """A webhook of version 4 with these alerts; what they share is computed as Alertmanager does."""

    def common(part: str) -> dict[str, str]:
        first = alerts[0][part]
        return {name: text for name, text in first.items() if all(it[part].get(name) == text for it in alerts)}

    group_labels = {name: text for name, text in common("labels").items() if name in group}
    matchers = ", ".join(f"{name}={json.dumps(text)}" for name, text in group_labels.items())
    told = {
        "version": "4",
        "groupKey": f"{{}}:{{{matchers}}}",
        "truncatedAlerts": 0,
        "status": "firing" if any(it["status"] == "firing" for it in alerts) else "resolved",
        "receiver": "slack",
        "groupLabels": group_labels,
        "commonLabels": common("labels"),
        "commonAnnotations": common("annotations"),
        "externalURL": "http://alertmanager.example.com",
        "alerts": [*alerts],
    }
    return json.dumps(told | more).encode()


def incident(body: bytes, minutes: float = 12, standing: str = "", **more: Any) -> Incident:
    """What is told of a body, some minutes after it began."""
    known: dict[str, Any] = {
        "airflow": "prod",
        "base_url": "https://airflow.example.com",
        "mention": "<!subteam^S0ONCALL>",
        "first": NOW - 60 * minutes,
        "shown_before": 1,
        "repeat": False,
        "misrouted_from": None,
        "id": "07475a98",
    }
    return Incident(snapshot=replace(parse(body, NOW), standing=standing), **(known | more))


def dag_failed(
    dag: str = "etl_load", lasted: float | None = None, labels: dict[str, str] | None = None
) -> dict[str, Any]:
    """The latest run of a DAG failed."""
    return alert(
        12,
        {"alertname": "AirflowDagRunFailed", "severity": "critical", "airflow": "prod", "dag_id": dag}
        | {"job": "windsock", "instance": "windsock:9780", "team": "data"}
        | (labels or {}),
        {
            "summary": f"The last run of {dag} failed",
            "description": "It was due at 03:00 UTC. Tables that depend on it are as old as its last success.",
            "runbook_url": "https://runbooks.example.com/AirflowDagRunFailed",
            "dashboard_url": f"https://grafana.example.com/d/windsock-dag?var-dag_id={dag}&from=now-6h",
        },
        lasted,
    )


def task_failed(number: int, lasted: float | None = None) -> dict[str, Any]:
    """A task of a run failed for good, as told by an exporter that has labels for both."""
    run = {"run_id": "scheduled__2026-11-22T03:00:00+00:00", "task_id": f"load_table_{number:02}"}
    return alert(
        14 - number / 4,
        {"alertname": "AirflowTaskFailed", "severity": "warning", "airflow": "prod", "dag_id": "etl_load", **run},
        {"summary": f"Task load_table_{number:02} failed after 3 tries"},
        lasted,
    )


SCHEDULER = alert(
    4,
    {"alertname": "AirflowSchedulerDown", "severity": "critical", "airflow": "prod", "job": "windsock"},
    {
        "summary": "No scheduler has sent a heartbeat for 4 minutes",
        "description": "Nothing is scheduled and nothing new is queued; tasks that run go on.\n\n"
        "First look: kubectl -n airflow get pods -l component=scheduler",
        "runbook_url": "https://runbooks.example.com/AirflowSchedulerDown",
    },
)
TRACE = "\n".join(
    f'  File "/opt/airflow/dags/etl.py", line {number}, in <module>\n    load(`x` & "y")' for number in range(200)
)

INCIDENTS: dict[str, Incident] = {
    "dag_failed": incident(body(dag_failed())),
    "dag_failed_resolved": incident(body(dag_failed(lasted=11.5)), shown_before=3),
    "dag_failed_silenced": incident(body(dag_failed()), standing="silenced", shown_before=2),
    "dag_failed_cleared": incident(body(dag_failed(lasted=11.5)), standing="cleared", shown_before=3),
    "scheduler_down": incident(body(SCHEDULER, group=("alertname",)), 4, repeat=True, misrouted_from="data-alerts"),
    "tasks_40": incident(body(*map(task_failed, range(40))), 14, shown_before=2),
    "tasks_partly_resolved": incident(
        body(*(task_failed(n, lasted=2 if n > 2 else None) for n in range(12))), 14, shown_before=5
    ),
    "dags_of_one_alert": incident(body(*map(dag_failed, ("etl_load", "report", "billing")), group=("alertname",))),
    "last_one_firing": incident(
        body(dag_failed(), dag_failed("report", lasted=3), group=("alertname",)), shown_before=2
    ),
    "truncated_resolved": incident(
        body(*(dag_failed(f"dag_{n}", lasted=5) for n in range(3)), group=(), truncatedAlerts=7)
    ),
    "without_labels": incident(body(alert(12, {}, {}), group=(), externalURL=""), base_url=None, mention=""),
    "long_annotations": incident(
        body(
            alert(
                12,
                {
                    "alertname": "DagImportError",
                    "severity": "warning",
                    "dag_file": "/opt/airflow/dags/" + "very/" * 40 + "etl.py",
                },
                {
                    "summary": "Broken DAG: " + "no module named etl, " * 30,
                    "description": TRACE,
                    "runbook_url": "javascript:alert(1)",
                },
            )
        )
    ),
}
MESSAGES = Path(__file__).with_name("messages")
"""How Slack is told of each of them."""


def message(name: str) -> str:
    """What is rendered of it at every level, as a file."""
    levels = {level: render(INCIDENTS[name], Templates({}), level) for level in get_args(Level)}
    return json.dumps(levels, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for known in INCIDENTS:
        (MESSAGES / f"{known}.json").write_text(message(known))
