"""Snapshots that lie beside the chain: the guest stays where it is, and what is made is of one instant.
Volume groups are tested in a guest of their own (test_beside_lvm.py)."""

import os

import pytest

from harness import images, oracle
from harness.images import MiB
from harness.proxy import DROP, PASS, Proxy, refuse
from harness.qemu import leftovers
from harness.scene import change, change_of, valid, wait_until

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


def snapshots(rechain, vm, address=None):
    return valid(rechain.run("snapshot", "list", address or vm.qmp_path, json=True).expect(0).json)["snapshots"]


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
    for chain, copy in zip(chains, copies):                 # the active source, and the one to take backups from
        assert f'<source file="{chain.active}"/>' in xml
        assert f'<source file="{copy}"/>' in xml[xml.index("<backingStore"):]
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


# ---- what is refused ----

@pytest.mark.parametrize("words,rc,said", [
    (["vda,method=btrfs"], 4, "is no file on btrfs"),
    (["vda,method=lvm"], 4, "is no logical volume"),
    (["vda,method=zfs"], 2, "qemu, lvm, btrfs"),
    (["vda,method=lvm,to=/x"], 2, "takes no 'to'"),
    (["vda,method=btrfs,size=1G"], 2, "takes no 'size'"),
    (["vda,method=btrfs,on-delete=forward"], 2, "takes no 'on-delete'"),
    (["vda,method=btrfs,device=/x,subvolume=/y"], 2, "not both"),
    (["vda,device=/x"], 2, "method=lvm or method=btrfs"),
    (["vda,method=btrfs", "--reuse"], 2, "cannot reuse"),
])
def test_what_cannot_be_is_refused_in_words(make_chain, make_vm, rechain, words, rc, said):
    vm = make_vm(make_chain(size=4 * MiB))
    assert said in rechain.run("snapshot", "create", vm.qmp_path, *words).expect(rc).err


def test_targets_that_exist_lie_elsewhere_or_are_not_allowed_are_refused(subvolume, btrfs, make_vm, rechain, workdir):
    chains = two_disks(subvolume)
    vm = make_vm(chains)
    taken = os.path.join(btrfs, "taken")
    os.mkdir(taken)

    def said(rc, *words):
        return rechain.run("snapshot", "create", vm.qmp_path, *words).expect(rc).err

    assert "exists" in said(4, f"vda,method=btrfs,subvolume={taken}")
    assert "exists" in said(4, f"vda,method=btrfs,device={chains[1].active}")
    assert "not on the filesystem" in said(4, f"vda,method=btrfs,device={workdir}/x.qcow2")
    assert "same target" in said(4, f"vda,method=btrfs,device={btrfs}/x", f"vdb,method=btrfs,device={btrfs}/x")
    conf, xml = os.path.join(workdir, "conf"), os.path.join(workdir, "x.xml")
    with open(conf, "w") as file:
        file.write(f"[storage]\nallow={workdir}/elsewhere\n")
    for what in (f"<device path='{btrfs}/x'/>", f"<subvolume path='{btrfs}/y'/>"):
        with open(xml, "w") as file:
            file.write(f"<domainsnapshot><disks><disk name='vda'><diskSnapshot method='btrfs'>{what}</diskSnapshot>"
                       "</disk><disk name='vdb' snapshot='no'/></disks></domainsnapshot>")
        rechain.run("--config", conf, "snapshot", "create", vm.qmp_path, "--xml", xml).expect(5)
    assert sorted(os.listdir(btrfs)) == ["images", "taken"] and snapshots(rechain, vm) == []


def redefine(rechain, vm, dir, what, method="btrfs", name="one", options=()):
    path = os.path.join(dir, "redefined.xml")
    with open(path, "w") as file:
        file.write(f"<domainsnapshot><name>{name}</name><disks><disk name='vda'><diskSnapshot method='{method}'>{what}"
                   "</diskSnapshot></disk></disks></domainsnapshot>")
    return rechain.run(*options, "snapshot", "create", vm.qmp_path, "--redefine", "--xml", path)


def test_a_record_is_redefined_only_of_what_the_method_makes(subvolume, btrfs, make_vm, rechain, workdir):
    """A document may be anybody's, and deleting a snapshot removes what its record names."""
    chains = two_disks(subvolume)
    vm = make_vm(chains)
    other, snapshot, writable = (os.path.join(btrfs, name) for name in ("other", "snapshot", "writable"))
    images.run("btrfs", "subvolume", "create", other)
    images.run("btrfs", "subvolume", "snapshot", subvolume, writable)
    images.run("btrfs", "subvolume", "snapshot", "-r", subvolume, snapshot)
    os.makedirs(f"{other}/d0")
    for name in (f"{btrfs}/copy", f"{other}/d0/disk.qcow2"):
        images.run("cp", "--reflink=always", chains[0].active, name)
    os.symlink(chains[0].active, f"{btrfs}/link")
    images.run("qemu-img", "create", "-q", "-f", "qcow2", f"{btrfs}/longer", "17M")
    images.run("truncate", "-s", "16M", f"{btrfs}/raw")

    def said(rc, what):
        return redefine(rechain, vm, workdir, what).expect(rc).err

    for path in (chains[0].active, chains[1].active, f"{btrfs}/link"):
        assert "is a layer of disk" in said(4, f"<device path='{path}'/>")
    assert "is a layer of disk" in said(4, f"<subvolume path='{subvolume}'/>")
    assert "is larger than" in said(4, f"<device path='{btrfs}/longer'/>")
    assert "is no 'qcow2'" in said(4, f"<device path='{btrfs}/raw'/>")
    assert "is no file" in said(4, f"<device path='{other}'/>")
    for path in (other, writable):
        assert "is no snapshot of" in said(4, f"<subvolume path='{path}'/>")
    assert "is gone" in said(4, f"<device path='{btrfs}/nothing'/>")
    assert snapshots(rechain, vm) == []
    conf = os.path.join(workdir, "conf")
    with open(conf, "w") as file:
        file.write(f"[storage]\nallow={subvolume}\n")
    for what in (f"<device path='{btrfs}/copy'/>", f"<subvolume path='{snapshot}'/>",
                 f"<device path='{subvolume}/../copy'/>"):
        redefine(rechain, vm, workdir, what, options=("--config", conf)).expect(5)
        redefine(rechain, vm, workdir, what).expect(0)
        (one,) = snapshots(rechain, vm)
        assert one["matches"]
    change(rechain, vm, "snapshot delete", "one")
    assert not os.path.exists(f"{btrfs}/copy") and os.path.exists(snapshot)


def test_the_snapshot_of_a_disk_that_left_the_vm_can_be_deleted(subvolume, btrfs, make_vm, rechain, workdir):
    """Neither the VM nor the image is needed for that."""
    address = os.path.join(workdir, "monitor")
    chains = [images.make_chain(os.path.join(workdir, "vda"), size=4 * MiB)] + two_disks(subvolume)
    vm = make_vm(chains, dir=workdir)

    def run(*words, rc=0):
        return rechain.run("snapshot", words[0], address, *words[1:], json=rc == 0).expect(rc)

    os.symlink(vm.qmp_path, address)
    target = os.path.join(btrfs, "whole")
    run("create", "vda", "vdb,method=btrfs", f"vdc,method=btrfs,subvolume={target}", "--name", "mixed")
    run("create", "vdb,method=btrfs", "--name", "one")
    vm.stop()
    vm.disks[0].chain = images.Chain([f"{workdir}/vda/current1.mixed.qcow2"] + chains[0].layers, ["qcow2"] * 3,
                                     chains[0].reference, chains[0].size)
    vm.disks = vm.disks[:1]
    vm.start()
    os.unlink(address)
    os.symlink(vm.qmp_path, address)
    os.unlink(chains[1].active)
    mixed, one = valid(run("list").json)["snapshots"]
    copies = [d["read-only-source"] for d in mixed["disks"] + one["disks"]][1:]
    assert all(map(os.path.exists, copies))
    assert [d["matches"] for d in mixed["disks"]] == [True, False, False]
    assert "no such disk" in one["disks"][0]["mismatch"]
    told = valid(rechain.run("doctor", address, json=True).expect(10).json)["findings"]
    cures = [finding["cure"]["command"] for finding in told if finding["kind"] == "snapshot-record"]
    assert cures == [f"rechain snapshot delete {address} {name}" for name in ("mixed", "one")]
    operation = valid(run("delete", "one").json)
    assert (operation["state"], change_of(operation, "vdb")["removed"]) == ("done", [copies[2]])
    bin = program(workdir, "btrfs", f"touch {workdir}/begun; exec sleep 30")
    killed = rechain.start("snapshot", "delete", address, "mixed", env={"PATH": f"{bin}:{os.environ['PATH']}"})
    wait_until(lambda: os.path.exists(f"{workdir}/begun"), "btrfs runs")
    killed.kill()
    (operation,) = valid(rechain.run("recover", json=True).expect(0).json)["operations"]
    assert operation["state"] == "done" and change_of(operation, "vda")["chain"] == chains[0].layers
    assert not any(map(os.path.exists, copies)) and not os.path.exists(target)
    assert valid(run("list").json)["snapshots"] == []
    leftovers(vm, rechain.state_dir, [btrfs, workdir])


# ---- mishaps ----

def program(workdir, name, body):
    """A program in place of `name`; returns the folder for PATH."""
    dir = os.path.join(workdir, "bin")
    os.makedirs(dir, exist_ok=True)
    with open(os.path.join(dir, name), "w") as file:
        file.write(f"#!/bin/sh\n{body}\n")
    os.chmod(os.path.join(dir, name), 0o755)
    return dir


class Mishap:
    """Three disks, one of each way; what there was before, and what is left after something went wrong."""

    def __init__(self, btrfs, make_vm, rechain, workdir):
        images.run("btrfs", "subvolume", "create", os.path.join(btrfs, "images"))
        dirs = [os.path.join(workdir, "vda"), os.path.join(btrfs, "vdb"), os.path.join(btrfs, "images", "vdc")]
        self.chains = [images.make_chain(dir, ("disk",), size=4 * MiB) for dir in dirs]
        self.vm, self.rechain, self.btrfs, self.workdir = make_vm(self.chains, dir=workdir), rechain, btrfs, workdir
        self.vm.cont()
        self.vm.state_before = "running"
        self.target = os.path.join(btrfs, "whole")
        self.before = self._files()

    def _files(self):
        return sorted(os.path.join(at, name) for root in (self.btrfs, os.path.join(self.workdir, "vda"))
                      for at, dirs, files in os.walk(root) for name in dirs + files)

    overlay = ["vda"]                   # the disks that get a new layer

    @property
    def words(self):
        return [*self.overlay, "vdb,method=btrfs", f"vdc,method=btrfs,subvolume={self.target}", "--name", "one"]

    def start(self, path=None, bin=None, more=MAX_PAUSE):
        env = {"PATH": f"{bin}:{os.environ['PATH']}"} if bin else None
        return self.rechain.start("snapshot", "create", path or self.vm.qmp_path, *self.words, *more, json=True, env=env)

    def program(self, name, body):
        return program(self.workdir, name, body)

    def assert_as_before(self):
        assert self._files() == self.before
        assert [self.vm.chain(id) for id in ("vda", "vdb", "vdc")] == [c.layers for c in self.chains]
        assert self.vm.run_state() == "running"
        leftovers(self.vm, self.rechain.state_dir, [self.btrfs, self.workdir], result=False)
        assert snapshots(self.rechain, self.vm) == []

    def assert_settled(self, expected=None, address=None):
        operations = valid(self.rechain.run("recover", json=True).expect(0).json)["operations"]
        done = [d["method"] for s in snapshots(self.rechain, self.vm, address)
                for d in s["disks"]] == ["qemu"] * len(self.overlay) + ["btrfs", "btrfs"]
        assert [op["state"] for op in operations] in ([], ["done" if done else "undone"]), operations
        assert expected in (None, done)
        if done:
            assert self.vm.run_state() == "running"
            self.rechain.run("snapshot", "delete", address or self.vm.qmp_path, "one", "--delete").expect(0)
        self.assert_as_before()
        return done


@pytest.fixture
def mishap(btrfs, make_vm, rechain, workdir):
    return Mishap(btrfs, make_vm, rechain, workdir)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("command", ["blockdev-add", "stop", "human-monitor-command", "transaction", "cont"])
def test_a_death_at_a_message_leaves_all_snapshots_or_none(mishap, command, when):
    def die(message):
        if (message.kind, message.name, message.nth) != ("command" if when == "before" else "return", command, 1):
            return PASS
        run.process.kill()
        return DROP

    with Proxy(mishap.vm.qmp_path) as proxy:
        proxy.policy = die
        run = mishap.start(proxy.path)
        run.wait()
        proxy.policy = lambda message: PASS
        done = mishap.assert_settled(address=proxy.path)
    assert done == (command == "cont" or (command, when) == ("transaction", "after"))


@pytest.mark.parametrize("command", ["stop", "human-monitor-command", "cont"])
def test_a_death_at_a_message_where_no_disk_gets_a_layer(mishap, command):
    def die(message):
        if (message.kind, message.name) != ("command", command):
            return PASS
        run.process.kill()
        return DROP

    mishap.overlay = []
    with Proxy(mishap.vm.qmp_path) as proxy:
        proxy.policy = die
        run = mishap.start(proxy.path)
        run.wait()
        proxy.policy = lambda message: PASS
        assert mishap.assert_settled(address=proxy.path) == (command == "cont")


def test_a_death_while_the_blocks_are_shared_is_taken_back(mishap):
    bin = mishap.program("cp", f"touch {mishap.workdir}/begun; sleep 30")
    run = mishap.start(bin=bin)
    wait_until(lambda: os.path.exists(f"{mishap.workdir}/begun"), "cp runs")
    assert mishap.vm.run_state() == "paused"
    run.kill()
    mishap.assert_settled(False)


def test_a_guest_is_held_no_longer_than_it_may(mishap):
    result = mishap.start(bin=mishap.program("cp", "exec sleep 3"), more=("--max-pause", "300ms")).wait().expect(7)
    assert 300 <= result.json["pause-ms"] < 1500 and "--max-pause" in result.json["error"]["message"]
    mishap.assert_as_before()


@pytest.mark.parametrize("name,body", [
    ("cp", "echo no blocks >&2; exit 1"),
    ("btrfs", '/usr/bin/btrfs "$@" && [ $2 != snapshot ]'),     # it made it, and says that it did not
])
def test_what_fails_on_one_disk_is_taken_back_on_all(mishap, name, body):
    mishap.start(bin=mishap.program(name, body)).wait().expect(7)
    mishap.assert_as_before()


def test_a_finished_one_can_be_undone(mishap):
    operation = mishap.start().wait().expect(0).json["operation"]
    mishap.rechain.run("op", "undo", operation).expect(0)
    mishap.assert_as_before()


def test_a_transaction_that_is_refused_takes_back_what_lies_beside(mishap):
    with Proxy(mishap.vm.qmp_path, refuse("transaction")) as proxy:
        mishap.start(proxy.path).wait().expect(7)
    mishap.assert_as_before()


def test_the_death_of_qemu_leaves_nothing_beside_that_is_not_on_record(mishap):
    def die(message):
        if (message.kind, message.name) == ("command", "transaction"):
            mishap.vm.sigkill()
            return DROP
        return PASS

    with Proxy(mishap.vm.qmp_path) as proxy:
        proxy.policy = die
        result = mishap.start(proxy.path).wait()
        mishap.rechain.run("recover").expect(0)
        listed = snapshots(mishap.rechain, mishap.vm, proxy.path)
    left = [path for path in mishap._files() if path not in mishap.before]
    assert result.rc in (0, 7, 8) and not any(".rc-" in path for path in left)
    assert bool(listed) == bool(left) == os.path.exists(mishap.target)
