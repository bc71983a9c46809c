"""--grow-lv under a guest that never stops writing, on each QEMU: volumes that are loop devices (harness/loops.py).
The LVM of a real group is in test_lvm_grow.py."""

import os
import subprocess

import pytest

from harness import loops
from harness.images import MiB
from harness.scene import assert_chain, change, wait_until

pytestmark = pytest.mark.skipif(loops.missing() is not None, reason=str(loops.missing()))
HOW = ("--reuse", "--grow-lv=4M")


@pytest.fixture
def group(workdir, monkeypatch):
    group = loops.Group(os.path.join(workdir, "vg"))
    monkeypatch.setenv("RECHAIN", group.program)
    yield group
    group.close()


def image(device, chain, backing=None):
    behind = ["-u", "-b", backing, "-F", "qcow2"] if backing else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *behind, device, str(chain.size)], check=True)


def make(group, name, chain, backing=None):
    """A volume of 4 MiB with an empty image, which may need 64 MiB."""
    device = group.volume(name, 4)
    image(device, chain, backing)
    return device


def grown(document):
    (row,) = document["disks"][0]["grown"]
    return row


def steps(rechain, document, phase):
    shown = rechain.run("op", "show", document["operation"], json=True).expect(0).json
    return [line["detail"] for line in shown["journal"] if line["step"] == "grow" and line["phase"] == phase]


def check_guest(vm, image):
    vm.guest.wait_flushed(20)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0 and not vm.guest.problems
    vm.kill()
    vm.check(image=image)


def test_a_move_into_a_small_volume_extends_it_several_times(group, make_chain, make_vm, rechain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    new = make(group, "new", chain, chain.active)
    document = change(rechain, vm, "move", "vda", "--to", new, *HOW, "--bandwidth", "8M")
    assert grown(document) == {"path": new, "size-before": 4 * MiB, "size": group.size("new")}
    assert group.size("new") >= 16 * MiB and len(steps(rechain, document, "intent")) >= 3
    assert_chain(vm, [new, chain.base])
    assert {node["write_threshold"] for node in vm.nodes().values()} == {0}, "nobody watches any more"
    check_guest(vm, new)


def test_who_stands_for_want_of_space_goes_on(group, make_chain, make_vm, rechain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    new = make(group, "new", chain, chain.active)
    group.hold()
    run = rechain.start("move", vm.qmp_path, "vda", "--to", new, *HOW, json=True)
    group.wait_for()
    wait_until(lambda: vm.run_state() == "io-error", "the guest stands")
    group.let_go()
    document = run.wait().expect(0).json
    notes = " ".join(steps(rechain, document, "note"))
    assert "cont" in notes and "job-resume" in notes and vm.run_state() == "running"
    check_guest(vm, new)


def test_a_copy_grows_its_target(group, make_chain, make_vm, rechain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    new = make(group, "new", chain)
    document = change(rechain, vm, "copy", "vda", "--to", new, *HOW, "--max-pause", "10s")
    assert grown(document)["size"] == group.size("new") >= 24 * MiB
    assert_chain(vm, [new])
    check_guest(vm, new)


def test_a_full_group_undoes_it_and_says_what_was_in_the_way(group, make_chain, make_vm, rechain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    new = make(group, "new", chain, chain.active)
    group.hold()
    run = rechain.start("move", vm.qmp_path, "vda", "--to", new, *HOW, json=True)
    group.wait_for()
    group.set_total(group.used() + MiB)
    group.let_go()
    document = run.wait().expect(7).json
    said = document["error"]["message"] + str(document["error"].get("cause"))
    assert "'vg0/new' could not be extended: " in said
    assert group.size("new") == 5 * MiB, "the rest of the group was tried, and stays"
    assert_chain(vm, chain.layers)
    assert vm.run_state() == "running"
    image(new, chain, chain.active)
    again = rechain.run("move", vm.qmp_path, "vda", "--to", new, *HOW, json=True).expect(4)
    assert "not enough space in volume group 'vg0'" in again.error["message"]
    check_guest(vm, chain.active)


def test_who_recovers_goes_on_with_extending(group, make_chain, make_vm, rechain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    new = make(group, "new", chain, chain.active)
    group.hold()
    run = rechain.start("move", vm.qmp_path, "vda", "--to", new, *HOW)
    group.wait_for()
    run.kill()
    wait_until(lambda: vm.run_state() == "io-error", "the guest stands")
    group.let_go()
    (settled,) = rechain.run("recover", "--finish", json=True).expect(0).json["operations"]
    assert settled["state"] == "done" and grown(settled)["size"] == group.size("new") >= 16 * MiB
    assert_chain(vm, [new, chain.base])
    check_guest(vm, new)
