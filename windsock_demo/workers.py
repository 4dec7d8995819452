"""Celery's workers: they take messages as long as they have slots, and let tries succeed, fail, skip, wait or retry."""

from __future__ import annotations

from .airflow import Airflow, Instance
from .celery import WORKER, Celery
from .dags import QUEUES


class Workers:
    """One worker per queue."""

    def __init__(self, airflow: Airflow, celery: Celery) -> None:
        self._airflow, self._celery = airflow, celery

    def step(self) -> None:
        """End the tries whose time has come, then start as many as there are messages and slots."""
        for instance in self._airflow.instances("running"):
            if instance.until <= self._airflow.now:
                self._end(instance)
                self._celery.acknowledge(str(instance.message))
        queued = {str(instance.message): instance for instance in self._airflow.instances("queued")}
        for queue, slots in QUEUES.items():
            busy = sum(instance.task.queue == queue for instance in self._airflow.instances("running"))
            while busy < slots and (message := self._celery.take(queue, self._airflow.now)):
                self._start(queued[message])
                busy += 1

    def _start(self, instance: Instance) -> None:
        airflow, task = self._airflow, instance.task
        asks = task.waits and not instance.waited
        instance.until = airflow.after(1 if asks else task.seconds * airflow.rng.uniform(0.7, 1.3))
        airflow.change(instance, "running", "start", hostname=WORKER.format(task.queue))
        airflow.write("log", instance)

    def _end(self, instance: Instance) -> None:
        task, chance = instance.task, self._airflow.rng.random()
        if task.away and self._airflow.now.timestamp() // task.away % 2:
            chance = -1.0
        if task.waits and not instance.waited:
            self._wait(instance, task.waits)
        elif chance < task.fails and instance.try_number <= task.max_tries:
            self._retry(instance)
        elif chance < task.fails + task.skips:
            self._airflow.change(instance, "failed" if chance < task.fails else "skipped", "end")
        else:
            self._airflow.change(instance, "success", "end")
            if task.outlet:
                self._airflow.write("emit", instance)
        self._airflow.write("log", instance)

    def _wait(self, instance: Instance, state: str) -> None:
        """Give the slot back until a trigger fires, a person answers, or it is time to look again."""
        airflow = self._airflow
        instance.until, instance.waited = airflow.after(instance.task.seconds), True
        if state == "up_for_reschedule":
            instance.waited = airflow.rng.random() < 0.5
            airflow.write("reschedule", instance)
        airflow.change(instance, state, {"deferred": "defer", "awaiting_input": "ask"}.get(state, "end"))

    def _retry(self, instance: Instance) -> None:
        """The failed try moves to the history, and its row becomes that of the next one."""
        airflow, new = self._airflow, self._airflow.uuid7()
        airflow.change(instance, "up_for_retry", "end")
        airflow.write("archive", instance)
        airflow.write("renew", instance, new=new)
        instance.id, instance.until, instance.waited = new, airflow.after(3), False
