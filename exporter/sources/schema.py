"""Airflow's schema as the connected database really has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REVISIONS: Mapping[str, str] = {
    "22ed7efa9da2": "2.10",
    "5f2621c13b39": "2.11",
    "29ce7909c52b": "3.0",
    "fe199e1abd77": "3.0",
    "cc92b33c6709": "3.1",
    "509b94a1042d": "3.1",
    "1d6611b6ab7c": "3.2",
    "d2f4e1b3c5a7": "3.3",
}
"""Alembic revisions of supported Airflow versions, to the newest minor that has each (2.10.3 and 2.11 share one)."""

INTROSPECTION = """
SELECT c.relname AS "table", array_agg(a.attname::text) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND c.relnamespace <> 'pg_catalog'::regnamespace
  AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Schema:
    """The Alembic revision, and the columns of every table."""

    revision: str
    columns: Mapping[str, frozenset[str]]

    @property
    def version(self) -> tuple[int, int] | None:
        """The newest Airflow minor with this revision; None for a revision that this build does not know."""
        if self.revision not in REVISIONS:
            return None
        major, minor = REVISIONS[self.revision].split(".")
        return int(major), int(minor)

    def has(self, reads: Mapping[str, str]) -> bool:
        """True if every table is there with every column; columns are written with spaces between them."""
        return all(self.columns.get(table, frozenset()).issuperset(names.split()) for table, names in reads.items())
