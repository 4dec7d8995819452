"""Do the components live and keep up, and is the metadata database well?"""

from __future__ import annotations

from . import database
from .board import Board
from .panels import Query, areas, heat_map, lines, tile, to
from .promql import buckets, increase, largest, newest, oldest, quantile, smallest, total, until
from .theme import ANY_IS_BAD, ANY_IS_ODD, BAD, GOOD, NONE_IS_BAD, PLAIN, SHARE_USED, UP, WARN

BOARD = Board(
    "airflow-scheduler",
    "Airflow / Scheduler and database",
    "Do the components live and keep up, and is the metadata database well?",
    alerts='airflow="$airflow", component=~"scheduler|dag_processor|triggerer|database"',
)

TO_DAG = to("airflow-dag", dag_id="${__field.labels.dag_id}")


def alive(title: str, job_type: str, what: str) -> None:
    """A tile in the list below."""
    TILES.append(
        tile(
            title,
            f"{title} with a recent heartbeat. {what}",
            largest("airflow_jobs_alive", job_type=job_type),
            steps=NONE_IS_BAD,
        )
    )


TILES = [
    tile(
        "Database",
        "Whether the metadata database answered in time when it was last asked. Down: nothing else here is news.",
        largest("airflow_db_up"),
        steps=NONE_IS_BAD,
        names=UP,
    )
]
alive("Schedulers", "SchedulerJob", "At 0 no run starts and no task is queued: look at its log, and at the database.")
alive("DAG processors", "DagProcessorJob", "At 0 changes to DAGs do not arrive, and soon all DAGs are stale.")
alive("Triggerers", "TriggererJob", "At 0 deferred tasks wait for ever; no value where there never was one.")
TILES += [
    tile(
        "DAGs overdue",
        "Active DAGs that lack a run that was due. Normal is 0; many at once: the scheduler does not keep up.",
        largest("airflow_dags_overdue"),
        steps=((None, GOOD), (1, WARN), (10, BAD)),
    ),
    tile(
        "Import errors",
        "DAG files that cannot be imported. Normal is 0; Airflow's start page shows why.",
        total("airflow_import_errors"),
        steps=ANY_IS_BAD,
    ),
    tile(
        "Connections used",
        "Connections to the metadata database, as a share of what its server allows. Near 1 a pooler is missing.",
        database.CONNECTIONS,
        "percentunit",
        steps=SHARE_USED,
    ),
    tile(
        "Clock offset",
        "The database's clock minus Windsock's. Normal is far below a second; every age here is wrong by as much.",
        largest("airflow_db_clock_offset_seconds"),
        "s",
        steps=((None, BAD), (-5, GOOD), (5, BAD)),
    ),
]
BOARD.row("Now", *TILES)

BOARD.row(
    "Components",
    lines(
        "Age of heartbeats",
        "Time since the newest heartbeat of each kind of job. Normal is seconds; beyond the dashed line it is dead.",
        Query(newest("airflow_job_latest_heartbeat_timestamp_seconds", ["job_type"]), "{{job_type}}"),
        Query(largest("airflow_job_heartbeat_limit_seconds"), "limit"),
        unit="s",
        limit="limit",
    ),
    lines(
        "Jobs",
        "Jobs that live. A step down is a crash or a deployment; it should step up again.",
        Query(total("airflow_jobs_alive", ["job_type"]), "{{job_type}}"),
        width=6,
    ),
    lines(
        "Jobs that crashed",
        "Jobs that call themselves running but are silent. Airflow cleans them up by itself; if not, no "
        "scheduler does.",
        Query(total("airflow_jobs_stale", ["job_type"]), "{{job_type}}"),
        width=6,
    ),
)

BOARD.row(
    "Scheduling",
    heat_map(
        "Delay of runs",
        "From when runs should have started to their start. Normal is the lowest band; a band above is a slow "
        "scheduler.",
        buckets("airflow_dag_run_start_delay_seconds"),
    ),
    lines(
        "Delay of runs by kind",
        "The same, 95 % within. Runs wait for the scheduler, or for max_active_runs of their DAG.",
        Query(quantile(0.95, "airflow_dag_run_start_delay_seconds", ["run_type"]), "{{run_type}}"),
        unit="s",
    ),
    lines(
        "Overdue DAGs",
        "DAGs that lack a run for longer than the grace. Some at a restart are normal; they should be gone soon.",
        Query(largest("airflow_dags_overdue"), "overdue"),
        width=6,
    ),
    lines(
        "Oldest queued runs",
        "For how long a DAG's oldest run has been queued, the ten oldest. A backfill, or max_active_runs, "
        "explains most.",
        Query(
            f"topk(10, {oldest('airflow_dag_run_oldest_active_timestamp_seconds', ['dag_id'], state='queued')})",
            "{{dag_id}}",
        ),
        unit="s",
        link=TO_DAG,
        many=True,
        width=12,
    ),
    areas(
        "DAGs",
        "How many DAGs are active, paused, or stale: their file is gone. A fall of all active ones is a lost bundle.",
        Query(total("airflow_dags", ["state"]), "{{state}}"),
        width=6,
    ),
)

BOARD.row("Metadata database", *database.PANELS)

BOARD.row(
    "DAG files",
    lines(
        "Import errors by bundle",
        "DAG files that cannot be imported, by bundle. A step up right after a deployment is that deployment.",
        Query(total("airflow_import_errors", ["bundle"]), "{{bundle}}"),
        width=8,
    ),
    lines(
        "Oldest import error",
        "For how long a file could not be imported. Old ones are files that nobody misses: delete or mend them.",
        Query(oldest("airflow_import_error_oldest_timestamp_seconds", ["bundle"]), "{{bundle}}"),
        unit="s",
        width=8,
    ),
    lines(
        "Warnings about DAGs",
        "Such as a pool that does not exist. Normal is none; Airflow's page of the DAG shows them.",
        Query(total("airflow_dag_warnings", ["warning_type"]), "{{warning_type}}"),
        width=8,
    ),
    lines(
        "Oldest parse",
        "Time since the DAG was parsed that waited longest. Normal is about min_file_process_interval; more is "
        "overload.",
        Query(oldest("airflow_dag_oldest_parse_timestamp_seconds"), "oldest"),
        unit="s",
        width=6,
    ),
    lines(
        "Bundles refreshed",
        "Time since each bundle was refreshed (Airflow 3). It should fall to 0 every few minutes, else nothing "
        "arrives.",
        Query(newest("airflow_dag_bundle_last_refreshed_timestamp_seconds", ["bundle"]), "{{bundle}}"),
        unit="s",
        width=6,
    ),
    lines(
        "Slowest files",
        "Time to parse the DAG's file, the ten slowest (Airflow 3.1). Over some seconds, look for work at its "
        "top level.",
        Query(f"topk(10, {smallest('airflow_dag_parse_duration_seconds', ['dag_id'])})", "{{dag_id}}"),
        unit="s",
        link=TO_DAG,
        many=True,
        width=12,
        coarse=True,
    ),
    collapsed=True,
)

BOARD.row(
    "Backfills and deadlines",
    tile(
        "Grace",
        "How late a run may be before its DAG counts as overdue, as configured.",
        largest("airflow_dag_overdue_grace_seconds"),
        "s",
    ),
    tile(
        "Backfills",
        "Backfills that are not complete (Airflow 3). They explain queued runs, and compete with scheduled ones.",
        total("airflow_backfills_active"),
        none="0",
    ),
    tile(
        "Backfills paused",
        "Those of them that somebody paused. They go on only when somebody says so.",
        total("airflow_backfills_active", paused="true"),
        steps=ANY_IS_ODD,
        none="0",
    ),
    tile(
        "Hidden by clears",
        "Ends of runs in the time above that a clear may have hidden, so that they did not count. Normal is few.",
        increase("airflow_dag_runs_superseded_total", window="$__range"),
        steps=((None, PLAIN), (10, WARN)),
    ),
    tile(
        "Deadlines pending",
        "Deadlines of runs that are neither kept nor missed (Airflow 3.1).",
        largest("airflow_deadlines_pending"),
    ),
    tile(
        "Next deadline in",
        "Time until the earliest of these (Airflow 3.1). Negative: it has passed, and the scheduler has not noticed.",
        until("airflow_deadline_next_timestamp_seconds"),
        "s",
    ),
    tile(
        "Deadlines ignored",
        "Deadlines that passed without being marked as missed. Normal is 0: else the scheduler is down, or too slow.",
        largest("airflow_deadlines_unhandled"),
        steps=ANY_IS_BAD,
    ),
    tile(
        "Deadlines missed",
        "Deadlines that were marked as missed within 24 hours. Normal is none; the DAG's board says whose.",
        total("airflow_deadlines_missed"),
        steps=ANY_IS_ODD,
        none="0",
    ),
    collapsed=True,
)

BOARD.row(
    "Triggers and assets",
    areas(
        "Triggers",
        "Triggers, by whether a triggerer runs them. Normal is that nearly all are assigned.",
        Query(total("airflow_triggers", assigned="true"), "assigned"),
        Query(total("airflow_triggers", assigned="false"), "unassigned"),
        width=6,
    ),
    lines(
        "Oldest unassigned trigger",
        "For how long a trigger has waited for a triggerer. Normal is no value, or seconds: else all triggerers "
        "are full.",
        Query(oldest("airflow_trigger_oldest_unassigned_timestamp_seconds"), "oldest"),
        unit="s",
        width=6,
    ),
    lines(
        "Assets without an event",
        "Time since an asset's last event, the ten longest. Longer than its producer's schedule: that one is late.",
        Query(
            f"topk(10, {newest('airflow_asset_last_event_timestamp_seconds', ['asset'])})",
            "{{asset}}",
        ),
        unit="s",
        many=True,
        width=12,
    ),
    collapsed=True,
)
