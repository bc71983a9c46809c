"""A VM that is migrated while its disk is changed.

QEMU leaves its images inactive once a migration is over, and a stream that goes on then reports success without
having written anything."""

import pytest

from harness import images
from harness.images import MiB
from harness.qemu import leftovers
from harness.scene import wait_until

CASES = {"move": (["move", "vda", "--to", "NEW"], ["template", "current1"], False),
         "move, and the guest goes on": (["move", "vda", "--to", "NEW"], ["template", "current1"], True),
         "pull, and the guest goes on": (["pull", "vda"], ["template", "current1"], True),
         "inner commit": (["commit", "vda", "--top", "middle.qcow2"], ["template", "middle", "current1"], False)}


def shows_its_reference(chain, image):
    with images.raw_view(image) as raw:
        images.run("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, chain.reference)


def migrate(vm, dir):
    """To a file. False where QEMU did not survive it."""
    vm.qmp.execute("migrate", uri=f"exec:cat > {dir}/stream")
    try:
        wait_until(lambda: vm.qmp.execute("query-migrate")["status"] in ("completed", "failed"), "it has ended")
    except (OSError, EOFError, AssertionError):
        assert not vm.is_alive()
    return vm.is_alive()


@pytest.mark.parametrize("case", CASES)
def test_what_was_copied_while_a_vm_was_migrated_is_not_taken_for_copied(make_chain, make_vm, rechain, workdir, case):
    words, names, goes_on = CASES[case]
    chain = make_chain(names, size=16 * MiB)
    vm = make_vm(chain)
    vm.cont()
    verb, *rest = [f"{workdir}/new.qcow2" if word == "NEW" else word for word in words]
    run = rechain.start(verb, vm.qmp_path, *rest, "--bandwidth", "2M", json=True)
    wait_until(lambda: any(j["current-progress"] > MiB // 2 for j in vm.jobs().values()), "it copies")
    if migrate(vm, workdir) and goes_on and vm.run_state() == "postmigrate":
        vm.cont()                                       # as after a save into a file: the guest runs on here
    result = run.wait()
    if result.rc == 8:
        assert "migrated" in result.json["error"]["message"] and vm.run_state() == "postmigrate"
        vm.kill()
        rechain.run("recover").expect(0)
    else:
        result.expect(7)
        if vm.is_alive():
            vm.state_before = vm.run_state()
            leftovers(vm, rechain.state_dir, [workdir], result=False)
            vm.stop()
    shows_its_reference(chain, chain.active)
