"""Is Airflow healthy, and what is not?"""

from __future__ import annotations

from .board import Board
from .panels import Column, Query, areas, bars, gauges, lines, rows, tile, to
from .promql import increase, largest, newest, oldest, quantile, total
from .theme import ANY_IS_BAD, BAD, GOOD, NO_IS_BAD, NONE_IS_BAD, PLAIN, SHARE_USED, UP, WARN

BOARD = Board(
    "airflow-overview",
    "Airflow / Overview",
    "Is it healthy, and what is not? Each tile leads to the board that explains it.",
    alerts='airflow="$airflow"',
)

ACTIVE_DAG = f"unless on (dag_id) {largest('airflow_dag_is_paused')} == 1"
FAILING = f"({largest('airflow_dag_last_run_success')} == 0 {ACTIVE_DAG})"
LATE = f"({oldest('airflow_dag_success_expected_by_timestamp_seconds', by=['dag_id'])} > 0 {ACTIVE_DAG})"
OVERDUE = f"({oldest('airflow_dag_overdue_since_timestamp_seconds', by=['dag_id'])} > 0)"
IN_TROUBLE = f"({FAILING} or {LATE} or {OVERDUE})"
SLOTS = f"{total('airflow_jobs_alive', job_type='SchedulerJob')} * {largest('airflow_executor_parallelism')}"
BURN = 'airflow:slo_errors:ratio_rate3d{airflow="$airflow"} / on (slo) group_left () (1 - slo:objective:ratio)'

BOARD.row(
    "Health",
    tile(
        "Database",
        "Whether the metadata database answered in time when it was last asked. Nothing works without it.",
        largest("airflow_db_up"),
        steps=NONE_IS_BAD,
        names=UP,
        link=to("airflow-scheduler"),
    ),
    tile(
        "Broker",
        "Whether the Celery broker answered in time. No value: Windsock reads none, as without Celery.",
        largest("airflow_broker_up"),
        steps=NONE_IS_BAD,
        names=UP,
        link=to("airflow-celery"),
    ),
    tile(
        "Schedulers alive",
        "Schedulers with a recent heartbeat. At 0 no run starts and no task is queued: look at the scheduler's log.",
        total("airflow_jobs_alive", job_type="SchedulerJob"),
        steps=NONE_IS_BAD,
        link=to("airflow-scheduler"),
    ),
    tile(
        "DAGs overdue",
        "Active DAGs that lack a run that was due. Normal is 0; many at once mean that the scheduler does not keep up.",
        largest("airflow_dags_overdue"),
        steps=((None, GOOD), (1, WARN), (10, BAD)),
        link=to("airflow-scheduler"),
    ),
    tile(
        "DAGs failing",
        "Active DAGs whose last run failed. The table below names them, with their owners.",
        f"count({FAILING}) or vector(0)",
        steps=ANY_IS_BAD,
        link=to("airflow-tasks"),
    ),
    tile(
        "Import errors",
        "DAG files that cannot be imported. Normal is 0; their DAGs run as they were, or not at all.",
        total("airflow_import_errors"),
        steps=ANY_IS_BAD,
        link=to("airflow-scheduler"),
    ),
    tile(
        "Error budget burn",
        "How fast the worse of the two error budgets burnt over 3 days; at 1 it lasts exactly as long as it should.",
        f"max({BURN})",
        "short",
        steps=((None, GOOD), (1, WARN), (3, BAD)),
        link=to("airflow-slo"),
    ),
    tile(
        "Alerts firing",
        "Alerts about this Airflow that fire now; each says what to do, and links to its runbook.",
        'count(ALERTS{alertstate="firing", airflow="$airflow"}) or vector(0)',
        steps=ANY_IS_BAD,
        link="/alerting/list?state=firing",
    ),
)

BOARD.row(
    "Runs",
    bars(
        "Runs that ended",
        "Runs that ended within each five minutes or longer. Normal is what the schedules make; red wants a look "
        "below.",
        Query(increase("airflow_dag_runs_finished_total", by=["state"]), "{{state}}"),
    ),
    areas(
        "Runs active",
        "Runs that are queued or running. Queued ones that only grow mean max_active_runs, or a scheduler that "
        "is slow.",
        Query(total("airflow_dag_runs_active", by=["state"]), "{{state}}"),
        link=to("airflow-scheduler"),
    ),
    lines(
        "Runs that succeed",
        "Share of the runs that had started and ended in success. Below the objective, see the table of DAGs.",
        Query(  # of all DAGs at once, for there are far fewer series
            f"{increase('airflow_dag_run_duration_seconds', suffix='_count', state='success')}"
            f" / ({increase('airflow_dag_run_duration_seconds', suffix='_count')} > 0)",
            "success",
        ),
        unit="percentunit",
        top=1,
        link=to("airflow-slo"),
        width=8,
        coarse=True,
    ),
    lines(
        "Delay of runs",
        "From when a run should have started to its start. Normal is some seconds; minutes mean a scheduler "
        "under load.",
        Query(quantile(0.5, "airflow_dag_run_start_delay_seconds"), "half within"),
        Query(quantile(0.95, "airflow_dag_run_start_delay_seconds"), "95 % within"),
        unit="s",
        link=to("airflow-scheduler"),
        width=8,
    ),
    lines(
        "Duration of runs",
        "How long runs take, whatever their outcome. A slow rise is growing data; a jump is a change or a full pool.",
        Query(quantile(0.5, "airflow_dag_run_duration_seconds"), "half within"),
        Query(quantile(0.95, "airflow_dag_run_duration_seconds"), "95 % within"),
        unit="s",
        width=8,
    ),
)

BOARD.row(
    "Tasks",
    areas(
        "Tasks active",
        "Task instances by state. Running follows the schedules; scheduled or queued that pile up wait for slots "
        "or workers.",
        Query(total("airflow_task_instances_active", by=["state"]), "{{state}}"),
        link=to("airflow-tasks"),
    ),
    bars(
        "Tries that ended",
        "Tries of tasks that ended within each five minutes or longer, retried failures included.",
        Query(increase("airflow_task_instances_finished_total", by=["state"]), "{{state}}"),
        link=to("airflow-tasks"),
    ),
    lines(
        "Wait in the queue",
        "From being queued to the start. Normal is seconds; minutes mean too few workers, or none for that queue.",
        Query(quantile(0.5, "airflow_task_instance_queued_duration_seconds"), "half within"),
        Query(quantile(0.95, "airflow_task_instance_queued_duration_seconds"), "95 % within"),
        unit="s",
        link=to("airflow-tasks"),
    ),
    bars(
        "Tasks in trouble",
        "Tasks whose heartbeat was lost, that were stuck in the queue and such, by Airflow's own log. Normal is none.",
        Query(increase("airflow_task_instance_problems_total", by=["event"]), "{{event}}"),
        link=to("airflow-tasks"),
    ),
)

BOARD.row(
    "DAGs that need somebody",
    rows(
        "DAGs in trouble",
        "DAGs whose last run failed, that lack a run, or that should have succeeded by now. Normal is an empty table.",
        "dag_id",
        [
            (
                Column("Failed in a row", steps=((None, PLAIN), (1, WARN), (3, BAD))),
                f"{largest('airflow_dag_consecutive_failed_runs')} and on (dag_id) {IN_TROUBLE}",
            ),
            (Column("Overdue for", "s", ((None, PLAIN), (0, WARN))), OVERDUE),
            (Column("Success late by", "s", ((None, PLAIN), (0, WARN))), LATE),
            (
                Column("Since last success", "s"),
                f"{newest('airflow_dag_last_success_timestamp_seconds', by=['dag_id'])} and on (dag_id) {IN_TROUBLE}",
            ),
            (
                Column(""),
                f"{largest('airflow_dag_info', by=['dag_id', 'owners', 'team'])} and on (dag_id) {IN_TROUBLE}",
            ),
        ],
        labels=[
            ("dag_id", Column("DAG", link=to("airflow-dag", dag_id="${__value.raw}"))),
            ("owners", Column("Owners")),
            ("team", Column("Team")),
        ],
        hidden=["Value #E"],
    ),
)

BOARD.row(
    "Room",
    gauges(
        "Pools",
        "Share of each pool's slots that is taken. Full for long, with tasks that wait, a pool is too small.",
        Query(
            f"{total('airflow_pool_slots_used', state='~running|queued', by=['pool'])}"
            f" / on (pool) ({largest('airflow_pool_slots_limit')} > 0)",
            "{{pool}}",
        ),
        unit="percentunit",
        steps=SHARE_USED,
        top=1,
        width=8,
    ),
    lines(
        "Messages in queues",
        "Tasks that wait in the broker for a worker. Normal is near 0, with peaks; a queue that only grows lacks "
        "workers.",
        Query(largest("airflow_celery_queue_length"), "{{queue}}"),
        link=to("airflow-celery"),
        width=8,
    ),
    lines(
        "Parallelism",
        "Running and queued tasks as a share of what the schedulers that are alive may have. At 1 nothing more starts.",
        Query(f"{total('airflow_task_instances_active', state='~running|queued')} / ({SLOTS})", "used"),
        unit="percentunit",
        steps=((None, GOOD), (0.95, BAD)),
        link=to("airflow-tasks"),
        width=8,
    ),
)

EVERY = 'airflow=~".+"'
BOARD.row(
    "Every Airflow",
    rows(
        "Every Airflow",
        "All that this Prometheus knows. Red or orange in a line: choose it, and read the tiles above.",
        "airflow",
        [
            (Column("Database", names=UP), f"max by (airflow) (airflow_db_up{{{EVERY}}})"),
            (Column("Broker", names=UP), f"max by (airflow) (airflow_broker_up{{{EVERY}}})"),
            (
                Column("Scheduler alive", names=NO_IS_BAD),
                f'max by (airflow) (airflow_jobs_alive{{job_type="SchedulerJob", {EVERY}}} > bool 0)',
            ),
            (
                Column("DAGs overdue", steps=((None, PLAIN), (1, WARN))),
                f"max by (airflow) (airflow_dags_overdue{{{EVERY}}})",
            ),
            (
                Column("Alerts firing", steps=((None, PLAIN), (1, WARN))),
                f'count by (airflow) (ALERTS{{alertstate="firing", {EVERY}}})',
            ),
        ],
        labels=[
            (
                "airflow",
                Column(
                    "Airflow",
                    link="/d/airflow-overview?var-airflow=${__value.raw}&${datasource:queryparam}&${__url_time_range}",
                ),
            )
        ],
    ),
    collapsed=True,
)
