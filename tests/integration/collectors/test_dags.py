"""DAGs, their runs and their files."""

from __future__ import annotations

from tests.airflow import Airflow

from .conftest import Expect

HOSTILE = 'a"b\\c d é %(x)s %'


async def test_inventory(airflow: Airflow, expect: Expect) -> None:
    """A paused DAG is not overdue, a stale one only counted; labels that a version or a DAG lacks are empty."""
    airflow.bundle("b", team="ops")
    airflow.bundle("ml")
    airflow.dag("etl", bundle="b", owners="jo", timetable="@daily", max_active_runs=3, last_parse_duration=1.5)
    airflow.dag(
        "paused", bundle="ml", paused=True, next_dagrun_create_after=airflow.ago(900), last_parsed_time=airflow.ago(20)
    )
    airflow.dag("gone", stale=True, next_dagrun_create_after=airflow.ago(900), last_parsed_time=airflow.ago(9000))
    airflow.dag("gone and paused", stale=True, paused=True)
    await expect(
        "dags",
        """
        airflow_dags{airflow="a",state="active"} 1
        airflow_dags{airflow="a",state="paused"} 1
        airflow_dags{airflow="a",state="stale"} 2
        2.11- airflow_dag_info{airflow="a",dag_id="etl",owners="jo",team="",bundle="",timetable="@daily",tags=""} 1
        3.0   airflow_dag_info{airflow="a",dag_id="etl",owners="jo",team="",bundle="b",timetable="@daily",tags=""} 1
        3.1+  airflow_dag_info{airflow="a",dag_id="etl",owners="jo",team="ops",bundle="b",timetable="@daily",tags=""} 1
        2.11- airflow_dag_info{airflow="a",dag_id="paused",owners="",team="",bundle="",timetable="",tags=""} 1
        3.0+  airflow_dag_info{airflow="a",dag_id="paused",owners="",team="",bundle="ml",timetable="",tags=""} 1
        airflow_dag_is_paused{airflow="a",dag_id="etl"} 0
        airflow_dag_is_paused{airflow="a",dag_id="paused"} 1
        airflow_dag_max_active_runs{airflow="a",dag_id="etl"} 3
        airflow_dag_next_run_timestamp_seconds{airflow="a",dag_id="paused"} now-900
        airflow_dags_overdue{airflow="a"} 0
        airflow_dag_oldest_parse_timestamp_seconds{airflow="a"} now-20
        3.1+  airflow_dag_parse_duration_seconds{airflow="a",dag_id="etl"} 1.5
        """,
    )


async def test_overdue(airflow: Airflow, expect: Expect) -> None:
    """A DAG is overdue after the grace, but not while max_active_runs holds its next run back."""
    airflow.dag("soon", next_dagrun_create_after=airflow.ago(-3600))
    airflow.dag("just due", next_dagrun_create_after=airflow.ago(570))
    airflow.dag("late", next_dagrun_create_after=airflow.ago(630))
    airflow.dag("manual")
    # At max_active_runs, Airflow forgets the next run; from 3.2 it keeps it and raises a flag.
    if airflow.has("dag", "exceeds_max_non_backfill"):
        airflow.dag("full", next_dagrun_create_after=airflow.ago(900), exceeds_max_non_backfill=True)
    else:
        airflow.dag("full")
    expect.configure(limits={"overdue_grace": "10m"})
    await expect(
        "dags",
        """
        airflow_dag_next_run_timestamp_seconds{airflow="a",dag_id="soon"} now+3600
        airflow_dag_next_run_timestamp_seconds{airflow="a",dag_id="just due"} now-570
        airflow_dag_next_run_timestamp_seconds{airflow="a",dag_id="late"} now-630
        3.2+ airflow_dag_next_run_timestamp_seconds{airflow="a",dag_id="full"} now-900
        airflow_dags_overdue{airflow="a"} 1
        airflow_dag_overdue_since_timestamp_seconds{airflow="a",dag_id="late"} now-630
        """,
        families="airflow_dag_next_run_timestamp_seconds airflow_dags_overdue"
        " airflow_dag_overdue_since_timestamp_seconds",
    )


async def test_tags(airflow: Airflow, expect: Expect) -> None:
    """Of a DAG's tags, those with an allowed key are shown, sorted; a key that only begins alike is another."""
    airflow.dag("tagged", tags=["team:payments", "prio", "teammate:x", "a:b", "team:a,b%", "secret:team"])
    airflow.dag("untagged")
    expect.configure(dags={"tags": ["team", "prio"]})
    info = 'airflow_dag_info{airflow="a",dag_id='
    await expect(
        "dags",
        f"""
        2.11- {info}"tagged",owners="",team="",bundle="",timetable="",tags="prio,team:a,b%,team:payments"}} 1
        3.0+  {info}"tagged",owners="",team="",bundle="dags-folder",timetable="",tags="prio,team:a,b%,team:payments"}} 1
        2.11- {info}"untagged",owners="",team="",bundle="",timetable="",tags=""}} 1
        3.0+  {info}"untagged",owners="",team="",bundle="dags-folder",timetable="",tags=""}} 1
        """,
        families="airflow_dag_info",
    )


async def test_columns_without_a_value(airflow: Airflow, expect: Expect) -> None:
    """Where a version allows NULL in a flag, it means no; a DAG may have no bundle after an upgrade from Airflow 2."""
    airflow.dag("plain", bundle="dags-folder" if airflow.version >= (3, 1) else None, max_active_runs=None)
    if airflow.version < (3, 2):
        airflow.connection.execute("UPDATE dag SET is_paused = NULL")
    if airflow.version in {(3, 0), (3, 1)}:
        airflow.connection.execute("UPDATE dag SET is_stale = NULL")
    await expect(
        "dags",
        """
        airflow_dags{airflow="a",state="active"} 1
        airflow_dags{airflow="a",state="paused"} 0
        airflow_dags{airflow="a",state="stale"} 0
        3.0- airflow_dag_info{airflow="a",dag_id="plain",owners="",team="",bundle="",timetable="",tags=""} 1
        3.1+ airflow_dag_info{airflow="a",dag_id="plain",owners="",team="",bundle="dags-folder",timetable="",tags=""} 1
        airflow_dag_is_paused{airflow="a",dag_id="plain"} 0
        airflow_dags_overdue{airflow="a"} 0
        """,
    )


async def test_active_runs(airflow: Airflow, expect: Expect) -> None:
    """Runs that are over do not count; a running one is as old as its start, a queued one as its queueing."""
    airflow.dag("etl")
    airflow.run("etl", "running", queued_at=airflow.ago(900), start_date=airflow.ago(300))
    airflow.run("etl", "running", queued_at=airflow.ago(900), start_date=airflow.ago(200))
    airflow.run("etl", "queued", queued_at=airflow.ago(60), start_date=airflow.ago(5000))
    airflow.run("etl", "success", queued_at=airflow.ago(9000), start_date=airflow.ago(9000), end_date=airflow.ago(8000))
    airflow.run("etl", "failed", start_date=airflow.ago(9000))
    airflow.run("manual", "queued", run_type="manual")
    airflow.run("etl", "queued", run_type="backfill", queued_at=airflow.ago(7000))
    airflow.run(HOSTILE, "running", start_date=airflow.ago(1))
    await expect(
        "dag_runs",
        r"""
        airflow_dag_runs_active{airflow="a",dag_id="etl",state="running"} 2
        airflow_dag_runs_active{airflow="a",dag_id="etl",state="queued"} 2
        airflow_dag_runs_active{airflow="a",dag_id="manual",state="queued"} 1
        airflow_dag_runs_active{airflow="a",dag_id="a\"b\\c d é %(x)s %",state="running"} 1
        airflow_dag_run_oldest_active_timestamp_seconds{airflow="a",dag_id="etl",state="running"} now-300
        airflow_dag_run_oldest_active_timestamp_seconds{airflow="a",dag_id="etl",state="queued"} now-60
        airflow_dag_run_oldest_active_timestamp_seconds{airflow="a",dag_id="a\"b\\c d é %(x)s %",state="running"} now-1
        """,
    )


async def test_a_run_without_a_logical_date(airflow: Airflow, expect: Expect) -> None:
    """Runs that were triggered by hand or by an asset have none from Airflow 3, and count all the same."""
    date = {"logical_date": None} if airflow.version >= (3, 0) else {}
    airflow.run("etl", "running", run_type="manual", start_date=airflow.ago(10), **date)
    await expect(
        "dag_runs",
        """
        airflow_dag_runs_active{airflow="a",dag_id="etl",state="running"} 1
        airflow_dag_run_oldest_active_timestamp_seconds{airflow="a",dag_id="etl",state="running"} now-10
        """,
    )


async def test_dags_beyond_the_cap(airflow: Airflow, expect: Expect) -> None:
    """The inventory decides who has series of his own; amounts of the others add up, times of theirs are left out."""
    for name in "abcd":
        airflow.dag(name, stale=name == "a")
        airflow.run(name, "running", start_date=airflow.ago(10))
    expect.configure(dags={"max": 1, "deny": "d"})
    await expect("dags", """airflow_dag_is_paused{airflow="a",dag_id="b"} 0""", families="airflow_dag_is_paused")
    await expect(
        "dag_runs",
        """
        airflow_dag_runs_active{airflow="a",dag_id="b",state="running"} 1
        airflow_dag_runs_active{airflow="a",dag_id="__other__",state="running"} 2
        airflow_dag_run_oldest_active_timestamp_seconds{airflow="a",dag_id="b",state="running"} now-10
        """,
    )


async def test_files(airflow: Airflow, expect: Expect) -> None:
    """Each bundle has its errors, real zeros too; an inactive bundle shows only while it has some."""
    airflow.bundle("etl", refreshed=airflow.ago(40))
    airflow.bundle("ml")
    airflow.bundle("old", active=False, refreshed=airflow.ago(90000))
    airflow.bundle("older", active=False, refreshed=airflow.ago(90000))
    airflow.import_error("/dags/a.py", airflow.ago(500), bundle="etl")
    airflow.import_error(f"/dags/{HOSTILE}.py", airflow.ago(900), bundle="etl")
    airflow.import_error("/dags/b.py", airflow.ago(100), bundle="old")
    airflow.import_error("/dags/c.py", airflow.ago(50), bundle=None)
    airflow.dag("etl", bundle="etl")
    airflow.insert("dag_warning", dag_id="etl", warning_type="non-existent pool", message="pool x")
    airflow.insert("dag_warning", dag_id="etl", warning_type="asset conflict", message="asset x")
    await expect(
        "dag_files",
        """
        2.11- airflow_import_errors{airflow="a",bundle=""} 4
        3.0+  airflow_import_errors{airflow="a",bundle=""} 1
        3.0+  airflow_import_errors{airflow="a",bundle="etl"} 2
        3.0+  airflow_import_errors{airflow="a",bundle="ml"} 0
        3.0+  airflow_import_errors{airflow="a",bundle="old"} 1
        2.11- airflow_import_error_oldest_timestamp_seconds{airflow="a",bundle=""} now-900
        3.0+  airflow_import_error_oldest_timestamp_seconds{airflow="a",bundle=""} now-50
        3.0+  airflow_import_error_oldest_timestamp_seconds{airflow="a",bundle="etl"} now-900
        3.0+  airflow_import_error_oldest_timestamp_seconds{airflow="a",bundle="old"} now-100
        3.0+  airflow_dag_bundle_last_refreshed_timestamp_seconds{airflow="a",bundle="etl"} now-40
        airflow_dag_warnings{airflow="a",warning_type="non-existent pool"} 1
        airflow_dag_warnings{airflow="a",warning_type="asset conflict"} 1
        """,
    )
