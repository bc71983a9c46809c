"""examples/remote-storage.sh as it stands, on two hosts: network namespaces with an sshd each, in the guest with a
device-mapper. The VM in it is a QEMU of its own, whose guest (harness/appender.S) never stops writing to a log in its
filesystem; so the log tells what became of the disk."""

import os
import subprocess

import pytest

from harness import ROOT, hosts, lvm
from harness.images import MiB, run
from test_lvm_volumes import values

PROGRAMS = [lvm.QEMU, "ssh", hosts.SSHD, "ip", "qemu-storage-daemon", "e2fsck", "resize2fs", "dumpe2fs", "zstd"]
SECTORS = 2000

pytestmark = pytest.mark.skipif(
    lvm.missing([lvm.QEMU, hosts.SSHD]) is not None, reason=str(lvm.missing([lvm.QEMU, hosts.SSHD])))

SCRIPT = r"""
set -e
mkdir -p /etc/lvm /run/lock/lvm /run/netns /run/sshd /root/.ssh /tmp/a/bin /tmp/b/bin /usr/lib/x86_64-linux-gnu
[ -e /var ] || mkdir /var; [ -e /var/run ] || ln -s /run /var/run
ln -sf /lvm/lib/* /usr/lib/x86_64-linux-gnu/
ip() { /lvm/bin/ip "$@"; }                          # not busybox's
printf 'root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n' > /etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > /etc/group
ip link add va type veth peer name vb
for h in a b; do
  n=$([ $h = a ] && echo 1 || echo 2)
  ip netns add $h; ip link set v$h netns $h
  ip -n $h addr add 10.77.0.$n/24 dev v$h; ip -n $h link set v$h up; ip -n $h link set lo up
  mkdir -p /tmp/$h/config/rechain /tmp/$h/state
  printf "[storage]\nallow=/tmp/$h\nallow-vg=$([ $h = a ] && echo vg0 || echo none)\n" > /tmp/$h/config/rechain/rechain.conf
  cat > /tmp/$h/sshd_config <<END
ListenAddress 10.77.0.$n
HostKey /lvm/share/$h
PidFile none
UsePAM no
StrictModes no
AuthorizedKeysFile /lvm/share/user.pub
PermitRootLogin yes
SetEnv PATH=/tmp/$h/bin:/lvm/bin:/bin LD_LIBRARY_PATH=/lvm/lib DM_DISABLE_UDEV=1 LC_ALL=C QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu XDG_CONFIG_HOME=/tmp/$h/config RECHAIN_STATE_DIR=/tmp/$h/state
END
  ip netns exec $h /lvm/bin/sshd -D -e -f /tmp/$h/sshd_config >&2 &
  printf "Host $h\nHostName 10.77.0.$n\n" >> /root/.ssh/config
  echo "10.77.0.$n $(cat /lvm/share/$h.pub)" >> /root/.ssh/known_hosts
done
printf 'Host *\nIdentityFile /lvm/share/user\n' >> /root/.ssh/config
chmod -R go= /root /lvm/share
dd if=/dev/zero of=/dev/vda bs=1M count=1 2> /dev/null
lvm vgcreate -y -s 1M vg0 /dev/vda >&2
cp /lvm/share/base.img /tmp/a/base.img

. /lvm/share/where
cat > /tmp/numbers <<END
numbers() { dd if=\$1 bs=512 skip=$FIRST count=$SECTORS 2> /dev/null | od -An -v -tu4 -w512 | awk '\$1 == 4294967295 {exit} {print \$1, \$2}'; }
END
# What the guest begins with is kept, and it has written something by when the command is done.
cat > /tmp/a/bin/qemu-system-x86_64 <<'END'
#!/bin/sh
. /tmp/numbers
n=$(($(ls /tmp/began* 2> /dev/null | wc -l) + 1))
cp /dev/vg0/web /tmp/began$n
/lvm/bin/qemu-system-x86_64 -L /lvm/share "$@" || exit
had=$(numbers /tmp/began$n | wc -l)
until [ $(numbers /dev/vg0/web | wc -l) -gt $((had + 20)) ]; do sleep 0.2; done
END
chmod +x /tmp/a/bin/*
for h in a b; do until ip netns exec a ssh -o ConnectTimeout=20 $h rechain version >&2; do sleep 0.2; done; done
. /tmp/numbers
(while [ ! -e /tmp/b/web.img.zst ]; do sleep 0.2; done; numbers /dev/vg0/web | wc -l > /tmp/most) &

BASE=/tmp/a/base.img ARCHIVE=/tmp/b/web.img.zst SMALL=16M LARGE=24M \
  QEMU="qemu-system-x86_64 -machine q35,accel=tcg -m 32 -display none" ip netns exec a sh -x /lvm/share/example a b > /tmp/example 2>&1 || { cat /tmp/example >&2; exit 1; }
cat /tmp/example >&2
echo example=0
set +e
kill $(cat /run/web.pid); while [ -e /run/web.pid ]; do sleep 0.2; done
zstd -dc /tmp/b/web.img.zst > /tmp/archive
mkdir /tmp/m
for what in /lvm/share/base.img /tmp/began1 /tmp/archive /tmp/began2 /dev/vg0/web; do
  key=$(basename $what | tr -d .)
  echo "size_$key=$(wc -c < $what)"
  echo "log_$key=$(numbers $what | tr '\n' ',')"
  e2fsck -fn $what >&2; echo "clean_$key=$?"
  mount -o ro,noload $what /tmp/m && echo "payload_$key=$(md5sum < /tmp/m/payload | cut -d' ' -f1)"
  echo "space_$key=$(df -k /tmp/m | tail -1 | tr -s ' ' | cut -d' ' -f2)"; umount /tmp/m
done
echo "most=$(cat /tmp/most)"
echo "left=$(lvm lvs --noheadings -o lv_name,lv_tags vg0 | tr -d ' \n') $(ls -A /tmp/a /tmp/b | grep -c '^\.rc')"
for h in a b; do
  echo "recover_$h=$(ip netns exec a rechain -H $h recover)"
  echo "operations_$h=$(ip netns exec a rechain -H $h op list | awk 'NR > 1 {print $2 ":" $3}' | tr '\n' ' ')"
done
"""


def base_image(dir):
    """A filesystem that boots: (image, first sector of its log, bytes of its other file)."""
    tree, image, object, sector = (os.path.join(dir, name) for name in ("tree", "base.img", "boot.o", "boot"))
    os.mkdir(tree)
    with open(os.path.join(tree, "log"), "wb") as file:
        file.write(b"\xff" * SECTORS * 512)
    with open(os.path.join(tree, "payload"), "wb") as file:
        file.write(os.urandom(3000001))
    run("mkfs.ext4", "-q", "-b", "1024", "-d", tree, image, "12M")
    blocks = [int(block) for block in run("debugfs", "-R", "blocks /log", image).split()]
    assert blocks == list(range(blocks[0], blocks[0] + SECTORS // 2)), "the log does not lie in one piece"
    first = blocks[0] * 2
    run("gcc", "-m32", "-c", f"-Wa,--defsym,FIRST={first}", f"-Wa,--defsym,SECTORS={SECTORS}",
        os.path.join(os.path.dirname(lvm.__file__), "appender.S"), "-o", object)
    run("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", object, "-o", sector)
    with open(image, "r+b") as file, open(sector, "rb") as boot:
        file.write(boot.read())
    return image, first


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    dir = str(tmp_path_factory.mktemp("remote"))
    image, first = base_image(dir)
    files = {"share/base.img": image, "share/example": os.path.join(ROOT, "examples", "remote-storage.sh"),
             "share/where": os.path.join(dir, "where")}
    with open(files["share/where"], "w") as file:
        file.write(f"FIRST={first} SECTORS={SECTORS}\n")
    for name in ("user", "a", "b"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(dir, name)], check=True)
        files.update({f"share/{name}{end}": os.path.join(dir, name + end) for end in ("", ".pub")})
    return values(lvm.run(SCRIPT, dir, timeout=600, programs=PROGRAMS, modules=["fuse", "loop", "veth"], files=files,
                          memory_mib=1200, firmware=True))


def log(told, key):
    return [tuple(int(word) for word in pair.split()) for pair in told[f"log_{key}"].split(",") if pair]


def test_the_example_runs_and_leaves_what_it_says(told):
    assert told["example"] == "0" and told["left"] == "web 0"
    assert told["recover_a"] == told["recover_b"] == "nothing to recover"
    assert set(told["operations_a"].split() + told["operations_b"].split()) == {
        "vol-create:done", "vol-copy-contents:done", "vol-growfs:done", "vol-lend:done", "vol-copy:done",
        "vol-resize:done"}


def test_volume_and_filesystem_have_the_sizes_that_were_asked(told):
    assert [int(told[f"size_{key}"]) // MiB for key in ("baseimg", "began1", "archive", "began2", "web")] == \
        [12, 16, 16, 24, 24]
    space = [int(told[f"space_{key}"]) for key in ("baseimg", "began1", "archive", "began2", "web")]
    assert space[0] < space[1] == space[2] < space[3] == space[4]
    assert [told[f"clean_{key}"] for key in ("baseimg", "began1", "archive", "began2", "web")] == ["0"] * 5


def test_every_file_is_there_at_every_stage(told):
    assert len({told[f"payload_{key}"] for key in ("baseimg", "began1", "archive", "began2", "web")}) == 1


def test_the_archive_is_of_one_instant_while_the_guest_wrote_and_the_guest_goes_on_from_it(told):
    assert log(told, "baseimg") == log(told, "began1") == []
    saved, now = log(told, "archive"), log(told, "web")
    assert log(told, "began2") == saved and now[:len(saved)] == saved
    for one in (saved, now):
        assert [number for number, _ in one] == list(range(1, len(one) + 1)), "a write is missing"
    assert len(saved) >= 20 and len(now) > len(saved) + 20
    assert int(told["most"]) > len(saved), "the guest wrote nothing after the snapshot"
    first, second = {boot for _, boot in saved}, {boot for _, boot in now[len(saved):]}
    assert len(first) == len(second) == 1 and first != second
