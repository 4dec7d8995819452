"""What does Airflow say about itself? Its own StatsD metrics, named by compose/statsd-exporter/mapping.yml."""

from __future__ import annotations

from .board import Board, choice
from .panels import Panel, Query, areas, bars, heat_map, lines, tile, to
from .statsd_promql import buckets, grown, mean, now, per_minute, series, slow
from .theme import ANY_IS_BAD, ANY_IS_ODD, BAD, GOOD, PLAIN, WARN

TO_DAG = to("airflow-dag", dag_id="${__field.labels.dag_id}")

BOARD = Board(
    "airflow-statsd",
    "Airflow / StatsD",
    "What does Airflow say about itself? It needs statsd-exporter with Windsock's mapping, scraped with the "
    "label airflow.",
    alerts='airflow="$airflow", component=~"scheduler|dag_processor|triggerer"',
    variables=(choice("airflow", "Airflow", "label_values(airflow_statsd_scheduler_heartbeat_total, airflow)"),),
)


def heart(title: str, name: str, who: str) -> None:
    """A tile in the list below."""
    HEARTS.append(
        tile(
            title,
            f"Heartbeats of all {who} per minute. None, where there are some: they are down, or send no StatsD.",
            per_minute(name),
            steps=((None, BAD), (0.1, GOOD)),
        )
    )


HEARTS: list[Panel] = []
heart("Scheduler's beat", "scheduler_heartbeat_total", "schedulers")
heart("Processor's beat", "dag_processor_heartbeat_total", "DAG processors")
heart("Triggerer's beat", "triggerer_heartbeat_total", "triggerers")
BOARD.row(
    "Now",
    *HEARTS,
    tile(
        "Slots left",
        "Open slots of all executors. At 0 no task starts: raise parallelism, or wait.",
        now("executor_open_slots"),
        steps=((None, BAD), (1, GOOD)),
    ),
    tile(
        "Tasks that starve",
        "Tasks that could run but for a slot in their pool. Normal is 0, or short peaks.",
        now("scheduler_tasks_starving"),
        steps=ANY_IS_ODD,
    ),
    tile(
        "Import errors",
        "Files that failed in the last round of parsing. Normal is 0.",
        now("dag_processing_import_errors"),
        steps=ANY_IS_BAD,
    ),
    tile(
        "Files parsed",
        "DAGs that the last round of parsing found. A fall is a bundle that is gone, or broken.",
        now("dagbag_size"),
    ),
    tile(
        "Failed heartbeats",
        "Heartbeats that could not be written, in the time above. Normal is none: the database was away.",
        grown("job_heartbeat_failure_total", window="$__range"),
        steps=((None, PLAIN), (1, WARN)),
        none="0",
    ),
)

BOARD.row(
    "Scheduler",
    lines(
        "Scheduler's loop",
        "Time for one loop. Normal is below a second; above five, runs and tasks start late: see what follows.",
        Query(slow(0.5, "scheduler_scheduler_loop_duration_seconds"), "half within"),
        Query(slow(0.95, "scheduler_scheduler_loop_duration_seconds"), "95 % within"),
        unit="s",
        link=to("airflow-scheduler"),
    ),
    lines(
        "Critical section",
        "Time in the part that only one scheduler may be in, and of its query. A slow query wants a look at the "
        "database.",
        Query(mean("scheduler_critical_section_duration_seconds"), "section"),
        Query(mean("scheduler_critical_section_query_duration_seconds"), "its query"),
        unit="s",
    ),
    lines(
        "Executor's heartbeat",
        "Time that the scheduler spends in each executor, per loop. With Celery it grows with a slow broker.",
        Query(mean("scheduler_executor_heartbeat_duration_seconds", "executor"), "{{executor}}"),
        unit="s",
        link=to("airflow-celery"),
        width=8,
    ),
    bars(
        "Another scheduler was faster",
        "How often the critical section was taken. Many, with several schedulers, is normal: they take turns.",
        Query(grown("scheduler_critical_section_busy_total"), "busy"),
        width=8,
    ),
    bars(
        "Orphaned tasks",
        "Tasks whose scheduler was gone, adopted by another or started anew. Normal is none but after a restart.",
        Query(grown("scheduler_orphaned_tasks_adopted_total"), "adopted"),
        Query(grown("scheduler_orphaned_tasks_cleared_total"), "cleared"),
        width=8,
    ),
)

BOARD.row(
    "Runs and tasks",
    heat_map(
        "Delay of runs",
        "From when runs should have started to their start. Normal is the lowest bands.",
        buckets("dagrun_schedule_delay_seconds"),
    ),
    lines(
        "Delay of first tasks",
        "From when a run should have started to its first task, the ten slowest DAGs. It holds what users feel.",
        Query(f"topk(10, {slow(0.95, 'dagrun_first_task_scheduling_delay_seconds', 'dag_id')})", "{{dag_id}}"),
        unit="s",
        link=TO_DAG,
        many=True,
    ),
    lines(
        "Duration of runs",
        "Mean by DAG, the ten longest. A DAG that climbs does more work, or waits more.",
        Query(f"topk(10, {mean('dagrun_duration_seconds', 'dag_id')})", "{{dag_id}}"),
        unit="s",
        link=TO_DAG,
        many=True,
    ),
    lines(
        "Checks of dependencies",
        "Time to decide what may run, the ten slowest DAGs. Above a second a DAG has too many tasks, or slow ones.",
        Query(f"topk(10, {mean('dagrun_dependency_check_seconds', 'dag_id')})", "{{dag_id}}"),
        unit="s",
        link=TO_DAG,
        many=True,
    ),
    bars(
        "Tries that ended",
        "Tries of tasks that ended, by state, as workers tell. A killed worker tells nothing: Windsock's count has it.",
        Query(grown("ti_finish_total", "state"), "{{state}}"),
        link=to("airflow-tasks"),
    ),
    lines(
        "Waits of tasks",
        "Mean time scheduled, queued and running. Scheduled waits for slots, queued for workers.",
        Query(mean("task_scheduled_duration_seconds"), "scheduled"),
        Query(mean("task_queued_duration_seconds"), "queued"),
        Query(mean("task_duration_seconds"), "running"),
        unit="s",
        link=to("airflow-tasks"),
    ),
    areas(
        "Running by queue",
        "Task instances that run, as the scheduler counts them.",
        Query(now("ti_running", "queue"), "{{queue}}"),
        width=8,
    ),
    bars(
        "Killed",
        "Tasks that were killed from outside, and those whose heartbeat was lost. Normal is none: look for memory.",
        Query(grown("scheduler_tasks_killed_externally_total"), "killed externally"),
        Query(grown("task_instances_without_heartbeats_killed_total"), "heartbeat lost"),
        width=8,
    ),
    bars(
        "Failures by operator",
        "Which operators fail. One above the others is the system that it talks to.",
        Query(grown("operator_failures_total", "operator_name"), "{{operator_name}}"),
        width=8,
    ),
)

BOARD.row(
    "Executors, pools, Celery",
    lines(
        "Executors",
        "Tasks that executors run and hold queued, and slots left. No slots left for long: raise parallelism.",
        Query(now("executor_running_tasks", "executor_class_name"), "running, {{executor_class_name}}"),
        Query(now("executor_queued_tasks", "executor_class_name"), "queued, {{executor_class_name}}"),
        Query(now("executor_open_slots", "executor_class_name"), "open, {{executor_class_name}}"),
        width=8,
    ),
    lines(
        "Open slots of pools",
        "At 0, with tasks that starve beside it, the pool is too small.",
        Query(now("pool_open_slots", "pool_name"), "{{pool_name}}"),
        link=to("airflow-tasks"),
        low=None,
        width=8,
    ),
    lines(
        "Starving by pool",
        "Tasks that could run but for a slot of their pool. Executable ones are those that just got one.",
        Query(now("pool_starving_tasks", "pool_name"), "{{pool_name}}"),
        Query(now("scheduler_tasks_executable"), "executable"),
        width=8,
    ),
    bars(
        "Celery",
        "Tasks that could not be handed to the broker in time, and commands that failed. Normal is none.",
        Query(grown("celery_task_timeout_error_total"), "not handed over"),
        Query(grown("celery_execute_command_failure_total"), "command failed"),
        link=to("airflow-celery"),
        width=24,
    ),
    collapsed=True,
)

BOARD.row(
    "DAG processor",
    lines(
        "Slow files",
        "Mean time to parse, the ten slowest. Over some seconds, look for work at the file's top level.",
        Query(f"topk(10, {mean('dag_processing_last_duration_seconds', 'file_name')})", "{{file_name}}"),
        unit="s",
        many=True,
    ),
    lines(
        "Files not parsed for long",
        "Time since a file was parsed, the ten longest. All rise: the processor hangs; one does: it times out.",
        Query(
            f"topk(10, max by (file_name) ({series('dag_processing_last_run_age_seconds')}))",
            "{{file_name}}",
        ),
        unit="s",
        many=True,
    ),
    lines(
        "A round of parsing",
        "Time to parse all files once. Changes to a DAG arrive as late as this.",
        Query(now("dag_processing_total_parse_time_seconds"), "round"),
        unit="s",
        width=8,
    ),
    lines(
        "Files to parse",
        "Files in the queue of the processor. Never 0: more parsing processes are wanted.",
        Query(now("dag_processing_file_path_queue_size"), "files"),
        width=8,
    ),
    bars(
        "Parsing and callbacks that failed",
        "Files that took too long and were killed, and exceptions in callbacks. Normal is none.",
        Query(grown("dag_processing_processor_timeouts_total"), "timeouts"),
        Query(grown("dag_callback_exceptions_total"), "callbacks"),
        width=8,
    ),
    collapsed=True,
)

BOARD.row(
    "Triggerers and assets",
    lines(
        "Triggers running",
        "By host. Far more on one host than on another evens out with new triggers.",
        Query(now("triggers_running", "hostname"), "{{hostname}}"),
        width=8,
    ),
    lines(
        "Room for triggers",
        "Capacity left, by host. At 0 everywhere triggers wait: start another triggerer.",
        Query(now("triggerer_capacity_left", "hostname"), "{{hostname}}"),
        width=8,
    ),
    bars(
        "Triggers that ended",
        "Fired, failed, and blocked the loop. Blocking ones delay all others: they do not await what they should.",
        Query(grown("triggers_succeeded_total"), "fired"),
        Query(grown("triggers_failed_total"), "failed"),
        Query(grown("triggers_blocked_main_thread_total"), "blocked the loop"),
        width=8,
    ),
    bars(
        "Assets",
        "Updates of assets, and runs that they triggered. Updates without runs: a DAG still waits for another asset.",
        Query(grown("asset_updates_total"), "updates"),
        Query(grown("asset_triggered_dagruns_total"), "runs triggered"),
        width=24,
    ),
    collapsed=True,
)
