"""map: what is shown is what qemu-img shows of the same images, live and offline."""

import itertools
import json
import os
import random
import struct

import pytest

from harness import hostile_nbd, images
from harness.images import MiB
from harness.proxy import PASS, Proxy, at, refuse
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


def punch(path):
    """Space that is reserved and not written is a hole or zeros to SEEK_HOLE, by what the page cache has of it just
    now, and so to any map; holes stay holes."""
    images.run("cp", "--sparse=always", path, f"{path}.holes")
    os.replace(f"{path}.holes", path)


def random_chain(dir, seed, depth, base="qcow2", kinds=("plain", "small", "extended", "compressed"), punched=True):
    """`depth` layers, top first, each with contents and an own way to keep them. `punched`: zeros are holes of the
    files, also within clusters and tables, which take space once they are written."""
    rng, below, layers = random.Random(f"map {seed} {depth} {base}"), None, []
    for index in range(depth):
        fmt = base if index == 0 else "qcow2"
        path = os.path.join(dir, f"{seed}-{index}.{fmt}")
        options, cluster = [], 65536
        if fmt == "qcow2":
            kind = kinds[(seed + index) % len(kinds)]
            cluster = {"small": 4096}.get(kind, 65536)
            options = ["-o", f"cluster_size={cluster}" + (",extended_l2=on" if kind == "extended" else "")]
        if below:
            options += ["-b", below[0], "-F", below[1]]
        images.run("qemu-img", "create", "-q", "-f", fmt, *options, path, SIZE)
        write_some(rng, path, fmt, cluster, fmt == "qcow2" and kind == "compressed")
        if punched:
            punch(path)
        below = (path, fmt)
        layers.insert(0, path)
    reference = os.path.join(dir, f"{seed}.reference")
    return images.Chain(layers, ["qcow2"] * (depth - 1) + [base], reference, SIZE)


def qemu_img_map(chain, old=False):
    """qemu-img's extents as ours: a layer only where one has it, neighbours merged. `old`: as a QEMU before 6.1
    tells them, whose NBD server does not tell zeros that take space from those that do not."""
    merged = []
    argv = ["qemu-img", "map", "--output=json", "-f", chain.formats[0], chain.active]
    for e in json.loads(images.run(*argv)):
        kind = {"data": e["data"] and not (old and e["zero"]), "zero": e["zero"], "allocated": e["present"]}
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


@pytest.mark.parametrize("depth,base", [(1, "qcow2"), (1, "raw"), (2, "qcow2"), (2, "raw"), (3, "qcow2"), (4, "raw"),
                                        (5, "qcow2"), (6, "raw"), (6, "qcow2")])
def test_a_map_is_what_qemu_img_shows(make_vm, rechain, workdir, version, depth, base):
    """Of random images: qcow2 with clusters of 64 KiB and 4 KiB, with subclusters, compressed, over qcow2 or raw."""
    chains = [random_chain(workdir, seed, depth, base) for seed in range(4)]
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
        assert live[disk.id]["extents"] == qemu_img_map(chain, old=version == "5.2")
        offline = mapped(rechain, "--offline", chain.active, *(["--format", "raw"] if chain.formats[0] == "raw" else []))
        assert offline["extents"] == wanted and (version == "5.2" or
                                                   offline["totals"] == live[disk.id]["totals"])


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


def test_a_map_that_is_killed_at_any_message_is_recovered(make_chain, make_vm, rechain, workdir):
    """What stays is removed by recover, and the next map works."""
    vm = make_vm(make_chain(size=8 * MiB))
    for number in itertools.count(1):
        running, reached = [], []

        def kill(message):
            reached.append(message)
            running[0].process.kill()
            return PASS

        with Proxy(vm.qmp_path, at(number, kill)) as proxy:
            running.append(rechain.start("map", proxy.path, "vda", json=True))
            rc = running[0].wait().rc
            document = valid(rechain.run("recover", json=True).expect(0).json)
        if not reached:
            assert rc == 0 and number > 20
            break
        assert rc in (-9, 0) and [o["state"] for o in document["operations"]] in ([], ["undone"], ["done"]), reached
        leftovers(vm, rechain.state_dir, [workdir])
        assert_no_exports(rechain, vm)
    mapped(rechain, vm.qmp_path, "vda")


LIES = {
    "of nothing": lambda offset, length: ([], []),
    "of extents without a length": lambda offset, length: ([(0, 0)], [(0, 1)]),
    "of a layer that is not there": lambda offset, length: ([(length, 0)], [(length, 7)]),
    "in one context only": lambda offset, length: ([(length, 0)],),
    "in no language": lambda offset, length: os.urandom(4096),
    "and hangs up": lambda offset, length: b"",
    "of an answer without end": lambda offset, length: struct.pack(">IHHQI", 0x668e33ef, 0, 5, 1, 0xffffffff),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_hostile_server_tells_lies(make_chain, make_vm, rechain, workdir, lie):
    vm = make_vm(make_chain(size=8 * MiB))
    with Proxy(vm.qmp_path, hostile_nbd.instead(LIES[lie])) as proxy:
        error = valid(rechain.run("map", proxy.path, "vda", json=True).expect(7).error)
    assert "map" in error["message"] or "NBD" in error["message"], error
    leftovers(vm, rechain.state_dir, [workdir])
    assert_no_exports(rechain, vm)


def test_a_hostile_server_cannot_make_a_disk_larger(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=8 * MiB))

    def data(offset, length):
        return [(0xffffffff, 0)], [(0xffffffff, 1)]         # more than was asked for

    with Proxy(vm.qmp_path, hostile_nbd.instead(data, (1 << 63) - 512)) as proxy:
        extents = mapped(rechain, proxy.path, "vda")["extents"]
    assert [(e["start"], e["length"], e["depth"]) for e in extents] == [(0, 8 * MiB, 0)]
    leftovers(vm, rechain.state_dir, [workdir])


def test_a_disk_without_end_is_refused_and_a_part_of_it_is_not(make_vm, rechain, workdir):
    path = os.path.join(workdir, "huge.qcow2")
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", path, "1E")
    vm = make_vm(images.Chain([path], ["qcow2"], None, 1 << 60))
    error = valid(rechain.run("map", vm.qmp_path, "vda", json=True).expect(7).error)
    assert "no end" in error["message"] and "--length" in error["hint"]
    extents = mapped(rechain, vm.qmp_path, "vda", "--start", "512P", "--length", "1T")["extents"]
    assert [(e["start"], e["length"], e["allocated"]) for e in extents] == [(512 << 50, 1 << 40, False)]
    leftovers(vm, rechain.state_dir, [workdir])


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
