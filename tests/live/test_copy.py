"""copy: a mirror to other storage and a pivot to it, or a copy of one instant that is left behind."""

import os
import subprocess

import pytest

from harness import images
from harness.images import MiB
from harness.qemu import Disk, leftovers
from harness.scene import assert_chain, assert_gone, change, change_of

SIZE = 8 * MiB


def bytes_of(path, format="qcow2"):
    """What `path` shows, its chain read by the headers."""
    with images.raw_view(path, format) as raw, open(raw, "rb") as file:
        return file.read()


def made(path):
    with open(path, "rb") as file:
        return file.read()


def settled(vm, rechain, left, dropped, id="vda"):
    assert_chain(vm, left, id)
    assert_gone(vm, dropped)
    leftovers(vm, rechain.state_dir, {os.path.dirname(path) for path in left})


# --- to which form ---

@pytest.mark.parametrize("source", ["qcow2", "raw"])
@pytest.mark.parametrize("target", ["qcow2", "raw", None])
def test_a_full_copy_holds_all_that_the_guest_sees(make_chain, make_vm, rechain, workdir, style, source, target):
    """No format named: that of the active layer."""
    names, formats = (("template", "current"), None) if source == "qcow2" else (("disk",), ["raw"])
    chain = make_chain(names, size=SIZE, formats=formats)
    vm = make_vm(chain, style=style)
    new = f"{workdir}/new.img"
    document = change(rechain, vm, "copy", "vda", "--to", new, *(["--format", target] if target else []))
    told = change_of(document)
    assert (told["chain"], told["chain-before"], told["left"]) == ([new], chain.layers, chain.layers)
    settled(vm, rechain, [new], chain.layers)
    vm.guest_write(3 * MiB, MiB, 0x5a)
    vm.stop()
    format = target or source
    if format == "qcow2":
        images.check_image(new)
    assert images.info(new, format)["virtual-size"] == SIZE
    view = bytearray(made(chain.reference))
    assert bytes_of(chain.active, source) == view, "the old chain was written to"
    view[3 * MiB:4 * MiB] = bytes([0x5a]) * MiB
    assert bytes_of(new, format) == view


@pytest.mark.parametrize("relative", [False, True])
def test_a_shallow_copy_keeps_what_lies_below(make_chain, make_vm, rechain, workdir, style, relative):
    chain = make_chain(("template", "middle", "current"), size=SIZE)
    vm = make_vm(chain, style=style)
    os.mkdir(f"{workdir}/other")
    new = f"{workdir}/other/new.qcow2"
    document = change(rechain, vm, "copy", "vda", "--to", new, "--shallow", *(["--relative"] if relative else []))
    left = [new] + chain.layers[1:]
    assert change_of(document)["chain"] == left
    settled(vm, rechain, left, chain.layers[:1])
    assert images.info(new)["backing-filename"] == ("../middle.qcow2" if relative else chain.layers[1])
    vm.stop()
    images.check_image(new)
    assert bytes_of(new) == made(chain.reference)


def test_a_dropped_layer_is_removed_where_asked(make_chain, make_vm, rechain, workdir):
    chain = make_chain(("template", "current"), size=SIZE)
    vm = make_vm(chain)
    new = f"{workdir}/new.qcow2"
    document = change(rechain, vm, "copy", "vda", "--to", new, "--shallow", "--delete")
    assert change_of(document)["removed"] == [chain.active]
    assert not os.path.exists(chain.active) and os.path.exists(chain.base)


# --- a target that exists ---

@pytest.fixture
def loop_device(workdir):
    """A block device of SIZE, full of other data."""
    path = f"{workdir}/device.img"
    with open(path, "wb") as file:
        file.write(b"\xa5" * SIZE)
    device = images.run("losetup", "--show", "-f", path).strip()
    yield device
    subprocess.run(["losetup", "-d", device], check=True)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_an_existing_target_is_written_over(make_chain, make_vm, rechain, workdir, style, format):
    """What it held shines through nowhere, also not where the guest has zeros."""
    chain = make_chain(("template", "current"), size=SIZE)
    vm = make_vm(chain, style=style)
    new = f"{workdir}/new.img"
    images.run("qemu-img", "create", "-q", "-f", format, new, SIZE)
    images.run("qemu-io", "-f", format, "-c", f"write -q -P 0xa5 0 {SIZE}", new)
    change(rechain, vm, "copy", "vda", "--to", new, "--format", format, "--reuse")
    settled(vm, rechain, [new], chain.layers)
    vm.stop()
    assert bytes_of(new, format) == made(chain.reference)


def test_a_block_device_is_a_target(make_chain, make_vm, rechain, style, loop_device):
    chain = make_chain(("template", "current"), size=SIZE)
    vm = make_vm(chain, style=style)
    document = change(rechain, vm, "copy", "vda", "--to", loop_device, "--format", "raw", "--reuse")
    assert change_of(document)["chain"] == [loop_device]
    assert vm.chain() == [loop_device]
    assert_gone(vm, chain.layers)
    leftovers(vm, rechain.state_dir, [chain.dir])
    vm.stop()
    assert bytes_of(loop_device, "raw") == made(chain.reference)


def test_a_shallow_copy_into_an_image_made_before(make_chain, make_vm, rechain, workdir, style):
    chain = make_chain(("template", "current"), size=SIZE)
    vm = make_vm(chain, style=style)
    new = f"{workdir}/new.qcow2"
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", chain.base, "-F", "qcow2", new, SIZE)
    change(rechain, vm, "copy", "vda", "--to", new, "--shallow", "--reuse")
    settled(vm, rechain, [new, chain.base], chain.layers[:1])
    vm.stop()
    assert bytes_of(new) == made(chain.reference)


# --- devices ---

@pytest.mark.parametrize("filters", [("throttle",), ("copy-on-read",)])
def test_a_filter_stays_above_the_new_layer(make_chain, make_vm, rechain, workdir, style, filters):
    chain = make_chain(("template", "current"), size=SIZE)
    vm = make_vm(Disk(chain, filters=filters), style=style)
    new = f"{workdir}/new.qcow2"

    def drivers():
        return sorted(node["drv"] for node in vm.nodes().values() if node["drv"] in ("throttle", "copy-on-read"))
    before, limit = drivers(), vm.block()["inserted"]["bps"]
    change(rechain, vm, "copy", "vda", "--to", new, "--shallow")
    assert (drivers(), vm.block()["inserted"]["bps"]) == (before, limit)
    assert vm.chain() == [new, chain.base]
    assert_gone(vm, chain.layers[:1])
    leftovers(vm, rechain.state_dir, [workdir])
    vm.guest_write(0, MiB, 7)
    vm.stop()
    assert bytes_of(new)[:MiB] == b"\7" * MiB and bytes_of(new)[MiB:] == made(chain.reference)[MiB:]


@pytest.mark.parametrize("iothread", [False, True])
@pytest.mark.parametrize("shallow", [True, False])
def test_a_guest_that_writes_loses_nothing(make_chain, make_vm, rechain, workdir, style, shallow, iothread):
    chain = make_chain(("template", "current"), size=32 * MiB)
    vm = make_vm(Disk(chain, iothread=iothread), style=style, guest=True)
    new = f"{workdir}/new.qcow2"
    vm.guest.wait_flushed(20)
    document = change(rechain, vm, "copy", "vda", "--to", new, *(["--shallow"] if shallow else []))
    left = [new] + (chain.layers[1:] if shallow else [])
    assert change_of(document)["chain"] == left
    assert 0 < document["pause-ms"] < 1000
    settled(vm, rechain, left, [path for path in chain.layers if path not in left])
    vm.guest.wait_flushed(50)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    vm.kill()
    vm.check(image=new)
