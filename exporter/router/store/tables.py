"""The router's tables: what is known of each group of alerts, and what Slack shows of it at each destination.

A message is one group at one destination. While `shown` is behind `wanted`, both revisions of its group, it waits or is
a dead letter. It is `done` once it shows that the group is over: what fires after that is a new one, `held` back until
`since` where it may be the word of another Alertmanager that comes late. `sent` stands from before a post until its
answer: who finds it cannot know whether Slack has it.

The thread below a message owes a line while `told`, a revision, is behind `shown`; 0 asks for a reminder. `known` has
the fingerprints that fired when it was told last, `saying` those that the line under way tells, whose `sent` stands
beside a `ts`. Until `quiet` it is silent. What fires within `reopen` seconds of its end is the same message.

In a storm a lane has one summary, which told so many groups, at that time; those that have no message are `stormy`.
So many have `joined` them since a time that is a few minutes ago.

`router_heard` has when something was last heard of: a watchdog, or Windsock itself.

A group that is a DAG's failed run has that DAG as `run_of`. What else is about the DAG has, as its `parent`, that run's
message at the same destination, and is posted in its thread.
"""

from __future__ import annotations

FORMATS = (
    """
CREATE TABLE IF NOT EXISTS router_group (group_id INTEGER PRIMARY KEY, source TEXT NOT NULL, receiver TEXT NOT NULL,
  key TEXT NOT NULL, identity TEXT NOT NULL, revision INTEGER NOT NULL, news INTEGER NOT NULL, over INTEGER NOT NULL,
  first REAL NOT NULL, times INTEGER NOT NULL, seen REAL NOT NULL, snapshot BLOB NOT NULL,
  UNIQUE (source, receiver, key));
CREATE TABLE IF NOT EXISTS router_message (id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL,
  destination TEXT NOT NULL, lane TEXT NOT NULL, mention TEXT NOT NULL, rank INTEGER NOT NULL, since REAL NOT NULL,
  wanted INTEGER NOT NULL, shown INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, channel TEXT, ts TEXT,
  sent REAL, repeat INTEGER NOT NULL DEFAULT 0, level INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  not_before REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', dead REAL, UNIQUE (group_id, destination));
CREATE INDEX IF NOT EXISTS router_waiting ON router_message (lane, rank, since) WHERE shown < wanted AND dead IS NULL;
CREATE INDEX IF NOT EXISTS router_dead ON router_message (destination) WHERE dead IS NOT NULL;
""",
    "ALTER TABLE router_message ADD COLUMN held INTEGER NOT NULL DEFAULT 0;",
    """
ALTER TABLE router_group ADD COLUMN turns TEXT NOT NULL DEFAULT '[]';
ALTER TABLE router_message ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE router_message ADD COLUMN known TEXT;
ALTER TABLE router_message ADD COLUMN saying TEXT;
ALTER TABLE router_message ADD COLUMN quiet REAL NOT NULL DEFAULT 0;
ALTER TABLE router_message ADD COLUMN reopen REAL NOT NULL DEFAULT 0;
UPDATE router_message SET told = shown;
CREATE INDEX router_telling ON router_message (lane, since)
  WHERE told < shown AND shown = wanted AND ts IS NOT NULL AND dead IS NULL;
""",
    """
CREATE TABLE router_storm (lane TEXT PRIMARY KEY, began REAL NOT NULL, at REAL NOT NULL DEFAULT 0,
  told TEXT NOT NULL DEFAULT '', channel TEXT, ts TEXT, sent REAL, since REAL NOT NULL,
  joined INTEGER NOT NULL DEFAULT 0);
CREATE TABLE router_stormy (lane TEXT NOT NULL, group_id INTEGER NOT NULL, destination TEXT NOT NULL,
  mention TEXT NOT NULL, reopen REAL NOT NULL, fires INTEGER NOT NULL, alertname TEXT NOT NULL, dag_id TEXT NOT NULL,
  severity TEXT NOT NULL, PRIMARY KEY (group_id, lane, destination)) WITHOUT ROWID;
CREATE INDEX router_stormy_lane ON router_stormy (lane, fires);
""",
    """
CREATE TABLE IF NOT EXISTS router_heard (kind TEXT NOT NULL, name TEXT NOT NULL, time REAL NOT NULL,
  PRIMARY KEY (kind, name)) WITHOUT ROWID;
""",
    """
ALTER TABLE router_group ADD COLUMN run_of TEXT;
ALTER TABLE router_message ADD COLUMN parent INTEGER;
CREATE INDEX router_runs ON router_group (run_of) WHERE run_of IS NOT NULL;
""",
    "ALTER TABLE router_storm ADD COLUMN repeat INTEGER NOT NULL DEFAULT 0;",
)
"""The tables, and what was added to them, in this order."""
