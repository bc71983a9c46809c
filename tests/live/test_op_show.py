"""op show of what is left: which operation, which step, QEMU's words, what to do, and the file to start the guest from."""

import os

import pytest

from harness.images import MiB
from harness.proxy import CUT, PASS, Proxy, refuse
from harness.scene import valid

MOVE = ["move", "vda", "--to", "new.qcow2"]
COMMIT = ["commit", "vda"]


@pytest.fixture
def leave(make_chain, make_vm, rechain, workdir):
    """leave(words, who, kind, name): who dies when the message passes. Returns the document and the text of op show."""
    chain = make_chain(["template", "current1"], size=8 * MiB)
    vm = make_vm(chain)
    vm.cont()

    def run(words, who, kind=None, name=None, policy=None):
        started = []

        def mishap(m):
            if (m.kind, m.name, m.nth) != (kind, name, 1):
                return PASS
            started[0].process.kill()
            if who == "both":
                vm.sigkill()
            return CUT
        with Proxy(vm.qmp_path, policy or mishap) as proxy:
            new = [os.path.join(workdir, w) if w.endswith(".qcow2") else w for w in words]
            started.append(rechain.start(new[0], proxy.path, *new[1:]))
            started[0].wait().expect(8 if policy else -9)
            (operation,) = rechain.run("op", "list", json=True).json["operations"]
            shown = valid(rechain.run("op", "show", operation["operation"], json=True).expect(0).json)
            text = rechain.run("op", "show", operation["operation"]).expect(0).out
            assert f"rechain recover --op {operation['operation']}" in text.split("TIME")[0]
            assert shown["authoritative"] is None or all(f in text for f in shown["authoritative"].values())
            rechain.run("recover").expect(0)
            after = rechain.run("op", "show", operation["operation"], json=True).expect(0).json
            assert "standing" not in after and after["state"] == {"undo": "undone", "finish": "done"}[shown["standing"]["recover"]]
        return chain, os.path.join(workdir, "new.qcow2"), shown, text
    return run


def test_rechain_died_while_it_copied(leave):
    chain, new, shown, text = leave(MOVE, "rechain", "return", "block-stream")
    standing = shown["standing"]
    assert (standing["step"], standing["outcome"], standing["qemu"], standing["recover"]) == ("stream", "unknown", "alive", "undo")
    assert shown["disks"][0]["chain"] == [new] + chain.layers       # as it is, and not as it was
    assert "was interrupted at step 'stream'" in text and "takes it back" in text


def test_rechain_died_when_it_was_decided(leave):
    _, _, shown, text = leave(MOVE, "rechain", "command", "job-finalize")
    assert (shown["standing"]["step"], shown["standing"]["recover"]) == ("pivot", "finish")
    assert "finishes it" in text


def test_both_died_and_the_file_to_start_from_is_named(leave):
    chain, new, shown, text = leave(MOVE, "both", "return", "block-stream")
    assert shown["authoritative"] == {"vda": new} and shown["standing"]["qemu"] == "gone"
    assert f"start the guest with vda from {new}" in text


def test_both_died_after_the_decision_of_a_commit(leave):
    chain, _, shown, _ = leave(COMMIT, "both", "command", "job-finalize")
    assert shown["authoritative"] == {"vda": chain.base} and shown["standing"]["recover"] == "finish"


def test_a_guest_that_was_left_stopped_is_told(leave):
    _, _, shown, text = leave(COMMIT, "rechain", "return", "stop")
    assert shown["standing"]["guest"] == "stopped" and "is stopped by this operation" in text


def test_a_stuck_one_tells_the_step_and_qemus_words(leave, version):
    refusals = []
    step = "start" if version == "5.2" else "release"       # there the guest is held while the job is started, too

    def refuse_some(m):         # gives up after four; recovery gets through
        if m.kind == "command" and m.name == "cont" and len(refusals) < 5:
            refusals.append(m)
            return refuse("cont", "the words of QEMU")(m)
        return PASS
    _, _, shown, text = leave(COMMIT, None, policy=refuse_some)
    assert (shown["state"], shown["standing"]["step"], shown["standing"]["outcome"]) == ("stuck", step, "unknown")
    assert shown["error"]["cause"] == "the words of QEMU"
    assert shown["error"]["message"] == f"commit vda: {step}: cont"          # once, though it was tried twice
    assert f"is stuck at step '{step}'" in text and "because: the words of QEMU" in text
