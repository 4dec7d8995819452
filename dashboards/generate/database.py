"""Is the metadata database well? The last row of the scheduler's board."""

from __future__ import annotations

from .panels import Column, Query, areas, gauges, lines, rows
from .promql import largest, newest, of, oldest, total
from .theme import BAD, GOOD, WARN

CONNECTIONS = f"{total('airflow_db_connections')} / {largest('airflow_db_max_connections')}"
SIZE = of("airflow_db_table_size_bytes")

PANELS = (
    areas(
        "Connections",
        "Connections by state. Many idle in transaction hold locks; `hidden` needs the role pg_read_all_stats.",
        Query(total("airflow_db_connections", ["state"]), "{{state}}"),
        width=8,
    ),
    lines(
        "Share of connections",
        "As a share of what the server allows. Near 1 Airflow fails at random: put PgBouncer in front of it.",
        Query(CONNECTIONS, "used"),
        unit="percentunit",
        steps=((None, GOOD), (0.8, BAD)),
        width=8,
    ),
    lines(
        "Oldest transaction",
        "Age of the oldest open transaction. Normal is seconds; for hours, vacuum removes nothing newer: end its "
        "session.",
        Query(oldest("airflow_db_oldest_transaction_timestamp_seconds"), "age"),
        unit="s",
        width=8,
    ),
    lines(
        "Oldest snapshot",
        "Age of the oldest snapshot, in transactions. What only rises keeps vacuum from its work, such as a dead "
        "replica.",
        Query(largest("airflow_db_oldest_xmin_age_transactions"), "transactions"),
        unit="short",
        width=8,
    ),
    lines(
        "Offset of the clock",
        "The database's clock minus Windsock's. Normal is far below a second: else NTP is missing on one of them.",
        Query(largest("airflow_db_clock_offset_seconds"), "offset"),
        unit="s",
        low=None,
        width=8,
    ),
    gauges(
        "Size of tables",
        "On disk, with indexes. Those that only grow want `airflow db clean`.",
        Query(largest("airflow_db_table_size_bytes"), "{{table}}"),
        unit="bytes",
        steps=((None, GOOD), (1e11, WARN)),
        width=8,
    ),
    rows(
        "Tables",
        "Rows and dead rows by PostgreSQL's estimate. Many dead rows and an old vacuum: tune autovacuum for this "
        "table.",
        "table",
        [
            (Column("Rows", "short"), largest("airflow_db_table_rows_estimate")),
            (Column("Dead rows", "short"), largest("airflow_db_table_dead_rows")),
            (Column("Size", "bytes"), largest("airflow_db_table_size_bytes")),
            (Column("Growth in a day", "bytes"), f"86400 * max by (table) (deriv({SIZE}[1h]))"),
            (Column("Since vacuum", "s"), newest("airflow_db_table_last_vacuum_timestamp_seconds", ["table"])),
        ],
        labels=[("table", Column("Table"))],
        width=16,
    ),
    rows(
        "Schema",
        "The schema's revision and the newest Airflow that has it. Not supported: Windsock reads what it still "
        "understands.",
        "revision",
        [(Column(""), largest("airflow_db_schema_info"))],
        labels=[("version", Column("Airflow")), ("revision", Column("Revision")), ("supported", Column("Supported"))],
        hidden=["Value"],
        width=8,
    ),
)
