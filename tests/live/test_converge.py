"""A guest that writes faster than --bandwidth lets us copy: the ladder ends in success, or in an undo with figures."""

import json
import os

import pytest

from harness.images import MiB
from harness.proxy import Proxy
from harness.qemu import leftovers
from harness.scene import assert_chain, valid
from harness.sweep import sound

FAST = {"rate": 2000, "region": 8 * MiB, "batch": 32}     # 8 MiB/s
WIDE = {"rate": 2000, "region": 48 * MiB, "batch": 32}    # more than QEMU copies at once under a limit
CALM = {"rate": 20, "region": 8 * MiB}
SLOW = "4M"


@pytest.fixture
def copying(make_chain, make_vm, rechain, workdir):
    """copying(verb, writer, *words) -> (vm, result, commands that QEMU got)."""
    def run(verb, writer, *words, style="blockdev"):
        chain = make_chain(("template", "current"), size=(64 if writer is WIDE else 24) * MiB, share=[0.1, 0.02])
        vm = make_vm(chain, style=style, guest=True, writer=writer)
        vm.guest.wait_flushed(5 if writer is CALM else 500)
        to = ["--to", f"{workdir}/new.qcow2", "--shallow"] if verb == "copy" else []
        with Proxy(vm.qmp_path) as proxy:
            result = sound(rechain.run(verb, proxy.path, "vda", *to, "--bandwidth", SLOW, *words, json=True, timeout=60))
            return vm, result, [m for m in proxy.seen if m.kind == "command"]
    return run


def is_done(vm, result, active):
    document = valid(result.expect(0).json)
    assert document["disks"][0]["chain"][0] == active
    assert 0 < document["pause-ms"] < 1000
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    vm.kill()
    vm.check(image=active)


def changes(commands):
    return [m.arguments.get("copy-mode") for m in commands if m.name == "block-job-change"]


def test_a_copy_catches_up_with_a_guest_that_writes_faster(copying, workdir, version):
    """By a hold, where what the guest changes again is little; within the bandwidth until then."""
    vm, result, commands = copying("copy", FAST)
    assert changes(commands) == []
    is_done(vm, result, f"{workdir}/new.qcow2")


def test_a_commit_catches_up_with_a_guest_that_writes_faster(copying, version):
    vm, result, commands = copying("commit", FAST)
    assert changes(commands) == []
    is_done(vm, result, vm.disks[0].chain.base)


@pytest.fixture
def with_job_change(version):
    if version not in ("10.0", "11.1"):
        pytest.skip("block-job-change came with QEMU 8.2")


def after_start(commands, version):
    """Before 7.2 the guest must not run while a job begins."""
    if version != "5.2":
        return commands
    return commands[[m.name for m in commands].index("cont") + 1:]


def journal_of(rechain, result):
    shown = rechain.run("op", "show", result.json["operation"], json=True).expect(0)
    return json.dumps(shown.json)


@pytest.mark.parametrize("words, style", [(("--max-pause", "30ms"), "blockdev"), (("--pivot", "live"), "drive")],
                         ids=["short-pause", "live"])
def test_a_copy_that_does_not_catch_up_goes_over_to_write_blocking(with_job_change, copying, rechain, workdir, words, style):
    """What remains is too much for a hold: from then on the guest's writes go to both layers, and the rest is copied
    within the bandwidth."""
    vm, result, commands = copying("copy", WIDE, *words, style=style)
    assert changes(commands) == ["write-blocking"]
    assert "block-job-change" in journal_of(rechain, result)
    assert ("stop" in [m.name for m in commands]) == (words[0] == "--max-pause")
    document = valid(result.expect(0).json)
    assert document["disks"][0]["chain"][0] == f"{workdir}/new.qcow2"
    leftovers(vm, rechain.state_dir, [workdir])
    vm.guest.wait_flushed(50)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    vm.kill()
    vm.check(image=f"{workdir}/new.qcow2")


def test_a_calm_guest_is_copied_without_any_of_it(copying, workdir, version):
    vm, result, commands = copying("copy", CALM)
    assert changes(commands) == []
    assert len([m for m in after_start(commands, version) if m.name == "stop"]) == 1
    is_done(vm, result, f"{workdir}/new.qcow2")


def test_what_does_not_catch_up_within_the_timeout_is_taken_back_with_figures(copying, rechain, workdir, version):
    """A pause budget that no hold can keep: the guest is released each time, and in the end left where it was."""
    vm, result, commands = copying("commit", FAST, "--max-pause", "1ms", "--timeout", "20s")
    document = result.expect(7).json
    said = json.dumps(document["error"])
    for word in ("not done within 20000 ms", "remained", "changed", "copied"):
        assert word in said, said
    assert len([m for m in commands if m.name == "stop"]) == len([m for m in commands if m.name == "cont"])
    speeds = [m.arguments["speed"] for m in commands if m.name == "block-job-set-speed"]
    assert not speeds or speeds[-1] == 4 * MiB, "the limit did not come back after a hold"
    assert_chain(vm, vm.disks[0].chain.layers)
    leftovers(vm, rechain.state_dir, [workdir])
    assert vm.guest.is_writing() and vm.guest.verify() > 0
    vm.kill()
    vm.check()


def test_a_guest_that_must_not_be_held_is_left_alone(copying, rechain, workdir, version):
    """--pivot live: the same ladder, but its last rung is to give up."""
    if version in ("10.0", "11.1"):
        pytest.skip("write-blocking needs no hold")
    vm, result, commands = copying("copy", FAST, "--pivot", "live")
    document = result.expect(7).json
    assert "does not catch up" in json.dumps(document["error"]), str(result)
    assert "stop" not in [m.name for m in after_start(commands, version)]
    assert_chain(vm, vm.disks[0].chain.layers)
    assert not os.path.exists(f"{workdir}/new.qcow2")
