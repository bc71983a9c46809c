"""doctor and logical volumes, in a guest with a device-mapper: what operations left there, a snapshot that ran full,
a volume that was made smaller under its disk, one that is not active."""

import json
import shlex

import pytest

from harness import lvm
from harness.scene import valid

pytestmark = pytest.mark.skipif(lvm.missing([lvm.QEMU]) is not None, reason=str(lvm.missing([lvm.QEMU])))

SCRIPT = r"""
set -e
mkdir -p /etc/lvm /run/lock/lvm /tmp/bad
printf '[storage]\nallow-vg=vg0\n[vm web]\nqmp=/tmp/qmp\n' > /tmp/conf
R="rechain --state-dir /tmp/state --config /tmp/conf"
dd if=/dev/zero of=/dev/vda bs=1M count=1 2>/dev/null
lvm vgcreate -y vg0 /dev/vda >&2
look() { set +e; $R -o json doctor "$@"; echo "{\"rc\":$?}"; set -e; }
volumes() { echo "{\"volumes\":[$(lvm lvs --noheadings -o lv_name vg0 | sed 's/ *\([^ ]*\) */"\1"/' | tr '\n' ',' | sed 's/,$//')]}"; }

# An operation that was taken back, and its volume, as if that had not been removed.
cat > /tmp/bad/lvm <<'END'
#!/bin/sh
[ "$1" = lvrename ] || exec /lvm/bin/lvm "$@"
echo $4 > /tmp/part; exit 5
END
chmod 755 /tmp/bad/lvm
set +e
PATH=/tmp/bad:$PATH $R vol create /dev/vg0/new --capacity 8M >&2
echo "{\"rc\":$?}"
set -e
part=$(cat /tmp/part)
id=$($R -o json op list | tr -d '\n ' | sed 's/.*"operation":"\([0-9a-f]*\)".*/\1/')
left() { lvm lvcreate -y -Zn -Wn -L 4M -n $1 --addtag rechain-$2 vg0 >&2; }
left $part $id
left strange 01234567
left renamed $id
lvm lvcreate -y -Zn -Wn -L 4M -n theirs vg0 >&2
exec 9< /dev/vg0/$part
look
exec 9<&-
look --repair -n
volumes
# Whoever is killed while it removes it: recover goes on once that has ended.
cat > /tmp/bad/lvm <<'END'
#!/bin/sh
[ "$1" = lvremove ] || exec /lvm/bin/lvm "$@"
touch /tmp/removing; sleep 3; exec /lvm/bin/lvm "$@"
END
PATH=/tmp/bad:$PATH $R doctor --repair >&2 &
pid=$!
while [ ! -e /tmp/removing ]; do sleep 0.1; done
kill -9 $pid; wait $pid || true
$R -o json recover
volumes
look
lvm lvremove -f -y vg0/strange vg0/renamed >&2
look

# A disk in a volume, and a snapshot of it that runs full.
lvm lvcreate -y -Zn -Wn -L 16M -n a vg0 >&2
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu
qemu-system-x86_64 -L /lvm/share -S -machine q35,accel=tcg -nodefaults -display none -m 32 -daemonize -pidfile /tmp/pid \
  -qmp unix:/tmp/qmp,server=on,wait=off \
  -blockdev driver=host_device,node-name=fa,filename=/dev/vg0/a -blockdev driver=raw,node-name=a,file=fa \
  -device virtio-blk-pci,id=vda,drive=a >&2
$R snapshot create web vda,method=lvm,size=8M --name s >&2
look web
dd if=/dev/urandom of=/dev/vg0/a bs=1M count=7 conv=notrunc,fsync >&2
look web
dd if=/dev/urandom of=/dev/vg0/a bs=1M count=9 seek=7 conv=notrunc >&2; sync
look web
$R snapshot delete web s >&2
look web
lvm lvreduce -f -y -L 8M vg0/a >&2
look web
lvm lvextend -L 16777216b vg0/a >&2
look web
$R snapshot create web vda,method=lvm,size=8M --name gone >&2
lvm lvremove -f -y vg0/a-gone >&2
look web
$R snapshot delete web gone --metadata-only >&2
look web
# An overlay in a volume is the last thing done to the disk; then the VM is off, and the volume not active.
lvm lvcreate -y -Zn -Wn -L 16M -n top vg0 >&2
$R snapshot create web vda,to=/tmp/over.qcow2 >&2
pid=$(cat /tmp/pid); kill $pid; while [ -e /proc/$pid ]; do sleep 0.1; done
look web
lvm lvchange -an vg0/a >&2
look web
lvm lvchange -ay -K vg0/a >&2
look web
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    decoder, documents = json.JSONDecoder(), []
    text = lvm.run(SCRIPT, str(tmp_path_factory.mktemp("lvm")), timeout=400, programs=[lvm.QEMU], memory_mib=1024, writes=1)
    text = text.strip().replace("\r", "")
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(valid(document) if "schema" in document else document)
        text = text[end:].lstrip()
    return documents


def findings(told):
    """Of each look, about volumes and records; what this guest has not installed is another matter."""
    return [[f for f in d["findings"] if f["kind"] not in ("program", "configuration", "unused-image")]
            for d in told if d.get("schema") == "rechain.doctor/1"]


def volumes(told):
    return [d["volumes"] for d in told if "volumes" in d]


def test_a_volume_that_an_undone_operation_left_is_named_and_others_with_a_tag_only_shown(told):
    assert [d["rc"] for d in told if "rc" in d][0] == 7
    open_, closed = findings(told)[:2]
    kinds = {f["file"]: (f["kind"], f["severity"], f["repairable"]) for f in closed}
    (part,) = [path for path in kinds if path not in ("/dev/vg0/strange", "/dev/vg0/renamed")]
    assert kinds == {part: ("volume", "warning", True), "/dev/vg0/strange": ("volume", "warning", False),
                     "/dev/vg0/renamed": ("volume", "note", False)}
    assert {f["file"]: f["repairable"] for f in open_}[part] is False       # a process had it open
    assert all("/dev/vg0/theirs" not in json.dumps(f) for f in closed)


def test_the_repair_is_planned_killed_and_finished_by_recover(told):
    (planned,) = [d for d in told if d.get("plans")]
    (plan,) = planned["plans"]
    assert [s["step"] for s in valid(plan)["steps"]] == ["records", "files", "volumes"]
    before, after = volumes(told)
    (recovered,) = [d["operations"] for d in told if d.get("schema") == "rechain.operation-list/1" and d["operations"]]
    assert [(o["kind"], o["state"]) for o in recovered] == [("repair", "done")]
    assert len(before) == 4 and sorted(after) == ["renamed", "strange", "theirs"]
    assert {f["file"] for f in findings(told)[2]} == {"/dev/vg0/strange", "/dev/vg0/renamed"}
    assert findings(told)[3] == []


def test_a_snapshot_is_well_then_nearly_full_then_lost_then_deleted(told):
    well, nearly, lost, deleted = findings(told)[4:8]
    assert well == deleted == []
    assert [(f["kind"], f["severity"]) for f in nearly] == [("space", "warning")]
    assert shlex.split(nearly[0]["cure"]["command"]) == ["lvm", "lvextend", "-l", "+50%LV", "vg0/a-s"]
    assert [(f["kind"], f["severity"]) for f in lost] == [("volume", "error")]
    assert lost[0]["cure"]["command"] == "rechain snapshot delete web s"


def test_a_volume_that_is_smaller_than_its_disk_is_an_error_and_the_cure_works(told):
    (finding,), cured = findings(told)[8:10]
    assert (finding["kind"], finding["severity"], finding["vm"]) == ("volume", "error", "web") and cured == []
    assert finding["cure"]["command"] == "lvm lvextend -L 16777216b vg0/a"


def test_a_record_whose_volume_is_gone_is_named(told):
    (finding,), cured = findings(told)[10:12]
    assert finding["kind"] == "snapshot-record" and "/dev/vg0/a-gone" in str(finding["evidence"]) and cured == []


def test_a_layer_that_is_not_active_is_named_with_what_activates_it(told):
    off, inactive, cured = findings(told)[12:]
    assert off == cured == []
    assert [f["kind"] for f in inactive] == ["chain", "snapshot-record"]
    assert inactive[0]["cure"]["command"] == "lvm lvchange -ay -K vg0/a"
