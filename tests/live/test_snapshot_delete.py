"""snapshot delete: each disk merged in its direction, all in one operation, records kept right."""

import os
import time

import pytest

from harness import images, qemu
from harness.images import MiB
from harness.proxy import PASS, Proxy, refuse
from harness.qemu import leftovers
from harness.scene import assert_chain, change, change_of, digest, graph, valid


def take(rechain, vm, name, *words):
    return change(rechain, vm, "snapshot create", *words, "--name", name)


def delete(rechain, vm, name, *options):
    return change(rechain, vm, "snapshot delete", name, *options)


def names(rechain, vm):
    snapshots = valid(rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0).json)["snapshots"]
    assert all(s["matches"] for s in snapshots), snapshots
    return [(s["name"], s.get("parent")) for s in snapshots]


def test_the_seed_case(make_vm, rechain, workdir):
    """old_vda goes forward into new_vda and new_vdb backward into old_vdb, in one deletion, while the guest writes."""
    chains = {id: images.make_chain(os.path.join(workdir, id), names=[f"template_{id}", f"old_{id}"], size=16 * MiB)
              for id in ("vda", "vdb")}
    vm = make_vm(list(chains.values()), dir=workdir, guest=True)
    new = {id: os.path.join(workdir, f"new_{id}") for id in chains}
    take(rechain, vm, "tmpsnap", f"vda,to={new['vda']},on-delete=forward", f"vdb,to={new['vdb']},on-delete=backward")
    vm.guest.wait_flushed(100)
    operation = delete(rechain, vm, "tmpsnap")
    assert operation["kind"] == "snapshot-delete" and operation["name"] == "tmpsnap"
    assert change_of(operation, "vda")["chain"] == [new["vda"], chains["vda"].base]
    assert change_of(operation, "vdb")["chain"] == chains["vdb"].layers
    assert_chain(vm, [new["vda"], chains["vda"].base], "vda")
    assert_chain(vm, chains["vdb"].layers, "vdb")
    assert names(rechain, vm) == []
    vm.guest.wait_flushed(200)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    leftovers(vm, rechain.state_dir, [workdir])
    vm.kill()
    vm.check(image=new["vda"])


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_of_three_stacked_snapshots(make_chain, make_vm, rechain, workdir, which, direction):
    """The guest reads the same, the other snapshots show what they showed, and each has the right parent."""
    chain = make_chain(size=8 * MiB)
    vm = make_vm(chain)
    files, snapshots = [chain.active], ["one", "two", "three"]
    for i, name in enumerate(snapshots):
        files.insert(0, os.path.join(workdir, f"{name}.qcow2"))
        take(rechain, vm, name, f"vda,to={files[0]}")
        vm.guest_write(i * MiB, MiB + 4096, 0x10 + i)
        vm.flush()
    chain_before, gone = files + [chain.base], snapshots[which]
    with_data = contents(vm, files)
    delete(rechain, vm, gone, "--direction", direction)
    upper = 2 - which
    dropped = chain_before[upper + 1] if direction == "forward" else chain_before[upper]
    survivors = [file for file in chain_before if file != dropped]
    assert_chain(vm, survivors)
    left = [name for name in snapshots if name != gone]
    assert names(rechain, vm) == [(left[0], None), (left[1], left[0])]
    vm.stop()
    after = {file: view(file) for file in survivors[:-1]}
    assert after[survivors[0]] == with_data[chain_before[0]]
    for file in set(after) & set(files) - {chain_before[upper], chain_before[upper + 1]}:
        assert after[file] == with_data[file], f"{file} shows something else"
    kept = chain_before[upper] if direction == "forward" else chain_before[upper + 1]
    assert after[kept] == with_data[chain_before[upper]]
    for file in survivors:
        images.check_image(file)


def test_one_in_the_middle_of_several_disks_each_in_its_direction(make_vm, rechain, workdir):
    """Three snapshots of three disks; the second goes, while a guest writes: the others stay what they are."""
    ids = ("vda", "vdb", "vdc")
    chains = {id: images.make_chain(os.path.join(workdir, id), size=16 * MiB) for id in ids}
    vm = make_vm(list(chains.values()), dir=workdir, guest=True)
    file = {(id, name): f"{workdir}/{id}-{name}.qcow2" for id in ids for name in ("one", "two", "three")}
    merge = {"vda": "forward", "vdb": "backward", "vdc": "forward"}
    for name in ("one", "two", "three"):
        vm.guest.wait_flushed(50)
        how = merge if name == "two" else dict.fromkeys(ids, "backward")
        take(rechain, vm, name, *(f"{id},to={file[id, name]},on-delete={how[id]}" for id in ids))
    shown = {id: view(file[id, "two"]) for id in ids}          # the instant of "three"
    old = {id: view(chains[id].active) for id in ids}          # the instant of "one"
    vm.guest.wait_flushed(50)
    operation = delete(rechain, vm, "two")
    for id in ids:
        kept = file[id, "two" if merge[id] == "forward" else "one"]
        chain = [file[id, "three"], kept] + chains[id].layers
        assert change_of(operation, id)["chain"] == chain
        assert_chain(vm, chain, id)
        assert view(kept) == shown[id] and view(chains[id].active) == old[id]
    assert names(rechain, vm) == [("one", None), ("three", "one")]
    vm.guest.wait_flushed(100)
    assert vm.guest.verify() > 0 and vm.guest.errors == 0
    leftovers(vm, rechain.state_dir, [workdir])


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_no_more_is_copied_than_was_foretold(make_chain, make_vm, rechain, workdir, direction):
    """What is foretold is what the layer has; less is copied where the new layer has data over the old one's."""
    chain = make_chain(size=32 * MiB)
    vm = make_vm(chain)
    new = f"{workdir}/new.qcow2"
    take(rechain, vm, "one", f"vda,to={new}")
    vm.guest_write(0, 5 * MiB, 0x11)
    vm.flush()
    (one,) = valid(rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0).json)["snapshots"]
    foretold = one["disks"][0][f"{direction}-bytes"]
    operation = delete(rechain, vm, "one", "--direction", direction)
    over = 5 * MiB if direction == "forward" else 0
    assert 0 < operation["bytes"] <= foretold <= operation["bytes"] + over + MiB // 2


def view(file):
    with images.raw_view(file) as raw:
        return digest(raw)


def contents(vm, files):
    """What each layer shows now, with what lies under it; the active one is still open."""
    import shutil
    import tempfile
    with tempfile.TemporaryDirectory(dir=os.path.dirname(files[0])) as dir:
        seen = {}
        for file in files:
            copy = os.path.join(dir, os.path.basename(file))
            shutil.copy(file, copy)
            seen[file] = view(copy)
        return seen


def test_layers_that_fell_out_are_removed_if_asked(make_vm, rechain, workdir):
    chains = {id: images.make_chain(os.path.join(workdir, id), names=["t", "old"], size=4 * MiB) for id in ("vda", "vdb")}
    vm = make_vm(list(chains.values()), dir=workdir)
    take(rechain, vm, "one", f"vda,to={workdir}/a,on-delete=forward", f"vdb,to={workdir}/b")
    operation = delete(rechain, vm, "one", "--delete")
    assert change_of(operation, "vda")["removed"] == [chains["vda"].active]
    assert change_of(operation, "vdb")["removed"] == [f"{workdir}/b"]
    assert os.path.exists(f"{workdir}/a") and os.path.exists(chains["vdb"].active)


def test_a_deletion_that_fails_is_undone_and_stays_on_record(make_vm, rechain, workdir):
    chains = {id: images.make_chain(os.path.join(workdir, id), size=4 * MiB) for id in ("vda", "vdb")}
    vm = make_vm(list(chains.values()), dir=workdir)
    refusing = []
    with Proxy(vm.qmp_path, lambda m: refusing[-1](m) if refusing else PASS) as proxy:
        rechain.run("snapshot", "create", proxy.path, "vda,on-delete=forward", "vdb", "--name", "one").expect(0)
        before = vm.chain("vda"), vm.chain("vdb")
        for word in ("block-stream", "block-commit", "job-finalize"):
            refusing.append(refuse(word))
            rechain.run("snapshot", "delete", proxy.path, "one").expect(7)
            record = valid(rechain.run("snapshot", "show", proxy.path, "one", json=True).expect(0).json)
            assert [d["on-delete"] for d in record["disks"]] == ["forward", "backward"]
            assert (vm.chain("vda"), vm.chain("vdb")) == before and not vm.jobs()
        refusing.append(lambda m: PASS)
        rechain.run("snapshot", "delete", proxy.path, "one").expect(0)


def test_what_does_not_match_is_not_merged(make_chain, make_vm, rechain, workdir):
    chain = make_chain(["template", "middle", "current1"], size=4 * MiB)
    vm = make_vm(chain)
    take(rechain, vm, "one", f"vda,to={workdir}/one")
    node = vm.block()["inserted"]["node-name"]
    vm.qmp.execute("block-stream", {"job-id": "theirs", "device": node, "auto-dismiss": False})
    while vm.jobs()["theirs"]["status"] != "concluded":
        pass
    vm.qmp.execute("job-dismiss", {"id": "theirs"})
    before = graph(vm)
    result = rechain.run("snapshot", "delete", vm.qmp_path, "one").expect(4)
    assert "does not match disk 'vda'" in result.err and "--metadata-only" in result.err
    assert graph(vm) == before
    rechain.run("snapshot", "delete", vm.qmp_path, "none").expect(3)
    rechain.run("snapshot", "delete", vm.qmp_path, "one", "--direction", "up").expect(2)
    rechain.run("snapshot", "delete", vm.qmp_path, "one", "--metadata-only").expect(0)


def test_merges_by_other_commands_take_the_records_along(make_chain, make_vm, rechain, workdir):
    """commit, pull, merge and copy; each leaves records that match, and drops those without a boundary."""
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    one, two, three, four = (os.path.join(workdir, f"{n}.qcow2") for n in ("one", "two", "three", "four"))
    for name, file in (("one", one), ("two", two), ("three", three), ("four", four)):
        take(rechain, vm, name, f"vda,to={file}")
    change(rechain, vm, "commit", "vda", "--top", two, "--base", one)
    assert vm.chain() == [four, three, one] + chain.layers
    assert names(rechain, vm) == [("one", None), ("three", "one"), ("four", "three")]
    change(rechain, vm, "merge", "vda", "--source", three, "--dest", four)
    assert names(rechain, vm) == [("one", None), ("three", "one")]
    change(rechain, vm, "copy", "vda", "--to", f"{workdir}/copy.qcow2", "--shallow")
    assert vm.chain() == [f"{workdir}/copy.qcow2", one] + chain.layers
    assert names(rechain, vm) == [("one", None), ("three", "one")]
    change(rechain, vm, "pull", "vda", "--base", chain.active)
    assert names(rechain, vm) == [("one", None)]
    change(rechain, vm, "snapshot create", f"vda,to={four}.new", "--name", "five")
    rechain.run("allocate", vm.qmp_path, "vda", "--detach-backing").expect(0)
    assert vm.chain() == [f"{four}.new"] and names(rechain, vm) == []


def test_one_that_a_pull_left_goes_after_it(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    one, two = (os.path.join(workdir, f"{n}.qcow2") for n in ("one", "two"))
    for name, file in (("one", one), ("two", two)):
        take(rechain, vm, name, f"vda,to={file}")
    change(rechain, vm, "pull", "vda", "--base", chain.active)
    os.unlink(one)      # kept by the pull, and still an overlay of what is to be changed
    delete(rechain, vm, "one")
    assert vm.chain() == chain.layers and names(rechain, vm) == []


def test_offline_merges_take_the_records_along(make_chain, make_vm, rechain, workdir):
    """With the guest off its layers are merged by name of file; the guest that is started again finds a match."""
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    one, two = f"{workdir}/one.qcow2", f"{workdir}/two.qcow2"
    take(rechain, vm, "one", f"vda,to={one}")
    take(rechain, vm, "two", f"vda,to={two}")
    vm.stop()
    rechain.run("merge", "--offline", two, "--source", one, "--dest", chain.active, json=True).expect(0)
    assert images.header_chain(two) == [two] + chain.layers
    (record,) = valid(rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0).json)["snapshots"]
    assert record["name"] == "two" and "parent" not in record
    told = record["disks"][0]
    assert (told["overlay"], told["read-only-source"]) == (two, chain.active)


@pytest.mark.parametrize("words, left", [
    (("pull", "--base", "ACTIVE"), [("one", None)]),
    (("pull",), []),
    (("commit",), [("one", None), ("two", "one")]),
    (("allocate", "--detach-backing"), []),
], ids=["pull-base", "pull", "commit", "allocate"])
def test_offline_each_command_takes_the_records_along(make_chain, make_vm, rechain, workdir, words, left):
    """What is left on record matches the chain that is left."""
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    rechain.env.update(qemu.offline_programs(vm.version))
    for name in ("one", "two", "three"):
        take(rechain, vm, name, f"vda,to={workdir}/{name}.qcow2")
    vm.stop()
    words = [chain.active if word == "ACTIVE" else word for word in words]
    told = rechain.run(words[0], "--offline", f"{workdir}/three.qcow2", *words[1:], json=True).expect(0).json
    layers = told["disks"][0]["chain"]
    snapshots = valid(rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0).json)["snapshots"]
    assert [(s["name"], s.get("parent")) for s in snapshots] == left
    for snapshot in snapshots:
        disk = snapshot["disks"][0]
        at = layers.index(disk["overlay"])
        assert layers[at + 1] == disk["read-only-source"] and images.header_chain(disk["overlay"]) == layers[at:]


def test_the_plan_says_what_each_disk_does(make_vm, rechain, workdir):
    chains = {id: images.make_chain(os.path.join(workdir, id), size=4 * MiB) for id in ("vda", "vdb")}
    vm = make_vm(list(chains.values()), dir=workdir)
    take(rechain, vm, "one", "vda,on-delete=forward", "vdb")
    before = graph(vm)
    plan = valid(rechain.run("snapshot", "delete", vm.qmp_path, "one", "--dry-run", json=True).expect(0).json)
    asked = [q["execute"] for s in plan["steps"] for q in s["qmp"]]
    assert plan["kind"] == "snapshot-delete" and "block-stream" in asked and "block-commit" in asked
    assert "records" in [s["step"] for s in plan["steps"]] and graph(vm) == before
    assert names(rechain, vm) == [("one", None)]


# ---- the guest is off ----

def delete_off(rechain, vm, name, *options, rc=0):
    result = rechain.run("snapshot", "delete", vm.qmp_path, name, *options, json=rc == 0).expect(rc)
    return valid(result.json) if rc == 0 else result


def listed_off(rechain, vm):
    snapshots = valid(rechain.run("snapshot", "list", vm.qmp_path, json=True).expect(0).json)["snapshots"]
    return [(s["name"], s.get("parent")) for s in snapshots]


def shows(path):
    with images.raw_view(path) as raw:
        return digest(raw)


def test_the_seed_case_with_the_guest_off(make_vm, rechain, workdir):
    """Both disks in one operation, each in its direction; the snapshot above stays and gets the parent."""
    chains = {id: images.make_chain(os.path.join(workdir, id), names=[f"template_{id}", f"old_{id}"], size=16 * MiB)
              for id in ("vda", "vdb")}
    vm = make_vm(list(chains.values()), dir=workdir)
    rechain.env.update(qemu.offline_programs(vm.version))
    new = {id: os.path.join(workdir, f"new_{id}") for id in chains}
    top = {id: os.path.join(workdir, f"top_{id}") for id in chains}
    take(rechain, vm, "tmpsnap", f"vda,to={new['vda']},on-delete=forward", f"vdb,to={new['vdb']},on-delete=backward")
    for id in chains:
        vm.guest_write(MiB, 2 * MiB, 0x41, id)
    take(rechain, vm, "later", f"vda,to={top['vda']}", f"vdb,to={top['vdb']}")
    for id in chains:
        vm.guest_write(2 * MiB, 2 * MiB, 0x42, id)
    vm.stop()
    seen = {id: shows(top[id]) for id in chains}
    operation = delete_off(rechain, vm, "tmpsnap")
    assert (operation["kind"], operation["state"]) == ("snapshot-delete", "done") and "vm" not in operation
    after = {"vda": [top["vda"], new["vda"], chains["vda"].base],
             "vdb": [top["vdb"], chains["vdb"].active, chains["vdb"].base]}
    for id in chains:
        assert change_of(operation, id)["chain"] == after[id] == images.header_chain(top[id])
        assert shows(top[id]) == seen[id]
        images.check_image(top[id])
    assert listed_off(rechain, vm) == [("later", None)]
    delete_off(rechain, vm, "later", "--direction", "forward", "--delete")
    assert images.header_chain(top["vdb"]) == [top["vdb"], chains["vdb"].base]
    assert not os.path.exists(new["vda"]) and {id: shows(top[id]) for id in chains} == seen
    assert listed_off(rechain, vm) == []
    leftovers(None, rechain.state_dir, [workdir])


def test_a_guest_that_runs_behind_a_lost_monitor_is_not_off(make_chain, make_vm, rechain, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    take(rechain, vm, "one", f"vda,to={workdir}/one.qcow2")
    os.rename(vm.qmp_path, vm.qmp_path + ".away")
    assert "is open in another process" in delete_off(rechain, vm, "one", rc=4).err
    os.rename(vm.qmp_path + ".away", vm.qmp_path)
    assert names(rechain, vm) == [("one", None)]


def test_a_death_while_the_guest_is_off_is_recovered_on_all_disks(make_vm, rechain, workdir):
    """Whenever it dies, the chains are the old ones or the new ones, and the record goes with them."""
    chains = [images.make_chain(os.path.join(workdir, id), names=[f"template_{id}", f"old_{id}"], size=16 * MiB)
              for id in ("vda", "vdb")]
    vm = make_vm(chains, dir=workdir)
    rechain.env.update(qemu.offline_programs(vm.version))
    for n, seconds in enumerate((0.02, 0.1, 0.25, 0.4, 0.6, 0.9)):
        new = [os.path.join(workdir, f"new{n}_{id}") for id in ("vda", "vdb")]
        if not vm.is_alive():
            vm.restart(vm.disks)
        take(rechain, vm, f"snap{n}", f"vda,to={new[0]},on-delete=forward", f"vdb,to={new[1]}")
        before = [vm.chain(id) for id in ("vda", "vdb")]
        vm.stop()
        seen = [shows(path) for path in new]
        run = rechain.start("snapshot", "delete", vm.qmp_path, f"snap{n}")
        time.sleep(seconds)
        run.kill()
        settled = valid(rechain.run("recover", json=True).expect(0).json)["operations"]
        done = not listed_off(rechain, vm)
        assert all(op["state"] == ("done" if done else "undone") for op in settled)
        after = [[new[0]] + before[0][2:], before[1][1:]] if done else before
        assert [images.header_chain(chain[0]) for chain in after] == after
        assert [shows(chain[0]) for chain in after] == seen
        leftovers(None, rechain.state_dir, [workdir])
        if not done:
            delete_off(rechain, vm, f"snap{n}")
        now = after if done else [[new[0]] + before[0][2:], before[1][1:]]
        for disk, layers in zip(vm.disks, now):
            disk.chain = images.Chain(layers, ["qcow2"] * len(layers), disk.chain.reference, disk.chain.size)


def test_a_layer_that_others_use_is_changed_only_where_that_is_allowed(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    take(rechain, vm, "one", f"vda,to={workdir}/one.qcow2")
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", chain.active, "-F", "qcow2", f"{workdir}/other.qcow2", "4M")
    refused = rechain.run("snapshot", "delete", vm.qmp_path, "one").expect(4)
    assert "--direction forward" in refused.err and "other.qcow2" in refused.err
    unknown = rechain.run("snapshot", "delete", vm.qmp_path, "one", "--allow-shared", "nothing.qcow2").expect(3)
    assert "nothing.qcow2" in unknown.err
    delete(rechain, vm, "one", "--allow-shared", chain.active)
    assert_chain(vm, chain.layers)
    assert names(rechain, vm) == []
