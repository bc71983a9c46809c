"""map: what is shown is what qemu-img shows of the same images, live and offline."""

import json
import os
import random

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import PASS, Proxy, on, refuse
from harness.qemu import Disk, leftovers
from harness.scene import assert_no_exports, graph, valid

SIZE = 24 * MiB


def write_some(rng, path, fmt, cluster, compressed):
    """Random writes, zeroes and discards, some of them smaller than a cluster."""
    commands = []
    for _ in range(rng.randint(2, 12)):
        length = rng.choice([4096, cluster, 3 * cluster, MiB])
        offset = rng.randrange(0, SIZE - length) // 4096 * 4096
        verb = rng.choice(["write", "write", "write", "write -z", "write -z -u", "discard"])
        commands.append(f"{verb} {offset} {length}")
    if compressed:
        # Into clusters that are still free: before the others.
        commands[:0] = [f"write -c -P {n + 1} {n * 8 * cluster} {cluster}" for n in range(4)]
    images.run("qemu-io", "-d", "unmap", "-f", fmt, path, input="\n".join(commands) + "\n")


def random_chain(dir, seed, depth, base="qcow2", kinds=("plain", "small", "extended", "compressed")):
    """`depth` layers, top first, each with contents and an own way to keep them."""
    rng, below, layers = random.Random(f"map {seed} {depth} {base}"), None, []
    for index in range(depth):
        fmt = base if index == 0 else "qcow2"
        path = os.path.join(dir, f"{seed}-{index}.{fmt}")
        options, cluster = [], 65536
        if fmt == "qcow2":
            kind = rng.choice(kinds)
            cluster = {"small": 4096}.get(kind, 65536)
            options = ["-o", f"cluster_size={cluster}" + (",extended_l2=on" if kind == "extended" else "")]
        if below:
            options += ["-b", below[0], "-F", below[1]]
        images.run("qemu-img", "create", "-q", "-f", fmt, *options, path, SIZE)
        write_some(rng, path, fmt, cluster, fmt == "qcow2" and kind == "compressed")
        below = (path, fmt)
        layers.insert(0, path)
    reference = os.path.join(dir, f"{seed}.reference")
    return images.Chain(layers, ["qcow2"] * (depth - 1) + [base], reference, SIZE)


def qemu_img_map(chain):
    """qemu-img's extents as ours: a layer only where one has it, neighbours merged."""
    merged = []
    argv = ["qemu-img", "map", "--output=json", "-f", chain.formats[0], chain.active]
    for e in json.loads(images.run(*argv)):
        kind = {"data": e["data"], "zero": e["zero"], "allocated": e["present"]}
        if e["present"]:
            kind |= {"depth": e["depth"], "file": chain.layers[e["depth"]]}
        if merged and {k: v for k, v in merged[-1].items() if k not in ("start", "length")} == kind:
            merged[-1]["length"] += e["length"]
        else:
            merged.append({"start": e["start"], "length": e["length"], **kind})
    return merged


def mapped(rechain, *arguments):
    return valid(rechain.run("map", *arguments, json=True).expect(0).json)


def assert_totals(document):
    totals, extents = document["totals"], document["extents"]
    assert totals["allocated"] + totals["unallocated"] == sum(e["length"] for e in extents)
    for layer in totals["layers"]:
        mine = [e for e in extents if e.get("depth") == layer["depth"]]
        assert layer["allocated"] == sum(e["length"] for e in mine)
        assert layer["data"] == sum(e["length"] for e in mine if e["data"])


@pytest.mark.parametrize("depth,base", [(1, "qcow2"), (1, "raw"), (2, "raw"), (3, "qcow2"), (4, "raw"), (6, "qcow2")])
def test_a_map_is_what_qemu_img_shows(make_vm, rechain, workdir, depth, base):
    chains = [random_chain(workdir, seed, depth, base) for seed in range(3)]
    vm = make_vm(chains)
    before = graph(vm)
    live = {}
    for disk, chain in zip(vm.disks, chains):
        live[disk.id] = mapped(rechain, vm.qmp_path, disk.id)
        assert (live[disk.id]["disk"], live[disk.id]["vm"]) == (disk.id, vm.qmp_path)
        assert_totals(live[disk.id])
    assert graph(vm) == before
    leftovers(vm, rechain.state_dir, [workdir])
    assert_no_exports(rechain, vm)
    vm.quit_qemu()
    for disk, chain in zip(vm.disks, chains):
        wanted = qemu_img_map(chain)
        assert live[disk.id]["extents"] == wanted
        offline = mapped(rechain, "--offline", chain.active, *(["--format", "raw"] if chain.formats[0] == "raw" else []))
        assert offline["extents"] == wanted and offline["totals"] == live[disk.id]["totals"]


def test_filters_and_drives_are_no_layers(make_chain, make_vm, rechain, style):
    chain = make_chain(["template", "middle", "current1"], size=8 * MiB)
    vm = make_vm(Disk(chain, filters=("throttle", "copy-on-read")), style=style)
    extents = mapped(rechain, vm.qmp_path, "vda")["extents"]
    vm.quit_qemu()
    assert extents == qemu_img_map(chain)


def test_what_a_guest_writes_is_in_the_next_map(make_chain, make_vm, rechain):
    vm = make_vm(make_chain(["template", "current1"], size=8 * MiB, share=0))
    assert mapped(rechain, vm.qmp_path, "vda")["totals"]["allocated"] == 0
    vm.guest_write(MiB, MiB, 7)
    assert mapped(rechain, vm.qmp_path, "vda")["extents"][1] == {
        "start": MiB, "length": MiB, "depth": 0, "file": vm.disk("vda").chain.active,
        "data": True, "zero": False, "allocated": True}


@pytest.mark.parametrize("offline", [False, True], ids=["live", "offline"])
def test_a_part_is_that_part_of_the_whole(make_vm, rechain, workdir, offline):
    chain = random_chain(workdir, 9, 3)
    vm = None if offline else make_vm(chain)
    where = ["--offline", chain.active] if offline else [vm.qmp_path, "vda"]
    whole = mapped(rechain, *where)["extents"]
    for start, length in [(0, SIZE), (MiB + 512, 4096), (5 * MiB + 1, 7 * MiB), (SIZE - 1, 1)]:
        part = mapped(rechain, *where, "--start", start, "--length", length)["extents"]
        wanted = []
        for e in whole:
            begin, end = max(e["start"], start), min(e["start"] + e["length"], start + length)
            if begin < end:
                wanted.append({**e, "start": begin, "length": end - begin})
        assert part == wanted, (start, length)
    assert mapped(rechain, *where, "--start", 20 * MiB)["extents"][0]["start"] == 20 * MiB
    for bad in (["--start", SIZE], ["--start", MiB, "--length", SIZE]):
        valid(rechain.run("map", *where, *bad, json=True).expect(4).error)
    rechain.run("map", *where, "--length", "0").expect(2)


def test_the_strip_has_a_letter_for_each_layer(make_chain, make_vm, rechain):
    chain = make_chain(["template", "current1"], size=64 * MiB, share=0)
    images.run("qemu-io", "-f", "qcow2", chain.base, input="write -P 1 0 16M\nwrite -P 1 32M 16M\n")
    images.run("qemu-io", "-f", "qcow2", chain.active, input="write -P 2 8M 8M\nwrite -z 32M 4M\n")
    vm = make_vm(chain)
    live = rechain.run("map", vm.qmp_path, "vda").expect(0).out
    vm.quit_qemu()
    offline = rechain.run("map", "--offline", chain.active).expect(0).out
    assert live == offline
    assert live.splitlines()[0] == "B" * 8 + "A" * 8 + "." * 16 + "a" * 4 + "B" * 12 + "." * 16
    assert chain.active in live and chain.base in live


def test_a_map_while_the_guest_writes_harms_nothing(make_chain, make_vm, rechain, workdir):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    for _ in range(5):
        document = mapped(rechain, vm.qmp_path, "vda")
        assert_totals(document)
    vm.guest.wait_flushed(20)
    leftovers(vm, rechain.state_dir, [workdir])
    vm.kill()
    vm.check()


def test_another_nbd_server_is_left_alone(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=8 * MiB))
    theirs = os.path.join(vm.run_dir, "theirs")
    vm.qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": theirs}})
    vm.qmp.execute("block-export-add", type="nbd", id="theirs", node_name=vm.disks[0].node(), name="x")
    error = valid(rechain.run("map", vm.qmp_path, "vda", json=True).expect(7).error)
    assert "NBD server" in error["cause"] or "already" in error["cause"]
    assert [e["id"] for e in vm.qmp.execute("query-block-exports")] == ["theirs"]
    images.run("nbdinfo", "--size", f"nbd+unix:///x?socket={theirs}")
    leftovers(vm, rechain.state_dir, [workdir])


def test_a_disk_in_an_iothread_is_refused_before_9(make_chain, make_vm, rechain, version):
    vm = make_vm(Disk(make_chain(size=8 * MiB), iothread=True))
    result = rechain.run("map", vm.qmp_path, "vda", json=True)
    if version.startswith(("5.", "7.")):
        assert "IOThread" in valid(result.expect(4).error)["message"]
    else:
        valid(result.expect(0).json)


@pytest.mark.parametrize("command", ["nbd-server-start", "block-export-add"])
def test_what_is_refused_leaves_nothing(make_chain, make_vm, rechain, workdir, command):
    vm = make_vm(make_chain(size=8 * MiB))
    with Proxy(vm.qmp_path, refuse(command)) as proxy:
        rechain.run("map", proxy.path, "vda", json=True).expect(7)
    leftovers(vm, rechain.state_dir, [workdir])
    assert_no_exports(rechain, vm)
    mapped(rechain, vm.qmp_path, "vda")


def test_a_killed_map_is_recovered(make_chain, make_vm, rechain, workdir):
    """Killed at each of its commands; what stays is removed by recover, and the next map works."""
    vm = make_vm(make_chain(size=8 * MiB))
    for command in ("nbd-server-start", "block-export-add", "block-export-del", "nbd-server-stop"):
        running = []

        def kill(_):
            running[0].process.kill()
            return PASS

        with Proxy(vm.qmp_path, on("command", command, kill)) as proxy:
            running.append(rechain.start("map", proxy.path, "vda", json=True))
            assert running[0].wait().rc == -9
            document = valid(rechain.run("recover", json=True).expect(0).json)
        assert [o["state"] for o in document["operations"]] == ["undone"], command
        leftovers(vm, rechain.state_dir, [workdir])
        assert_no_exports(rechain, vm)
    mapped(rechain, vm.qmp_path, "vda")


def test_an_image_that_a_qemu_writes_to_is_refused_offline(make_chain, make_vm, rechain):
    chain = make_chain(size=8 * MiB)
    vm = make_vm(chain)
    error = valid(rechain.run("map", "--offline", chain.active, json=True).expect(4).error)
    assert chain.active in error["message"]
    # What lies under it only changes when somebody asks for it.
    assert mapped(rechain, "--offline", chain.base)["extents"]
    assert vm.is_alive()


def test_raw_is_named_and_a_bomb_is_refused(make_chain, rechain, workdir):
    chain = make_chain(["alone"], formats=["raw"], size=MiB)
    valid(rechain.run("map", "--offline", chain.active, json=True).expect(4).error)
    mapped(rechain, "--offline", chain.active, "--format", "raw")
    evil = os.path.join(workdir, "evil.qcow2")
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", 'json:{"driver":"raw"}', "-F", "raw", evil, MiB)
    valid(rechain.run("map", "--offline", evil, json=True).expect(4).error)
