-- Version 3 of the journal: snapshots that lie beside a chain (methods lvm and btrfs). There old is what was
-- made, and new the active layer that the guest stayed on.

ALTER TABLE snapshot_disks ADD COLUMN subvolume TEXT; -- old_file lies in this snapshot of a subvolume
ALTER TABLE snapshot_disks ADD COLUMN uuid TEXT;      -- of the logical volume, or of the subvolume
