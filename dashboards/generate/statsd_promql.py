"""PromQL on what Airflow itself sends by StatsD, as compose/statsd-exporter/mapping.yml names it."""

from __future__ import annotations

from collections.abc import Sequence

from .promql import RATE

NOTHING: tuple[str, ...] = ()
LABELS = {
    "asset_triggered_dagruns_total": NOTHING,
    "asset_updates_total": NOTHING,
    "celery_execute_command_failure_total": NOTHING,
    "celery_task_timeout_error_total": NOTHING,
    "dag_callback_exceptions_total": ("dag_id",),
    "dag_processing_file_path_queue_size": NOTHING,
    "dag_processing_import_errors": NOTHING,
    "dag_processing_last_duration_seconds": ("bundle_name", "file_name"),
    "dag_processing_last_run_age_seconds": ("bundle_name", "file_name"),
    "dag_processing_processor_timeouts_total": NOTHING,
    "dag_processing_total_parse_time_seconds": NOTHING,
    "dag_processor_heartbeat_total": NOTHING,
    "dagbag_size": NOTHING,
    "dagrun_dependency_check_seconds": ("dag_id", "run_type"),
    "dagrun_duration_seconds": ("dag_id", "run_type", "state"),
    "dagrun_first_task_scheduling_delay_seconds": ("dag_id", "run_type"),
    "dagrun_schedule_delay_seconds": ("dag_id",),
    "executor_open_slots": ("executor_class_name",),
    "executor_queued_tasks": ("executor_class_name",),
    "executor_running_tasks": ("executor_class_name",),
    "job_heartbeat_failure_total": ("job_name",),
    "operator_failures_total": ("dag_id", "operator_name"),
    "pool_open_slots": ("pool_name",),
    "pool_starving_tasks": ("pool_name",),
    "scheduler_critical_section_busy_total": NOTHING,
    "scheduler_critical_section_duration_seconds": NOTHING,
    "scheduler_critical_section_query_duration_seconds": NOTHING,
    "scheduler_executor_heartbeat_duration_seconds": ("executor",),
    "scheduler_heartbeat_total": NOTHING,
    "scheduler_orphaned_tasks_adopted_total": NOTHING,
    "scheduler_orphaned_tasks_cleared_total": NOTHING,
    "scheduler_scheduler_loop_duration_seconds": NOTHING,
    "scheduler_tasks_executable": NOTHING,
    "scheduler_tasks_killed_externally_total": ("dag_id",),
    "scheduler_tasks_starving": NOTHING,
    "task_duration_seconds": ("dag_id",),
    "task_instances_without_heartbeats_killed_total": ("dag_id",),
    "task_queued_duration_seconds": ("dag_id", "queue"),
    "task_scheduled_duration_seconds": ("dag_id", "queue"),
    "ti_finish_total": ("dag_id", "state"),
    "ti_running": ("dag_id", "task_id", "queue"),
    "triggerer_capacity_left": ("hostname",),
    "triggerer_heartbeat_total": NOTHING,
    "triggers_blocked_main_thread_total": NOTHING,
    "triggers_failed_total": NOTHING,
    "triggers_running": ("hostname",),
    "triggers_succeeded_total": NOTHING,
}
"""The metrics that the board shows, without `airflow_statsd_`, and the tags that Airflow 3.3 gives them."""


def series(name: str, suffix: str = "") -> str:
    """A selector of the chosen Airflow's series."""
    LABELS[name]
    return f'airflow_statsd_{name}{suffix}{{airflow="$airflow"}}'


def summed(inner: str, by: Sequence[str] = ()) -> str:
    """A sum by some labels."""
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum ({inner})"


def now(name: str, *by: str) -> str:
    """A gauge."""
    return summed(series(name), by)


def grown(name: str, *by: str, window: str = RATE) -> str:
    """By how much a counter has grown."""
    return summed(f"increase({series(name)}[{window}])", by)


def per_minute(name: str) -> str:
    """How much a counter grows per minute."""
    return f"60 * {summed(f'rate({series(name)}[{RATE}])')}"


def slow(share: float, name: str, *by: str) -> str:
    """The value that this share of a timer's new observations did not exceed."""
    rate = f"rate({series(name, '_bucket')}[{RATE}])"
    return f"histogram_quantile({share}, {summed(rate, (*by, 'le'))})"


def buckets(name: str) -> str:
    """By how much a timer's buckets have grown."""
    return summed(f"increase({series(name, '_bucket')}[{RATE}])", ["le"])


def mean(name: str, *by: str) -> str:
    """The mean of a timer's new observations."""
    sums, counts = (summed(f"increase({series(name, end)}[{RATE}])", by) for end in ("_sum", "_count"))
    return f"{sums} / ({counts} > 0)"
