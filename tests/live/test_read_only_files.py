"""A QEMU that was started with the files of its backing layers as read-only=on: they can be merged into all the same."""

import json

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import Proxy, refuse
from harness.qemu import Disk, Vm, leftovers
from harness.scene import assert_chain, assert_gone, change, graph
from harness.sweep import sound

NAMES = ("base", "one", "two", "current")


@pytest.fixture
def locked(make_chain, version):
    """A VM whose backing files cannot become writable by themselves; with the guest that writes."""
    chain = make_chain(NAMES, size=16 * MiB)

    class Locked(Vm):
        def _blockdev_args(self, disk):
            args, root = super()._blockdev_args(disk)
            for at, word in enumerate(args):
                node = json.loads(word) if word.startswith("{") else {}
                if node.get("driver") == "file" and node["node-name"] != f"{disk.node()}-file":
                    del node["auto-read-only"]
                    args[at] = json.dumps({**node, "read-only": True})
            return args, root
    with Locked(version, [Disk(chain)], guest=True, writer={"rate": 200}) as vm:
        yield vm


def test_undone_it_is_read_only_again(locked, rechain):
    vm = locked
    before = graph(vm)
    with Proxy(vm.qmp_path, refuse("job-finalize", "no pivot today")) as proxy:
        sound(rechain.run("commit", proxy.path, "vda", "--top", "two.qcow2", json=True)).expect(7)
    assert graph(vm) == before
    assert vm.guest.is_writing(10) and vm.guest.verify() > 0
    vm.stop()
    vm.check(graceful=True)


@pytest.mark.parametrize("words, left", [
    (["commit", "vda"], [1, 2, 3]),
    (["commit", "vda", "--top", "two.qcow2"], [0, 2, 3]),
    (["commit", "vda", "--top", "one.qcow2"], [0, 1, 3]),
    (["pull", "vda", "--top", "two.qcow2"], [0, 1]),
    (["pull", "vda", "--base", "base.qcow2"], [0, 3]),
], ids=["active", "inner", "lower", "pull-inner", "pull"])
def test_such_a_layer_is_opened_again_and_written_to(locked, rechain, workdir, words, left):
    vm, chain = locked, locked.disks[0].chain
    change(rechain, vm, words[0], *words[1:])
    left = [chain.layers[i] for i in left]
    assert_chain(vm, left)
    assert_gone(vm, [path for path in chain.layers if path not in left])
    leftovers(vm, rechain.state_dir, [workdir])
    nodes = vm.nodes()          # 10.0 leaves a layer that it streamed into writable
    assert all(nodes[f"{name}-file"]["ro"] == node["ro"] for name, node in nodes.items() if f"{name}-file" in nodes)
    vm.guest.wait_flushed(50)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    vm.kill()
    vm.check(image=left[0])
    for path in left:
        images.check_image(path)
