"""The offset between the database's clock and the daemon's."""

from __future__ import annotations

from exporter.collectors import database


def test_the_offset_is_positive_where_the_database_is_ahead() -> None:
    """It is the database's time minus the daemon's at the moment when the row came."""
    limits = {"component_heartbeat": 30.0, "task_heartbeat": 300.0, "queued": 600.0, "overdue_grace": 60.0}
    row = database.Row(now=1_000_042.0, revision="x", parallelism=32.0, received=1_000_000.0, **limits)
    (offset,) = (metric for metric in database.COLLECTOR.metrics if metric.name == "airflow_db_clock_offset_seconds")
    assert offset.value(row) == 42
