"""Why is this DAG late, or failing?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import TextBoxVariable

from .board import AIRFLOW, Board, choice
from .panels import Column, Query, areas, bars, lines, rows, tile, timeline, to
from .promql import increase, largest, mean, newest, of, oldest, smallest, total, until
from .theme import ANY_IS_BAD, BAD, FUTURE_IS_GOOD, GOOD, OUTCOME, PAUSED, PLAIN, WARN

BOARD = Board(
    "airflow-dag",
    "Airflow / DAG",
    "Why is this DAG late, or failing?",
    alerts='airflow="$airflow", dag_id="$dag_id"',
    variables=(AIRFLOW, choice("dag_id", "DAG", f"label_values({of('airflow_dag_info')}, dag_id)")),
    texts=(TextBoxVariable("airflow_url").label("Airflow's address").default_value("http://localhost:8080"),),
)
BOARD.link("This DAG in Airflow", "${airflow_url}/dags/${dag_id}")

DAG = {"dag_id": "$dag_id"}

BOARD.row(
    "Now",
    tile(
        "State",
        "A paused DAG starts no run. Airflow pauses one by itself after too many failures in a row.",
        largest("airflow_dag_is_paused", (), **DAG),
        names=PAUSED,
    ),
    tile(
        "Last run",
        "How the run ended that was due last. Red until one succeeds: read the log of the task that failed.",
        largest("airflow_dag_last_run_success", (), **DAG),
        names=OUTCOME,
    ),
    tile(
        "Failed in a row",
        "Failed runs since the last success; 100 are as many as are counted. One may be bad luck, three are not.",
        largest("airflow_dag_consecutive_failed_runs", (), **DAG),
        steps=((None, GOOD), (1, WARN), (3, BAD)),
    ),
    tile(
        "Paused after",
        "Failures in a row after which Airflow pauses the DAG. Most DAGs have no such limit.",
        largest("airflow_dag_max_consecutive_failed_runs", (), **DAG),
        none="no limit",
    ),
    tile(
        "Since last success",
        "Time since a run last ended in success. Normal is up to the time between two runs, and a run's duration.",
        newest("airflow_dag_last_success_timestamp_seconds", **DAG),
        "s",
    ),
    tile(
        "Success due in",
        "Time until the DAG should have succeeded, as configured or derived from its schedule. Red: that has passed.",
        until("airflow_dag_success_expected_by_timestamp_seconds", **DAG),
        "s",
        steps=FUTURE_IS_GOOD,
    ),
    tile(
        "Next run in",
        "Time until Airflow is to create the next scheduled run. Negative for long: the scheduler does not keep up.",
        until("airflow_dag_next_run_timestamp_seconds", **DAG),
        "s",
    ),
    tile(
        "Overdue for",
        "For how long a run has been missing that was due. Normal is no value: nothing is missing.",
        oldest("airflow_dag_overdue_since_timestamp_seconds", **DAG),
        "s",
        steps=((None, PLAIN), (0, BAD)),
        none="not overdue",
        link=to("airflow-scheduler"),
    ),
    rows(
        "About",
        "Who owns the DAG and how it is scheduled. Ask the owners, or the team, before you clear or pause it.",
        "dag_id",
        [(Column(""), largest("airflow_dag_info", **DAG))],
        labels=[
            ("dag_id", Column("DAG")),
            ("owners", Column("Owners")),
            ("team", Column("Team")),
            ("bundle", Column("Bundle")),
            ("timetable", Column("Timetable")),
            ("tags", Column("Tags")),
        ],
        hidden=["Value"],
        height=4,
    ),
)

BOARD.row(
    "Runs",
    timeline(
        "Outcome of the last run",
        "How the last run had ended, over time. Green and red by turns is a flaky DAG; red throughout is a broken one.",
        Query(largest("airflow_dag_last_run_success", **DAG), "{{dag_id}}"),
        names=OUTCOME,
        height=4,
    ),
    bars(
        "Runs that ended",
        "Runs that ended within each five minutes or longer, by state. Normal is what the schedule makes, all green.",
        Query(increase("airflow_dag_runs_finished_total", ["state"], **DAG), "{{state}}"),
    ),
    bars(
        "Kinds of runs that ended",
        "The same by kind: scheduled, manual, backfill, asset triggered. A backfill explains many runs at once.",
        Query(increase("airflow_dag_runs_finished_total", ["run_type"], **DAG), "{{run_type}}"),
    ),
    lines(
        "Duration of runs",
        "The last run against the mean of a week. Much longer than usual: see which of its tasks wait or are slow.",
        Query(largest("airflow_dag_last_run_duration_seconds", (), **DAG), "last run"),
        Query(mean("airflow_dag_run_duration_per_dag_seconds", window="7d", **DAG), "mean of 7 days"),
        unit="s",
        limit="mean of 7 days",
    ),
    lines(
        "Oldest active run",
        "For how long the oldest run has been running or queued. A run that only ages is stuck: look at its tasks.",
        Query(oldest("airflow_dag_run_oldest_active_timestamp_seconds", ["state"], **DAG), "{{state}}"),
        unit="s",
    ),
    lines(
        "Active runs",
        "Runs queued or running, and how many may be at a time. Queued ones at the limit just wait for their turn.",
        Query(total("airflow_dag_runs_active", ["state"], **DAG), "{{state}}"),
        Query(largest("airflow_dag_max_active_runs", (), **DAG), "limit"),
        limit="limit",
    ),
    lines(
        "Age of the data",
        "Time since the end of the newest data interval that was processed. It grows by itself and drops with a "
        "success.",
        Query(newest("airflow_dag_last_success_data_interval_end_timestamp_seconds", **DAG), "age"),
        unit="s",
    ),
)

FAILED = increase("airflow_task_instances_finished_total", state="failed", **DAG)
BOARD.row(
    "Tasks",
    areas(
        "Tasks active",
        "Its task instances by state. Many scheduled or queued: they wait for a pool, for parallelism or for workers.",
        Query(total("airflow_dag_task_instances_active", ["state"], **DAG), "{{state}}"),
        link=to("airflow-tasks"),
    ),
    bars(
        "Tries that ended",
        "Tries of its tasks that ended within each five minutes or longer. Orange is what a failure upstream "
        "held back.",
        Query(increase("airflow_task_instances_finished_total", ["state"], **DAG), "{{state}}"),
    ),
    lines(
        "Tries that fail",
        "Share of the tries that failed, also those that were retried. Normal is near 0; a step up is a change "
        "somewhere.",
        Query(f"{FAILED} / ({increase('airflow_task_instances_finished_total', **DAG)} > 0)", "failed"),
        unit="percentunit",
        top=1,
    ),
    bars(
        "Retries",
        "Tries that failed and were followed by another. Retries hide a failing source until there are none left.",
        Query(increase("airflow_task_instance_retries_total", **DAG), "retries"),
    ),
)

BOARD.row(
    "Assets, deadlines, parsing",
    lines(
        "Assets that wait",
        "Assets with an event that waits for the DAG's next run, while others' are to come. No line: it waits "
        "for none.",
        Query(total("airflow_dag_asset_queue", **DAG), "waiting"),
        width=8,
    ),
    lines(
        "Oldest asset event that waits",
        "Age of the oldest such event. Older than the slowest asset's usual pause: that one's producer is late.",
        Query(oldest("airflow_dag_asset_queue_oldest_timestamp_seconds", **DAG), "age"),
        unit="s",
        width=8,
    ),
    lines(
        "Time to parse the file",
        "How long the DAG's file took to parse. Over some seconds, look for work at its top level (Airflow 3.1).",
        Query(smallest("airflow_dag_parse_duration_seconds", (), **DAG), "parsing"),
        unit="s",
        width=8,
    ),
    tile(
        "Deadlines missed",
        "Deadlines of its runs that were marked as missed within 24 hours. Normal is none.",
        total("airflow_deadlines_missed", **DAG),
        steps=ANY_IS_BAD,
        none="none",
        width=24,
    ),
    collapsed=True,
)
