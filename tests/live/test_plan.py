"""--dry-run: it changes nothing at all, and what it prints is what is sent."""

import json
import os
import re

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import Proxy
from harness.qemu import Disk
from harness.scene import change, graph, tree, valid

LOOKS = ("query-", "x-debug-query", "qmp_capabilities", "qom-")


def without_id(thing):
    """The same with the operation's random id made plain."""
    return json.loads(re.sub(r"rc-[0-9a-f]{8}", "rc-ID", json.dumps(thing)))


def plan_of(rechain, *arguments):
    return valid(rechain.run(*arguments, "--dry-run", json=True).expect(0).json)


def qmp_in(step):
    """What it asks for; mere questions are asked at other times, too."""
    return [{"execute": q["execute"], "arguments": q.get("arguments", {})} for q in step["qmp"]
            if not q["execute"].startswith(LOOKS)]


def qmp_of(plan):
    return [q for step in plan["steps"] for q in qmp_in(step)]


def sent_to(proxy):
    return [{"execute": m.name, "arguments": m.arguments} for m in proxy.seen
            if m.kind == "command" and not m.name.startswith(LOOKS)]


def shape(commands):
    return sorted(json.dumps(c, sort_keys=True) for c in without_id(commands))


OPERATIONS = {
    "move": ["move", "vda"],
    "flatten": ["move", "vda", "--base", "none"],
    "delete": ["move", "vda", "--delete", "--bandwidth", "100M"],
    "relative": ["move", "vda", "--relative"],
    "snapshot": ["snapshot", "create", "vda"],
}


def command(operation, vm, new):
    *verb, disk = OPERATIONS[operation][:2] if operation != "snapshot" else OPERATIONS[operation]
    rest = OPERATIONS[operation][2:] if operation != "snapshot" else []
    return [*verb, vm if isinstance(vm, str) else vm.qmp_path, disk, "--to", new, *rest]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_dry_run_changes_nothing_not_even_the_state_folder(make_chain, make_vm, rechain, workdir, operation):
    chain = make_chain(["template", "middle", "current1"], size=4 * MiB)
    vm = make_vm(chain)
    vm.cont()
    new, state = os.path.join(workdir, "new.qcow2"), os.path.join(workdir, "no-state")
    before = graph(vm), tree(workdir, skip=(".log", ".out", ".err"))
    with Proxy(vm.qmp_path) as proxy:
        for json_too in (True, False):
            result = rechain.run("--state-dir", state, *command(operation, proxy.path, new), "--dry-run",
                                 json=json_too).expect(0)
            assert result.out
        assert sent_to(proxy) == []
    assert (graph(vm), tree(workdir, skip=(".log", ".out", ".err"))) == before and not os.path.exists(state)


def test_a_dry_run_leaves_a_used_journal_byte_for_byte(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    change(rechain, vm, "snapshot create", "vda", "--name", "first")
    before = tree(rechain.state_dir, skip=(".out", ".err"))
    plan_of(rechain, "move", vm.qmp_path, "vda", "--to", os.path.join(workdir, "new.qcow2"))
    assert tree(rechain.state_dir, skip=(".out", ".err")) == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_printed_is_what_is_sent(make_chain, make_vm, rechain, workdir, style, operation):
    chain = make_chain(["template", "middle", "current1"], size=4 * MiB)
    vm = make_vm(Disk(chain, filters=("throttle",) if operation == "move" else ()), style=style)
    new = os.path.join(workdir, "new.qcow2")
    with Proxy(vm.qmp_path) as proxy:
        plan = plan_of(rechain, *command(operation, proxy.path, new))
        text = rechain.run(*command(operation, proxy.path, new), "--dry-run").expect(0).out
        before = len(proxy.seen)
        rechain.run(*command(operation, proxy.path, new)).expect(0)
        del proxy.seen[:before]
        sent = sent_to(proxy)
    assert without_id(qmp_of(plan)) == without_id(sent)
    assert vm.chain() == plan["disks"][0]["chain-after"]
    assert chain.layers == plan["disks"][0]["chain-before"]
    for one in qmp_of(plan):
        assert one["execute"] in text


def test_what_is_printed_for_several_disks_is_what_is_sent(make_vm, rechain, workdir, style):
    chains = [images.make_chain(os.path.join(workdir, d), size=4 * MiB) for d in ("a", "b", "c")]
    vm = make_vm(chains, style=style)
    disks = [f"vd{d},to={workdir}/new-{d}.qcow2" for d in "abc"]
    with Proxy(vm.qmp_path) as proxy:
        plan = plan_of(rechain, "move", proxy.path, *disks)
        before = len(proxy.seen)
        rechain.run("move", proxy.path, *disks).expect(0)
        del proxy.seen[:before]
        sent = sent_to(proxy)
    assert shape(qmp_of(plan)) == shape(sent)
    # Barriers between the steps, whatever the order of the disks within one.
    rest = without_id(sent)
    for step in plan["steps"]:
        wanted = without_id(qmp_in(step))
        assert shape(rest[:len(wanted)]) == shape(wanted), step["step"]
        rest = rest[len(wanted):]


def test_the_space_that_a_plan_tells_is_what_is_taken(make_chain, make_vm, rechain, workdir):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain)
    new = os.path.join(workdir, "new.qcow2")
    (space,) = plan_of(rechain, "move", vm.qmp_path, "vda", "--to", new)["space"]
    assert 0 < space["needed"] < space["free"]
    change(rechain, vm, "move", "vda", "--to", new)
    vm.stop()
    taken = images.info(new)["actual-size"]
    assert abs(taken - space["needed"]) < 2 * MiB, (taken, space)


def test_a_plan_that_cannot_be_is_refused_like_the_operation(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    result = rechain.run("move", vm.qmp_path, "vda", "--to", f"{workdir}/no/new.qcow2", "--dry-run", json=True)
    assert valid(result.expect(3).error)["code"] == "not-found" and result.out == ""
