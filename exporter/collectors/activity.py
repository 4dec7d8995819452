"""What goes on in the database server: connections, and the transactions that keep vacuum from its work."""

from __future__ import annotations

from typing import NamedTuple

from ..collector import DatabaseCollector, Select
from ..metrics import Metric


class Connections(NamedTuple):
    """This database's connections in one state; `hidden` where the role may not see it."""

    state: str
    connections: int


class Server(NamedTuple):
    """The server as a whole; `oldest_transaction` is unix time, `oldest_xmin` an age in transactions."""

    max_connections: int
    oldest_transaction: float | None
    oldest_xmin: int | None


CONNECTIONS = Select(
    row=Connections,
    sql="""SELECT coalesce(state, 'hidden') AS state, count(*) AS connections FROM pg_stat_activity
      WHERE datname = current_database() AND (backend_type = 'client backend' OR backend_type IS NULL)
      GROUP BY 1""",
    reads={},
    metrics=(
        Metric(
            name="airflow_db_connections",
            help="Connections to the metadata database, by state; `hidden` without pg_read_all_stats.",
            labels=("state",),
            value=lambda row: row.connections,
            zeros=(("active",), ("idle",), ("idle in transaction",)),
        ),
    ),
)
SERVER = Select(
    row=Server,
    sql="""SELECT current_setting('max_connections')::int AS max_connections,
        extract(epoch FROM min(xact_start) FILTER (WHERE datname = current_database()))::float8 AS oldest_transaction,
        greatest(
          max(greatest(age(backend_xmin), age(backend_xid))),
          (SELECT max(greatest(age(xmin), age(catalog_xmin))) FROM pg_replication_slots),
          (SELECT max(age(transaction)) FROM pg_prepared_xacts)
        ) AS oldest_xmin
      FROM pg_stat_activity
      WHERE pid <> pg_backend_pid() AND backend_type IS DISTINCT FROM 'autovacuum worker'""",
    reads={},
    metrics=(
        Metric(
            name="airflow_db_max_connections",
            help="How many connections the server allows in all.",
            value=lambda row: row.max_connections,
        ),
        Metric(
            name="airflow_db_oldest_transaction_timestamp_seconds",
            help="When the oldest open transaction in the metadata database began; absent without one to see.",
            value=lambda row: row.oldest_transaction,
        ),
        Metric(
            name="airflow_db_oldest_xmin_age_transactions",
            help="Age of the oldest snapshot in use, in transactions: vacuum removes nothing newer.",
            value=lambda row: row.oldest_xmin,
        ),
    ),
)
COLLECTOR = DatabaseCollector(name="activity", interval=30.0, selects=(CONNECTIONS, SERVER))
