"""--grow-lv, in a guest with a device-mapper: qcow2 images in logical volumes that are smaller than what comes into
them. A QEMU runs there whose guest (harness/writer.S) writes 1, 2, 3 ..., each to a cluster of its own."""

import json

import pytest

from harness import lvm
from harness.scene import valid

pytestmark = pytest.mark.skipif(lvm.missing([lvm.QEMU]) is not None, reason=str(lvm.missing([lvm.QEMU])))

# The disk: 96 MiB, the guest's numbers from its beginning on, 12 MiB of random data from 64 MiB on.
SCRIPT = r"""
set -e
mkdir -p /etc/lvm /run/lock/lvm /tmp/slow
R="rechain --state-dir /tmp/state --config /tmp/conf --progress none"
Q=/tmp/qmp
printf '[storage]\nallow-vg=vg0\n' > /tmp/conf
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu
dd if=/dev/zero of=/dev/vda bs=1M count=1 2>/dev/null
lvm vgcreate -y -s 1M vg0 /dev/vda >&2
truncate -s 96M /tmp/raw
dd if=/lvm/share/writer of=/tmp/raw conv=notrunc 2>/dev/null
dd if=/dev/urandom of=/tmp/raw bs=1M count=12 seek=64 conv=notrunc 2>/dev/null
# An lvextend that waits until the test lets it go.
cat > /tmp/slow/lvm <<'END'
#!/bin/sh
[ "$1" != lvextend ] || { touch /tmp/begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; }
exec /lvm/bin/lvm "$@"
END
chmod 755 /tmp/slow/lvm
slowly() { rm -f /tmp/begun /tmp/go; PATH=/tmp/slow:$PATH "$@"; }
begun() { while [ ! -e /tmp/begun ]; do sleep 0.1; done; }

lv() { lvm lvcreate -y -Zn -Wn -L $2 -n $1 vg0 >&2; }
disk() { lv $1 $2; qemu-img convert -f raw -O qcow2 /tmp/raw /dev/vg0/$1 >&2; }
empty() { lv $1 4M; qemu-img create -q -f qcow2 /dev/vg0/$1 96M >&2; }
overlay() { lv $1 ${3:-4M}; qemu-img create -q -f qcow2 -u -b /dev/vg0/$2 -F qcow2 /dev/vg0/$1 96M >&2; }
boot() {
  qemu-system-x86_64 -L /lvm/share -machine q35,accel=tcg -nodefaults -display none -m 32 -daemonize \
    -pidfile /tmp/pid -qmp unix:$Q,server=on,wait=off -blockdev \
    driver=qcow2,node-name=n,file.driver=host_device,file.node-name=f,file.filename=/dev/vg0/$1 \
    -device virtio-blk-pci,id=vda,drive=n,bootindex=0 >&2
  until $R info $Q > /dev/null 2>&1; do sleep 0.5; done
  sleep 3
}
down() { kill $(cat /tmp/pid); while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.1; done; }
say() { echo "{\"$1\":$2}"; }
code() { set +e; "$@" >&2; say rc $?; set -e; }
why() { set +e; "$@" > /tmp/out 2> /tmp/err; say rc $?; grep -h rechain.error /tmp/err || cat /tmp/out; set -e; }
shows() { while ! $R -o json $1 $Q | grep -q "\"$2\": \"$3\""; do sleep 0.2; done; say $2 "\"$3\""; }
notes() { $R -o json op show $($R -o json op list | grep -o '"operation": "[0-9a-f]*"' | head -1 | cut -d'"' -f4); }
number() { od -An -tu4 -j$((512 + $2 * 65536)) -N4 $1 | tr -d ' '; }
behind() { tail -c +$(($2 * 65536 + 1)) $1 | md5sum; }
# The numbers up to the first that is missing; behind that there must be what was there before.
check() {
  qemu-img check -q -f qcow2 /dev/vg0/$1 >&2
  qemu-img convert -f qcow2 -O raw /dev/vg0/$1 /tmp/now
  n=0 all=
  while [ $(number /tmp/now $n) -ne 0 ]; do all=$all${all:+,}$(number /tmp/now $n); n=$((n + 1)); done
  [ "$(behind /tmp/now $n)" = "$(behind /tmp/raw $n)" ]
  say $2 "[$all]"
}
clear() { for v in "$@"; do lvm lvremove -f -y vg0/$v >&2; done; }

# A move: several extensions of the layer that receives the data.
disk base 20M
overlay new base
boot base
$R -o json move $Q vda --to /dev/vg0/new --reuse --base none --grow-lv=4M --dry-run
$R -o json move $Q vda --to /dev/vg0/new --reuse --base none --grow-lv=4M --bandwidth 4M
notes
down
check new moved
overlay more new
boot new
printf '[storage]\nallow-vg=other\n' > /tmp/conf
code $R move $Q vda --to /dev/vg0/more --reuse --grow-lv
printf '[storage]\nallow-vg=vg0\n' > /tmp/conf
code $R pull $Q vda --grow-lv=1K
down
clear base new more

# A commit into a base with hardly any room, and an lvextend that takes its time: the job stands, and goes on.
empty small
lv top 40M
qemu-img convert -f raw -O qcow2 /tmp/raw /dev/vg0/top
qemu-img rebase -u -f qcow2 -b /dev/vg0/small -F qcow2 /dev/vg0/top
boot top
slowly $R -o json commit $Q vda --grow-lv=4M &
pid=$!
begun
shows 'job list' status paused
touch /tmp/go
wait $pid
notes
down
check small committed
clear small top

# lvextend is killed when LVM's record is larger and the device is suspended, on which all that writes there waits.
cat > /tmp/slow/lvm <<'END'
#!/bin/sh
if [ "$1" = lvextend ] && [ ! -e /tmp/died ]; then
  touch /tmp/died
  /lvm/bin/lvm "$@"
  /lvm/bin/dmsetup suspend vg0-new
  kill -9 $$
fi
exec /lvm/bin/lvm "$@"
END
disk base 20M
overlay new base
boot base
PATH=/tmp/slow:$PATH $R -o json move $Q vda --to /dev/vg0/new --reuse --base none --grow-lv=4M
say suspended "\"$(lvm lvs --noheadings -o lv_suspended vg0/new | tr -d ' ')\""
down
check new resumed

# A thin volume: first in a pool that has the space, then in one that has not, although the volume itself is large.
pool() { lvm lvcreate -y -Zn -Wn -L $2 --thinpool $1 vg0 >&2; }
thin() {
  lvm lvcreate -y -Wn -V $3 -n $1 vg0/$2 >&2
  qemu-img create -q -f qcow2 -u -b /dev/vg0/new -F qcow2 /dev/vg0/$1 96M >&2
}
pool wide 48M
thin thinly wide 4M
boot new
$R -o json move $Q vda --to /dev/vg0/thinly --reuse --base none --grow-lv=4M
down
check thinly thinly
pool narrow 8M
thin tight narrow 100M
boot new
why $R -o json move $Q vda --to /dev/vg0/tight --reuse --base none --grow-lv=4M
down
clear tight narrow thinly wide

# A group that is full before it begins, and one that fills up meanwhile.
overlay more new
lvm lvcreate -y -Zn -Wn -l 100%FREE -n ballast vg0 >&2
boot new
why $R -o json move $Q vda --to /dev/vg0/more --reuse --base none --grow-lv=4M
lvm lvremove -f -y vg0/ballast >&2
cat > /tmp/slow/lvm <<'END'
#!/bin/sh
[ "$1" != lvextend ] || /lvm/bin/lvm lvcreate -y -Zn -Wn -l 100%FREE -n ballast vg0
exec /lvm/bin/lvm "$@"
END
PATH=/tmp/slow:$PATH why $R -o json move $Q vda --to /dev/vg0/more --reuse --base none --grow-lv=4M
$R -o json chain $Q
down
check new kept
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    decoder, documents = json.JSONDecoder(), []
    text = lvm.run(SCRIPT, str(tmp_path_factory.mktemp("lvm")), timeout=600, programs=[lvm.QEMU],
                   memory_mib=1024, writes=1, stride=128)
    text = text.strip().replace("\r", "")
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(valid(document) if "schema" in document else document)
        text = text[end:].lstrip()
    return documents


def of(told, key):
    return [document[key] for document in told if key in document]


def operations(told, kind):
    return [d for d in told if d.get("schema") == "rechain.operation/1" and d["kind"] == kind]


def moves(told):
    """As the command tells them."""
    return [d for d in operations(told, "move") if "journal" not in d]


def refusals(told):
    return [d for d in told if d.get("schema") == "rechain.error/1"]


def notes(told, kind, phase, words):
    """Lines of the journal of that operation, as op show tells them."""
    (shown,) = [d for d in operations(told, kind) if "journal" in d]
    return [line for line in shown["journal"]
            if line["step"] == "grow" and line["phase"] == phase and words in line.get("detail", "")]


def whole(told, key):
    """The guest's numbers, none missing; returns how many."""
    (numbers,) = of(told, key)
    assert numbers == list(range(1, len(numbers) + 1))
    return len(numbers)


def test_the_plan_names_the_volumes_and_how_far_they_grow(told):
    (plan,) = [d for d in told if d.get("schema") == "rechain.plan/1"]
    new, base = plan["disks"][0]["grows"]
    assert (new["path"], new["size"], new["step"]) == ("/dev/vg0/new", 4 << 20, 4 << 20)
    assert base["path"] == "/dev/vg0/base" and 96 << 20 < new["most"] < 97 << 20
    (watch,) = [step for step in plan["steps"] if step["step"] == "watch"]
    assert [q["arguments"]["write-threshold"] for q in watch["qmp"]] == [2 << 20, 18 << 20]
    (space,) = plan["space"]
    assert space["needed"] < space["free"], "the group has the space that the volume lacks"


def test_a_moved_disk_grows_several_times_and_keeps_every_byte(told):
    done = moves(told)[0]
    (grown,) = [row for row in done["disks"][0]["grown"] if row["path"] == "/dev/vg0/new"]
    assert done["state"] == "done" and grown["size-before"] == 4 << 20 and grown["size"] >= 14 << 20
    assert len(notes(told, "move", "intent", "vg0/new")) >= 3
    assert whole(told, "moved") > 10


def test_another_group_and_a_step_that_is_too_small_are_refused(told):
    assert of(told, "rc")[:2] == [5, 2]


def test_a_job_that_stands_for_want_of_space_goes_on(told):
    assert of(told, "status") == ["paused"] and operations(told, "commit")[0]["state"] == "done"
    assert len(notes(told, "commit", "note", "job-resume")) >= 1
    assert whole(told, "committed") > 5


def test_an_lvextend_that_is_killed_leaves_nothing_suspended(told):
    done = moves(told)[1]
    assert done["state"] == "done" and of(told, "suspended") == [""]
    assert whole(told, "resumed") > 5


def test_a_thin_volume_grows_and_its_pool_is_what_counts(told):
    done = moves(told)[2]
    (grown,) = [row for row in done["disks"][0]["grown"] if row["path"] == "/dev/vg0/thinly"]
    assert done["state"] == "done" and grown["size"] >= 14 << 20
    assert whole(told, "thinly") > 5
    said = refusals(told)[0]
    assert of(told, "rc")[2] == 4 and "not enough space in thin pool 'vg0/narrow'" in said["message"]


def test_a_full_group_is_told_in_bytes_and_undone(told):
    said = refusals(told)[1]
    assert of(told, "rc")[3:] == [4, 7] and "(0 bytes)" in said["message"] and "vgextend" in said["hint"]
    assert "not enough space in volume group 'vg0': '/dev/vg0/more'" in said["message"]
    undone = moves(told)[3]
    error = undone["error"]
    said = error["message"] + error.get("cause", "")      # of the job, or of the guest, whoever came first
    assert "'vg0/more' could not be extended: 4194304 bytes more are needed, 0 are free in volume group 'vg0': " in said
    assert "Insufficient free space" in said and "give volume group 'vg0' more space (vgextend)" in error["hint"]
    (chain,) = [d for d in told if d.get("schema") == "rechain.chain/1"]
    assert [layer["file"] for layer in chain["disks"][0]["chain"]] == ["/dev/vg0/new"]
    assert whole(told, "kept") > 5
