"""copy of chains that are long, large, many, or of odd kinds: done, or refused with the reason."""

import os

import pytest

from harness import images
from harness.images import MiB, run
from harness.qemu import leftovers
from harness.scene import assert_chain, assert_gone, change, change_of

NAMES = ("base", "one", "current")
WAYS = pytest.mark.parametrize("words, kept", [((), None), (("--shallow",), 1)], ids=["full", "shallow"])


def is_copied(vm, chain, rechain, new, kept, id="vda"):
    left = [new] + (chain.layers[kept:] if kept else [])
    assert_chain(vm, left, id)
    assert_gone(vm, [path for path in chain.layers if path not in left])
    leftovers(vm, rechain.state_dir, [os.path.dirname(new)])


def shows_the_same(chain, new):
    images.check_image(new)
    with images.raw_view(new) as raw:
        run("cmp", raw, chain.reference)


@WAYS
def test_forty_layers(make_chain, make_vm, rechain, workdir, words, kept):
    chain = make_chain([f"l{i}" for i in range(40)], size=4 * MiB, share=0.1, cluster_size=4096)
    vm = make_vm(chain)
    change(rechain, vm, "copy", "vda", "--to", f"{workdir}/new.qcow2", *words)
    is_copied(vm, chain, rechain, f"{workdir}/new.qcow2", kept)
    vm.stop()
    shows_the_same(chain, f"{workdir}/new.qcow2")


@WAYS
def test_eight_disks_in_one_pause(make_vm, rechain, workdir, words, kept):
    chains = [images.make_chain(os.path.join(workdir, f"d{i}"), NAMES, size=4 * MiB, seed=i) for i in range(8)]
    vm = make_vm(chains, dir=workdir, style="drive")
    vm.cont()
    disks = [f"vd{c}" for c in "abcdefgh"]
    document = change(rechain, vm, "copy", *[f"{id},to={workdir}/{id}.new" for id in disks], *words)
    assert document["pause-ms"] > 0
    for id, chain in zip(disks, chains):
        is_copied(vm, chain, rechain, f"{workdir}/{id}.new", kept, id)
    vm.stop()
    for id, chain in zip(disks, chains):
        shows_the_same(chain, f"{workdir}/{id}.new")


@WAYS
def test_a_tebibyte_with_little_data(make_vm, rechain, workdir, words, kept):
    """What is not allocated is neither read nor written."""
    base, current, new = (f"{workdir}/{name}.qcow2" for name in ("base", "current", "new"))
    run("qemu-img", "create", "-q", "-f", "qcow2", base, "1T")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 700G 100M", base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", current)
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 2 700G 10M", current)
    vm = make_vm(images.Chain([current, base], ["qcow2", "qcow2"], None, 1 << 40), dir=workdir)
    document = change(rechain, vm, "copy", "vda", "--to", new, *words)
    assert change_of(document)["chain"] == [new] + ([base] if kept else [])
    vm.stop()
    images.check_image(new)
    # Of a full one the whole must be made to read zeros: 128 MiB of tables, or none where QEMU can be told (10.1).
    assert os.stat(new).st_blocks * 512 < (30 if kept else 300) * MiB
    run("qemu-io", "-f", "qcow2", "-c", "read -q -P 2 700G 10M", "-c", f"read -q -P 1 {(700 << 30) + 10 * MiB} 90M", new)


@pytest.mark.parametrize("words, format, kept", [((), "qcow2", None), (("--shallow",), "qcow2", 1), (("--format", "raw"), "raw", None)],
                         ids=["full", "shallow", "to-raw"])
def test_a_raw_base(make_chain, make_vm, rechain, workdir, style, words, format, kept):
    chain = make_chain(("base", "current"), formats=("raw", "qcow2"), size=4 * MiB)
    vm = make_vm(chain, style=style)
    new = f"{workdir}/new.{format}"
    change(rechain, vm, "copy", "vda", "--to", new, *words)
    is_copied(vm, chain, rechain, new, kept)
    vm.stop()
    with images.raw_view(new, format) as raw:
        run("cmp", raw, chain.reference)


@WAYS
@pytest.mark.parametrize("option", ["extended_l2=on,cluster_size=128k", "data_file={dir}/data.raw,data_file_raw=off"],
                         ids=["subclusters", "data-file"])
def test_a_layer_with_subclusters_or_a_data_file(make_vm, rechain, workdir, option, words, kept):
    """The copy is a plain image."""
    base = images.make_chain(workdir, ["base"], size=4 * MiB)
    chain = images.Chain([f"{workdir}/current.qcow2"] + base.layers, ["qcow2", "qcow2"], base.reference, base.size)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", option.format(dir=workdir), "-u", "-b", base.active,
        "-F", "qcow2", chain.active, base.size)
    vm = make_vm(chain)
    vm.guest_write(MiB, 4096, 0x5a)
    change(rechain, vm, "copy", "vda", "--to", f"{workdir}/new.qcow2", *words)
    is_copied(vm, chain, rechain, f"{workdir}/new.qcow2", kept)
    vm.stop()
    with open(chain.reference, "r+b") as file:
        os.pwrite(file.fileno(), b"\x5a" * 4096, MiB)
    shows_the_same(chain, f"{workdir}/new.qcow2")
    assert "data-file" not in images.info(f"{workdir}/new.qcow2")["format-specific"]["data"]


@WAYS
def test_relative_backing_names(make_chain, make_vm, rechain, workdir, style, words, kept):
    """Relative to the folder of the header; the copy lies in another one."""
    chain = make_chain(NAMES, size=4 * MiB, relative=True)
    vm = make_vm(chain, style=style)
    os.mkdir(f"{workdir}/other")
    new = f"{workdir}/other/new.qcow2"
    change(rechain, vm, "copy", "vda", "--to", new, "--relative", *words)
    is_copied(vm, chain, rechain, new, kept)
    assert images.info(new).get("backing-filename") == ("../one.qcow2" if kept else None)
    vm.stop()
    shows_the_same(chain, new)
