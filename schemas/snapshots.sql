-- Version 2 of the journal: snapshots on record. What the chain is, only QEMU and the files say;
-- what a snapshot was meant to be, and how it is to be merged, stands here.

CREATE TABLE snapshots (
  id          TEXT PRIMARY KEY,         -- of the operation that made it, or one of its own (redefined)
  vm          TEXT NOT NULL,            -- address of the monitor
  name        TEXT NOT NULL,
  description TEXT,
  parent      TEXT REFERENCES snapshots (id),
  created     INTEGER NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('running', 'paused')), -- of the guest
  UNIQUE (vm, name)
) STRICT, WITHOUT ROWID;

-- The boundary that it draws in the chain of a disk: new lies right over old.
CREATE TABLE snapshot_disks (
  snapshot   TEXT NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
  disk       TEXT NOT NULL,
  method     TEXT NOT NULL,
  on_delete  TEXT NOT NULL CHECK (on_delete IN ('forward', 'backward')),
  old_file   TEXT NOT NULL,             -- read-only since then: the source for backups
  old_format TEXT,
  old_dev    INTEGER NOT NULL,
  old_ino    INTEGER NOT NULL,
  new_file   TEXT NOT NULL,             -- the active layer after it
  new_format TEXT,
  new_dev    INTEGER NOT NULL,
  new_ino    INTEGER NOT NULL,
  PRIMARY KEY (snapshot, disk)
) STRICT, WITHOUT ROWID;
