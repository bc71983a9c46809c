"""Snapshots as objects: taken from XML, put on record, listed, matched, edited, redefined, forgotten."""

import os
import subprocess

import pytest

from harness import images
from harness.images import MiB
from harness.qemu import leftovers
from harness.rechain import Result
from harness.scene import assert_chain, change, change_of, graph, valid


def disks(workdir, *ids, size=4 * MiB):
    return {id: images.make_chain(os.path.join(workdir, id), size=size) for id in ids}


def write(workdir, text, name="s.xml"):
    path = os.path.join(workdir, name)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    return path


def document(*disks, name="tmpsnap", rest=""):
    return f"<domainsnapshot>\n<name>{name}</name>{rest}\n<disks>\n" + "\n".join(disks) + "\n</disks></domainsnapshot>\n"


def disk(id, file=None, rest="", **attributes):
    said = "".join(f" {key}='{value}'" for key, value in attributes.items())
    source = f"<source file='{file}'/>" if file else ""
    return f"<disk name='{id}'{said}>{source}{rest}</disk>"


def create(rechain, vm, workdir, text, *arguments):
    return change(rechain, vm, "snapshot create", "--xml", write(workdir, text), *arguments)


def listed(rechain, vm):
    return valid(rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0).json)["snapshots"]


def shown(rechain, vm, name, rc=0):
    return valid(rechain.run("snapshot", "show", vm.qmp_path, name, json=True).expect(rc).json)


def refused(rechain, vm, workdir, text, rc, *words):
    before = graph(vm)
    result = rechain.run("snapshot", "create", vm.qmp_path, "--xml", write(workdir, text)).expect(rc)
    assert len(result.err.strip().splitlines()) <= 3
    for word in words:
        assert word in result.err, str(result)
    assert graph(vm) == before and rechain.run("snapshot", "list", vm.qmp_path).expect(0).out == ""


def test_a_document_says_which_disks_and_where_to(make_vm, rechain, workdir):
    """One with everything, one left out, one without a source, and one that is not named at all."""
    chains = disks(workdir, "vda", "vdb", "vdc", "vdd")
    vm = make_vm(list(chains.values()), dir=workdir)
    new = os.path.join(workdir, "current2")
    text = document(disk("vda", new, "<driver type='qcow2'/><on_delete merge='forward'/>",
                         snapshot="external", method="qemu"),
                    disk("vdb", snapshot="no"), disk("vdc"), rest="<description>before all</description>")
    operation = create(rechain, vm, workdir, text)
    assert [d["disk"] for d in operation["disks"]] == ["vda", "vdc", "vdd"]
    told = change_of(operation, "vda")
    assert (told["active-source"], told["read-only-source"]) == (new, chains["vda"].active)
    assert_chain(vm, [new] + chains["vda"].layers, "vda")
    assert_chain(vm, chains["vdb"].layers, "vdb")
    for id in ("vdc", "vdd"):
        assert_chain(vm, [os.path.join(chains[id].dir, "current1.tmpsnap.qcow2")] + chains[id].layers, id)
    record = shown(rechain, vm, "tmpsnap")
    assert record["matches"] and record["current"] and record["description"] == "before all"
    assert {d["disk"]: d["on-delete"] for d in record["disks"]} == {"vda": "forward", "vdc": "backward", "vdd": "backward"}
    leftovers(vm, rechain.state_dir, [workdir])


def test_a_document_is_read_from_standard_input(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    argv = rechain._argv(["snapshot", "create", vm.qmp_path, "--xml", "-", "--name", "mine"], True)
    done = subprocess.run(argv, input=document(disk("vda", f"{workdir}/n")), capture_output=True, text=True, timeout=60)
    Result(argv, done.returncode, done.stdout, done.stderr).expect(0)
    assert [s["name"] for s in listed(rechain, vm)] == ["mine"]


def test_both_ways_to_write_a_source_mean_the_same(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    odd = os.path.join(workdir, "a, b & 'c' ä.qcow2")
    escaped = odd.replace("&", "&amp;")
    create(rechain, vm, workdir, document(f"<disk name='vda'><source>\n {escaped}\n</source></disk>"))
    assert_chain(vm, [odd] + chain.layers)
    exported = rechain.run("snapshot", "show", vm.qmp_path, "tmpsnap", "--xml").expect(0).out
    assert odd.replace("&", "&amp;") in exported


def test_stacked_snapshots_are_a_tree_with_sizes(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=16 * MiB)
    vm = make_vm(chain)
    one, two = (os.path.join(workdir, name) for name in ("one.qcow2", "two.qcow2"))
    change(rechain, vm, "snapshot create", f"vda,to={one},on-delete=forward", "--name", "one")
    vm.guest_write(0, 2 * MiB, 0x11)
    change(rechain, vm, "snapshot create", f"vda,to={two}", "--name", "two", "--description", "on top")
    first, second = listed(rechain, vm)
    assert (first["name"], first.get("parent"), first["current"]) == ("one", None, False)
    assert (second["name"], second["parent"], second["current"]) == ("two", "one", True)
    assert second["description"] == "on top"
    assert first["matches"] and second["matches"]
    size = {path: os.stat(path).st_blocks * 512 for path in (one, two, chain.active)}
    on_one, on_two = first["disks"][0], second["disks"][0]
    assert (on_one["forward-bytes"], on_one["backward-bytes"]) == (size[chain.active], size[one])
    assert first["delete-bytes"] == size[chain.active] and second["delete-bytes"] == size[two]
    assert (on_two["overlay"], on_two["read-only-source"]) == (two, one)
    text = rechain.run("snapshot", "list", vm.qmp_path).expect(0).out.splitlines()
    names = [line for line in text if "one" in line.split(" ")[0] or "two *" in line]
    assert text[0].startswith("SNAPSHOT") and len(text) == 5 and names


def test_the_parent_of_a_snapshot_of_another_disk_is_the_current_one(make_vm, rechain, workdir):
    chains = disks(workdir, "vda", "vdb")
    vm = make_vm(list(chains.values()), dir=workdir)
    change(rechain, vm, "snapshot create", "vda", "--name", "a")
    change(rechain, vm, "snapshot create", "vdb", "--name", "b")
    assert [(s["name"], s.get("parent")) for s in listed(rechain, vm)] == [("a", None), ("b", "a")]


def test_a_name_can_be_taken_once(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    change(rechain, vm, "snapshot create", f"vda,to={workdir}/a", "--name", "one")
    before = graph(vm)
    result = rechain.run("snapshot", "create", vm.qmp_path, f"vda,to={workdir}/b", "--name", "one").expect(4)
    assert "'one' is on record already" in result.err and graph(vm) == before
    assert not os.path.exists(f"{workdir}/b")


def test_a_snapshot_without_a_name_never_meets_another(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    for name in "abc":
        change(rechain, vm, "snapshot create", f"vda,to={workdir}/{name}")
    assert len({s["name"] for s in listed(rechain, vm)}) == 3


def test_a_snapshot_that_is_undone_is_not_on_record(make_chain, make_vm, rechain, workdir):
    from harness.proxy import Proxy, refuse
    vm = make_vm(make_chain(size=4 * MiB))
    with Proxy(vm.qmp_path, refuse("transaction")) as proxy:
        rechain.run("snapshot", "create", proxy.path, f"vda,to={workdir}/a", "--name", "one").expect(7)
        assert rechain.run("snapshot", "list", proxy.path).expect(0).out == ""


def test_a_record_that_does_not_match_says_so_with_10(make_chain, make_vm, rechain, workdir):
    """Somebody else takes the overlay out of the chain; a record says what was, not what is."""
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    overlay = f"{workdir}/one.qcow2"
    change(rechain, vm, "snapshot create", f"vda,to={overlay}", "--name", "one")
    node = vm.block()["inserted"]["node-name"]
    vm.qmp.execute("block-stream", {"job-id": "theirs", "device": node, "auto-dismiss": False})
    while vm.jobs()["theirs"]["status"] != "concluded":
        pass
    vm.qmp.execute("job-dismiss", {"id": "theirs"})
    assert vm.chain() == [overlay]
    record = shown(rechain, vm, "one", rc=10)
    assert not record["matches"] and "right over" in record["disks"][0]["mismatch"]
    assert "delete-bytes" not in record
    assert "does not match" in rechain.run("snapshot", "show", vm.qmp_path, "one").expect(10).out
    assert [s["matches"] for s in listed(rechain, vm)] == [False]


def test_a_move_takes_the_records_along(make_chain, make_vm, rechain, workdir):
    """The move drops the layer that the second snapshot lies over; the first one has a new upper layer."""
    chain = make_chain(size=8 * MiB)
    vm = make_vm(chain)
    one, two, new = (f"{workdir}/{name}.qcow2" for name in ("one", "two", "new"))
    change(rechain, vm, "snapshot create", f"vda,to={one}", "--name", "one")
    change(rechain, vm, "snapshot create", f"vda,to={two}", "--name", "two")
    change(rechain, vm, "move", "vda", "--to", new, "--base", chain.active)
    assert vm.chain() == [new] + chain.layers
    (record,) = listed(rechain, vm)
    assert record["name"] == "one" and record["matches"] and record["current"]
    assert record["disks"][0]["overlay"] == new and record["disks"][0]["read-only-source"] == chain.active


def test_a_move_that_is_undone_leaves_the_records_alone(make_chain, make_vm, rechain, workdir):
    from harness.proxy import Proxy, refuse
    vm = make_vm(make_chain(size=4 * MiB))
    with Proxy(vm.qmp_path, refuse("block-stream")) as proxy:
        rechain.run("snapshot", "create", proxy.path, f"vda,to={workdir}/one", "--name", "one").expect(0)
        rechain.run("move", proxy.path, "vda", "--to", f"{workdir}/new").expect(7)
        record = valid(rechain.run("snapshot", "show", proxy.path, "one", json=True).expect(0).json)
    assert record["matches"] and record["disks"][0]["overlay"] == f"{workdir}/one"


def test_directions_and_descriptions_can_be_changed(make_vm, rechain, workdir):
    vm = make_vm(list(disks(workdir, "vda", "vdb").values()), dir=workdir)
    change(rechain, vm, "snapshot create", "--name", "one")

    def edit(*arguments, rc=0):
        return rechain.run("snapshot", "edit", vm.qmp_path, "one", *arguments, json=True).expect(rc)

    def directions(result):
        return [d["on-delete"] for d in valid(result.json)["disks"]]
    assert directions(edit("vdb,on-delete=forward", "--description", "why")) == ["backward", "forward"]
    assert directions(edit("--direction", "forward", "vdb,on-delete=backward")) == ["forward", "backward"]
    assert shown(rechain, vm, "one")["description"] == "why"
    for arguments, rc in ((["vdx,on-delete=forward"], 3), (["--direction", "up"], 2), ([], 2), (["vda"], 2)):
        edit(*arguments, rc=rc)
    rechain.run("snapshot", "edit", vm.qmp_path, "none", "--direction", "forward").expect(3)


def test_forgetting_leaves_the_layers_and_gives_children_a_parent(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    for name in ("one", "two", "three"):
        change(rechain, vm, "snapshot create", f"vda,to={workdir}/{name}", "--name", name)
    chain = vm.chain()
    rechain.run("snapshot", "delete", vm.qmp_path, "two", "--metadata-only").expect(0)
    assert [(s["name"], s.get("parent")) for s in listed(rechain, vm)] == [("one", None), ("three", "one")]
    assert vm.chain() == chain
    rechain.run("snapshot", "delete", vm.qmp_path, "two", "--metadata-only").expect(3)
    rechain.run("snapshot", "show", vm.qmp_path, "two").expect(3)


def test_an_exported_record_can_be_redefined(make_vm, rechain, workdir):
    chains = disks(workdir, "vda", "vdb")
    vm = make_vm(list(chains.values()), dir=workdir)
    change(rechain, vm, "snapshot create", "vda,on-delete=forward", "vdb", "--name", "one", "--description", "a <b> & c")
    exported = rechain.run("snapshot", "show", vm.qmp_path, "one", "--xml").expect(0).out
    assert "<backingStore>" in exported and f'<source file="{chains["vda"].active}"/>' in exported
    before = shown(rechain, vm, "one")
    rechain.run("snapshot", "delete", vm.qmp_path, "one", "--metadata-only").expect(0)
    path = write(workdir, exported)
    again = rechain.run("snapshot", "create", vm.qmp_path, "--xml", path, "--redefine", json=True).expect(0)
    assert valid(again.json) == shown(rechain, vm, "one")
    before["created"] = again.json["created"][:-4] + before["created"][-4:]     # XML has whole seconds
    assert before["created"][:-5] == again.json["created"][:-5]
    assert {**again.json, "created": before["created"]} == before
    assert rechain.run("snapshot", "show", vm.qmp_path, "one", "--xml").expect(0).out == exported


def test_redefining_is_held_against_the_chain(make_chain, make_vm, rechain, workdir):
    chain = make_chain(["template", "middle", "current1"], size=4 * MiB)
    vm = make_vm(chain)

    def redefine(text, rc, *words):
        result = rechain.run("snapshot", "create", vm.qmp_path, "--redefine", "--xml", write(workdir, text)).expect(rc)
        assert all(word in result.err for word in words), str(result)
    under = "<backingStore><source file='{}'/></backingStore>".format
    redefine(document(disk("vda", f"{workdir}/nothing")), 3, "nothing")
    redefine(document(disk("vdx", chain.active)), 3, "vdx")
    redefine(document(disk("vda", chain.base)), 4, "no layer under it")
    redefine(document(disk("vda", chain.active, under(chain.base))), 4, "middle")
    redefine(document(disk("vda", chain.active), rest="<parent><name>nobody</name></parent>"), 3, "nobody")
    redefine(document(disk("vda", snapshot="no")), 2, "no disk")
    redefine("<domainsnapshot><disks><disk name='vda'/></disks></domainsnapshot>", 2, "<name>")
    assert listed(rechain, vm) == []
    redefine(document(disk("vda", chain.path("middle"), under(chain.base)), name="old"), 0)
    redefine(document(disk("vda"), name="new", rest="<parent><name>old</name></parent>"), 0)
    told = [(s["name"], s.get("parent"), s["matches"]) for s in listed(rechain, vm)]
    assert told == [("old", None, True), ("new", "old", True)]
    redefine(document(disk("vda"), name="old", rest="<parent><name>new</name></parent>"), 4, "own ancestor")
    result = rechain.run("snapshot", "create", vm.qmp_path, "--redefine").expect(2)
    assert "--xml FILE" in result.err


def test_a_vm_that_is_off_has_its_records_still(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    change(rechain, vm, "snapshot create", f"vda,to={workdir}/one", "--name", "one")
    vm.kill()
    result = rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0)
    (record,) = valid(result.json)["snapshots"]
    assert "matches" not in record and record["disks"][0]["overlay"] == f"{workdir}/one"
    assert "one" in rechain.run("snapshot", "show", vm.qmp_path, "one", "--xml").expect(0).out
    assert rechain.run("snapshot", "show", vm.qmp_path, "one").rc in (3, 6)


def test_other_methods_and_kinds_are_refused_and_not_ignored(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    lvm = "<diskSnapshot method='lvm'><device path='/dev/vg/lv4'/></diskSnapshot>"
    refused(rechain, vm, workdir, document(disk("vda", rest=lvm)), 4, "is no logical volume")
    refused(rechain, vm, workdir, document(disk("vda", method="btrfs")), 4, "is no file on btrfs")
    refused(rechain, vm, workdir, document(disk("vda", snapshot="internal")), 4, "'internal'", "external, no")
    refused(rechain, vm, workdir, document(disk("vda", rest="<driver type='raw'/>")), 4, "cannot be 'raw'")
    refused(rechain, vm, workdir, document(disk("vdx", snapshot="no")), 3, "vdx")
    refused(rechain, vm, workdir, document(disk("vda", snapshot="no")), 3, "no writable disk")


HOSTILE = {
    "an external entity": ("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\n"
                           "<domainsnapshot><name>&x;</name></domainsnapshot>", "<!DOCTYPE ...>) is not allowed"),
    "a billion laughs": ("<!DOCTYPE d [<!ENTITY a 'ha'>" + "".join(
        f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi")) +
        "]><domainsnapshot><name>&i;</name></domainsnapshot>", "is not allowed"),
    "a name of 10 MB": (f"<domainsnapshot><name>{'x' * (10 << 20)}</name></domainsnapshot>", "over 1 MiB"),
    "a name of 300 KB": (f"<domainsnapshot><name>{'x' * 300000}</name></domainsnapshot>", "cannot be the name"),
    "a wrong encoding": ("<?xml version='1.0' encoding='UTF-16'?><domainsnapshot/>", "s.xml:1"),
    "a name with a path": ("<domainsnapshot><name>../../etc/x</name></domainsnapshot>", "cannot be the name"),
    "no schema": ("<domainsnapshot>\n<disks>\n<disk name='vda' snapshot='perhaps'/></disks></domainsnapshot>",
                  "s.xml:3: attribute 'snapshot' of <disk> is 'perhaps'"),
    "bytes that are no UTF-8": ("<domainsnapshot><name>\udcff\udcfe</name></domainsnapshot>", "s.xml:1"),
    "an encoding that lies": ("<?xml version='1.0' encoding='UTF-8'?><domainsnapshot><name>\udce4</name></domainsnapshot>",
                              "s.xml:1"),
    "a zero byte": ("<domainsnapshot><name>a\0b</name></domainsnapshot>", "s.xml:1"),
    "an external DTD": ("<!DOCTYPE domainsnapshot SYSTEM 'http://127.0.0.1:1/x.dtd'><domainsnapshot/>", "is not allowed"),
    "a parameter entity": ("<!DOCTYPE d [<!ENTITY % x SYSTEM 'file:///etc/passwd'> %x;]><domainsnapshot/>",
                           "is not allowed"),
    "elements 20000 deep": ("<domainsnapshot>" + "<disks>" * 20000, "s.xml:1"),
    "40000 disks": ("<domainsnapshot><disks>" + "".join(f"<disk name='{i}'/>" for i in range(40000)) +
                    "</disks></domainsnapshot>", "more than 8192 elements"),
    "2000 disks": ("<domainsnapshot><disks>" + "".join(f"<disk name='{i}'/>" for i in range(2000)) +
                   "</disks></domainsnapshot>", "more than 1024 disks"),
    "an attribute twice": ("<domainsnapshot><disks><disk name='a' name='b'/></disks></domainsnapshot>", "s.xml:1"),
    "two methods": ("<domainsnapshot><disks><disk name='vda' method='qemu'><diskSnapshot method='lvm'/></disk></disks>"
                    "</domainsnapshot>", "has two methods"),
    "a volume that is not absolute": (document(disk("vda", rest="<diskSnapshot method='lvm'><device path='-f'/>"
                                                   "</diskSnapshot>")), "'-f' is no absolute path"),
    "a size of no number": (document(disk("vda", rest="<diskSnapshot method='lvm'><size>1e9</size></diskSnapshot>")),
                            "a whole number"),
    "a path that is not absolute": (document(disk("vda", "../x")), "'../x' is no absolute path"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_documents_exit_with_2(make_chain, make_vm, rechain, workdir, what):
    text, words = HOSTILE[what]
    refused(rechain, make_vm(make_chain(size=4 * MiB)), workdir, text, 2, words)


def test_the_configuration_bounds_the_paths_of_a_document(make_chain, make_vm, rechain, workdir):
    """Also through symlinks and '..'; what lies inside may be named in any way."""
    allowed, other = (os.path.join(workdir, name) for name in ("allowed", "other"))
    os.mkdir(allowed)
    os.mkdir(other)
    os.mkdir(f"{allowed}-too")
    os.symlink(other, f"{allowed}/out")
    os.symlink(allowed, f"{other}/in")
    with open(rechain.config, "w") as config:
        config.write(f"[storage]\nallow={allowed}\n")
    vm = make_vm(make_chain(size=4 * MiB))
    for path in (f"{other}/x", f"{allowed}/../other/x", f"{allowed}/out/x", f"{allowed}-too/x", "/x"):
        refused(rechain, vm, workdir, document(disk("vda", path)), 5, "outside the directories", "[storage] allow")
    create(rechain, vm, workdir, document(disk("vda", f"{other}/in/./a"), name="in"))
    assert vm.chain()[0] == f"{allowed}/a"
    rechain.run("snapshot", "create", vm.qmp_path, f"vda,to={other}/from-the-command-line").expect(0)
