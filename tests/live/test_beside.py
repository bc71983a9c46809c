"""Snapshots that lie beside the chain: the guest stays where it is, and what is made is of one instant.
Volume groups are tested in a guest of their own (test_beside_lvm.py)."""

import os

import pytest

from harness import images, oracle
from harness.images import MiB
from harness.proxy import DROP, Proxy
from harness.qemu import leftovers
from harness.scene import assert_chain, change, change_of, valid, wait_until

MAX_PAUSE = ("--max-pause", "20s")


@pytest.fixture
def btrfs(workdir):
    if "btrfs" not in open("/proc/filesystems").read():
        pytest.skip("this kernel has no btrfs")
    with images.btrfs(400, workdir) as path:
        yield path


@pytest.fixture
def subvolume(btrfs):
    path = os.path.join(btrfs, "images")
    images.run("btrfs", "subvolume", "create", path)
    return path


def two_disks(dir, formats=("qcow2", "raw")):
    """One chain of each format, in folders of their own."""
    return [images.make_chain(os.path.join(dir, f"d{i}"), ("disk",), size=16 * MiB, formats=[format])
            for i, format in enumerate(formats)]


class Instant:
    """What the guest said around a snapshot; judges the images of it after the end of QEMU."""

    def __init__(self, vm):
        self.vm, self.flushed = vm, {d.id: vm.guest.flushed(d.id) for d in vm.disks}

    def passed(self):
        self.issued = {d.id: self.vm.guest.issued(d.id) for d in self.vm.disks}
        return self

    def check(self, id, image):
        chain = self.vm.disk(id).chain
        return oracle.check_instant(self.vm.records, id, image, chain.reference, self.flushed[id], self.issued[id],
                                    chain.formats[0])


def take(rechain, vm, *arguments):
    vm.guest.wait_flushed(50)
    instant = Instant(vm)
    return change(rechain, vm, "snapshot create", *arguments, *MAX_PAUSE), instant.passed()


def snapshots(rechain, vm):
    return valid(rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0).json)["snapshots"]


# ---- what is made ----

def test_a_file_that_shares_the_blocks_is_of_one_instant_and_goes_when_it_is_deleted(btrfs, make_vm, rechain):
    chains = two_disks(btrfs)
    vm = make_vm(chains, guest=True)
    copies = [os.path.join(btrfs, "copy0.qcow2"), chains[1].active.replace(".img", ".one.img")]
    document, instant = take(rechain, vm, f"vda,method=btrfs,device={copies[0]}", "vdb,method=btrfs", "--name", "one")
    for id, chain, copy in zip(("vda", "vdb"), chains, copies):
        told = change_of(document, id)
        assert (told["active-source"], told["read-only-source"], told["method"]) == (chain.active, copy, "btrfs")
        assert told["chain"] == told["chain-before"] == chain.layers == vm.chain(id)
    assert document["pause-ms"] > 0
    leftovers(vm, rechain.state_dir, [c.dir for c in chains] + [btrfs])
    vm.guest.wait_flushed(100)
    for copy in copies:
        images.run("cp", "--reflink=always", copy, copy + ".kept")
    (one,) = snapshots(rechain, vm)
    assert one["matches"] and [d["method"] for d in one["disks"]] == ["btrfs"] * 2
    assert [d["read-only-source"] for d in one["disks"]] == copies
    for copy in copies:
        os.rename(copy, copy + ".own")
        images.run("cp", "--reflink=always", copy + ".own", copy)
    (one,) = snapshots(rechain, vm)                       # the same name, another file
    assert not one["matches"] and "another one" in one["disks"][0]["mismatch"]
    rechain.run("snapshot", "delete", vm.qmp_path, "one").expect(4)
    for copy in copies:
        os.rename(copy + ".own", copy)
    change(rechain, vm, "snapshot delete", "one")
    assert not any(os.path.exists(copy) for copy in copies) and snapshots(rechain, vm) == []
    vm.guest.wait_flushed(50)
    vm.kill()
    for id, chain, copy in zip(("vda", "vdb"), chains, copies):
        vm.check(id, format=chain.formats[0])
        assert instant.check(id, copy + ".kept").blocks > 0


def test_one_snapshot_of_a_subvolume_serves_all_disks_that_lie_in_it(subvolume, btrfs, make_vm, rechain):
    chains = two_disks(subvolume)
    vm = make_vm(chains, guest=True)
    target = os.path.join(btrfs, "images-one")
    document, instant = take(rechain, vm, *(f"{id},method=btrfs,subvolume={target}" for id in ("vda", "vdb")),
                             "--name", "one")
    copies = [change_of(document, id)["read-only-source"] for id in ("vda", "vdb")]
    assert copies == [os.path.join(target, "d0/disk.qcow2"), os.path.join(target, "d1/disk.img")]
    assert "ro=true" in images.run("btrfs", "property", "get", "-t", "subvol", target, "ro")
    vm.guest.wait_flushed(100)
    xml = rechain.run("snapshot", "show", vm.qmp_path, "one", "--xml").expect(0).out
    assert f'<subvolume path="{target}"/>' in xml
    rechain.run("snapshot", "delete", vm.qmp_path, "one", "--metadata-only").expect(0)
    path = os.path.join(btrfs, "one.xml")
    with open(path, "w") as file:
        file.write(xml)
    rechain.run("snapshot", "create", vm.qmp_path, "--redefine", "--xml", path).expect(0)
    (again,) = snapshots(rechain, vm)
    assert again["matches"] and [d["read-only-source"] for d in again["disks"]] == copies
    kept = [copy.replace(target, btrfs).replace("/d", "/kept-d") for copy in copies]
    for copy, keep in zip(copies, kept):
        os.makedirs(os.path.dirname(keep), exist_ok=True)
        images.run("cp", "--reflink=always", copy, keep)
    change(rechain, vm, "snapshot delete", "one")
    assert not os.path.exists(target) and snapshots(rechain, vm) == []
    leftovers(vm, rechain.state_dir, [c.dir for c in chains] + [btrfs])
    vm.guest.wait_flushed(50)
    vm.kill()
    for id, chain, keep in zip(("vda", "vdb"), chains, kept):
        vm.check(id, format=chain.formats[0])
        assert instant.check(id, keep).blocks > 0


def test_methods_may_differ_over_disks_and_are_of_one_frozen_instant(btrfs, make_vm, rechain, workdir):
    """Numbers are written to the files of the disks in turn: none is missing while a later one is there."""
    ids = ("vda", "vdb", "vdc")
    dirs = [os.path.join(workdir, "vda"), os.path.join(btrfs, "vdb"), os.path.join(btrfs, "vdc")]
    chains = [images.make_ext4_chain(dir) for dir in dirs]
    vm = make_vm(chains, dir=workdir, guest=True, agent=True, files=ids)
    vm.guest.wait_numbers(200)
    before = vm.guest.number
    target = os.path.join(btrfs, "all-of-it")
    document = change(rechain, vm, "snapshot create", "vda", "vdb,method=btrfs", f"vdc,method=btrfs,subvolume={target}",
                      "--name", "one", "--quiesce", "--agent", vm.agent_path, "--max-freeze", "60s", *MAX_PAUSE)
    vm.guest.wait_numbers(200)
    assert document["filesystems"] == 3 and document["freeze-ms"] > document["pause-ms"] > 0
    assert [change_of(document, id)["method"] for id in ids] == ["qemu", "btrfs", "btrfs"]
    assert vm.chain("vdb") == chains[1].layers and vm.chain("vda")[1:] == chains[0].layers
    sources = [change_of(document, id)["read-only-source"] for id in ids]
    assert sources[0] == chains[0].active and sources[2].startswith(target)
    xml = os.path.join(workdir, "one.xml")
    with open(xml, "w") as file:
        file.write(rechain.run("snapshot", "show", vm.qmp_path, "one", "--xml").expect(0).out)
    rechain.run("snapshot", "create", vm.qmp_path, "--redefine", "--xml", xml).expect(0)
    kept = [os.path.join(btrfs, f"kept{i}.qcow2") for i in range(2)]
    for source, keep in zip(sources[1:], kept):
        images.run("cp", "--reflink=always", source, keep)
    read = [images.Ext4(path, workdir) for path in kept]
    change(rechain, vm, "snapshot delete", "one", "--direction", "backward")
    assert not os.path.exists(sources[1]) and not os.path.exists(target) and snapshots(rechain, vm) == []
    assert [vm.chain(id) for id in ids] == [chain.layers for chain in chains]
    assert [fs.problems for fs in read] == [""] * 2 and not any(fs.dirty for fs in read)
    last = min(fs.numbers[-1] for fs in read)
    assert last > before - 3 and max(fs.numbers[-1] for fs in read) <= last + 3
    leftovers(vm, rechain.state_dir, dirs + [btrfs])
