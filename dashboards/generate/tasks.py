"""Where do tasks wait and fail, and which pools are full?"""

from __future__ import annotations

from .board import AIRFLOW, Board, choice
from .panels import Column, Query, areas, bars, gauges, heat_map, lines, rows, tile, to
from .promql import buckets, increase, largest, of, oldest, quantile, total
from .theme import ANY_IS_BAD, ANY_IS_ODD, BAD, GOOD, PLAIN, SHARE_USED, WARN

BOARD = Board(
    "airflow-tasks",
    "Airflow / Tasks and pools",
    "Where do tasks wait and fail, and which pools are full?",
    alerts='airflow="$airflow", component=~"task|pool"',
    variables=(
        AIRFLOW,
        choice("pool", "Pool", f"label_values({of('airflow_pool_slots_limit')}, pool)", several=True),
        choice("queue", "Queue", f"label_values({of('airflow_task_instances_active')}, queue)", several=True),
    ),
)

POOL = {"pool": "~$pool"}
QUEUE = {"queue": "~$queue"}
TO_DAG = to("airflow-dag", dag_id="${__field.labels.dag_id}")
SLOTS = f"{total('airflow_jobs_alive', job_type='SchedulerJob')} * {largest('airflow_executor_parallelism')}"
PARALLELISM = f"{total('airflow_task_instances_active', state='~running|queued')} / ({SLOTS})"

BOARD.row(
    "Now",
    tile(
        "Running",
        "Task instances that run now, in the pools and queues chosen above.",
        total("airflow_task_instances_active", state="running", **POOL, **QUEUE),
        none="0",
    ),
    tile(
        "Queued",
        "Task instances that wait for a worker. Normal is few, for seconds.",
        total("airflow_task_instances_active", state="queued", **POOL, **QUEUE),
        none="0",
    ),
    tile(
        "Stuck in the queue",
        "Queued for longer than the limit beside it. Normal is none: look for workers that serve these queues.",
        total("airflow_task_instances_stuck_queued", **QUEUE),
        steps=ANY_IS_BAD,
        none="0",
        link=to("airflow-celery"),
    ),
    tile(
        "Heartbeat lost",
        "Running as far as Airflow knows, but silent for too long. Normal is none: their worker died, or is "
        "overloaded.",
        largest("airflow_task_instances_heartbeat_stale"),
        steps=ANY_IS_BAD,
    ),
    tile(
        "Deferred too long",
        "Deferred task instances whose trigger should have timed out. Normal is none: look at the triggerer.",
        largest("airflow_task_instances_deferred_overdue"),
        steps=ANY_IS_BAD,
        link=to("airflow-scheduler"),
    ),
    tile(
        "Parallelism used",
        "Running and queued, as a share of what the schedulers that are alive may have. Near 1 nothing more starts.",
        PARALLELISM,
        "percentunit",
        steps=SHARE_USED,
    ),
    tile(
        "Open questions",
        "Task instances that wait for a person's answer (Airflow 3.1). They hold up their runs until it comes.",
        largest("airflow_hitl_pending"),
        steps=ANY_IS_ODD,
        none="0",
    ),
    tile(
        "Oldest question",
        "For how long the oldest question has been open. Normal is no value: nobody is asked.",
        oldest("airflow_hitl_oldest_pending_timestamp_seconds"),
        "s",
    ),
)

BOARD.row(
    "Waiting",
    areas(
        "Active by state",
        "Task instances by state. Scheduled that pile up wait for pool slots or parallelism, queued ones for workers.",
        Query(total("airflow_task_instances_active", ["state"], **POOL, **QUEUE), "{{state}}"),
    ),
    lines(
        "Oldest in each state",
        "For how long the oldest has been in its state. The dashed line is when a queued one counts as stuck.",
        Query(oldest("airflow_task_instance_oldest_timestamp_seconds", ["state"], **QUEUE), "{{state}}"),
        Query(largest("airflow_task_instance_queued_limit_seconds"), "limit for queued"),
        unit="s",
        limit="limit for queued",
    ),
    lines(
        "Wait in the queue",
        "From being queued to the start, 95 % within. Normal is seconds; one queue above the others lacks workers.",
        Query(quantile(0.95, "airflow_task_instance_queued_duration_seconds", ["queue"], **QUEUE), "{{queue}}"),
        unit="s",
        link=to("airflow-celery"),
    ),
    lines(
        "Wait for a slot",
        "From being scheduled to being queued, 95 % within (Airflow 3). One pool above the others is too small.",
        Query(quantile(0.95, "airflow_task_instance_scheduled_duration_seconds", ["pool"], **POOL), "{{pool}}"),
        unit="s",
    ),
    heat_map(
        "All waits in the queue",
        "How many starts waited how long. A second dark band higher up is one queue, or one time of day, that is slow.",
        buckets("airflow_task_instance_queued_duration_seconds", **QUEUE),
    ),
    lines(
        "Stuck, silent, late",
        "Task instances in trouble now: stuck in a queue, without heartbeat for longer than the limit, deferred "
        "too long.",
        Query(total("airflow_task_instances_stuck_queued", **QUEUE), "stuck in the queue"),
        Query(largest("airflow_task_instances_heartbeat_stale"), "heartbeat lost"),
        Query(largest("airflow_task_instances_deferred_overdue"), "deferred too long"),
    ),
)

TRIES = increase("airflow_task_instances_finished_total", ["dag_id"])
FAILED = increase("airflow_task_instances_finished_total", ["dag_id"], state="failed")
BOARD.row(
    "Outcomes",
    bars(
        "Tries that ended",
        "Tries that ended within each five minutes or longer, by state. Red is a failure, also one that is retried.",
        Query(increase("airflow_task_instances_finished_total", ["state"]), "{{state}}"),
    ),
    heat_map(
        "Duration of tries",
        "How many tries took how long. A band that moves up is work that gets slower.",
        buckets("airflow_task_instance_duration_seconds"),
    ),
    lines(
        "Where tries fail",
        "Share of a DAG's tries that failed, the ten worst. One DAG is its own fault; many at once share a cause.",
        Query(f"topk(10, {FAILED} / ({TRIES} > 0))", "{{dag_id}}"),
        unit="percentunit",
        top=1,
        link=TO_DAG,
        many=True,
        coarse=True,
    ),
    lines(
        "Where tries are repeated",
        "Retries of a DAG, the ten with most. Retries hide a failing source until there are none left.",
        Query(f"topk(10, {increase('airflow_task_instance_retries_total', ['dag_id'])})", "{{dag_id}}"),
        link=TO_DAG,
        many=True,
        coarse=True,
    ),
    lines(
        "Slow operators",
        "Duration of tries by operator, 95 % within, the ten slowest. Long sensors belong deferred, or in "
        "reschedule mode.",
        Query(f"topk(10, {quantile(0.95, 'airflow_task_instance_duration_seconds', ['operator'])})", "{{operator}}"),
        unit="s",
        many=True,
    ),
    bars(
        "Tasks in trouble",
        "Lost heartbeats, tasks stuck in the queue and such, by Airflow's own log. Normal is none.",
        Query(increase("airflow_task_instance_problems_total", ["event"]), "{{event}}"),
    ),
)

USED = total("airflow_pool_slots_used", ["pool"], state="~running|queued", **POOL)
STARVED = f"({total('airflow_task_instances_active', ['pool'], state='scheduled', **POOL)} > 0)"
RUNS = largest("airflow_dag_runs_active", ["dag_id"], state="running")
FULL_DAGS = f"{RUNS} / on (dag_id) {largest('airflow_dag_max_active_runs')}"
BOARD.row(
    "Pools and limits",
    gauges(
        "Share of slots taken",
        "How full each pool is now. Full with tasks that wait is too small, or somebody's tasks take too many slots.",
        Query(f"{USED} / on (pool) ({largest('airflow_pool_slots_limit', **POOL)} > 0)", "{{pool}}"),
        unit="percentunit",
        steps=SHARE_USED,
        top=1,
    ),
    rows(
        "Pools",
        "Slots now. Free at 0 or below while others wait: raise the pool, or start its DAGs at different times.",
        "pool",
        [
            (Column("Slots"), largest("airflow_pool_slots_limit", **POOL)),
            (Column("Running"), largest("airflow_pool_slots_used", ["pool"], state="running", **POOL)),
            (Column("Queued"), largest("airflow_pool_slots_used", ["pool"], state="queued", **POOL)),
            (Column("Scheduled"), largest("airflow_pool_slots_used", ["pool"], state="scheduled", **POOL)),
            (Column("Deferred"), largest("airflow_pool_slots_used", ["pool"], state="deferred", **POOL)),
            (Column("Free", steps=((None, BAD), (1, PLAIN))), largest("airflow_pool_slots_free", **POOL)),
        ],
        labels=[("pool", Column("Pool"))],
        height=8,
        width=12,
    ),
    lines(
        "Waiting for a full pool",
        "Scheduled task instances of pools without a free slot. Normal is none, or short; for long the pool is "
        "too small.",
        Query(f"{STARVED} and on (pool) {largest('airflow_pool_slots_free', **POOL)} <= 0", "{{pool}}"),
        width=6,
    ),
    lines(
        "Parallelism",
        "Running and queued, as a share of what the schedulers that are alive may have. At 1 raise parallelism, "
        "or add one.",
        Query(PARALLELISM, "used"),
        unit="percentunit",
        steps=((None, GOOD), (0.95, BAD)),
        width=6,
    ),
    lines(
        "DAGs at their limit",
        "Running runs as a share of max_active_runs, the ten fullest. At 1 further runs queue, which may be meant.",
        Query(f"topk(10, {FULL_DAGS})", "{{dag_id}}"),
        unit="percentunit",
        link=TO_DAG,
        many=True,
        coarse=True,
    ),
)

BOARD.row(
    "What takes the slots, and the limits in force",
    tile(
        "Stuck after",
        "The time in the queue beyond which a task instance counts as stuck, as configured.",
        largest("airflow_task_instance_queued_limit_seconds"),
        "s",
        width=6,
    ),
    tile(
        "Silent after",
        "The age of a heartbeat beyond which a running task instance counts as lost, as configured.",
        largest("airflow_task_instance_heartbeat_limit_seconds"),
        "s",
        width=6,
    ),
    tile(
        "Parallelism per scheduler",
        "How many task instances one scheduler may run at a time, as configured.",
        largest("airflow_executor_parallelism"),
        width=6,
    ),
    tile(
        "Outcomes changed by hand",
        "Tries whose outcome somebody changed after it had counted, in the time above. Many: ask who, and why.",
        increase("airflow_task_instance_state_overrides_total", window="$__range"),
        steps=((None, PLAIN), (1, WARN)),
        width=6,
    ),
    areas(
        "Slots by state",
        "What takes the slots of the pools chosen above, or waits for one.",
        Query(total("airflow_pool_slots_used", ["state"], **POOL), "{{state}}"),
    ),
    areas(
        "Active by queue",
        "Task instances that run or are queued, by queue. Shows which team's work fills the workers.",
        Query(total("airflow_task_instances_active", ["queue"], state="~running|queued", **QUEUE), "{{queue}}"),
    ),
    areas(
        "Active by executor",
        "The same by executor, where there are several; the default one has no name of its own.",
        Query(total("airflow_task_instances_active", ["executor"], state="~running|queued"), "executor {{executor}}"),
    ),
    collapsed=True,
)
