"""Move: the disk ends on the new file, the kept base stays, and the guest notices nothing."""

import json
import os
import threading

import pytest

from harness import images
from harness.images import MiB
from harness.qemu import Disk, leftovers
from harness.scene import assert_chain, assert_gone, change, change_of, digest, nodes_of


@pytest.fixture
def new(workdir):
    return os.path.join(workdir, "new.qcow2")


def move(rechain, vm, *arguments):
    return change(rechain, vm, "move", *arguments)


def settle(vm, rechain, layers, dropped, id="vda", dirs=()):
    """After a move: all witnesses agree on the chain, what was dropped is let go, nothing else is left."""
    assert_chain(vm, layers, id)
    assert_gone(vm, dropped)
    leftovers(vm, rechain.state_dir, [os.path.dirname(p) for p in layers] + list(dirs))


# --- which layers stay ---

def test_a_move_keeps_the_template_and_every_write_of_a_guest_that_never_stops(make_chain, make_vm, rechain, new, style):
    chain = make_chain(["template", "current1"])
    template = digest(chain.base)
    vm = make_vm(chain, style=style, guest=True)
    document = move(rechain, vm, "vda", "--to", new)
    told = {"disk": "vda", "chain": [new, chain.base], "chain-before": chain.layers, "removed": [],
            "left": [chain.active]}
    assert told.items() <= change_of(document).items()
    assert document["bytes"] > 0 and document["pause-ms"] == 0
    settle(vm, rechain, [new, chain.base], [chain.active])
    assert os.path.exists(chain.active)
    vm.guest.wait_flushed(200)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0 and not vm.guest.problems
    vm.kill()
    vm.check(image=new)
    assert digest(chain.base) == template


def test_a_guest_that_was_killed_after_a_move_boots_from_the_new_chain(make_chain, make_vm, rechain, new):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    move(rechain, vm, "vda", "--to", new)
    vm.guest.wait_flushed(200)
    vm.kill()
    moved = images.Chain([new, chain.base], ["qcow2", "qcow2"], chain.reference, chain.size)
    vm.restart([moved])
    vm.guest.wait_flushed(100)
    vm.stop()
    vm.check(graceful=True)


def test_delete_removes_the_old_layers_and_says_so(make_chain, make_vm, rechain, new, style):
    chain = make_chain(["template", "middle", "current1"])
    vm = make_vm(chain, style=style)
    document = move(rechain, vm, "vda", "--to", new, "--base", chain.base, "--delete")
    old = chain.layers[:2]
    assert sorted(change_of(document)["removed"]) == sorted(old) and change_of(document)["left"] == []
    assert not any(os.path.exists(path) for path in old) and os.path.exists(chain.base)
    settle(vm, rechain, [new, chain.base], old)
    vm.stop()
    vm.check(image=new)


def test_the_default_base_is_the_layer_under_the_active_one(make_chain, make_vm, rechain, new):
    chain = make_chain(["template", "middle", "current1"], share=0.1)
    vm = make_vm(chain)
    document = move(rechain, vm, "vda", "--to", new)
    assert change_of(document)["left"] == [chain.active]
    settle(vm, rechain, [new] + chain.layers[1:], [chain.active])
    vm.stop()
    vm.check(image=new)


def test_base_none_flattens(make_chain, make_vm, rechain, new, style):
    chain = make_chain(["template", "middle", "current1"])
    vm = make_vm(chain, style=style, guest=True, writer={"rate": 300})
    document = move(rechain, vm, "vda", "--to", new, "--base", "none")
    assert change_of(document)["chain"] == [new] and change_of(document)["left"] == chain.layers
    settle(vm, rechain, [new], chain.layers)
    assert "backing-filename" not in images.info(new)
    vm.guest.wait_flushed(100)
    vm.kill()
    vm.check(image=new)


@pytest.mark.parametrize("named", ["path", "basename", "node"])
def test_a_base_deep_in_the_chain_keeps_all_below_it(make_chain, make_vm, rechain, new, named):
    chain = make_chain(["template", "one", "two", "three", "four"], size=16 * MiB, share=0.1)
    vm = make_vm(chain)
    base = {"path": chain.path("one"), "basename": "one.qcow2", "node": "vda-1"}[named]
    document = move(rechain, vm, f"vda,to={new},base={base}")
    assert change_of(document)["left"] == chain.layers[:3]
    settle(vm, rechain, [new] + chain.layers[3:], chain.layers[:3])
    assert sorted(n for n in vm.nodes() if n.startswith("vda-")) == ["vda-0", "vda-0-file", "vda-1", "vda-1-file"]
    vm.stop()
    vm.check(image=new)


def test_a_disk_of_one_layer_is_flattened_by_default(make_chain, make_vm, rechain, new, style):
    chain = make_chain(["alone"])
    vm = make_vm(chain, style=style, guest=True, writer={"rate": 300})
    document = move(rechain, vm, "vda", "--to", new)
    assert change_of(document)["chain"] == [new]
    settle(vm, rechain, [new], [chain.active])
    vm.kill()
    vm.check(image=new)


def test_a_raw_disk_moves_to_qcow2(make_chain, make_vm, rechain, new, style):
    chain = make_chain(["alone"], formats=["raw"])
    vm = make_vm(chain, style=style, guest=True, writer={"rate": 300})
    move(rechain, vm, "vda", "--to", new)
    settle(vm, rechain, [new], [chain.active])
    vm.guest.wait_flushed(50)
    vm.kill()
    vm.check(image=new)


def test_an_empty_disk_moves(make_chain, make_vm, rechain, new):
    chain = make_chain(share=0)
    vm = make_vm(chain)
    move(rechain, vm, "vda", "--to", new)
    settle(vm, rechain, [new, chain.base], [chain.active])
    vm.stop()
    vm.check(image=new)


# --- what is written in the new header ---

def header(path):
    read = images.info(path)
    return read.get("backing-filename"), read.get("backing-filename-format")


def test_the_header_names_the_base_by_its_absolute_path(make_chain, make_vm, rechain, new, style):
    chain = make_chain(["template", "current1"], relative=True)
    vm = make_vm(chain, style=style)
    move(rechain, vm, "vda", "--to", new)
    assert header(new) == (chain.base, "qcow2")
    settle(vm, rechain, [new, chain.base], [chain.active])


@pytest.mark.parametrize("names", [("here", "there"), ("a:b", "c:d"), ("x", "x/y,z"), ("x/y", "x")])
def test_relative_names_hold_from_another_directory(make_vm, rechain, workdir, names):
    chain = images.make_chain(os.path.join(workdir, names[0]), ["tem:plate", "current1"], size=16 * MiB)
    target = os.path.join(workdir, names[1])
    os.makedirs(target, exist_ok=True)
    vm = make_vm(chain)
    new = os.path.join(target, "new.qcow2")
    move(rechain, vm, "vda", "--to", new, "--relative")
    name, format = header(new)
    assert format == "qcow2" and not name.startswith("/")
    assert os.path.realpath(os.path.join(target, name)) == chain.base
    settle(vm, rechain, [new, chain.base], [chain.active])
    vm.stop()
    vm.check(image=new)


def test_a_relative_name_in_the_same_directory_with_a_colon_is_no_protocol(make_vm, rechain, workdir):
    chain = images.make_chain(workdir, ["nbd:x", "current1"], size=16 * MiB)
    vm = make_vm(chain)
    new = os.path.join(workdir, "new.qcow2")
    move(rechain, vm, "vda", "--to", new, "--relative")
    settle(vm, rechain, [new, chain.base], [chain.active])
    vm.stop()
    vm.check(image=new)


def test_a_raw_base_is_named_raw(make_chain, make_vm, rechain, new, style):
    chain = make_chain(["template", "current1"], formats=["raw", "qcow2"])
    vm = make_vm(chain, style=style)
    move(rechain, vm, "vda", "--to", new)
    assert header(new) == (chain.base, "raw")
    settle(vm, rechain, [new, chain.base], [chain.active])
    vm.stop()
    vm.check(image=new)


def test_a_base_that_is_a_bare_protocol_node_is_named_raw(make_chain, make_vm, rechain, new):
    chain = make_chain(["template", "current1"], formats=["raw", "qcow2"])
    nodes = [{"driver": "file", "node-name": "base", "filename": chain.base, "read-only": True},
             {"driver": "qcow2", "node-name": "top", "backing": "base",
              "file": {"driver": "file", "filename": chain.active}}]
    args = [word for node in nodes for word in ("-blockdev", json.dumps(node))]
    vm = make_vm(chain, start=False)
    vm._storage_args = lambda disk: (args, "top")
    vm.start()
    move(rechain, vm, "vda", "--to", new)
    # QEMU before 9.0 has no backing-mask-protocol and names the node's driver; it opens that as well.
    assert header(new) == (chain.base, "file" if vm.version in ("5.2", "7.2") else "raw")
    assert vm.chain() == [new, chain.base] == images.header_chain(new)
    (disk,) = rechain.run("chain", vm.qmp_path, json=True).expect(0).json["disks"]
    assert [layer["format"] for layer in disk["chain"]] == ["qcow2", "raw"]
    assert_gone(vm, [chain.active])
    vm.stop()
    vm.check(image=new)
    (disk,) = rechain.run("chain", "--offline", new, json=True).expect(0).json["disks"]
    assert [layer["file"] for layer in disk["chain"]] == [new, chain.base]


# --- several disks ---

@pytest.mark.parametrize("count", [2, 4])
def test_several_disks_move_together(make_vm, rechain, workdir, style, count):
    ids = ["vda", "vdb", "vdc", "vdd"][:count]
    chains = {id: images.make_chain(os.path.join(workdir, id), size=16 * MiB) for id in ids}
    vm = make_vm(list(chains.values()), style=style, guest=True, writer={"rate": 200})
    new = {id: os.path.join(workdir, f"new-{id}.qcow2") for id in ids}
    document = move(rechain, vm, *[f"{id},to={new[id]}" for id in ids])
    assert [d["disk"] for d in document["disks"]] == ids
    for id in ids:
        settle(vm, rechain, [new[id], chains[id].base], [chains[id].active], id)
    vm.guest.wait_flushed(50)
    vm.kill()
    for id in ids:
        vm.check(id, image=new[id])


def test_disks_that_share_a_template_share_it_afterwards(make_chain, make_vm, rechain, workdir, style):
    first = make_chain(["template", "current1"], size=16 * MiB)
    other = os.path.join(workdir, "other.qcow2")
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", first.base, "-F", "qcow2", other, first.size)
    reference = os.path.join(workdir, "other.reference")
    images.run("qemu-img", "convert", "-O", "raw", first.base, reference)
    second = images.Chain([other, first.base], ["qcow2", "qcow2"], reference, first.size)
    vm = make_vm([first, second], style=style)
    new = [os.path.join(workdir, f"new{i}.qcow2") for i in (1, 2)]
    move(rechain, vm, f"vda,to={new[0]}", f"vdb,to={new[1]}", "--delete")
    settle(vm, rechain, [new[0], first.base], [first.active], "vda")
    settle(vm, rechain, [new[1], first.base], [other], "vdb")
    vm.stop()
    vm.check("vda", image=new[0])
    vm.check("vdb", image=new[1])


def test_a_layer_that_another_disk_uses_as_its_node_stays_open(make_chain, make_vm, rechain, workdir, new):
    """One node under two overlays: moving the one lets go of its own layer, not of the shared one."""
    chain = make_chain(["template", "current1"], size=16 * MiB)
    other = os.path.join(workdir, "other.qcow2")
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", chain.base, "-F", "qcow2", other, chain.size)
    nodes = [{"driver": "file", "node-name": "other-file", "filename": other},
             {"driver": "qcow2", "node-name": "other", "file": "other-file", "backing": "vda-0"}]
    args = [word for node in nodes for word in ("-blockdev", json.dumps(node))]
    vm = make_vm(chain, args=args + ["-device", "virtio-blk-pci,id=vdb,drive=other"])
    move(rechain, vm, "vda", "--to", new, "--base", "none")
    settle(vm, rechain, [new], [chain.active])
    assert vm.chain("vdb") == [other, chain.base] and nodes_of(vm, chain.base)
    vm.stop()
    vm.check(image=new)


# --- what lies between the device and the layers ---

@pytest.mark.parametrize("filters", [("throttle",), ("copy-on-read",), ("throttle", "copy-on-read")], ids="+".join)
def test_a_move_goes_through_filters(make_chain, make_vm, rechain, new, style, filters):
    chain = make_chain()
    vm = make_vm(Disk(chain, filters=filters), style=style, guest=True, writer={"rate": 300})
    move(rechain, vm, "vda", "--to", new)
    settle(vm, rechain, [new, chain.base], [chain.active])
    if style == "blockdev":
        assert {f"vda-{kind}" for kind in filters} <= set(vm.nodes())
    vm.guest.wait_flushed(50)
    vm.kill()
    vm.check(image=new)


def test_a_move_in_an_iothread(make_chain, make_vm, rechain, new, style):
    chain = make_chain()
    vm = make_vm(Disk(chain, iothread=True), style=style, guest=True)
    move(rechain, vm, "vda", "--to", new)
    settle(vm, rechain, [new, chain.base], [chain.active])
    vm.guest.wait_flushed(50)
    vm.kill()
    vm.check(image=new)


def test_the_cache_mode_is_taken_over(make_chain, make_vm, rechain, new, style):
    chain = make_chain(size=16 * MiB)
    vm = make_vm(Disk(chain, cache="none"), style=style)
    before = vm.block()["inserted"]["cache"]
    assert before["direct"]
    move(rechain, vm, "vda", "--to", new)
    assert vm.block()["inserted"]["cache"] == before
    opened = [fd for fd in os.listdir(f"/proc/{vm.pid}/fd") if os.path.realpath(f"/proc/{vm.pid}/fd/{fd}") == new]
    assert opened
    for fd in opened:
        with open(f"/proc/{vm.pid}/fdinfo/{fd}") as file:
            flags = int(next(line for line in file if line.startswith("flags:")).split()[1], 8)
        assert flags & os.O_DIRECT
    settle(vm, rechain, [new, chain.base], [chain.active])


# --- names ---

ODD = ["a,b", 'a"b', "a b", "a%41b", "a\nb", "-leading", "ünïcödé", "json:{}", "nbd:x", "a\\b'c", "#block1", "rc-x"]


@pytest.mark.parametrize("name", ODD)
def test_odd_file_names(make_vm, rechain, workdir, name):
    chain = images.make_chain(os.path.join(workdir, f"d {name}"), [f"t{name}", name], size=4 * MiB)
    vm = make_vm(chain, dir=workdir)
    new = os.path.join(workdir, f"{name}.new")
    document = move(rechain, vm, "vda", "--to", new, "--delete")
    assert change_of(document)["removed"] == [chain.active]
    settle(vm, rechain, [new, chain.base], [chain.active], dirs=[workdir])
    vm.stop()
    vm.check(image=new)


def test_a_relative_target_is_meant_from_here(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    here = os.getcwd()
    os.chdir(workdir)
    try:
        document = move(rechain, vm, "vda", "--to", "-new:1.qcow2")
    finally:
        os.chdir(here)
    assert change_of(document)["chain"][0] == os.path.join(workdir, "-new:1.qcow2")
    settle(vm, rechain, [os.path.join(workdir, "-new:1.qcow2"), chain.base], [chain.active])


@pytest.mark.parametrize("by", ["qdev", "drive", "node", "path"])
def test_a_disk_has_several_names(make_chain, make_vm, rechain, new, style, by):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain, style=style)
    inserted = vm.block()["inserted"]
    name = {"qdev": "vda", "drive": "drive0", "node": inserted["node-name"], "path": chain.active}[by]
    if by == "drive" and style == "blockdev":
        pytest.skip("a -blockdev guest has no drive names")
    document = move(rechain, vm, name.replace(",", ",,"), "--to", new)
    assert document["disks"][0]["disk"] == "vda"


# --- again and again, and how the guest stands ---

def test_a_disk_can_be_moved_again(make_chain, make_vm, rechain, workdir, style):
    chain = make_chain()
    vm = make_vm(chain, style=style, guest=True, writer={"rate": 300})
    places = [os.path.join(workdir, f"new{i}.qcow2") for i in range(3)]
    before = chain.active
    for place in places:
        document = move(rechain, vm, "vda", "--to", place, "--delete")
        assert change_of(document)["removed"] == [before]
        settle(vm, rechain, [place, chain.base], [before])
        before = place
    assert len([n for n in vm.nodes() if n.startswith("rc-")]) == 2
    vm.kill()
    vm.check(image=before)


def test_a_snapshot_is_moved(make_chain, make_vm, rechain, workdir, new, style):
    chain = make_chain()
    vm = make_vm(chain, style=style, guest=True, writer={"rate": 300})
    overlay = os.path.join(workdir, "overlay.qcow2")
    change(rechain, vm, "snapshot create", f"vda,to={overlay}")
    vm.guest.wait_flushed(50)
    move(rechain, vm, "vda", "--to", new, "--base", chain.base)
    settle(vm, rechain, [new, chain.base], [overlay, chain.active])
    vm.guest.wait_flushed(50)
    vm.kill()
    vm.check(image=new)


def test_a_paused_guest_stays_paused(make_chain, make_vm, rechain, new):
    chain = make_chain()
    vm = make_vm(chain, guest=True)
    vm.qmp.execute("stop")
    vm.state_before = "paused"
    move(rechain, vm, "vda", "--to", new)
    assert vm.run_state() == "paused"
    settle(vm, rechain, [new, chain.base], [chain.active])
    vm.qmp.execute("cont")
    vm.state_before = "running"
    vm.guest.wait_flushed(50)
    vm.kill()
    vm.check(image=new)


def test_a_move_never_stops_the_guest(make_chain, make_vm, rechain, new):
    chain = make_chain()
    vm = make_vm(chain, guest=True)
    vm.qmp.drain()
    move(rechain, vm, "vda", "--to", new)
    assert not [e for e in vm.qmp.drain() if e["event"] in ("STOP", "RESUME")]


def test_two_disks_move_in_two_operations_at_once_or_one_waits(make_vm, rechain, workdir):
    """One monitor serves one client: the second operation is refused or unreachable, never wrong."""
    chains = [images.make_chain(os.path.join(workdir, id), size=16 * MiB) for id in ("a", "b")]
    vm = make_vm(chains)
    new = [os.path.join(workdir, f"new{i}.qcow2") for i in (0, 1)]
    results = {}

    def run(i):
        results[i] = rechain.run("move", vm.qmp_path, f"vd{'ab'[i]}", "--to", new[i], "--bandwidth", "2M", json=True)

    threads = [threading.Thread(target=run, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.rc for r in results.values()) in ([0, 0], [0, 6], [0, 4]), [str(r) for r in results.values()]
    for i, result in results.items():
        done = result.rc == 0
        settle(vm, rechain, [new[i] if done else chains[i].active, chains[i].base], [], f"vd{'ab'[i]}")
        assert os.path.exists(new[i]) == done
    vm.stop()
    for i, result in results.items():
        vm.check(f"vd{'ab'[i]}", image=new[i] if result.rc == 0 else chains[i].active)


def test_a_named_file_node_inside_its_format_node_goes_with_it(make_chain, make_vm, rechain, workdir):
    """`-blockdev` with the file node inside the format node's options: QEMU deletes both at once."""
    inner = images.make_chain(os.path.join(workdir, "b"), size=4 * MiB)
    node = {"driver": "qcow2", "node-name": "b1", "backing": {
        "driver": "qcow2", "node-name": "b0", "read-only": True,
        "file": {"driver": "file", "node-name": "b0-file", "filename": inner.base, "read-only": True}},
        "file": {"driver": "file", "node-name": "b1-file", "filename": inner.active}}
    vm = make_vm(make_chain(size=4 * MiB), args=["-blockdev", json.dumps(node),
                                                "-device", "virtio-blk-pci,id=vdb,drive=b1"])
    to = os.path.join(workdir, "b", "new.qcow2")
    rechain.run("move", vm.qmp_path, "vdb", "--to", to).expect(0)
    nodes = {n["node-name"] for n in vm.qmp.execute("query-named-block-nodes", flat=True)}
    assert nodes & {"b1", "b1-file", "b0", "b0-file"} == {"b0", "b0-file"}
    assert images.header_chain(to) == [to, inner.base]
