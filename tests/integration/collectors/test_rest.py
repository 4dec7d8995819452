"""Assets, deadlines and backfills; the database itself; and an Airflow that has done nothing yet."""

from __future__ import annotations

from tests.airflow import Airflow

from .conftest import COLLECTORS, Expect

EMPTY = {
    "database": """
        2.11- airflow_db_schema_info{airflow="a",revision="5f2621c13b39",version="2.11",supported="true"} 1
        3.0 airflow_db_schema_info{airflow="a",revision="fe199e1abd77",version="3.0",supported="true"} 1
        3.1 airflow_db_schema_info{airflow="a",revision="509b94a1042d",version="3.1",supported="true"} 1
        3.2 airflow_db_schema_info{airflow="a",revision="1d6611b6ab7c",version="3.2",supported="true"} 1
        3.3 airflow_db_schema_info{airflow="a",revision="d2f4e1b3c5a7",version="3.3",supported="true"} 1
        airflow_db_clock_offset_seconds{airflow="a"} any
        airflow_job_heartbeat_limit_seconds{airflow="a"} 30
        airflow_task_instance_heartbeat_limit_seconds{airflow="a"} 300
        airflow_task_instance_queued_limit_seconds{airflow="a"} 600
        airflow_dag_overdue_grace_seconds{airflow="a"} 60
        airflow_executor_parallelism{airflow="a"} 32
        """,
    "dags": """
        airflow_dags{airflow="a",state="active"} 0
        airflow_dags{airflow="a",state="paused"} 0
        airflow_dags{airflow="a",state="stale"} 0
        airflow_dags_overdue{airflow="a"} 0
        """,
    "jobs": "",
    "dag_runs": "",
    "task_instances": """
        airflow_task_instances_heartbeat_stale{airflow="a"} 0
        airflow_task_instances_deferred_overdue{airflow="a"} 0
        """,
    "pools": """
        airflow_pool_slots_limit{airflow="a",pool="default_pool"} 128
        airflow_pool_slots_used{airflow="a",pool="default_pool",state="running"} 0
        airflow_pool_slots_used{airflow="a",pool="default_pool",state="queued"} 0
        airflow_pool_slots_used{airflow="a",pool="default_pool",state="scheduled"} 0
        airflow_pool_slots_used{airflow="a",pool="default_pool",state="deferred"} 0
        airflow_pool_slots_free{airflow="a",pool="default_pool"} 128
        """,
    "triggers": """
        airflow_triggers{airflow="a",assigned="false"} 0
        airflow_triggers{airflow="a",assigned="true"} 0
        """,
    "dag_files": """
        2.11- airflow_import_errors{airflow="a",bundle=""} 0
        airflow_dag_warnings{airflow="a",warning_type="non-existent pool"} 0
        """,
    "assets": "",
    "deadlines": """
        3.1+ airflow_deadlines_pending{airflow="a"} 0
        3.1+ airflow_deadlines_unhandled{airflow="a"} 0
        """,
    "backfills": """
        3.0+ airflow_backfills_active{airflow="a",paused="false"} 0
        3.0+ airflow_backfills_active{airflow="a",paused="true"} 0
        """,
    "hitl": """
        3.1+ airflow_hitl_pending{airflow="a"} 0
        """,
}


async def test_an_airflow_that_has_done_nothing(expect: Expect) -> None:
    """Right after `db migrate` every collector succeeds: what can be counted is 0, what is not known is absent."""
    for name, text in EMPTY.items():
        await expect(name, text)
    measured = {name for name, collector in COLLECTORS.items() if collector.source == "database"} - EMPTY.keys()
    assert measured == {"tables", "activity", "accounting"}
    for name in measured:
        assert await expect.samples(name)


async def test_assets(airflow: Airflow, expect: Expect) -> None:
    """An active asset shows its newest event, an inactive one none; a waiting DAG shows how many events it has got."""
    orders, users = airflow.asset("orders"), airflow.asset('us"er\\s\n%', uri="s3://users")
    gone = airflow.asset("gone", active=False)
    airflow.asset("never")
    for asset, age in ((orders, 100), (orders, 50), (orders, 70), (users, 5), (gone, 1)):
        airflow.asset_event(asset, airflow.ago(age))
    airflow.dag("report")
    airflow.asset_queue(orders, "report", airflow.ago(50))
    airflow.asset_queue(users, "report", airflow.ago(5))
    await expect(
        "assets",
        r"""
        2.11- airflow_asset_last_event_timestamp_seconds{airflow="a",asset="s3://orders"} now-50
        3.0+  airflow_asset_last_event_timestamp_seconds{airflow="a",asset="orders"} now-50
        2.11- airflow_asset_last_event_timestamp_seconds{airflow="a",asset="s3://users"} now-5
        3.0+  airflow_asset_last_event_timestamp_seconds{airflow="a",asset="us\"er\\s\n%"} now-5
        airflow_dag_asset_queue{airflow="a",dag_id="report"} 2
        airflow_dag_asset_queue_oldest_timestamp_seconds{airflow="a",dag_id="report"} now-50
        """,
    )


async def test_deadlines(airflow: Airflow, expect: Expect) -> None:
    """Past and unmarked is unhandled; a missed one counts for a day, by the DAG of its run."""
    etl, report = airflow.run("etl", "running"), airflow.run("report")
    airflow.deadline(etl, airflow.ago(-600))
    airflow.deadline(etl, airflow.ago(-900))
    airflow.deadline(report, airflow.ago(30))
    airflow.deadline(report, airflow.ago(3600), missed=True)
    airflow.deadline(report, airflow.ago(7200), missed=True)
    airflow.deadline(etl, airflow.ago(90000), missed=True)
    await expect(
        "deadlines",
        """
        3.1+ airflow_deadlines_pending{airflow="a"} 3
        3.1+ airflow_deadline_next_timestamp_seconds{airflow="a"} now-30
        3.1+ airflow_deadlines_unhandled{airflow="a"} 1
        3.1+ airflow_deadlines_missed{airflow="a",dag_id="report"} 2
        3.1+ airflow_deadline_last_missed_timestamp_seconds{airflow="a",dag_id="report"} now-3600
        """,
    )


async def test_backfills(airflow: Airflow, expect: Expect) -> None:
    """A backfill is active until it is complete; one that nobody paused runs."""
    airflow.dag("etl")
    airflow.backfill("etl")
    airflow.backfill("etl", paused=None)
    airflow.backfill("etl", paused=True)
    airflow.backfill("etl", completed=airflow.ago(60))
    await expect(
        "backfills",
        """
        3.0+ airflow_backfills_active{airflow="a",paused="false"} 2
        3.0+ airflow_backfills_active{airflow="a",paused="true"} 1
        """,
    )


async def test_limits(airflow: Airflow, expect: Expect) -> None:
    """Every limit that another metric has baked in is shown as it is configured; a parallelism of 0 is none."""
    expect.configure(
        limits={"component_heartbeat": "1m", "task_heartbeat": "2m", "queued": "1h", "overdue_grace": "0s"},
        parallelism=0,
    )
    await expect(
        "database",
        """
        airflow_job_heartbeat_limit_seconds{airflow="a"} 60
        airflow_task_instance_heartbeat_limit_seconds{airflow="a"} 120
        airflow_task_instance_queued_limit_seconds{airflow="a"} 3600
        airflow_dag_overdue_grace_seconds{airflow="a"} 0
        airflow_executor_parallelism{airflow="a"} +Inf
        """,
        families="airflow_job_heartbeat_limit_seconds airflow_task_instance_heartbeat_limit_seconds"
        " airflow_task_instance_queued_limit_seconds airflow_dag_overdue_grace_seconds airflow_executor_parallelism",
    )
