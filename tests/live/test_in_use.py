"""What a running QEMU has open is touched by no command but through that QEMU: every command that `rechain help` has,
on images, their backing files, raw files and logical volumes, with a configuration that knows the VM and without, here
and from another host."""

import os
import shlex

import pytest

from harness import lvm
from harness.images import run
from harness.rechain import Rechain
from harness.volumes import digest, leftovers
from test_lvm_volumes import HEAD, values

# X: what QEMU has open; OTHER: a volume that nobody has; NEW: a name that is free; VM: another VM, with the disk vda.
READING = [["vol", "clone", "X", "NEW"], ["vol", "clone", "X", "NEW", "--backing", "OTHER"], ["vol", "copy", "X", "NEW"],
           ["vol", "copy", "X", "NEW.zst", "--archive"], ["vol", "copy-contents", "X", "OTHER"],
           ["vol", "create", "NEW", "--backing", "X", "--format", "qcow2"],
           ["vol", "clone", "OTHER", "NEW", "--backing", "X"], ["vol", "compress", "X"]]
OF_FILES = [["vol", "snapshot", "X", "s"], ["vol", "snapshot", "X", "s", "--method", "external"],
            ["vol", "copy", "X", "NEW", "--snapshot"], ["vol", "copy-contents", "X", "OTHER", "--snapshot"]]
WRITING = [["vol", "copy", "OTHER", "X", "--overwrite"], ["vol", "copy-contents", "OTHER", "X"],
           ["vol", "copy-contents", "OTHER", "X", "--snapshot"], ["vol", "resize", "X", "+1M"],
           ["vol", "resize", "X", "1M", "--shrink"], ["vol", "growfs", "X"], ["vol", "shrinkfs", "X", "1M"],
           ["vol", "snapshot", "X", "s", "--method", "internal"], ["vol", "delete", "X"],
           ["vol", "delete", "X", "--force", "open,mounted,backing"], ["vol", "compress", "X", "--delete"],
           ["pull", "--offline", "X"], ["rebase", "--offline", "X,base=none"], ["commit", "--offline", "X"],
           ["merge", "--offline", "X,source=X,dest=BASE"], ["allocate", "--offline", "X", "--offset", "0", "--length", "64K"]]
OF_VMS = [["move", "VM", "vda", "--to", "X", "--reuse"], ["copy", "VM", "vda", "--to", "X", "--reuse"],
          ["snapshot", "create", "VM", "vda,to=X", "--reuse"], ["move", "VM", "vda", "--to", "X"],
          ["copy", "VM", "vda", "--to", "X"], ["snapshot", "create", "VM", "vda,to=X"]]
# Refuses what it is not for, or makes what is there already, before it comes to that.
OTHERWISE = [["vol", "decompress", "X"], ["vol", "create", "X", "--capacity", "1M"]]
# They ask QEMU, the journal or the files, and change none of them; snapshots are deleted by the merges above.
LOOKING = [["info", "VM"], ["chain", "--offline", "X"], ["map", "--offline", "X"], ["snapshot", "list", "VM"], ["op", "list"],
           ["recover"], ["job", "list", "VM"], ["vol", "list", "DIR"], ["vol", "info", "X"], ["storage", "info"],
           ["doctor"], ["config", "check"], ["version"], ["help"]]
OF_RECORDS = {"snapshot show", "snapshot edit", "snapshot delete", "quiesce", "thaw", "op show", "op wait", "op cancel", "op undo",
              "job show", "job wait", "job cancel", "job pause", "job resume", "job speed"}


def filled(words, **names):
    """The words with the names put in."""
    for key in ("BASE", "OTHER", "NEW", "DIR", "VM", "X"):
        words = [word.replace(key, names[key]) for word in words] if key in names else words
    return words


def test_no_command_is_forgotten_here(rechain):
    commands = {c["name"] for c in rechain.run("help", json=True).expect(0).json["commands"]}
    tried = {" ".join(words[:2]) if " ".join(words[:2]) in commands else words[0]
             for words in READING + OF_FILES + WRITING + OF_VMS + OTHERWISE + LOOKING}
    assert tried | OF_RECORDS == commands


class Scene:
    """A VM that runs, and what it has open; another VM, and a volume that nobody has."""

    def __init__(self, make_chain, make_vm, workdir):
        dir = os.path.join(workdir, "other")
        os.mkdir(dir)
        self.chain = make_chain(["template", "current1"], size=8 << 20)
        self.vm = make_vm(self.chain)
        self.other_chain = make_chain(["free", "top"], size=8 << 20)
        self.other_vm = make_vm(self.other_chain)
        self.other = os.path.join(dir, "other.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", self.other, "8M")
        self.dir = dir
        self.files = self.chain.layers + self.other_chain.layers + [self.other]
        self.before = self.state()

    def state(self):
        return {path: (digest(path), os.stat(path).st_ino, os.stat(path).st_size) for path in self.files}

    def words(self, words, x):
        return filled(words, X=x, OTHER=self.other, NEW=os.path.join(self.dir, "new.qcow2"), DIR=self.dir,
                      VM=self.other_vm.qmp_path, BASE=self.chain.base)

    def nothing_happened(self):
        assert self.state() == self.before
        assert os.listdir(self.dir) == ["other.qcow2"] and leftovers(os.path.dirname(self.chain.active)) == []
        assert self.vm.chain() == [self.chain.active, self.chain.base]
        assert self.other_vm.chain() == [self.other_chain.active, self.other_chain.base]


@pytest.fixture
def scene(make_chain, make_vm, workdir):
    return Scene(make_chain, make_vm, workdir)


def refuses(program, words, why="", before=()):
    result = program.run(*before, *words, json=True)
    assert result.rc == 4 and why in result.error["message"], f"{words}: {result}"


@pytest.mark.parametrize("known", [False, True])
def test_a_disk_of_a_running_qemu(scene, workdir, known):
    config = os.path.join(workdir, "vm.conf")
    with open(config, "w") as file:
        file.write(f"[vm web1]\nqmp={scene.vm.qmp_path}\n" if known else "")
    with Rechain(os.path.join(workdir, "state2"), config=config) as program:
        for words in READING + OF_FILES + WRITING + OF_VMS:
            if known and words[1] == "resize":
                continue                      # goes through that QEMU: test_volume_change.py
            why = "VM 'web1'" if known else "in use"
            refuses(program, scene.words(words, scene.chain.active), why if words[0] == "vol" else "")
        for words in OTHERWISE:
            assert program.run(*scene.words(words, scene.chain.active)).rc == 4
        for words in LOOKING:
            assert program.run(*scene.words(words, scene.chain.active)).rc in (0, 4, 10), words
    scene.nothing_happened()


def test_its_backing_file_may_be_read_and_no_more(scene, rechain):
    for words in WRITING + OF_VMS:
        refuses(rechain, scene.words(words, scene.chain.base))
    rechain.run(*scene.words(READING[0], scene.chain.base)).expect(0)
    os.unlink(os.path.join(scene.dir, "new.qcow2"))
    scene.nothing_happened()


def test_a_raw_disk(make_chain, make_vm, rechain, workdir):
    chain = make_chain(["disk"], size=8 << 20, formats=["raw"])
    make_vm(chain)
    other, before = os.path.join(workdir, "other.img"), digest(chain.active)
    run("qemu-img", "create", "-q", "-f", "raw", other, "8M")
    for words in READING + OF_FILES + WRITING[:11]:
        refuses(rechain, filled(words, X=chain.active, OTHER=other, NEW=os.path.join(workdir, "new.qcow2")), "in use")
    assert digest(chain.active) == before and not os.path.exists(os.path.join(workdir, "new.qcow2"))


def test_from_another_host(net, scene):
    here = net.a.rechain()
    for words in READING + OF_FILES + WRITING + OF_VMS:
        refuses(here, scene.words(words, scene.chain.active), "in use" if words[0] == "vol" else "", ["-H", "b"])
    new, x = os.path.join(scene.dir, "new.qcow2"), scene.chain.active
    for words in (["b:" + x, new], [x, "b:" + new], ["b:" + x, "a:" + new], [scene.other, "b:" + x, "--overwrite"],
                  ["b:" + scene.other, x, "--overwrite"], ["b:" + scene.other, "a:" + x, "--overwrite"],
                  ["b:" + x, new, "--snapshot"], ["b:" + x, new + ".zst", "--archive"]):
        refuses(here, ["vol", "copy"] + words, "in use")
    scene.nothing_happened()


# ---- logical volumes ----

LV_BEGIN = HEAD + r"""
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu
for lv in raw base top other; do lvm lvcreate -y -Wn -Zn -L 8M -n $lv vg0 >&2; done
data 8388608 1 > /dev/vg0/raw
qemu-img create -q -f qcow2 /dev/vg0/base 4M; qemu-io -f qcow2 -c 'write -q -P 7 0 1M' /dev/vg0/base
qemu-img create -q -f qcow2 -b /dev/vg0/base -F qcow2 /dev/vg0/top; qemu-io -f qcow2 -c 'write -q -P 8 1M 1M' /dev/vg0/top
qemu-system-x86_64 -L /lvm/share -S -machine q35,accel=tcg -nodefaults -display none -m 32 -daemonize \
  -blockdev driver=host_device,node-name=fr,filename=/dev/vg0/raw -blockdev driver=raw,node-name=r,file=fr \
  -blockdev driver=host_device,node-name=fb,filename=/dev/vg0/base,read-only=on -blockdev driver=qcow2,node-name=b,file=fb,read-only=on \
  -blockdev driver=host_device,node-name=ft,filename=/dev/vg0/top -blockdev driver=qcow2,node-name=t,file=ft,backing=b \
  -device virtio-blk-pci,drive=r -device virtio-blk-pci,drive=t >&2
say before "$(cat /dev/vg0/raw /dev/vg0/base /dev/vg0/top | sum) $(lvs_of)"
try() { key=$1; shift; $R "$@" > /tmp/out 2>&1; rc=$?; cat /tmp/out >&2; say $key "$rc $(grep -c 'in use\|is the backing file\|must be named' /tmp/out)"; }
"""
LV_END = r"""
say after "$(cat /dev/vg0/raw /dev/vg0/base /dev/vg0/top | sum) $(lvs_of)"
$R vol snapshot /dev/vg0/raw s --capacity 4M >&2; say snapshot $?
$R vol copy /dev/vg0/raw /tmp/copy.img --snapshot >&2; say copy "$? $(cmp /tmp/copy.img /dev/vg0/raw && echo same)"
say end "$(cat /dev/vg0/raw /dev/vg0/base /dev/vg0/top | sum) $(lvs_of)"
"""
# Of a logical volume there is no archive beside it.
LV_WORDS = [words for words in READING + WRITING[:10] if words[1] != "compress" and "internal" not in words]


@pytest.mark.skipif(lvm.missing([lvm.QEMU]) is not None, reason=str(lvm.missing([lvm.QEMU])))
def test_logical_volumes(tmp_path):
    """A snapshot of one may be taken all the same: LVM does that at one instant."""
    lines = []
    for name, cases in (("raw", LV_WORDS), ("top", LV_WORDS), ("base", [w for w in LV_WORDS if w in WRITING])):
        for index, words in enumerate(cases):
            # What says that it has a backing file is believed on no device, unless its format is named.
            named = ["--source-format", "qcow2"] if name == "top" and words[2] == "X" and words[1] != "delete" else []
            filled_in = filled(words + named, X=f"/dev/vg0/{name}", OTHER="/dev/vg0/other", NEW="/tmp/new.qcow2")
            lines.append(f"try {name}_{index} {shlex.join(filled_in)}")
    script = LV_BEGIN + "\n".join(lines) + LV_END
    told = values(lvm.run(script, str(tmp_path), timeout=600, programs=[lvm.QEMU, "qemu-io", "e2fsck", "zstd"], firmware=True,
                          memory_mib=768))
    for line in lines:
        rc, why = told[line.split()[1]].split()
        assert rc == "4" and int(why) > 0, line
    assert told["before"] == told["after"] and told["snapshot"] == "0" and told["copy"] == "0 same"
    assert told["end"].split()[0] == told["before"].split()[0] and "raw.s;" in told["end"]
