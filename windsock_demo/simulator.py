"""A small Airflow, simulated: what its components write to the database and the broker, one step after the other."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection
from redis import Redis

from .airflow import Airflow
from .celery import Celery
from .dags import BUNDLES, DAGS, POOLS
from .scheduler import Scheduler
from .workers import Workers


class Simulator:
    """An Airflow 3.3 with Celery, on an empty schema and broker; what it does follows from seed and times."""

    def __init__(self, connection: Connection[Any], broker: Redis, start: datetime, seed: int = 0) -> None:
        self._connection = connection
        self._airflow = Airflow(connection, seed, start)
        self._celery = Celery(broker)
        with connection.transaction():
            for name, team in BUNDLES.items():
                self._airflow.write("add_bundle", name=name, team=team)
            for name, slots in POOLS.items():
                self._airflow.write("add_pool", name=name, slots=slots)
            for name in {asset: None for dag in DAGS for asset in dag.assets}:
                self._airflow.write("add_asset", name=name)
            self._scheduler = Scheduler(self._airflow)
        self._workers = Workers(self._airflow, self._celery)

    def step(self, now: datetime) -> None:
        """Let the time be `now`, and everybody do what there is to do."""
        self._airflow.now = now
        with self._connection.transaction():
            self._airflow.write("pass_time")
            queued = self._scheduler.step()
        for instance in queued:
            self._celery.put(instance, self._airflow.uuid7())
        with self._connection.transaction():
            self._workers.step()
