# SPDX-License-Identifier: LGPL-2.1-or-later
"""What docs/qemu-findings.md says of QEMU, so that we hear of it when it changes."""

import pytest

from harness.scene import wait_until

def wait_for_status(vm, wanted):
    wait_until(lambda: vm.qmp.execute("query-jobs")[0]["status"] == wanted, f"the job is {wanted}")


def stream_and_conclude(vm, chain):
    vm.qmp.execute("block-stream", {
        "job-id": "s", "device": "vda-2", "base-node": "vda-0", "backing-file": chain.base,
        "auto-finalize": False, "auto-dismiss": False})
    wait_for_status(vm, "pending")
    vm.qmp.execute("job-finalize", {"id": "s"})
    wait_for_status(vm, "concluded")


def test_nodes_may_be_asked_for_once_a_concluded_stream_is_dismissed(make_chain, make_vm):
    chain = make_chain(["template", "mid", "current1"])
    vm = make_vm(chain, style="blockdev", guest=False)
    stream_and_conclude(vm, chain)
    vm.qmp.execute("job-dismiss", {"id": "s"})
    vm.qmp.execute("query-named-block-nodes", {"flat": True})
    vm.assert_alive()


def test_a_look_does_not_kill_a_qemu_with_a_concluded_stream(make_chain, make_vm, rechain, version):
    """QEMU 7.2 would die of query-named-block-nodes here; rechain says so and leaves it alone."""
    chain = make_chain(["template", "mid", "current1"])
    vm = make_vm(chain, style="blockdev", guest=False)
    stream_and_conclude(vm, chain)
    result = rechain.run("chain", vm.qmp_path, "vda")
    vm.assert_alive()
    if version == "7.2":
        result.expect(4)
        assert "job 's' is concluded" in result.err and "job-dismiss" in result.err
    else:
        result.expect(0)


def test_qemu_7_2_dies_of_that_question(make_chain, make_vm, version):
    if version != "7.2":
        pytest.skip("only 7.2 is known to die of it")
    chain = make_chain(["template", "mid", "current1"])
    vm = make_vm(chain, style="blockdev", guest=False)
    stream_and_conclude(vm, chain)
    with pytest.raises(OSError):
        vm.qmp.execute("query-named-block-nodes", {"flat": True})
    assert vm.process.wait(60) == -11
