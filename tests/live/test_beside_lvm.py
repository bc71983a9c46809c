"""snapshot create by lvm, in a guest with a device-mapper: on its logical volumes runs a QEMU of its own, whose
guest (harness/writer.S) never stops writing 1, 2, 3 ... in turn to three disks."""

import json

import pytest

from harness import lvm
from harness.scene import valid

pytestmark = pytest.mark.skipif(lvm.missing([lvm.QEMU]) is not None, reason=str(lvm.missing([lvm.QEMU])))

SCRIPT = r"""
set -e
mkdir -p /etc/lvm /run/lock/lvm /tmp/slow
R="rechain --state-dir /tmp/state --config /tmp/conf"
Q=/tmp/qmp
printf '[storage]\nallow-vg=vg0\n' > /tmp/conf
dd if=/dev/zero of=/dev/vda bs=1M count=1 2>/dev/null
lvm vgcreate -y vg0 /dev/vda >&2
lvm lvcreate -y -Zn -Wn -L 8M -n a vg0 >&2
lvm lvcreate -y -Wn --thinpool pool -L 32M vg0 >&2
lvm lvcreate -y -Wn -V 8M -n b vg0/pool >&2
lvm lvcreate -y -Zn -Wn -L 16M -n c vg0 >&2
dd if=/lvm/share/writer of=/dev/vg0/a conv=notrunc 2>/dev/null
qemu-img create -q -f qcow2 /dev/vg0/c 8M >&2
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu
qemu-system-x86_64 -L /lvm/share -machine q35,accel=tcg -nodefaults -display none -m 32 -daemonize \
  -qmp unix:$Q,server=on,wait=off \
  -blockdev driver=host_device,node-name=fa,filename=/dev/vg0/a -blockdev driver=raw,node-name=a,file=fa \
  -blockdev driver=host_device,node-name=fb,filename=/dev/vg0/b -blockdev driver=raw,node-name=b,file=fb \
  -blockdev driver=host_device,node-name=fc,filename=/dev/vg0/c -blockdev driver=qcow2,node-name=c,file=fc \
  -device virtio-blk-pci,id=vda,drive=a,bootindex=0 -device virtio-blk-pci,id=vdb,drive=b \
  -device virtio-blk-pci,id=vdc,drive=c >&2

numbers() { dd if=$1 bs=512 skip=1 count=1000 2>/dev/null | od -An -tu4 -v | awk 'NR % 32 == 1 && $1 > 0 {print $1}'; }
written() { numbers /dev/vg0/a | wc -l; }
more() { n=$(($(written) + 3)); while [ $(written) -lt $n ]; do sleep 0.2; done; }
say() { echo "{\"$1\":[$(echo $2 | tr ' ' ',')]}"; }
volumes() { say volumes "$(lvm lvs --noheadings -o lv_name vg0 | sed 's/ *\([^ ]*\) */"\1"/')"; }
code() { set +e; "$@" >&2; echo "{\"rc\":$?}"; set -e; }

more
say before "$(numbers /dev/vg0/a)"
$R -o json snapshot create $Q vda,method=lvm,device=/dev/vg0/one,size=4M --name one
more
say one "$(numbers /dev/vg0/one)"

$R -o json snapshot create $Q vda,method=lvm vdb,method=lvm vdc,method=lvm,device=/dev/vg0/see --name two --max-pause 60s
more
qemu-img convert -f qcow2 -O raw /dev/vg0/see /tmp/c.raw
say two "$(numbers /dev/vg0/a-two) $(numbers /dev/vg0/b-two) $(numbers /tmp/c.raw)"
volumes
$R -o json snapshot list $Q
$R snapshot show $Q two --xml > /tmp/two.xml
$R snapshot delete $Q two --metadata-only >&2
$R snapshot create $Q --redefine --xml /tmp/two.xml >&2
# A document that names what is no snapshot of the disk: nothing of it is removed.
tries=
tried() { set +e; "$@" >&2; tries="$tries $?"; set -e; }
lvm lvcreate -y -Zn -Wn -L 4M -n other vg0 >&2
sed 's,/dev/vg0/a-two,/dev/vg0/other,g; s,<name>two,<name>three,' /tmp/two.xml > /tmp/three.xml
sed 's,/dev/vg0/a-two,/dev/vg0/b,g; s,<name>two,<name>three,' /tmp/two.xml > /tmp/layer.xml
tried $R snapshot create $Q --redefine --xml /tmp/layer.xml
tried $R snapshot create $Q --redefine --xml /tmp/three.xml
tried $R snapshot delete $Q three
tried $R snapshot delete $Q three --metadata-only
printf '[storage]\nallow-vg=other\n' > /tmp/conf
tried $R snapshot create $Q --redefine --xml /tmp/two.xml
printf '[storage]\nallow-vg=vg0\n' > /tmp/conf
say tried "$tries"
volumes
lvm lvremove -y vg0/other >&2
exec 9< /dev/vg0/see
code $R snapshot delete $Q two
exec 9<&-
$R -o json snapshot delete $Q two
$R -o json snapshot delete $Q one
volumes

lvm lvcreate -y -Zn -Wn -l 100%FREE -n full vg0 >&2
code $R snapshot create $Q vda,method=lvm
lvm lvremove -y vg0/full >&2
code $R snapshot create $Q vda,method=lvm,device=/dev/vg0/b
code $R snapshot create $Q vda,method=lvm,device=/dev/vg1/x
printf '[storage]\nallow-vg=other\n' > /tmp/conf
echo "<domainsnapshot><disks><disk name='vda'><diskSnapshot method='lvm'><device path='/dev/vg0/x'/></diskSnapshot></disk><disk name='vdb' snapshot='no'/><disk name='vdc' snapshot='no'/></disks></domainsnapshot>" > /tmp/x.xml
code $R snapshot create $Q --xml /tmp/x.xml
printf '[storage]\nallow-vg=vg0\n' > /tmp/conf

# A volume beside one disk and a layer over the other; then lvcreate fails, and neither is there.
$R -o json snapshot create $Q vda,method=lvm,size=4M vdb,to=/tmp/b.qcow2 --name mixed --max-pause 60s
more
say mixed "$(numbers /dev/vg0/a-mixed) $(numbers /dev/vg0/b)"
$R -o json snapshot delete $Q mixed --delete
printf '#!/bin/sh\n[ "$1" = lvcreate ] && exit 5\nexec /lvm/bin/lvm "$@"\n' > /tmp/slow/lvm
chmod 755 /tmp/slow/lvm
PATH=/tmp/slow:$PATH
tries=
tried $R snapshot create $Q vda,method=lvm,size=4M vdb,to=/tmp/b.qcow2 --max-pause 60s
PATH=${PATH#/tmp/slow:}
if [ -e /tmp/b.qcow2 ]; then tries="$tries 1"; fi
say failed "$tries"
$R -o json chain $Q vdb
volumes

# rechain dies before lvcreate made its volume, and after that; who recovers waits for it.
cat > /tmp/slow/lvm <<'END'
#!/bin/sh
[ "$1" = lvcreate ] || exec /lvm/bin/lvm "$@"
touch /tmp/begun; sleep $BEFORE; /lvm/bin/lvm "$@"; rc=$?; touch /tmp/made; sleep $AFTER; exit $rc
END
chmod 755 /tmp/slow/lvm
for when in begun made; do
  rm -f /tmp/begun /tmp/made
  BEFORE=4 AFTER=4 PATH=/tmp/slow:$PATH $R snapshot create $Q vda,method=lvm,size=4M vdb,method=lvm --max-pause 60s >&2 &
  pid=$!
  while [ ! -e /tmp/$when ]; do sleep 0.1; done
  kill -9 $pid; wait $pid || true
  $R -o json recover
  more
  volumes
done

# The guest does not stand still for longer than it may.
rm -f /tmp/begun /tmp/made
set +e
BEFORE=5 AFTER=0 PATH=/tmp/slow:$PATH $R -o json snapshot create $Q vda,method=lvm,size=4M vdb,method=lvm --max-pause 500ms
echo "{\"rc\":$?}"

# lvcreate itself dies between suspending and resuming the origin.
cat > /tmp/slow/lvm <<'END'
#!/bin/sh
[ "$1" = lvcreate ] || exec /lvm/bin/lvm "$@"
/lvm/bin/lvm "$@"; dmsetup suspend vg0-a; exit 5
END
PATH=/tmp/slow:$PATH $R -o json snapshot create $Q vda,method=lvm,size=4M
echo "{\"rc\":$?}"
set -e
more
volumes
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    decoder, documents = json.JSONDecoder(), []
    text = lvm.run(SCRIPT, str(tmp_path_factory.mktemp("lvm")), timeout=400, programs=[lvm.QEMU],
                   memory_mib=1024, writes=3)
    text = text.strip().replace("\r", "")
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(valid(document) if "schema" in document else document)
        text = text[end:].lstrip()
    return documents


def of(told, key):
    return [document[key] for document in told if key in document]


def operations(told):
    return [d for d in told if d.get("schema") == "rechain.operation/1"]


def test_the_guest_writes_on_while_the_snapshot_of_a_raw_volume_is_taken(told):
    """It is of one instant: the first numbers without a gap, and all that was written before it began."""
    one = operations(told)[0]
    (disk,) = one["disks"]
    assert (one["state"], one["pause-ms"]) == ("done", 0)
    assert (disk["active-source"], disk["read-only-source"], disk["method"]) == ("/dev/vg0/a", "/dev/vg0/one", "lvm")
    (numbers,), (before,) = of(told, "one"), of(told, "before")
    assert numbers == list(range(1, 3 * len(numbers), 3)) and len(numbers) >= len(before) >= 3


def test_snapshots_of_several_volumes_thick_and_thin_and_of_an_image_in_one_are_of_one_instant(told):
    two = operations(told)[1]
    assert two["state"] == "done" and two["pause-ms"] > 0
    assert [d["read-only-source"] for d in two["disks"]] == ["/dev/vg0/a-two", "/dev/vg0/b-two", "/dev/vg0/see"]
    (numbers,), (one,) = of(told, "two"), of(told, "one")
    assert sorted(numbers) == list(range(1, len(numbers) + 1)), "a write is missing while a later one is there"
    assert len(numbers) > 3 * len(one)


def test_the_record_matches_and_deleting_it_removes_the_volumes_unless_they_are_open(told):
    (listed,) = [d for d in told if d.get("schema") == "rechain.snapshot-list/1"]
    assert [(s["name"], s["matches"]) for s in listed["snapshots"]] == [("one", True), ("two", True)]
    assert of(told, "rc")[0] == 4
    assert [d["removed"] for op in operations(told)[2:4] for d in op["disks"]] == [
        ["/dev/vg0/a-two"], ["/dev/vg0/b-two"], ["/dev/vg0/see"], ["/dev/vg0/one"]]
    assert (of(told, "volumes")[0], of(told, "volumes")[2]) == (
        ["a", "a-two", "b", "b-two", "c", "one", "pool", "see"], ["a", "b", "c", "pool"])


def test_a_record_that_was_redefined_removes_nothing_but_snapshots_of_its_disk(told):
    assert of(told, "tried") == [[4, 0, 4, 0, 5]]
    assert of(told, "volumes")[1] == ["a", "a-two", "b", "b-two", "c", "one", "other", "pool", "see"]


def test_no_room_a_name_that_is_taken_and_a_group_that_is_another_or_not_allowed_are_refused(told):
    assert of(told, "rc")[1:5] == [4, 4, 4, 5]


def test_a_volume_and_a_layer_are_of_one_instant_and_both_or_none_are_there(told):
    made, deleted = operations(told)[4:6]
    assert [(d["method"], d["read-only-source"]) for d in made["disks"]] == [
        ("lvm", "/dev/vg0/a-mixed"), ("qemu", "/dev/vg0/b")]
    (numbers,) = of(told, "mixed")
    assert sorted(numbers) == [n for n in range(1, max(numbers) + 1) if n % 3], "a write is missing"
    assert [d["removed"] for d in deleted["disks"]] == [["/tmp/b.qcow2"], ["/dev/vg0/a-mixed"]]
    (chain,) = [d for d in told if d.get("schema") == "rechain.chain/1"]
    assert of(told, "failed") == [[7]] and [layer["file"] for layer in chain["disks"][0]["chain"]] == ["/dev/vg0/b"]
    assert of(told, "volumes")[3] == ["a", "b", "c", "pool"]


def test_a_death_before_and_after_the_volume_was_made_is_taken_back_once_lvcreate_has_ended(told):
    recovered = [d["operations"] for d in told if d.get("schema") == "rechain.operation-list/1"]
    assert [[op["state"] for op in ops] for ops in recovered] == [["undone"], ["undone"]]
    assert of(told, "volumes")[4:6] == [["a", "b", "c", "pool"]] * 2


def test_a_hold_that_is_too_long_and_an_origin_left_suspended_are_taken_back(told):
    late, dead = operations(told)[6:]
    assert (late["state"], dead["state"]) == ("undone", "undone") and of(told, "rc")[5:] == [7, 7]
    assert 500 <= late["pause-ms"] < 3000 and "--max-pause" in late["error"]["message"]
    assert of(told, "volumes")[6] == ["a", "b", "c", "pool"]
