"""Assets (datasets before Airflow 3): their last events, and the DAGs that wait for the rest of theirs."""

from __future__ import annotations

from operator import add
from typing import NamedTuple

from ..collector import DatabaseCollector, Select, Variant
from ..metrics import Metric


class Event(NamedTuple):
    """The newest event of one asset, in unix time."""

    asset: str
    last_event: float


class Waiting(NamedTuple):
    """A DAG that has got some of the asset events that it is scheduled by; `oldest` is unix time."""

    dag_id: str
    events: int
    oldest: float


EVENTS = Select(
    row=Event,
    sql="""SELECT a.name AS asset, extract(epoch FROM e.timestamp)::float8 AS last_event
      FROM (SELECT asset.id, name FROM asset JOIN asset_active USING (name, uri) ORDER BY 1 LIMIT 1000) AS a
      CROSS JOIN LATERAL (
        SELECT timestamp FROM asset_event WHERE asset_id = a.id ORDER BY timestamp DESC LIMIT 1) AS e""",
    reads={"asset": "id name uri", "asset_active": "name uri", "asset_event": "asset_id timestamp"},
    older=(
        Variant(
            """SELECT d.uri AS asset, extract(epoch FROM e.timestamp)::float8 AS last_event
              FROM (SELECT id, uri FROM dataset WHERE NOT is_orphaned ORDER BY 1 LIMIT 1000) AS d
              CROSS JOIN LATERAL (
                SELECT timestamp FROM dataset_event WHERE dataset_id = d.id ORDER BY timestamp DESC LIMIT 1) AS e""",
            reads={"dataset": "id uri is_orphaned", "dataset_event": "dataset_id timestamp"},
        ),
    ),
    metrics=(
        Metric(
            name="airflow_asset_last_event_timestamp_seconds",
            help="When the asset (its URI before Airflow 3) last had an event; the first 1000 active assets.",
            labels=("asset",),
            value=lambda row: row.last_event,
        ),
    ),
)
_WAITING = """
    SELECT target_dag_id AS dag_id, count(*) AS events, extract(epoch FROM min(created_at))::float8 AS oldest
    FROM {queue} GROUP BY 1
    """
_QUEUE, _OLD_QUEUE = "asset_dag_run_queue", "dataset_dag_run_queue"
WAITING = Select(
    row=Waiting,
    sql=_WAITING.format(queue=_QUEUE),
    reads={_QUEUE: "target_dag_id created_at"},
    older=(Variant(_WAITING.format(queue=_OLD_QUEUE), reads={_OLD_QUEUE: "target_dag_id created_at"}),),
    metrics=(
        Metric(
            name="airflow_dag_asset_queue",
            help="Assets with an event that waits for the DAG's next run, while others' are still to come.",
            labels=("dag_id",),
            value=lambda row: row.events,
            fold=add,
        ),
        Metric(
            name="airflow_dag_asset_queue_oldest_timestamp_seconds",
            help="When the oldest of these events came.",
            labels=("dag_id",),
            value=lambda row: row.oldest,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="assets", interval=30.0, selects=(EVENTS, WAITING))
