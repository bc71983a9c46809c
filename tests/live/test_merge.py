"""pull, commit, merge: every pair of layers of a chain, and a guest that writes meanwhile."""

import os

import pytest

from harness import images
from harness.images import BLOCK, MiB
from harness.proxy import PASS, Proxy
from harness.qemu import leftovers
from harness.scene import assert_chain, assert_gone, change, change_of, valid
from harness.sweep import WRITES, sound

NAMES = ("base", "one", "two", "three", "current")
SIZE = 4 * MiB


def pairs():
    """Every chain of 2 to 5 layers, every ordered pair of its layers (0 is the active one)."""
    for length in range(2, 6):
        for source in range(length):
            for dest in range(length):
                if source != dest:
                    yield length, source, dest


def view(path):
    """What `path` shows, its chain read by the headers."""
    with images.raw_view(path) as raw, open(raw, "rb") as file:
        return file.read()


def expected(layers, views, source, dest):
    """The model: which layers are left, and what each must show. Pulled up, nothing that a layer shows
    changes; committed down, dest shows what source showed."""
    if dest < source:
        left = layers[:dest + 1] + layers[source + 1:]
        return left, {path: views[path] for path in left}
    left = layers[:source] + layers[dest:]
    after = {path: views[path] for path in left}
    after[layers[dest]] = views[layers[source]]
    return left, after


def settled(vm, rechain, left, dropped, id="vda"):
    assert_chain(vm, left, id)
    assert_gone(vm, dropped)
    leftovers(vm, rechain.state_dir, {os.path.dirname(path) for path in left})


class Writer:
    """Writes as a guest would before every telling command, and knows what the disk must show then."""

    def __init__(self, vm, shown):
        self.vm, self.shown, self.count = vm, bytearray(shown), 0

    def write(self):
        if self.vm.run_state() == "running":
            self.count += 1
            at = self.count * 37 % (SIZE // BLOCK) * BLOCK
            self.vm.guest_write(at, BLOCK, self.count)
            self.shown[at:at + BLOCK] = bytes([self.count]) * BLOCK

    def policy(self, message):
        if message.kind == "command" and message.name in WRITES:
            self.write()
        return PASS


@pytest.mark.parametrize("length,source,dest", list(pairs()))
def test_any_layer_merges_into_any_other(make_chain, make_vm, rechain, length, source, dest):
    """While the guest writes."""
    style = ("blockdev", "drive")[(length + source + dest) % 2]
    chain = make_chain(NAMES[:length - 1] + ("current",), size=SIZE, cluster_size=4096)
    views = {path: view(path) for path in chain.layers}
    vm = make_vm(chain, style=style)
    vm.cont()
    writer = Writer(vm, views[chain.active])
    left, after = expected(chain.layers, views, source, dest)
    with Proxy(vm.qmp_path, writer.policy) as proxy:
        document = valid(sound(rechain.run("merge", proxy.path, "vda", "--source", chain.layers[source], "--dest",
                                           chain.layers[dest], json=True)).expect(0).json)
    assert writer.count >= 3, "the guest hardly wrote"
    writer.write()
    after[left[0]] = writer.shown
    dropped = [path for path in chain.layers if path not in left]
    told = change_of(document)
    assert (told["chain"], told["chain-before"], told["left"]) == (left, chain.layers, dropped)
    settled(vm, rechain, left, dropped)
    vm.stop()
    for path in left:
        images.check_image(path)
        assert view(path) == after[path], f"{os.path.basename(path)} shows something else"


@pytest.mark.parametrize("words,left", [
    (["pull", "vda"], [0]),
    (["pull", "vda", "--base", "base.qcow2"], [0, 3]),
    (["rebase", "vda,base=one.qcow2"], [0, 2, 3]),
    (["pull", "vda", "--top", "two.qcow2", "--base", "base.qcow2"], [0, 1, 3]),
    (["commit", "vda"], [1, 2, 3]),
    (["commit", "vda", "--base", "base.qcow2"], [3]),
    (["commit", "vda", "--top", "two.qcow2"], [0, 2, 3]),
    (["commit", "vda", "--top", "two.qcow2", "--base", "base.qcow2"], [0, 3]),
])
def test_a_guest_that_writes_loses_nothing(make_chain, make_vm, rechain, version, words, left):
    style = ("blockdev", "drive")[(len(words) + len(left) + len(version)) % 2]
    chain = make_chain(("base", "one", "two", "current"), size=48 * MiB)
    vm = make_vm(chain, style=style, guest=True)
    vm.guest.wait_flushed(20)
    left = [chain.layers[i] for i in left]
    document = change(rechain, vm, *words)
    assert change_of(document)["chain"] == left
    settled(vm, rechain, left, [path for path in chain.layers if path not in left])
    assert (document["pause-ms"] > 0) == (left[0] != chain.active)
    vm.guest.wait_flushed(50)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    vm.kill()
    vm.check(image=left[0])


def test_a_document_can_say_what_is_merged(make_chain, make_vm, rechain, style):
    chain = make_chain(("template", "intermediate", "current"), size=SIZE)
    vm = make_vm(chain, style=style)
    document = os.path.join(chain.dir, "merge.xml")
    with open(document, "w") as file:
        file.write(f"<merge><source>{chain.layers[1]}</source><dest>{chain.base}</dest></merge>")
    change(rechain, vm, "merge", "vda", "--xml", document)
    settled(vm, rechain, [chain.active, chain.base], [chain.layers[1]])
    with open(document, "w") as file:
        file.write("<merge><source>a</source></merge>")
    assert "merge.xml" in rechain.run("merge", vm.qmp_path, "vda", "--xml", document).expect(2).err
