"""DAG files: what could not be imported, what is odd, and when each bundle was last fetched."""

from __future__ import annotations

from typing import NamedTuple

from ..collector import DatabaseCollector, Select, Variant
from ..metrics import Metric


class Bundle(NamedTuple):
    """A DAG bundle (an empty name before Airflow 3); times are unix time."""

    bundle: str
    errors: int
    oldest: float | None
    refreshed: float | None


class Warnings(NamedTuple):
    """The DAG warnings of one type."""

    warning_type: str
    warnings: int


BUNDLES = Select(
    row=Bundle,
    sql="""SELECT coalesce(b.name, e.bundle_name, '') AS bundle, count(e.id) AS errors,
        extract(epoch FROM min(e.timestamp))::float8 AS oldest,
        extract(epoch FROM max(b.last_refreshed))::float8 AS refreshed
      FROM (SELECT name, last_refreshed FROM dag_bundle WHERE active) AS b
      FULL JOIN import_error AS e ON e.bundle_name = b.name
      GROUP BY 1""",
    reads={"dag_bundle": "name active last_refreshed", "import_error": "id bundle_name timestamp"},
    older=(
        Variant(
            """SELECT '' AS bundle, count(*) AS errors, extract(epoch FROM min(timestamp))::float8 AS oldest,
                NULL::float8 AS refreshed
              FROM import_error""",
            reads={"import_error": "timestamp"},
        ),
    ),
    metrics=(
        Metric(
            name="airflow_import_errors",
            help="DAG files that cannot be imported.",
            labels=("bundle",),
            value=lambda row: row.errors,
        ),
        Metric(
            name="airflow_import_error_oldest_timestamp_seconds",
            help="When the oldest import error was recorded; absent without errors.",
            labels=("bundle",),
            value=lambda row: row.oldest,
        ),
        Metric(
            name="airflow_dag_bundle_last_refreshed_timestamp_seconds",
            help="When an active DAG bundle was last refreshed (Airflow 3).",
            labels=("bundle",),
            value=lambda row: row.refreshed,
        ),
    ),
)
WARNINGS = Select(
    row=Warnings,
    sql="SELECT warning_type, count(*) AS warnings FROM dag_warning GROUP BY 1",
    reads={"dag_warning": "warning_type"},
    metrics=(
        Metric(
            name="airflow_dag_warnings",
            help="Warnings about DAGs, such as a pool that does not exist.",
            labels=("warning_type",),
            value=lambda row: row.warnings,
            zeros=(("non-existent pool",),),
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="dag_files", selects=(BUNDLES, WARNINGS))
