"""Volumes in volume groups, in a guest with a device-mapper: made, filled, resized, grown, snapshots of them taken,
deleted; no old data is seen, and whoever is killed leaves the old volume or the new one, under the final name no
half one."""

import json
import re

import pytest

from harness import lvm
from harness.scene import valid

pytestmark = pytest.mark.skipif(lvm.missing() is not None, reason=str(lvm.missing()))

PROGRAMS = ["mkfs.ext4", "e2fsck", "resize2fs", "dumpe2fs", "mkfs.xfs", "xfs_db", "xfs_growfs", "xfs_repair",
            "qemu-storage-daemon", "qemu-io", "zstd"]
MODULES = ["fuse", "loop", "xfs"]

HEAD = r"""
mkdir -p /etc/lvm /run/lock/lvm
R="rechain --state-dir /tmp/state --config /tmp/conf"
printf '[storage]\nallow-vg=vg0\nallow=/tmp\n' > /tmp/conf
lvm vgcreate -y -s 1M vg0 /dev/vda >&2
cd /tmp
data() { seq $2 100000000 | head -c $1; }             # bytes that tell from where on they are
sum() { md5sum | cut -d' ' -f1; }
nonzero() { tr -d '\0' < $1 | wc -c; }
say() { echo "$1=$2"; }
vol() { $R vol "$@" > /tmp/out 2> /tmp/err; rc=$?; cat /tmp/out /tmp/err >&2; return $rc; }
# dirty the whole volume group, so that old data would be seen
dirty() { lvm lvcreate -y -Wn -Zn -l 100%FREE -n dirty vg0 >&2; tr '\0' '\377' < /dev/zero | dd of=/dev/vg0/dirty bs=1M 2> /dev/null
          sync; lvm lvremove -f -y vg0/dirty >&2; }
lvs_of() { lvm lvs --noheadings -o lv_name,lv_tags vg0 | tr -s ' ' | sed 's/^ //; s/ $//' | sort | tr '\n' ';'; }
"""

WORK = HEAD + r"""
dirty
lvm lvcreate -y -Wn -Zn -L 4M -n control vg0 >&2
say control $(nonzero /dev/vg0/control)
lvm lvremove -f -y vg0/control >&2
vol create /dev/vg0/new --capacity 6M; say create "$? $(nonzero /dev/vg0/new) $(blockdev --getsize64 /dev/vg0/new)"
vol resize /dev/vg0/new +5M; say grow "$? $(nonzero /dev/vg0/new) $(blockdev --getsize64 /dev/vg0/new)"
vol resize /dev/vg0/new 8M; say shrink_unasked $?
vol resize /dev/vg0/new 8M --shrink; say shrink "$? $(blockdev --getsize64 /dev/vg0/new)"
lvm lvcreate -y -Wn --thinpool pool -L 32M vg0 >&2
vol create /dev/vg0/thin --capacity 40M --pool pool; say thin "$? $(lvm lvs --noheadings -o pool_lv,lv_size --units m vg0/thin | tr -s ' ')"
lvm lvchange -Zn vg0/pool >&2
vol create /dev/vg0/thin2 --capacity 40M --pool pool; say thin_old_data $?
lvm lvchange -Zy vg0/pool >&2

# contents: odd sizes, from and to every kind
data 3000003 1 > odd.img; truncate -s 5000007 odd.img
say odd $(sum < odd.img)
vol clone odd.img /dev/vg0/raw --capacity 8M
say clone_file_lv "$? $(head -c 5000007 /dev/vg0/raw | sum) $(tail -c +5000008 /dev/vg0/raw | tr -d '\0' | wc -c)"
vol clone odd.img /dev/vg0/thinraw --pool pool --capacity 8M
say clone_file_thin "$? $(head -c 5000007 /dev/vg0/thinraw | sum) $(lvm lvs --noheadings -o data_percent vg0/thinraw | tr -d ' ' | cut -d. -f1)"
vol clone /dev/vg0/raw back.qcow2 --format qcow2
say clone_lv_file "$? $(qemu-img compare -f raw -F qcow2 /dev/vg0/raw back.qcow2)"
vol clone back.qcow2 /dev/vg0/image --format qcow2; rc=$?
say clone_file_image "$rc $(qemu-img compare -f qcow2 -F qcow2 /dev/vg0/image back.qcow2)"
vol clone back.qcow2 /dev/vg0/small --format qcow2 --allocation sparse
say sparse_image "$? $(($(blockdev --getsize64 /dev/vg0/small) < $(blockdev --getsize64 /dev/vg0/image)))"
vol delete /dev/vg0/small; vol delete /dev/vg0/image; vol delete /dev/vg0/thinraw
vol copy /dev/vg0/raw raw.zst --archive; say archive "$? $(zstd -dc raw.zst | cmp - /dev/vg0/raw && echo same)"
vol copy raw.zst /dev/vg0/restored; say restore_without_size $?
vol copy raw.zst /dev/vg0/restored --capacity 9M
say restore "$? $(head -c 8388608 /dev/vg0/restored | cmp - /dev/vg0/raw && echo same) $(tail -c 1048576 /dev/vg0/restored | tr -d '\0' | wc -c)"
vol copy odd.img /dev/vg0/restored; say copy_over_unasked $?
vol copy odd.img /dev/vg0/restored --overwrite
say copy_over "$? $(head -c 5000007 /dev/vg0/restored | sum) $(tail -c +5000008 /dev/vg0/restored | tr -d '\0' | wc -c) $(blockdev --getsize64 /dev/vg0/restored)"
vol copy-contents /dev/vg0/raw /dev/vg0/restored
say contents "$? $(head -c 8388608 /dev/vg0/restored | cmp - /dev/vg0/raw && echo same)"
vol copy-contents /dev/vg0/restored /dev/vg0/raw; say contents_too_small $?
vol create /dev/vg0/much --capacity 900M; say no_space "$? $(grep -c 'not enough space' /tmp/err)"
vol create /dev/vg0/raw --capacity 1M; say exists $?
vol create /dev/vg1/x --capacity 1M; say not_allowed $?
vol create /dev/mapper/x --capacity 1M; say no_name $?
say listed "$(lvs_of)"

# who has it
exec 9>/dev/vg0/raw
for words in "resize /dev/vg0/raw +1M" "delete /dev/vg0/raw" "copy odd.img /dev/vg0/raw --overwrite" "growfs /dev/vg0/raw"; do
  vol $words; say open_$(echo $words | cut -d' ' -f1) $?
done
exec 9>&-
"""

INSIDE = HEAD + r"""
# filesystems
for kind in ext4 xfs; do
  size=$([ $kind = xfs ] && echo 310 || echo 16)
  vol create /dev/vg0/fs --capacity ${size}M; mkfs.$kind -q /dev/vg0/fs; mkdir -p mnt
  mount -t $kind /dev/vg0/fs mnt; data 2000000 7 > mnt/file; umount mnt
  vol resize /dev/vg0/fs +12M
  vol growfs /dev/vg0/fs; say growfs_$kind $?
  mount -t $kind /dev/vg0/fs mnt; say grown_$kind "$(sum < mnt/file) $(df -m mnt | tail -1 | tr -s ' ' | cut -d' ' -f2)"
  vol resize /dev/vg0/fs +8M; say resize_mounted $?
  lvm lvextend -y -L +8M vg0/fs >&2
  vol growfs /dev/vg0/fs; say online_$kind "$? $(df -m mnt | tail -1 | tr -s ' ' | cut -d' ' -f2)"
  vol delete /dev/vg0/fs; say delete_mounted $?
  umount mnt
  [ $kind = ext4 ] && { vol shrinkfs /dev/vg0/fs 20M; say shrinkfs $?; vol resize /dev/vg0/fs 16M --shrink; say cut_too_much $?
    vol resize /dev/vg0/fs 20M --shrink; say cut $?; e2fsck -fn /dev/vg0/fs >&2; say clean $?; }
  vol delete /dev/vg0/fs
done
say file $(data 2000000 7 | sum)
say mounts "$(grep -c rc- /proc/mounts) $(ls /run | grep -c rc-) $(ls -a /tmp/state | grep -c part)"

# snapshots
lvm lvcreate -y -Wn --thinpool pool -L 32M vg0 >&2
vol create /dev/vg0/a --capacity 8M; data 8388608 1 > /dev/vg0/a; vol create /dev/vg0/t --capacity 8M --pool pool; data 8388608 2 > /dev/vg0/t
was_a=$(sum < /dev/vg0/a); was_t=$(sum < /dev/vg0/t)
vol snapshot /dev/vg0/a s; say snapshot_no_size $?
exec 9<>/dev/vg0/a
vol snapshot /dev/vg0/a s --capacity 4M; say snapshot_thick $?
exec 9>&-
vol snapshot /dev/vg0/t s; say snapshot_thin $?
data 1000000 9 | dd of=/dev/vg0/a conv=notrunc 2> /dev/null; data 1000000 9 | dd of=/dev/vg0/t conv=notrunc 2> /dev/null; sync
say snapshots "$([ $(sum < /dev/vg0/a.s) = $was_a ] && echo same) $([ $(sum < /dev/vg0/t.s) = $was_t ] && echo same)"
vol delete /dev/vg0/a; say delete_origin $?
vol resize /dev/vg0/a +1M; say resize_origin $?
vol delete /dev/vg0/a.s; say delete_snapshot $?
vol delete /dev/vg0/t.s
say after_snapshots "$(lvs_of)"
# a copy of one instant, while somebody writes
(exec 9<>/dev/vg0/a; while [ ! -e stop ]; do data 1000000 $RANDOM | dd of=/dev/vg0/a conv=notrunc bs=1M seek=1 2> /dev/null; done) &
vol copy /dev/vg0/a copy.img --snapshot; say copy_snapshot "$? $(head -c 1048576 copy.img | cmp - /dev/vg0/a -n 1048576 && echo same)"
touch stop; wait
vol copy /dev/vg0/t copy2.zst --archive --snapshot; say copy_snapshot_thin "$? $(zstd -dc copy2.zst | cmp - /dev/vg0/t && echo same)"
vol copy-contents /dev/vg0/a /dev/vg0/t --snapshot; say contents_snapshot "$? $(cmp /dev/vg0/a /dev/vg0/t && echo same)"
say end "$(lvs_of)"
$R -o json vol create /dev/vg0/p --capacity 3M -n | tr -d '\n' | sed 's/^/plan=/'; echo
"""


def values(text):
    return dict(line.split("=", 1) for line in text.replace("\r", "").splitlines() if re.match(r"\w+=", line))


# The same from another host: what passes between the two is what passes through ssh.
BY_SSH = r"""
printf '#!/bin/sh\nexec rechain --state-dir /tmp/state --config /tmp/conf --stdio\n' > /bin/ssh; chmod +x /bin/ssh
R="rechain --config /tmp/conf-here -H b"; : > /tmp/conf-here
"""


@pytest.fixture(scope="module", params=["here", "ssh"])
def where(request):
    return request.param


def boot(script, where, tmp_path_factory):
    script = script if where == "here" else script.replace(HEAD, HEAD + BY_SSH)
    return values(lvm.run(script, str(tmp_path_factory.mktemp("lvm")), disk_mib=512, timeout=900, programs=PROGRAMS,
                          modules=MODULES, memory_mib=768))


@pytest.fixture(scope="module")
def told(where, tmp_path_factory):
    return boot(WORK, where, tmp_path_factory)


@pytest.fixture(scope="module")
def told_inside(where, tmp_path_factory):
    return boot(INSIDE, where, tmp_path_factory)


MiB = 1 << 20


def test_new_space_shows_no_old_data(told):
    assert int(told["control"]) > MiB                 # what lvcreate alone would show
    assert told["create"] == f"0 0 {6 * MiB}" and told["grow"] == f"0 0 {11 * MiB}"
    assert told["shrink_unasked"] == "4" and told["shrink"] == f"0 {8 * MiB}"
    assert told["thin"].split() == ["0", "pool", "40.00m"] and told["thin_old_data"] == "4"


def test_contents_are_right_from_and_to_every_kind(told):
    odd = told["odd"]
    assert told["clone_file_lv"] == f"0 {odd} 0"
    rc, digest, percent = told["clone_file_thin"].split()
    assert (rc, digest) == ("0", odd) and int(percent) < 60
    for key in ("clone_lv_file", "clone_file_image"):
        assert told[key] == "0 Images are identical.", key
    assert told["sparse_image"] == "0 1"
    assert told["archive"] == "0 same" and told["restore_without_size"] == "2" and told["restore"] == "0 same 0"
    assert told["copy_over_unasked"] == "4" and told["copy_over"] == f"0 {odd} 0 {9 * MiB}"
    assert told["contents"] == "0 same" and told["contents_too_small"] == "4"


def test_what_cannot_be_is_refused(told):
    assert told["no_space"] == "4 1" and told["exists"] == "4" and told["not_allowed"] == "5" and told["no_name"] == "2"
    assert told["listed"] == "new;pool;raw;restored;thin;"
    assert [told[f"open_{word}"] for word in ("resize", "delete", "copy", "growfs")] == ["4"] * 4


def test_filesystems_in_logical_volumes_grow_and_shrink(told_inside):
    told = told_inside
    for kind, least in (("ext4", 22), ("xfs", 250)):
        assert told[f"growfs_{kind}"] == "0"
        digest, size = told[f"grown_{kind}"].split()
        rc, online = told[f"online_{kind}"].split()
        assert digest == told["file"] and least <= int(size) < int(online) and rc == "0"
    assert told["resize_mounted"] == "4" and told["delete_mounted"] == "4"
    assert [told[key] for key in ("shrinkfs", "cut_too_much", "cut", "clean")] == ["0", "4", "0", "0"]
    assert told["mounts"] == "0 0 0"


def test_snapshots_keep_what_was_there(told_inside):
    told = told_inside
    assert [told[f"snapshot_{word}"] for word in ("no_size", "thick", "thin")] == ["2", "0", "0"]
    assert told["snapshots"] == "same same"
    assert [told[key] for key in ("delete_origin", "resize_origin", "delete_snapshot")] == ["4", "4", "0"]
    assert told["after_snapshots"] == "a;pool;t;"


def test_a_copy_of_a_snapshot_is_of_one_instant_and_the_snapshot_goes(told_inside):
    told = told_inside
    assert told["copy_snapshot"] == "0 same" and told["copy_snapshot_thin"] == "0 same"
    assert told["contents_snapshot"] == "0 same" and told["end"] == "a;pool;t;"
    plan = valid(json.loads(told["plan"]))
    assert [step["step"] for step in plan["steps"]] == ["begin", "zero", "fill", "settle", "publish", "clear"]


KILLS = HEAD + r"""
mkdir -p bin
for name in lvm qemu-img; do
  cat > bin/$name <<END
#!/bin/sh
. /tmp/trap
if [ "\$1" = "\$VERB" ]; then
  n=\$((\$(cat /tmp/n) + 1)); echo \$n > /tmp/n
  if [ \$n = \$NTH ]; then
    [ \$MOMENT = before ] || /lvm/bin/$name "\$@"
    echo \$\$ > /tmp/now.tmp; mv /tmp/now.tmp /tmp/now; exec sleep 1000
  fi
fi
exec /lvm/bin/$name "\$@"
END
  chmod +x bin/$name
done
data 2000003 1 > src; SRC=$(sum < src); data 4194304 5 > old; OLD=$(sum < old)
# KEY VERB NTH MOMENT WORDS...: killed there, with its program; then recovered
kill_at() {
  key=$1; printf 'VERB=%s NTH=%s MOMENT=%s\n' $2 $3 $4 > trap; shift 4; rm -f now; echo 0 > n
  PATH=/tmp/bin:$PATH $R vol "$@" >&2 & pid=$!
  until [ -e now ]; do kill -0 $pid 2> /dev/null || { say ${key} "not reached"; return; }; usleep 20000; done
  kill -9 $pid $(cat now); wait $pid; echo VERB= > trap
  state=$($R recover 2>&1 | grep -o 'done\|undone' | head -1)
  again=$($R recover)
  say $key "$state $(lvs_of) $([ -e /dev/vg0/v ] && head -c 2000003 /dev/vg0/v | sum) $([ "$again" = 'nothing to recover' ] && echo settled)"
}
gone() { for lv in "$@"; do lvm lvremove -f -y vg0/$lv >&2; done; }
kill_at create_1 lvcreate 1 before create /dev/vg0/v --capacity 4M
kill_at create_2 lvcreate 1 after create /dev/vg0/v --capacity 4M
kill_at clone_1 convert 1 before clone src /dev/vg0/v
kill_at clone_2 convert 1 after clone src /dev/vg0/v
kill_at clone_3 lvrename 1 before clone src /dev/vg0/v
kill_at clone_4 lvrename 1 after clone src /dev/vg0/v; gone v
kill_at clone_5 lvchange 1 before clone src /dev/vg0/v; gone v
vol create /dev/vg0/v --capacity 4M; cat old > /dev/vg0/v; sync; say old $(head -c 2000003 old | sum); say src $SRC
kill_at over_1 lvrename 1 before copy src /dev/vg0/v --overwrite
kill_at over_2 lvrename 1 after copy src /dev/vg0/v --overwrite
kill_at over_3 lvremove 1 before copy src /dev/vg0/v --overwrite
cat old > /dev/vg0/v; sync
kill_at grow_1 lvextend 1 before resize /dev/vg0/v 6M; say grow_1_size $(blockdev --getsize64 /dev/vg0/v)
kill_at grow_2 lvextend 1 after resize /dev/vg0/v 6M; say grow_2_size $(blockdev --getsize64 /dev/vg0/v)
kill_at snapshot_1 lvcreate 1 after snapshot /dev/vg0/v s --capacity 2M
kill_at instant_1 lvcreate 1 after copy /dev/vg0/v out.img --snapshot; say instant_files "$(ls -a /tmp | grep -c '^.rc-\|out.img')"
kill_at delete_1 lvremove 1 before delete /dev/vg0/v
kill_at delete_2 lvremove 1 after delete /dev/vg0/v
"""


def test_who_is_killed_leaves_the_old_volume_or_the_new_one(tmp_path):
    told = values(lvm.run(KILLS, str(tmp_path), timeout=900, programs=PROGRAMS, modules=MODULES))
    old, src = told["old"], told["src"]
    for key in ("create_1", "create_2", "clone_1", "clone_2", "clone_3"):
        assert told[key].split() == ["undone", "settled"], key
    for key in ("clone_4", "clone_5", "over_3"):
        assert told[key].split() == ["done", "v;", src, "settled"], key
    for key in ("over_1", "over_2", "grow_1", "snapshot_1", "instant_1", "delete_1"):
        assert told[key].split() == ["undone", "v;", old, "settled"], key
    assert told["grow_1_size"] == str(4 << 20) and told["instant_files"] == "0"
    state, *rest = told["grow_2"].split()
    assert rest == ["v;", old, "settled"] and told["grow_2_size"] == str({"done": 6, "undone": 4}[state] << 20)
    assert told["delete_2"].split() == ["done", "settled"]
