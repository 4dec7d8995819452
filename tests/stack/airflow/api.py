"""What an Airflow says of itself through its REST API."""

from __future__ import annotations

import json
import urllib.request
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from windsock_demo import servers

Row = dict[str, Any]

PAGE = 100
"""Rows that Airflow gives in one answer at most."""


class Api:
    """A client with all rights, which an Airflow without users gives to anybody; raises OSError."""

    def __init__(self, port: int) -> None:
        self._host, self._token = f"http://{servers.HOST}:{port}", ""

    def call(self, path: str, body: object = None, method: str | None = None) -> Any:
        """The answer to a request, which without a body is a GET."""
        self._token = self._token or self._request("/auth/token", None, "GET")["access_token"]
        return self._request(f"/api/v2{path}", body, method)

    def alive(self, since: str = "") -> bool:
        """Whether it answers, and all components that have a heartbeat had one since then."""
        with suppress(OSError):
            parts = self.call("/monitor/health")
            beats = [parts[name][f"latest_{name}_heartbeat"] for name in ("scheduler", "triggerer", "dag_processor")]
            return all(beat is not None and beat > since for beat in beats)
        return False

    def dags(self) -> list[Row]:
        """Every DAG."""
        return self._all("/dags", "dags")

    def runs(self) -> list[Row]:
        """Every run that it still has."""
        return self._all("/dags/~/dagRuns", "dag_runs")

    def tasks(self) -> list[Row]:
        """Every task instance that it still has, as of its last try."""
        return self._all("/dags/~/dagRuns/~/taskInstances", "task_instances")

    def tries(self, task: Row) -> list[Row]:
        """All tries of a task instance, the last one, too."""
        path = f"/dags/{task['dag_id']}/dagRuns/{quote(task['dag_run_id'], safe='')}/taskInstances/{task['task_id']}"
        mapped = f"/{task['map_index']}" if task["map_index"] >= 0 else ""
        return self._all(f"{path}{mapped}/tries", "task_instances")

    def _all(self, path: str, name: str) -> list[Row]:
        rows: list[Row] = self.call(f"{path}?limit={PAGE}")[name]
        assert len(rows) < PAGE, path
        return rows

    def _request(self, path: str, body: object, method: str | None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._host + path, data, headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return json.load(response)
