"""snapshot create: new active layers, all at one instant, and the old ones frozen from then on."""

import os
import re

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import Proxy
from harness.qemu import Disk, leftovers
from harness.scene import assert_chain, change, change_of, digest, tree


def snapshot(rechain, vm, *arguments):
    return change(rechain, vm, "snapshot create", *arguments)


def settle(vm, rechain, layers, id="vda"):
    assert_chain(vm, layers, id)
    leftovers(vm, rechain.state_dir, {os.path.dirname(p) for p in layers})


def test_writes_go_to_the_overlay_and_the_old_layer_is_frozen(make_chain, make_vm, rechain, workdir, style):
    chain = make_chain()
    vm = make_vm(chain, style=style, guest=True)
    overlay = os.path.join(workdir, "overlay.qcow2")
    document = snapshot(rechain, vm, f"vda,to={overlay}")
    told = {"chain": [overlay] + chain.layers, "chain-before": chain.layers, "removed": [], "left": []}
    assert told.items() <= change_of(document).items()
    settle(vm, rechain, [overlay] + chain.layers)
    vm.guest.wait_flushed(20)
    frozen = digest(chain.active)
    vm.guest.wait_flushed(200)
    assert digest(chain.active) == frozen
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    vm.kill()
    vm.check(image=overlay)


def test_the_old_layer_shows_the_instant_of_the_snapshot(make_chain, make_vm, rechain, workdir, style):
    """Bit for bit what the guest saw then, and what it wrote afterwards is in the overlay only."""
    chain = make_chain(size=16 * MiB)
    vm = make_vm(chain, style=style)
    vm.guest_write(0, 1 * MiB, 0x11)
    overlay = os.path.join(workdir, "overlay.qcow2")
    snapshot(rechain, vm, f"vda,to={overlay}")
    vm.guest_write(512 * 1024, 1 * MiB, 0x22)
    vm.stop()
    with images.raw_view(chain.active) as raw, open(raw, "rb") as old, open(chain.reference, "rb") as reference:
        reference.seek(1 * MiB)
        assert old.read(1 * MiB) == b"\x11" * MiB and old.read() == reference.read()
    with images.raw_view(overlay) as raw, open(raw, "rb") as now, open(chain.reference, "rb") as reference:
        reference.seek(MiB + 512 * 1024)
        assert now.read(512 * 1024) == b"\x11" * (512 * 1024)
        assert now.read(MiB) == b"\x22" * MiB and now.read() == reference.read()


def test_without_a_target_the_overlay_lies_beside_the_image_under_the_given_name(make_chain, make_vm, rechain, style):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain, style=style)
    document = snapshot(rechain, vm, "vda", "--name", "before upgrade,1")
    overlay = os.path.join(chain.dir, "current1.before upgrade,1.qcow2")
    assert change_of(document)["chain"] == [overlay] + chain.layers
    settle(vm, rechain, [overlay] + chain.layers)


def test_without_a_name_the_time_is_its_name(make_chain, make_vm, rechain):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    overlay = change_of(snapshot(rechain, vm, "vda"))["chain"][0]
    assert re.fullmatch(r"current1\.\d{8}T\d{6}Z\.qcow2", os.path.basename(overlay))
    settle(vm, rechain, [overlay] + chain.layers)


def test_without_a_disk_all_writable_disks_are_taken(make_vm, rechain, workdir, style):
    chains = {id: images.make_chain(os.path.join(workdir, id), size=4 * MiB) for id in ("vda", "vdb", "vdc")}
    iso = images.make_chain(os.path.join(workdir, "iso"), ["iso"], formats=["raw"], size=MiB)
    vm = make_vm(list(chains.values()), style=style, dir=workdir, args=[
        "-device", "ide-cd,id=cd0,bus=ide.0",
        "-drive", f"if=none,id=cd,file={iso.active},format=raw,read-only=on,media=cdrom",
        "-device", "ide-cd,id=cd1,bus=ide.1,drive=cd"])
    document = snapshot(rechain, vm, "--name", "s")
    assert sorted(d["disk"] for d in document["disks"]) == ["vda", "vdb", "vdc"]
    for id, chain in chains.items():
        settle(vm, rechain, [os.path.join(workdir, id, "current1.s.qcow2")] + chain.layers, id)


def test_several_disks_switch_in_one_transaction(make_vm, rechain, workdir, style):
    chains = [images.make_chain(os.path.join(workdir, id), size=16 * MiB) for id in ("a", "b")]
    vm = make_vm(chains, style=style, guest=True, writer={"rate": 300})
    elsewhere = os.path.join(workdir, "elsewhere")
    os.mkdir(elsewhere)
    new = [os.path.join(elsewhere, f"{id}.qcow2") for id in ("a", "b")]
    with Proxy(vm.qmp_path) as proxy:
        result = rechain.run("snapshot", "create", proxy.path, f"vda,to={new[0]}", f"vdb,to={new[1]}").expect(0)
        (transaction,) = [m for m in proxy.seen if m.kind == "command" and m.name == "transaction"]
    assert [a["type"] for a in transaction.arguments["actions"]] == ["blockdev-snapshot"] * 2, str(result)
    for id, overlay, chain in zip(("vda", "vdb"), new, chains):
        settle(vm, rechain, [overlay] + chain.layers, id)
    vm.guest.wait_flushed(50)
    vm.kill()
    for id, overlay in zip(("vda", "vdb"), new):
        vm.check(id, image=overlay)


def test_snapshots_pile_up(make_chain, make_vm, rechain, style):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain, style=style)
    layers = chain.layers
    for i in range(5):
        snapshot(rechain, vm, "vda", "--name", f"s{i}", *(["--relative"] if i % 2 else []))
        layers = [os.path.join(chain.dir, "current1" + "".join(f".s{k}" for k in range(i + 1)) + ".qcow2")] + layers
        settle(vm, rechain, layers)
    assert os.path.basename(images.info(layers[1])["backing-filename"]) == images.info(layers[1])["backing-filename"]
    vm.stop()
    vm.check(image=layers[0])


@pytest.mark.parametrize("filters", [("throttle",), ("throttle", "copy-on-read")], ids="+".join)
def test_a_snapshot_goes_under_filters(make_chain, make_vm, rechain, workdir, style, filters):
    chain = make_chain(size=16 * MiB)
    vm = make_vm(Disk(chain, filters=filters, iothread=True), style=style)
    overlay = os.path.join(workdir, "overlay.qcow2")
    snapshot(rechain, vm, f"vda,to={overlay}")
    settle(vm, rechain, [overlay] + chain.layers)
    before = digest(chain.active)
    vm.guest_write(0, 65536, 0x55)
    vm.flush()
    assert digest(chain.active) == before


def test_a_raw_disk_gets_an_overlay_that_names_raw(make_chain, make_vm, rechain, style):
    chain = make_chain(["alone"], formats=["raw"], size=4 * MiB)
    vm = make_vm(chain, style=style)
    overlay = change_of(snapshot(rechain, vm, "vda", "--name", "s"))["chain"][0]
    header = images.info(overlay)
    assert (header["backing-filename"], header["backing-filename-format"]) == (chain.active, "raw")
    settle(vm, rechain, [overlay] + chain.layers)
    vm.stop()
    vm.check(image=overlay)


def test_the_overlay_is_as_private_as_the_image(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    os.chmod(chain.active, 0o600)
    vm = make_vm(chain)
    overlay = change_of(snapshot(rechain, vm, "vda", "--name", "s"))["chain"][0]
    assert os.stat(overlay).st_mode & 0o777 == 0o600


def test_the_second_disks_overlay_cannot_be_made_and_nothing_happened_on_the_first(make_vm, rechain, workdir, style):
    chains = [images.make_chain(os.path.join(workdir, id), size=4 * MiB) for id in ("a", "b")]
    vm = make_vm(chains, style=style, dir=workdir)
    before = tree(*[c.dir for c in chains])
    with images.small_fs(1, workdir) as full:
        with open(os.path.join(full, "fill"), "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        result = rechain.run("snapshot", "create", vm.qmp_path, f"vda,to={chains[0].dir}/n.qcow2",
                             f"vdb,to={full}/n.qcow2", json=True)
        assert result.rc in (1, 4, 7), str(result)
        assert os.listdir(full) in (["fill"], ["lost+found", "fill"], ["fill", "lost+found"])
    assert tree(*[c.dir for c in chains]) == before
    for id, chain in zip(("vda", "vdb"), chains):
        assert_chain(vm, chain.layers, id)
    leftovers(vm, rechain.state_dir, [c.dir for c in chains], result=False)


# --- op undo ---

def test_a_finished_snapshot_is_undone_and_nothing_written_is_lost(make_chain, make_vm, rechain, workdir, version):
    chain = make_chain()
    vm = make_vm(chain, style="blockdev" if version == "7.2" else "drive", guest=True)
    overlay = os.path.join(workdir, "overlay.qcow2")
    id = snapshot(rechain, vm, f"vda,to={overlay}")["operation"]
    vm.guest.wait_flushed(50)
    plan = rechain.run("op", "undo", id, "--dry-run", json=True).expect(0).json
    assert plan["disks"][0]["chain-after"] == chain.layers and os.path.exists(overlay)
    document = rechain.run("op", "undo", id, json=True).expect(0).json
    assert change_of(document)["removed"] == [overlay] and not os.path.exists(overlay)
    settle(vm, rechain, chain.layers)
    assert not rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0).json["snapshots"]
    again = rechain.run("op", "undo", document["operation"], json=True).expect(4).error
    assert "commit cannot be undone" in again["message"] and again["hint"]
    vm.guest.wait_flushed(50)
    vm.kill()
    vm.check(image=chain.active)
