"""The scheduler: creates runs, decides what may be tried, and queues as much as pools and limits allow."""

from __future__ import annotations

from datetime import datetime, timedelta

from .airflow import FINISHED, Airflow, Instance, Run
from .dags import DAGS, PARALLELISM, POOLS, Dag

_JOBS = ("TriggererJob", "DagProcessorJob", "SchedulerJob")
_TRIGGERED_BY = {"scheduled": "TIMETABLE", "asset_triggered": "ASSET", "backfill": "BACKFILL"}


class Scheduler:
    """Knows the DAGs from the first, and moves their active runs on."""

    def __init__(self, airflow: Airflow) -> None:
        self._airflow = airflow
        self._job = [airflow.write("add_job", job_type=kind) for kind in _JOBS][-1]
        self._versions = {dag.dag_id: airflow.uuid7() for dag in DAGS}
        self._due = {dag.dag_id: airflow.after(dag.due) for dag in DAGS}
        for dag in DAGS:
            keys = {"version": self._versions[dag.dag_id], "serialized": airflow.uuid7()}
            due = self._due[dag.dag_id] if dag.every or dag.trouble else None
            airflow.write("add_dag", **{**vars(dag), **keys, "due": due})
            if dag.backfill:
                self._backfill(dag)

    def step(self) -> list[Instance]:
        """One loop; returns what it queued, to be sent to Celery once that is committed."""
        for dag in DAGS:
            if dag.assets:
                self._create_for_assets(dag)
            elif dag.every and self._due[dag.dag_id] <= self._airflow.now:
                self._create_by_time(dag)
        for run in tuple(self._airflow.runs):
            if run.run_state == "queued" and self._active(run.dag, "running") < run.dag.max_active_runs:
                run.run_state = "running"
                self._airflow.write("start_run", run_key=run.run_key)
            if run.run_state == "running":
                for instance in tuple(run.instances):
                    self._decide(instance)
                self._finish(run)
        return [instance for instance in self._airflow.instances("scheduled") if self._queue(instance)]

    def _active(self, dag: Dag, *states: str) -> int:
        return sum(run.dag is dag and run.run_state in states for run in self._airflow.runs)

    def _create_by_time(self, dag: Dag) -> None:
        """The run that is due, unless max_active_runs holds it back."""
        held = self._active(dag, "queued", "running") >= dag.max_active_runs
        if not held:
            self._create(dag, "scheduled", self._due[dag.dag_id])
            self._due[dag.dag_id] = max(self._due[dag.dag_id] + timedelta(seconds=dag.every), self._airflow.now)
        self._airflow.write("plan_next_run", dag_id=dag.dag_id, held=held, due=self._due[dag.dag_id])

    def _create_for_assets(self, dag: Dag) -> None:
        """A run once all its assets have an event; it has no logical date."""
        if self._airflow.write("count_queued_assets", dag_id=dag.dag_id) == len(dag.assets):
            run = self._create(dag, "asset_triggered", None)
            self._airflow.write("consume_assets", dag_id=dag.dag_id, run_key=run.run_key)

    def _backfill(self, dag: Dag) -> None:
        today = self._airflow.now.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [today - timedelta(days=day) for day in range(dag.backfill, 0, -1)]
        key = self._airflow.write("add_backfill", first=days[0], last=days[-1], **vars(dag))
        for ordinal, day in enumerate(days, start=1):
            run = self._create(dag, "backfill", day, key)
            self._airflow.write("add_backfill_run", backfill_id=key, run_key=run.run_key, date=day, ordinal=ordinal)

    def _create(self, dag: Dag, kind: str, date: datetime | None, backfill_id: int | None = None) -> Run:
        airflow, after = self._airflow, date or self._airflow.now
        run = Run(0, dag, f"{kind}__{after.isoformat()}", self._versions[dag.dag_id])
        columns = {**vars(dag), **vars(run), "run_type": kind, "triggered_by": _TRIGGERED_BY[kind], "job": self._job}
        run.run_key = airflow.write("add_run", **columns, date=date, run_after=after, backfill_id=backfill_id)
        airflow.runs.append(run)
        for task in dag.tasks:
            self._add(Instance(run, task, airflow.uuid7(), airflow.now))
        if dag.deadline:
            keys = {"deadline": airflow.uuid7(), "callback": airflow.uuid7()}
            airflow.write("add_deadline", **keys, run_key=run.run_key, time=airflow.after(dag.deadline))
        return run

    def _add(self, instance: Instance) -> None:
        instance.run.instances.append(instance)
        self._airflow.write("add_instance", instance)

    def _decide(self, instance: Instance) -> None:
        """What becomes of an instance that waits: for others, for its next try, or for what it asked for."""
        if instance.state is None:
            self._decide_by_upstream(instance)
        elif instance.until <= self._airflow.now:
            if instance.state == "awaiting_input":
                self._airflow.write("answer", instance)
            if instance.state in ("up_for_retry", "up_for_reschedule", "deferred", "awaiting_input"):
                self._schedule(instance, next_try=instance.state == "up_for_retry")

    def _decide_by_upstream(self, instance: Instance) -> None:
        task, others = instance.task, instance.run.instances
        before = {other.state for other in others if other.task.task_id in task.after}
        if not before <= FINISHED:
            return
        if unmet := before - {"success"}:
            self._airflow.change(instance, "skipped" if unmet == {"skipped"} else "upstream_failed", "give_up")
        elif task.mapped and instance.map_index < 0:
            instance.map_index = 0
            self._airflow.write("expand", instance)
            for index in range(1, self._airflow.rng.randint(2, task.mapped)):
                self._add(Instance(instance.run, task, self._airflow.uuid7(), self._airflow.now, index))
        else:
            self._schedule(instance, next_try=True)

    def _schedule(self, instance: Instance, *, next_try: bool) -> None:
        instance.try_number += next_try
        self._airflow.change(instance, "scheduled", "schedule")

    def _queue(self, instance: Instance) -> bool:
        """Queue it, unless the executor or the pool is full."""
        taken, pool = self._airflow.instances("queued", "running"), instance.task.pool
        if len(taken) >= PARALLELISM or sum(other.task.pool == pool for other in taken) >= POOLS[pool]:
            return False
        instance.message = self._airflow.uuid7()
        self._airflow.change(instance, "queued", "queue", job=self._job)
        return True

    def _finish(self, run: Run) -> None:
        """End the run once all is over; its last tasks decide how."""
        if not {instance.state for instance in run.instances} <= FINISHED:
            return
        inner = {name for task in run.dag.tasks for name in task.after}
        last = {instance.state for instance in run.instances if instance.task.task_id not in inner}
        failed = bool(last & {"failed", "upstream_failed"})
        self._airflow.write("end_run", run_key=run.run_key, state="failed" if failed else "success")
        if not failed:
            self._airflow.write("keep_deadlines", run_key=run.run_key)
        self._airflow.runs.remove(run)
