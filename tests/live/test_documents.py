"""Every document that a real operation gives is as its schema says, and figures are figures."""

import datetime
import os

import pytest

from harness.images import MiB
from harness.scene import change, valid


@pytest.fixture
def moved(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=16 * MiB)
    vm = make_vm(chain)
    vm.cont()
    new = os.path.join(workdir, "new.qcow2")
    return chain, vm, new, change(rechain, vm, "move", "vda", "--to", new)


def when(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")


def test_times_and_figures_of_an_operation_are_right(moved):
    document = moved[3]
    took = (when(document["ended"]) - when(document["started"])).total_seconds()
    now = datetime.datetime.utcnow()
    assert abs((now - when(document["ended"])).total_seconds()) < 30
    assert abs(took - document["seconds"]) < 0.05
    assert 3 * MiB < document["bytes"] < 8 * MiB
    assert document["authoritative"] is None and document["vm"] == moved[1].qmp_path


def test_show_and_list_tell_what_the_operation_told(moved, rechain):
    document = moved[3]
    shown = valid(rechain.run("op", "show", document["operation"], json=True).expect(0).json)
    (listed,) = valid(rechain.run("op", "list", json=True).expect(0).json)["operations"]
    for key in ("operation", "kind", "state", "vm", "disks", "bytes", "started", "ended", "error"):
        assert shown[key] == document[key] == listed[key], key
    assert [line["at"] for line in shown["journal"]] == sorted(line["at"] for line in shown["journal"])


def test_the_journal_names_every_step_of_the_plan_in_order(moved, rechain, make_chain):
    shown = rechain.run("op", "show", moved[3]["operation"], json=True).expect(0).json
    steps = list(dict.fromkeys(line["step"] for line in shown["journal"]))
    wanted = ["overlay", "attach", "snapshot", "stream", "flush", "pivot", "settle", "detach"]
    assert [s for s in steps if s in wanted] == wanted


def test_the_text_names_the_old_and_the_new_chain(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    new = os.path.join(workdir, "new.qcow2")
    text = rechain.run("move", vm.qmp_path, "vda", "--to", new).expect(0).out
    for name in (new, chain.base, chain.active, "vda"):
        assert name in text
    assert "\x1b" not in text
    assert rechain.run("-q", "snapshot", "create", vm.qmp_path, "vda", "--name", "s").expect(0).out == ""


def test_operations_are_listed_newest_first(moved, rechain):
    change(rechain, moved[1], "snapshot create", "vda", "--name", "s")
    kinds = [op["kind"] for op in valid(rechain.run("op", "list", json=True).expect(0).json)["operations"]]
    assert kinds == ["snapshot", "move"]


def test_nothing_of_an_operation_waits_to_be_recovered(moved, rechain):
    assert valid(rechain.run("recover", json=True).expect(0).json)["operations"] == []
    assert moved[1].chain() == [moved[2], moved[0].base]
