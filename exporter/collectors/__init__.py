"""Every collector there is, in the order in which they start."""

from __future__ import annotations

from .. import accounting
from ..collector import Collector
from . import (
    activity,
    assets,
    backfills,
    broker,
    dag_files,
    dag_runs,
    dags,
    database,
    deadlines,
    hitl,
    jobs,
    pools,
    queue_discovery,
    queues,
    tables,
    task_instances,
    triggers,
)

ALL: tuple[Collector, ...] = (
    database.COLLECTOR,
    dags.COLLECTOR,
    jobs.COLLECTOR,
    dag_runs.COLLECTOR,
    task_instances.COLLECTOR,
    accounting.COLLECTOR,
    pools.COLLECTOR,
    triggers.COLLECTOR,
    dag_files.COLLECTOR,
    assets.COLLECTOR,
    deadlines.COLLECTOR,
    backfills.COLLECTOR,
    hitl.COLLECTOR,
    tables.COLLECTOR,
    activity.COLLECTOR,
    broker.COLLECTOR,
    queue_discovery.COLLECTOR,
    queues.COLLECTOR,
)
