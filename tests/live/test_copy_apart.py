"""copy --no-pivot: a copy of one instant, while the guest writes on, and goes on where it was."""

import os

import pytest

from harness import images, oracle
from harness.images import MiB
from harness.qemu import leftovers
from harness.scene import assert_chain, assert_gone, graph, valid
from harness.sweep import sound

BUSY = {"rate": 600, "region": 8 * MiB, "batch": 16}


@pytest.mark.parametrize("disks, style, words, format", [(1, "blockdev", ("--shallow",), "qcow2"), (1, "drive", ("--format", "raw"), "raw"),
                                                         (2, "blockdev", (), "qcow2")])
def test_the_copy_is_the_disk_of_one_instant(make_vm, rechain, workdir, version, disks, style, words, format):
    """Of several disks, of the same one."""
    chains = [images.make_chain(os.path.join(workdir, str(i)), ("template", "current"), size=24 * MiB) for i in range(disks)]
    vm = make_vm(chains, style=style, guest=True, writer=BUSY)
    before = graph(vm)
    vm.guest.wait_flushed(500)
    wanted = [f"{disk.id},to={workdir}/{disk.id}.copy" for disk in vm.disks]
    document = valid(sound(rechain.run("copy", vm.qmp_path, *wanted, *words, "--no-pivot", json=True)).expect(0).json)
    assert document["state"] == "done"
    assert (document["pause-ms"] > 0) == (disks > 1 or version == "5.2")     # 5.2 is held while a job begins
    copies = {d.id: (f"{workdir}/{d.id}.copy", d.chain.reference, format) for d in vm.disks}
    assert_gone(vm, [copy for copy, _, _ in copies.values()])
    assert graph(vm) == before
    for disk in vm.disks:
        assert_chain(vm, disk.chain.layers, disk.id)
    leftovers(vm, rechain.state_dir, [workdir])
    vm.guest.wait_flushed(200)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    vm.stop()
    for disk in vm.disks:
        vm.check(disk.id, graceful=True)
    assert oracle.check_copies(vm.records, copies) > 0
    if disks > 1:
        later = {**copies, "vda": (vm.disks[0].chain.active, vm.disks[0].chain.reference, format)}
        with pytest.raises(AssertionError, match="lost"):   # it would be found out
            oracle.check_copies(vm.records, later)
