"""What Windsock has to export, computed from what Airflow's REST API says."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import groupby, pairwise

from .api import Row

Samples = dict[tuple[str, ...], float]
"""By name and the values of the labels."""


def truth(ends: list[Row], tasks: list[list[Row]]) -> Samples:
    """After these ends of runs, in their order and again after a clear, with all tries of every task instance."""
    samples: Counter[tuple[str, ...]] = Counter()

    def observe(value: float, name: str, *labels: str) -> None:
        samples[f"{name}_count", *labels] += 1
        samples[f"{name}_sum", *labels] += value  # type: ignore[assignment]

    started: set[tuple[str, str]] = set()
    for run in ends:
        dag_id, state, kind = run["dag_id"], run["state"], run["run_type"]
        samples["airflow_dag_runs_finished_total", dag_id, state, kind] += 1
        observe(run["duration"], "airflow_dag_run_duration_seconds", state, kind)
        observe(run["duration"], "airflow_dag_run_duration_per_dag_seconds", dag_id)
        if (dag_id, run["dag_run_id"]) not in started:
            started.add((dag_id, run["dag_run_id"]))
            observe(_time(run, "start_date") - _time(run, "run_after"), "airflow_dag_run_start_delay_seconds", kind)
    for tries in tasks:
        for each in tries:
            samples["airflow_task_instances_finished_total", each["dag_id"], each["state"]] += 1
            if each["state"] in ("success", "failed"):
                observe(each["duration"], "airflow_task_instance_duration_seconds", each["operator"])
        for one, next_ in pairwise(sorted(tries, key=lambda each: int(each["try_number"]))):
            # A clear allows more tries than there were allowed before, a retry does not.
            if next_["try_number"] > one["try_number"] and next_["max_tries"] == one["max_tries"]:
                samples["airflow_task_instance_retries_total", one["dag_id"]] += 1
    return {key: value for key, value in samples.items() if value} | _last(ends)


def _last(ends: list[Row]) -> Samples:
    """What is known of each DAG's last runs."""
    samples: Samples = {}
    for dag_id, group in groupby(sorted(ends, key=lambda run: str(run["dag_id"])), lambda run: str(run["dag_id"])):
        runs = sorted(group, key=lambda run: (_time(run, "run_after"), _time(run, "end_date")))
        good = [run for run in runs if run["state"] == "success"]
        due = max((_time(run, "run_after") for run in good), default=0.0)
        failed = {run["dag_run_id"] for run in runs if _time(run, "run_after") > due}
        values = {
            "run_success": [float(runs[-1]["state"] == "success")],
            "run_duration_seconds": [runs[-1]["duration"]],
            "success_timestamp_seconds": [_time(run, "end_date") for run in good],
            "success_data_interval_end_timestamp_seconds": [
                _time(run, "data_interval_end") for run in good if run["data_interval_end"]
            ],
        }
        samples |= {(f"airflow_dag_last_{name}", dag_id): max(found) for name, found in values.items() if found}
        samples["airflow_dag_consecutive_failed_runs", dag_id] = len(failed)
    return samples


def _time(row: Row, name: str) -> float:
    return datetime.fromisoformat(row[name]).timestamp()
