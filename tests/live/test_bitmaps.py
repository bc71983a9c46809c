"""Dirty bitmaps survive whatever happens to their layer: what was written since one was made stays marked."""

import json
import os

import pytest

from harness import images
from harness.images import MiB, run
from harness.scene import assert_chain, change, valid

SIZE = 16 * MiB


def add(vm, node, name, **options):
    vm.qmp.execute("block-dirty-bitmap-add", {"node": node, "name": name, "persistent": True, **options})


def active_node(vm, id="vda"):
    return vm.block(id)["inserted"]["node-name"]


def bitmaps(vm, node):
    return {b["name"]: b for b in vm.nodes()[node].get("dirty-bitmaps", [])}


def dirty(image, name):
    """The ranges that a stored bitmap marks, as a set of 64 KiB blocks."""
    out = run("nbdinfo", "--json", f"--map=qemu:dirty-bitmap:{name}", "--",
              "[", "qemu-nbd", "-r", "-f", "qcow2", "-B", name, image, "]")
    return {block for extent in json.loads(out) if extent["type"] & 1
            for block in range(extent["offset"] // 65536, (extent["offset"] + extent["length"] + 65535) // 65536)}


def blocks(offset, length):
    return set(range(offset // 65536, (offset + length) // 65536))


@pytest.fixture
def scene(make_chain, make_vm, style):
    """A disk with a bitmap made before a first write, then a snapshot by rechain, then a second write."""
    chain = make_chain(("base", "current"), size=SIZE)
    vm = make_vm(chain, style=style)
    add(vm, active_node(vm), "since-backup")
    vm.guest_write(1 * MiB, MiB, 0x11)
    return chain, vm


FIRST, SECOND = blocks(1 * MiB, MiB), blocks(4 * MiB, MiB)


def test_an_overlay_records_on(scene, rechain):
    chain, vm = scene
    overlay = os.path.join(chain.dir, "overlay.qcow2")
    change(rechain, vm, "snapshot create", f"vda,to={overlay}")
    vm.guest_write(4 * MiB, MiB, 0x22)
    assert bitmaps(vm, active_node(vm))["since-backup"]["count"] == MiB
    vm.stop()
    assert dirty(overlay, "since-backup") == SECOND and dirty(chain.active, "since-backup") == FIRST


@pytest.mark.parametrize("words,image", [
    (["pull", "vda"], "overlay.qcow2"),
    (["pull", "vda", "--base", "base.qcow2"], "overlay.qcow2"),
    (["commit", "vda"], "current.qcow2"),
    (["commit", "vda", "--base", "base.qcow2"], "base.qcow2"),
    (["move", "vda,to={dir}/moved.qcow2,base=base.qcow2"], "moved.qcow2"),
    (["copy", "vda,to={dir}/copy.qcow2"], "copy.qcow2"),
])
def test_what_was_written_stays_marked(scene, rechain, words, image):
    chain, vm = scene
    change(rechain, vm, "snapshot create", f"vda,to={chain.dir}/overlay.qcow2")
    vm.guest_write(4 * MiB, MiB, 0x22)
    change(rechain, vm, *[word.format(dir=chain.dir) for word in words])
    vm.guest_write(8 * MiB, MiB, 0x33)
    found = bitmaps(vm, active_node(vm))["since-backup"]
    assert found["recording"] and found["persistent"], found
    vm.stop()
    marked = dirty(os.path.join(chain.dir, image), "since-backup")
    assert marked >= FIRST | SECOND | blocks(8 * MiB, MiB), sorted(marked)
    if words[0] in ("pull", "move"):                # there not a block more
        assert marked == FIRST | SECOND | blocks(8 * MiB, MiB), sorted(marked)


def test_an_inner_commit_takes_the_bitmap_along(scene, rechain):
    chain, vm = scene
    change(rechain, vm, "snapshot create", f"vda,to={chain.dir}/overlay.qcow2")
    vm.guest_write(4 * MiB, MiB, 0x22)
    change(rechain, vm, "commit", "vda", "--top", "current.qcow2")
    assert_chain(vm, [os.path.join(chain.dir, "overlay.qcow2"), chain.base])
    vm.stop()
    assert dirty(chain.base, "since-backup") >= FIRST and dirty(f"{chain.dir}/overlay.qcow2", "since-backup") == SECOND


def test_a_fold_keeps_the_bitmap_of_the_old_layer_valid(scene, rechain, workdir):
    """A move that fails when the guest has written to the new layer already."""
    from harness.proxy import Proxy, refuse
    chain, vm = scene
    with Proxy(vm.qmp_path, refuse("job-finalize", nth=1)) as proxy:
        rechain.run("move", proxy.path, "vda", "--to", f"{chain.dir}/new.qcow2", json=True).expect(7)
    assert_chain(vm, chain.layers)
    vm.guest_write(4 * MiB, MiB, 0x22)
    vm.stop()
    assert dirty(chain.active, "since-backup") >= FIRST | SECOND


def test_an_inconsistent_bitmap_is_reported(make_chain, make_vm, rechain):
    chain = make_chain(("base", "current"), size=SIZE)
    vm = make_vm(chain)
    add(vm, active_node(vm), "lost")
    vm.stop()
    vm.restart()
    vm.guest_write(0, MiB, 0x11)
    vm.kill()                                       # in use when QEMU died
    vm.restart()
    assert bitmaps(vm, active_node(vm))["lost"]["inconsistent"]
    run_ = rechain.run("snapshot", "create", vm.qmp_path, f"vda,to={chain.dir}/o.qcow2").expect(0)
    assert "lost" in run_.err and "inconsistent" in run_.err
    assert not bitmaps(vm, active_node(vm))


@pytest.mark.parametrize("words", [("pull", "vda"), ("commit", "vda"), ("commit", "vda", "--top", "current.qcow2"),
                                   ("copy", "vda", "--to", "{dir}/new.qcow2"), ("move", "vda", "--to", "{dir}/new.qcow2")],
                         ids=["pull", "commit", "inner", "copy", "move"])
def test_an_inconsistent_bitmap_is_reported_by_whatever_meets_it(make_chain, make_vm, rechain, words):
    chain = make_chain(("base", "current"), size=SIZE)
    vm = make_vm(chain)
    add(vm, active_node(vm), "lost")
    vm.stop()
    vm.restart()
    vm.kill()                                       # in use when QEMU died
    if "--top" in words:                            # of an inner layer then
        chain = images.add_overlay(chain, f"{chain.dir}/overlay.qcow2")
    vm.restart([chain])
    done = rechain.run(words[0], vm.qmp_path, *[word.format(dir=chain.dir) for word in words[1:]]).expect(0)
    if words[0] == "pull":                          # it stays where it is
        assert bitmaps(vm, active_node(vm))["lost"]["inconsistent"]
        return
    assert "lost" in done.err and "inconsistent" in done.err, str(done)


def test_a_bitmap_below_a_layer_without_it_is_reported(make_chain, make_vm, rechain):
    chain = make_chain(("base", "one", "current"), size=SIZE)
    vm = make_vm(chain)
    vm.stop()
    run("qemu-img", "bitmap", "--add", "-f", "qcow2", chain.layers[1], "orphan")
    vm.restart()
    plan = valid(rechain.run("pull", vm.qmp_path, "vda", "-n", json=True).expect(0).json)
    assert any("orphan" in note for note in plan["notes"]), plan["notes"]
