"""--pivot live: the guest is never stopped; the plan says what that risks."""

import os

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import PASS, Proxy, refuse
from harness.qemu import leftovers
from harness.scene import assert_chain, assert_gone, valid
from harness.sweep import sound

WORDS = {"copy": ("copy", "vda,to={dir}/vda.new", "vdb,to={dir}/vdb.new", "--shallow"), "commit": ("commit", "vda", "vdb")}


@pytest.fixture
def changed(make_vm, rechain, workdir):
    """changed(verb, style, policy) -> the document of two disks that were changed, and what rechain asked."""
    def change(verb, style, policy=lambda m: PASS, check_plan=False):
        chains = [images.make_chain(os.path.join(workdir, id), ("template", "current"), size=32 * MiB) for id in ("a", "b")]
        vm = make_vm(chains, style=style, guest=True, writer={"rate": 200})
        words = [word.format(dir=workdir) for word in WORDS[verb]] + ["--pivot", "live"]
        if check_plan:
            plan = rechain.run(words[0], vm.qmp_path, *words[1:], "--dry-run").expect(0)
            assert "in the instant of a pivot" in plan.err and "stop the guest" not in plan.out, str(plan)
        with Proxy(vm.qmp_path, policy) as proxy:
            document = valid(sound(rechain.run(words[0], proxy.path, *words[1:], json=True)).expect(0).json)
            asked = proxy.commands()
        if vm.version == "5.2":         # which must not run its guest while a job begins; and no more than that
            asked = asked[asked.index("cont") + 1:]
        else:
            assert not [e for e in vm.qmp.events if e["event"] in ("STOP", "RESUME")]
        assert not {"stop", "cont"} & set(asked)
        assert document["state"] == "done" and (vm.version == "5.2" or document["pause-ms"] == 0)
        after = {d.id: [f"{workdir}/{d.id}.new", d.chain.base] if verb == "copy" else [d.chain.base] for d in vm.disks}
        for disk in vm.disks:
            assert_chain(vm, after[disk.id], disk.id)
            assert_gone(vm, [disk.chain.active])
        leftovers(vm, rechain.state_dir, [workdir])
        vm.guest.wait_flushed(50)
        assert vm.guest.verify() > 0 and vm.guest.errors == 0
        vm.kill()
        for id, chain in after.items():
            vm.check(id, image=chain[0])
    return change


@pytest.mark.parametrize("verb, style", [("copy", "blockdev"), ("copy", "drive"), ("commit", "drive")])
def test_the_guest_is_not_stopped_and_loses_nothing(changed, verb, style):
    changed(verb, style, check_plan=True)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("verb, style", [("copy", "drive"), ("commit", "blockdev")])
def test_a_disk_that_qemu_would_not_change_is_tried_again(changed, verb, style, nth):
    """The other one may have changed, and its guest writes on: it cannot come back."""
    changed(verb, style, refuse("job-finalize", "no pivot today", nth=nth))
