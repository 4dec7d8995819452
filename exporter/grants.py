"""The least that a reader needs: grants made from the columns that the collectors declare."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain

from . import incident_context
from .accounting import Accounting
from .collector import Collector, DatabaseCollector
from .sources.broker import acl_rule


def columns(collectors: Iterable[Collector]) -> dict[str, list[str]]:
    """Every column that some variant of some query reads, by table; those of messages, too."""
    found: dict[str, set[str]] = {}
    read = (it.selects for it in collectors if isinstance(it, DatabaseCollector | Accounting))
    for select in chain(*read, incident_context.SELECTS):
        for variant in select.variants:
            for table, names in variant.reads.items():
                found.setdefault(table, set()).update(names.split())
    return {table: sorted(names) for table, names in sorted(found.items())}


def postgres_grants(collectors: Iterable[Collector], role: str) -> str:
    """A script for the database's owner: it makes the role and lets it read these columns, where the schema has them.

    It can be run again, after an upgrade of Airflow for instance. ValueError unless `role` is a plain name.
    """
    role = _plain(role)
    wanted = ",\n".join(f"    ('{table}', '{' '.join(names)}')" for table, names in columns(collectors).items())
    return f"""\
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
    CREATE ROLE {role} LOGIN;  -- and give it a password: \\password {role}
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE EXCEPTION 'let an administrator run: CREATE ROLE {role} LOGIN';
END $$;

DO $$
BEGIN
  GRANT pg_read_all_stats TO {role};
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'without pg_read_all_stats, which an administrator may grant, the states of other sessions stay hidden';
END $$;

DO $$
DECLARE
  granted record;
  tables integer := 0;
BEGIN
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO {role}', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO {role}', current_schema());
  FOR granted IN
    SELECT c.oid::regclass AS "table", string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) AS columns
    FROM (VALUES
{wanted}
    ) AS wanted (name, columns)
    JOIN pg_class AS c ON c.relname = wanted.name AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname::text = ANY (string_to_array(wanted.columns, ' '))
    GROUP BY 1
  LOOP
    EXECUTE format('GRANT SELECT (%s) ON %s TO {role}', granted.columns, granted."table");
    tables := tables + 1;
  END LOOP;
  IF tables = 0 THEN
    RAISE EXCEPTION 'no table of Airflow in database %, schema %: connect to the right one, or SET search_path first',
      current_database(), current_schema();
  END IF;
END $$;
"""  # noqa: S608  (it is printed, of names that are checked)


def _plain(name: str) -> str:
    if not re.fullmatch("[a-z_][a-z0-9_]*", name):
        raise ValueError(f"not a plain role name: {name}")
    return name


def redis_grants(user: str) -> str:
    """The command that makes the broker's least-privilege user, for Redis 7 and Valkey, and for Redis 6."""
    return f"""\
# Redis 7, Valkey
{acl_rule(_plain(user))}

# Redis 6
{acl_rule(user, redis_6=True)}
"""
