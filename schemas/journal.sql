-- The journal of rechain. Its invariants stand at the head of jobs/journal.c.
-- Version 1; schemas/snapshots.sql makes version 2 of it (user_version). Times are microseconds since the epoch.

CREATE TABLE operations (
  id       TEXT PRIMARY KEY,
  kind     TEXT NOT NULL,
  vm       TEXT NOT NULL,             -- address of the monitor; '': offline, there is no VM
  state    TEXT NOT NULL,
  decided  INTEGER NOT NULL DEFAULT 0, -- the commit record: 0 nothing, 1 new layer, 2 old layer
  plan     TEXT NOT NULL,             -- JSON, never changed after the operation began
  facts    TEXT NOT NULL,             -- JSON, what is known since
  owner_pid   INTEGER,                -- NULL: nobody
  owner_start INTEGER,
  started  INTEGER NOT NULL,
  ended    INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX operations_open ON operations (vm) WHERE ended IS NULL;

-- What was intended and what was seen, in order.
CREATE TABLE steps (
  seq       INTEGER PRIMARY KEY,
  operation TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
  at        INTEGER NOT NULL,
  step      TEXT NOT NULL,
  disk      TEXT,                     -- NULL: all disks at once
  direction TEXT NOT NULL CHECK (direction IN ('do', 'undo', 'fold', 'unfold')),
  phase     TEXT NOT NULL CHECK (phase IN ('intent', 'sent', 'done', 'skipped', 'failed', 'note')),
  detail    TEXT
) STRICT;

CREATE INDEX steps_of ON steps (operation, seq);
