"""Task instances, the pools they run in, the triggers and the people they wait for, and the jobs that move them."""

from __future__ import annotations

from typing import Any

from tests.airflow import Airflow

from .conftest import Expect

HOSTILE = 'a"b\\c d é %(x)s %'


async def test_active_task_instances(airflow: Airflow, expect: Expect) -> None:
    """Each state counts until it is over, by pool, queue and executor, and by DAG; no value is an empty label."""
    run = airflow.run("etl", "running")
    airflow.task(run, "running", start_date=airflow.ago(90), pool="gpu", queue="heavy", executor="CeleryExecutor")
    airflow.task(
        run, "running", start_date=airflow.ago(80), pool="gpu", queue="heavy", executor="CeleryExecutor", pool_slots=5
    )
    airflow.task(run, "restarting", start_date=airflow.ago(70), queue=None)
    airflow.task(run, "deferred", start_date=airflow.ago(60))
    for state in (None, "success", "failed", "skipped", "upstream_failed", "removed"):
        airflow.task(run, state, start_date=airflow.ago(9000), end_date=airflow.ago(8000))
    airflow.task(airflow.run(HOSTILE, "running"), "running", start_date=airflow.ago(100))
    await expect(
        "task_instances",
        r"""
        airflow_task_instances_active{airflow="a",state="running",pool="gpu",queue="heavy",executor="CeleryExecutor"} 2
        airflow_task_instances_active{airflow="a",state="restarting",pool="default_pool",queue="",executor=""} 1
        airflow_task_instances_active{airflow="a",state="deferred",pool="default_pool",queue="default",executor=""} 1
        airflow_task_instances_active{airflow="a",state="running",pool="default_pool",queue="default",executor=""} 1
        airflow_dag_task_instances_active{airflow="a",dag_id="etl",state="running"} 2
        airflow_dag_task_instances_active{airflow="a",dag_id="etl",state="restarting"} 1
        airflow_dag_task_instances_active{airflow="a",dag_id="etl",state="deferred"} 1
        airflow_dag_task_instances_active{airflow="a",dag_id="a\"b\\c d é %(x)s %",state="running"} 1
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="running",queue="heavy"} now-90
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="running",queue="default"} now-100
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="restarting",queue=""} now-70
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="deferred",queue="default"} now-60
        airflow_task_instances_heartbeat_stale{airflow="a"} 0
        airflow_task_instances_deferred_overdue{airflow="a"} 0
        """,
    )
    assert expect.context.queues.names() == ["default", "heavy"]


async def test_a_retry_carries_the_times_of_its_last_try(airflow: Airflow, expect: Expect) -> None:
    """What is old in the row of a retried task instance does not make its state old: each state has its own clock."""
    run = airflow.run("etl", "running")
    last_try: dict[str, Any] = {
        "start_date": airflow.ago(5000),
        "end_date": airflow.ago(4000),
        "duration": 1000.0,
        "try_number": 2,
    }
    airflow.task(run, "scheduled", **last_try, queued_dttm=airflow.ago(5100), scheduled_dttm=airflow.ago(20))
    airflow.task(run, "queued", **last_try, queued_dttm=airflow.ago(10), scheduled_dttm=airflow.ago(5200))
    airflow.task(run, "up_for_retry", **last_try, queued_dttm=airflow.ago(5100))
    airflow.task(run, "up_for_reschedule", **last_try | {"end_date": airflow.ago(30)}, queued_dttm=airflow.ago(5100))
    airflow.task(run, "running", start_date=airflow.ago(5), queued_dttm=airflow.ago(6), scheduled_dttm=airflow.ago(7))
    await expect(
        "task_instances",
        """
        3.0+ airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="scheduled",queue="default"} now-20
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="queued",queue="default"} now-10
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="up_for_retry",queue="default"} now-4000
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="up_for_reschedule",queue="default"} now-30
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="running",queue="default"} now-5
        airflow_task_instances_stuck_queued{airflow="a",queue="default"} 0
        """,
        families="airflow_task_instance_oldest_timestamp_seconds airflow_task_instances_stuck_queued",
    )


async def test_stuck_in_the_queue(airflow: Airflow, expect: Expect) -> None:
    """Beyond the limit; a queue with none of them shows 0; those of other executors count, too."""
    run = airflow.run("etl", "running")
    airflow.task(run, "queued", queued_dttm=airflow.ago(570))
    airflow.task(run, "queued", queued_dttm=airflow.ago(630), queue="heavy")
    airflow.task(run, "queued", queued_dttm=airflow.ago(700), queue="heavy", pool="gpu", executor="KubernetesExecutor")
    airflow.task(run, "queued", queued_dttm=None, queue="odd", executor="KubernetesExecutor")
    airflow.task(run, "running", queued_dttm=airflow.ago(9000), start_date=airflow.ago(1))
    await expect(
        "task_instances",
        """
        airflow_task_instances_stuck_queued{airflow="a",queue="default"} 0
        airflow_task_instances_stuck_queued{airflow="a",queue="heavy"} 2
        airflow_task_instances_stuck_queued{airflow="a",queue="odd"} 0
        """,
        families="airflow_task_instances_stuck_queued",
    )
    assert expect.context.queues.names() == ["default", "heavy"]


async def test_without_a_heartbeat(airflow: Airflow, expect: Expect) -> None:
    """A running task instance is stale by its heartbeat, before Airflow 3 by its job's, or when that has ended."""
    run = airflow.run("etl", "running")
    for state in ("running", "restarting"):
        airflow.task(run, state, heartbeat=airflow.ago(270))
        airflow.task(run, state, heartbeat=airflow.ago(330))
        airflow.task(run, state)
    airflow.task(run, "queued", heartbeat=airflow.ago(9000))
    airflow.task(run, "success", heartbeat=airflow.ago(9000))
    if airflow.has("task_instance", "job_id"):
        airflow.task(run, "running", job_id=airflow.job("LocalTaskJob", airflow.ago(5), state="failed")["id"])
    await expect(
        "task_instances",
        """
        2.11- airflow_task_instances_heartbeat_stale{airflow="a"} 3
        3.0+  airflow_task_instances_heartbeat_stale{airflow="a"} 2
        """,
        families="airflow_task_instances_heartbeat_stale",
    )


async def test_deferred_for_too_long(airflow: Airflow, expect: Expect) -> None:
    """A deferred task instance is overdue when its trigger's time is over; most triggers have no limit."""
    run = airflow.run("etl", "running")
    airflow.task(run, "deferred", trigger_timeout=airflow.ago(30))
    airflow.task(run, "deferred", trigger_timeout=airflow.ago(30), queue="heavy")
    airflow.task(run, "deferred", trigger_timeout=airflow.ago(-30))
    airflow.task(run, "deferred")
    airflow.task(run, "running", trigger_timeout=airflow.ago(30))
    await expect(
        "task_instances",
        """airflow_task_instances_deferred_overdue{airflow="a"} 2""",
        families="airflow_task_instances_deferred_overdue",
    )


async def test_pools(airflow: Airflow, expect: Expect) -> None:
    """Slots add up, not task instances; deferred ones take some only where the pool says so; -1 is without limit."""
    airflow.pool("patient", 10, include_deferred=True)
    airflow.pool("endless", -1)
    airflow.pool("overfull", 2)
    run = airflow.run("etl", "running")
    for pool in ("default_pool", "patient", "endless", "overfull"):
        airflow.task(run, "running", pool=pool, pool_slots=2)
        airflow.task(run, "queued", pool=pool)
        airflow.task(run, "deferred", pool=pool, pool_slots=3)
        airflow.task(run, "scheduled", pool=pool)
        airflow.task(run, "scheduled", pool=pool)
        airflow.task(run, "success", pool=pool, pool_slots=7)
    airflow.task(run, "running", pool="deleted")
    used = "\n".join(
        f'airflow_pool_slots_used{{airflow="a",pool="{pool}",state="{state}"}} {slots}'
        for pool in ("default_pool", "patient", "endless", "overfull")
        for state, slots in (("running", 2), ("queued", 1), ("deferred", 3), ("scheduled", 2))
    )
    await expect(
        "pools",
        f"""
        airflow_pool_slots_limit{{airflow="a",pool="default_pool"}} 128
        airflow_pool_slots_limit{{airflow="a",pool="patient"}} 10
        airflow_pool_slots_limit{{airflow="a",pool="endless"}} +Inf
        airflow_pool_slots_limit{{airflow="a",pool="overfull"}} 2
        {used}
        airflow_pool_slots_free{{airflow="a",pool="default_pool"}} 125
        airflow_pool_slots_free{{airflow="a",pool="patient"}} 4
        airflow_pool_slots_free{{airflow="a",pool="endless"}} +Inf
        airflow_pool_slots_free{{airflow="a",pool="overfull"}} -1
        """,
    )


async def test_a_pool_without_a_number_of_slots(airflow: Airflow, expect: Expect) -> None:
    """Where a version allows NULL, such a pool has no slots, and the others are shown as ever."""
    if airflow.version < (3, 2):
        airflow.pool("odd", None)
    await expect(
        "pools",
        """
        3.1- airflow_pool_slots_limit{airflow="a",pool="odd"} 0
        3.1- airflow_pool_slots_free{airflow="a",pool="odd"} 0
        airflow_pool_slots_limit{airflow="a",pool="default_pool"} 128
        airflow_pool_slots_free{airflow="a",pool="default_pool"} 128
        """,
        families="airflow_pool_slots_limit airflow_pool_slots_free",
    )


async def test_triggers(airflow: Airflow, expect: Expect) -> None:
    """The age counts for triggers that nobody runs only."""
    airflow.trigger(airflow.ago(9000), triggerer=7)
    airflow.trigger(airflow.ago(50))
    airflow.trigger(airflow.ago(20))
    await expect(
        "triggers",
        """
        airflow_triggers{airflow="a",assigned="true"} 1
        airflow_triggers{airflow="a",assigned="false"} 2
        airflow_trigger_oldest_unassigned_timestamp_seconds{airflow="a"} now-50
        """,
    )


async def test_questions(airflow: Airflow, expect: Expect) -> None:
    """A question pends while its task instance waits: deferred, or (from Airflow 3.3) awaiting input."""
    run = airflow.run("etl", "running")
    for state, asked, answered in (
        ("deferred", 60, None),
        ("deferred", 900, 800),
        ("awaiting_input", 70, None),
        ("success", 5000, None),
        ("running", 5000, 4000),
    ):
        task = airflow.task(run, state, start_date=airflow.ago(asked))
        airflow.question(task, airflow.ago(asked), answered=None if answered is None else airflow.ago(answered))
    airflow.task(run, "deferred", start_date=airflow.ago(9000))
    await expect(
        "hitl",
        """
        3.1+ airflow_hitl_pending{airflow="a"} 2
        3.1+ airflow_hitl_oldest_pending_timestamp_seconds{airflow="a"} now-70
        """,
    )
    await expect(
        "task_instances",
        """
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="deferred",queue="default"} now-9000
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="running",queue="default"} now-5000
        airflow_task_instance_oldest_timestamp_seconds{airflow="a",state="awaiting_input",queue="default"} now-70
        """,
        families="airflow_task_instance_oldest_timestamp_seconds",
    )


async def test_jobs(airflow: Airflow, expect: Expect) -> None:
    """A job is alive within the limit, stale while it only claims to run; a kind that never ran is absent, not 0."""
    airflow.job("SchedulerJob", airflow.ago(1))
    airflow.job("SchedulerJob", airflow.ago(25))
    airflow.job("SchedulerJob", airflow.ago(125))
    airflow.job("SchedulerJob", airflow.ago(9000), state="success")
    airflow.job("TriggererJob", airflow.ago(500), state="failed")
    airflow.job("LocalTaskJob", airflow.ago(-5))
    airflow.job("BackfillJob", airflow.ago(5))
    expect.configure(limits={"component_heartbeat": "75s"})
    await expect(
        "jobs",
        """
        airflow_job_latest_heartbeat_timestamp_seconds{airflow="a",job_type="SchedulerJob"} now-1
        airflow_job_latest_heartbeat_timestamp_seconds{airflow="a",job_type="TriggererJob"} now-500
        airflow_jobs_alive{airflow="a",job_type="SchedulerJob"} 2
        airflow_jobs_alive{airflow="a",job_type="TriggererJob"} 0
        airflow_jobs_stale{airflow="a",job_type="SchedulerJob"} 1
        airflow_jobs_stale{airflow="a",job_type="TriggererJob"} 0
        """,
    )
