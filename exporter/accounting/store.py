"""The accounting's tables in the state file: only what changed is written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from .facts import Facts
from .ledger import Ledger
from .tracker import Tracked, Tracker, Watermark

TABLES = """
CREATE TABLE IF NOT EXISTS accounting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounting_run (id INTEGER PRIMARY KEY, clear_number INTEGER NOT NULL, state TEXT,
  started REAL, counted INTEGER NOT NULL, quiet REAL);
CREATE TABLE IF NOT EXISTS accounting_attempt (run INTEGER NOT NULL, key TEXT NOT NULL, state TEXT,
  PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounting_series (family TEXT NOT NULL, labels TEXT NOT NULL, cells TEXT NOT NULL,
  shown TEXT NOT NULL, PRIMARY KEY (family, labels)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounting_dag (dag_id TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
"""

Statement = tuple[str, Sequence[tuple[object, ...]]]


@dataclass(slots=True)
class Memory:
    """All that the accounting remembers; of the DAGs that `changed`, those without facts are gone."""

    tracker: Tracker
    ledger: Ledger
    facts: dict[str, Facts] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def saved(self, now: float) -> None:
        """What `statements` said is on disk."""
        self.tracker.saved()
        self.ledger.saved(now)
        self.changed.clear()


def statements(memory: Memory, now: float) -> list[Statement]:
    """What has to be written, as a copy."""
    tracker, facts, changes = memory.tracker, memory.facts, memory.tracker.changes
    forgotten = [(run, tracker.forgotten[run]) for run in changes.gone if run in tracker.forgotten]
    tracked = [(run, tracker.runs[run]) for run in {*changes.runs, *changes.attempts}]
    runs = [(run, it.clear_number, it.state, it.started, it.counted, it.quiet) for run, it in tracked]
    attempts = [(run, *item) for run, seen in changes.attempts.items() for item in seen.items()]
    series = list(memory.ledger.settle(now))
    kept, gone = [row for row in series if row[2] is not None], [row[:2] for row in series if row[2] is None]
    dags = [(dag_id, json.dumps(asdict(facts[dag_id]))) for dag_id in memory.changed if dag_id in facts]
    others = {
        "since": tracker.since,
        "last_poll": tracker.last_poll,
        "scheme": tracker.scheme,
        "floors": [mark.floor for mark in (tracker.created, tracker.jobs, tracker.log)],
        "logged": sorted(tracker.logged),
        "labels": memory.ledger.labels,
    }
    return [
        ("DELETE FROM accounting_run WHERE id = ?", [(run,) for run in changes.gone]),
        ("DELETE FROM accounting_attempt WHERE run = ?", [(run,) for run in changes.gone]),
        ("INSERT OR REPLACE INTO accounting_run VALUES (?, ?, NULL, NULL, 1, NULL)", forgotten),
        ("INSERT OR REPLACE INTO accounting_run VALUES (?, ?, ?, ?, ?, ?)", runs),
        ("INSERT OR REPLACE INTO accounting_attempt VALUES (?, ?, ?)", attempts),
        ("DELETE FROM accounting_series WHERE family = ? AND labels = ?", gone),
        ("INSERT OR REPLACE INTO accounting_series VALUES (?, ?, ?, ?)", kept),
        ("DELETE FROM accounting_dag WHERE dag_id = ?", [(dag_id,) for dag_id in memory.changed - facts.keys()]),
        ("INSERT OR REPLACE INTO accounting_dag VALUES (?, ?)", dags),
        ("INSERT OR REPLACE INTO accounting VALUES ('memory', ?)", [(json.dumps(others),)]),
    ]


def save(connection: sqlite3.Connection, work: Iterable[Statement]) -> None:
    """Write it."""
    for statement, rows in work:
        connection.executemany(statement, rows)


def load(connection: sqlite3.Connection, memory: Memory) -> None:
    """Continue from what was saved; from nothing if nothing was."""
    row = connection.execute("SELECT value FROM accounting WHERE name = 'memory'").fetchone()
    if row is None:
        return
    others, tracker = json.loads(row[0]), memory.tracker
    tracker.since, tracker.last_poll, tracker.scheme = others["since"], others["last_poll"], others["scheme"]
    tracker.created, tracker.jobs, tracker.log = map(Watermark, others["floors"])
    tracker.logged = set(others["logged"])
    runs: dict[int, Tracked] = {}
    for run, clear_number, state, started, counted, quiet in connection.execute("SELECT * FROM accounting_run"):
        if quiet is None:
            tracker.forgotten[run] = clear_number
        else:
            runs[run] = Tracked(clear_number, state, started, bool(counted), quiet)
    for run, key, state in connection.execute("SELECT * FROM accounting_attempt"):
        runs[run].seen[key] = state
    tracker.restore(runs)
    memory.ledger.restore(connection.execute("SELECT * FROM accounting_series"), others["labels"])
    for dag_id, text in connection.execute("SELECT * FROM accounting_dag"):
        memory.facts[dag_id] = Facts(**json.loads(text))
