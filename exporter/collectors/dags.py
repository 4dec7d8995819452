"""DAGs: how many there are, who owns them, and which should have started their next run already."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add
from typing import NamedTuple

from ..collector import Context, DatabaseCollector, Select, Variant
from ..metrics import Metric


class Row(NamedTuple):
    """One DAG; `state` is active, paused or stale, times are unix time, and `parse_duration` is in seconds."""

    dag_id: str
    state: str
    owners: str | None
    team: str | None
    bundle: str | None
    timetable: str | None
    tags: str | None
    max_active_runs: int | None
    next_run: float | None
    overdue: bool
    parsed: float | None
    parse_duration: float | None

    @property
    def present(self) -> bool:
        """False for a DAG whose file is gone: it has no series of its own."""
        return self.state != "stale"


_COLUMNS = "dag_id is_paused owners max_active_runs next_dagrun_create_after last_parsed_time"
_INVENTORY = """
    SELECT d.dag_id, CASE WHEN {stale} THEN 'stale' WHEN d.is_paused THEN 'paused' ELSE 'active' END AS state,
      d.owners, team.name AS team, {bundle} AS bundle, {timetable} AS timetable, tag.names AS tags, d.max_active_runs,
      extract(epoch FROM d.next_dagrun_create_after)::float8 AS next_run,
      coalesce(NOT {stale} AND NOT coalesce(d.is_paused, false) AND NOT {held}
        AND d.next_dagrun_create_after < now() - make_interval(secs => %(overdue_grace)s), false) AS overdue,
      extract(epoch FROM d.last_parsed_time)::float8 AS parsed, {duration}::float8 AS parse_duration
    FROM dag AS d
    LEFT JOIN ({team}) AS team ON team.bundle = {bundle}
    LEFT JOIN (
      SELECT dag_id, string_agg(name, ',' ORDER BY name) AS names FROM dag_tag
      WHERE split_part(name, ':', 1) = ANY(%(tags)s) GROUP BY 1
    ) AS tag ON tag.dag_id = d.dag_id
    """


_AIRFLOW_2 = {
    "stale": "NOT coalesce(d.is_active, false)",
    "bundle": "NULL::text",
    "timetable": "nullif(trim('\"' FROM d.schedule_interval), 'null')",  # JSON
    "duration": "NULL",
    "held": "false",  # whether max_active_runs holds a run back
    "team": "SELECT NULL::text AS bundle, NULL::text AS name WHERE false",
}
_AIRFLOW_3_0 = _AIRFLOW_2 | {
    "stale": "coalesce(d.is_stale, false)",
    "bundle": "d.bundle_name",
    "timetable": "d.timetable_summary",
}
_AIRFLOW_3_1 = _AIRFLOW_3_0 | {
    "duration": "d.last_parse_duration",
    "team": """SELECT dag_bundle_name AS bundle, min(t.name) AS name
        FROM dag_bundle_team JOIN team AS t ON t.id = team_id GROUP BY 1""",
}
_AIRFLOW_3_2 = _AIRFLOW_3_1 | {
    "held": "coalesce(d.exceeds_max_non_backfill, false)",
    "team": "SELECT dag_bundle_name AS bundle, min(team_name) AS name FROM dag_bundle_team GROUP BY 1",
}
_DAG_2, _DAG_3_0 = "is_active schedule_interval", "is_stale bundle_name timetable_summary"
_DAG_3_1 = f"{_DAG_3_0} last_parse_duration"


def _reads(dag: str, **others: str) -> dict[str, str]:
    return {"dag": f"{_COLUMNS} {dag}", "dag_tag": "dag_id name", **others}


def _notice(context: Context, rows: Sequence[Row]) -> None:
    context.dags.update(row.dag_id for row in rows if row.present)


DAGS = Select(
    row=Row,
    notice=_notice,
    sql=_INVENTORY.format(**_AIRFLOW_3_2),
    reads=_reads(f"{_DAG_3_1} exceeds_max_non_backfill", dag_bundle_team="dag_bundle_name team_name"),
    older=(
        Variant(
            _INVENTORY.format(**_AIRFLOW_3_1),
            _reads(_DAG_3_1, dag_bundle_team="dag_bundle_name team_id", team="id name"),
        ),
        Variant(_INVENTORY.format(**_AIRFLOW_3_0), _reads(_DAG_3_0)),
        Variant(_INVENTORY.format(**_AIRFLOW_2), _reads(_DAG_2)),
    ),
    metrics=(
        Metric(
            name="airflow_dags",
            help="DAGs; a stale one's file is gone.",
            labels=("state",),
            value=lambda row: 1,
            fold=add,
            zeros=(("active",), ("paused",), ("stale",)),
        ),
        Metric(
            name="airflow_dag_info",
            help="A DAG's owners, team, bundle and timetable; `tags` are those that airflow.dags.tags allows.",
            labels=("dag_id", "owners", "team", "bundle", "timetable", "tags"),
            value=lambda row: 1 if row.present else None,
        ),
        Metric(
            name="airflow_dag_is_paused",
            help="1 if the DAG is paused, else 0.",
            labels=("dag_id",),
            value=lambda row: row.state == "paused" if row.present else None,
        ),
        Metric(
            name="airflow_dag_max_active_runs",
            help="How many runs of the DAG may be active at a time.",
            labels=("dag_id",),
            value=lambda row: row.max_active_runs if row.present else None,
        ),
        Metric(
            name="airflow_dag_next_run_timestamp_seconds",
            help="When the next scheduled run is due to be created; absent when none is planned.",
            labels=("dag_id",),
            value=lambda row: row.next_run if row.present else None,
        ),
        Metric(
            name="airflow_dags_overdue",
            help="Active DAGs whose next run was due more than airflow_dag_overdue_grace_seconds ago.",
            value=lambda row: row.overdue,
            fold=add,
            zeros=((),),
        ),
        Metric(
            name="airflow_dag_overdue_since_timestamp_seconds",
            help="When the run that an overdue DAG still lacks was due; absent for all other DAGs.",
            labels=("dag_id",),
            value=lambda row: row.next_run if row.overdue else None,
        ),
        Metric(
            name="airflow_dag_oldest_parse_timestamp_seconds",
            help="When the DAG that was not parsed for the longest time was last parsed.",
            value=lambda row: row.parsed if row.present else None,
            fold=min,
        ),
        Metric(
            name="airflow_dag_parse_duration_seconds",
            help="How long the DAG's file took to parse the last time (Airflow 3.1).",
            labels=("dag_id",),
            value=lambda row: row.parse_duration if row.present else None,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="dags", interval=30.0, selects=(DAGS,))
