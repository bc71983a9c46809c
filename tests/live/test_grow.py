"""--grow-lv on each QEMU, first under a guest that never stops writing: volumes that are loop devices
(harness/loops.py). The LVM of a real group is in test_lvm_grow.py."""

import os
import subprocess

import pytest

from harness import images, loops, sweep
from harness.images import MiB
from harness.qemu import Disk
from harness.scene import assert_chain, change, wait_until
from harness.sweep import sound

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


def check_guest(vm, image, group=None):
    """`group`: the image lies in the volume "new", which nobody extends any more, so the guest may have filled it."""
    if group:
        group.extend("new", 128)
        if vm.run_state() == "io-error":
            vm.qmp.execute("cont")
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
    check_guest(vm, new, group)


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
    assert vm.run_state() == "running"
    notes = " ".join(steps(rechain, document, "note"))
    assert "cont" in notes and "job-resume" in notes
    check_guest(vm, new, group)


def test_a_copy_grows_its_target(group, make_chain, make_vm, rechain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    new = make(group, "new", chain)
    document = change(rechain, vm, "copy", "vda", "--to", new, *HOW, "--max-pause", "10s")
    assert grown(document)["size"] == group.size("new") >= 24 * MiB
    assert_chain(vm, [new])
    check_guest(vm, new, group)


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
    check_guest(vm, new, group)


# --- every command, without a guest: each layer lies in a volume of its own, with hardly any room ---

LAYERS = ("base", "low", "middle", "current")
COMMANDS = {
    "move": (["move", "vda,to=NEW"], "NEW", ["NEW", "middle", "low", "base"]),
    "copy": (["copy", "vda,to=NEW", "--shallow"], "NEW", ["NEW", "middle", "low", "base"]),
    "pull": (["pull", "vda"], "current", ["current"]),
    "partial-pull": (["pull", "vda,base=low"], "current", ["current", "low", "base"]),
    "inner-pull": (["pull", "vda,top=middle,base=base"], "middle", ["current", "middle", "base"]),
    "commit": (["commit", "vda"], "middle", ["middle", "low", "base"]),
    "inner-commit": (["commit", "vda,top=middle,base=base"], "base", ["current", "base"]),
    "merge-up": (["merge", "vda,source=low,dest=middle"], "middle", ["current", "middle", "base"]),
    "merge-down": (["merge", "vda,source=middle,dest=low"], "low", ["current", "low", "base"]),
    "snapshot": (["snapshot", "create", "vda,to=NEW"], None, ["NEW", "current", "middle", "low", "base"]),
}


class Volumes:
    """A VM of two disks on volumes, and what its words mean."""

    def __init__(self, group, make_vm, workdir, style, disks=2, room=0):
        self.group, self.chains = group, {}
        for id in ("vda", "vdb")[:disks]:
            chain = images.make_chain(os.path.join(workdir, id), LAYERS, size=16 * MiB, share=0.3, seed=id)
            self.chains[id] = group.put_chain(id, chain, room)
        self.vm = make_vm([Disk(chain, id=id) for id, chain in self.chains.items()], style=style, dir=workdir)
        self.vm.cont()

    def name(self, word, id):
        """Of a volume."""
        return f"{id}-{word.lower()}"

    def path(self, word, id):
        return os.path.realpath(os.path.join(self.group.dir, self.name(word, id)))

    def new(self, id, backing):
        device = self.group.volume(self.name("NEW", id), 1)
        image(device, self.chains[id], backing)

    def words(self, template):
        """The disks' words for all disks: names of layers become paths."""
        out = []
        for word in template:
            if not word.startswith("vda"):
                out.append(word)
                continue
            for id in self.chains:
                options = [f"{k}={self.path(v, id)}" for k, v in (o.split("=") for o in word.split(",")[1:])]
                out.append(",".join([id, *options]))
        return out

    def check_data(self, active):
        """After QEMU's end."""
        for id, chain in self.chains.items():
            self.vm.check(id, self.path(active, id), graceful=True)


@pytest.fixture
def volumes(group, make_vm, workdir):
    return lambda style, **options: Volumes(group, make_vm, workdir, style, **options)


@pytest.mark.parametrize("what", COMMANDS)
def test_each_command_extends_what_it_writes_into_on_two_disks_at_once(volumes, rechain, group, what):
    words, receiver, left = COMMANDS[what]
    world = volumes("drive" if list(COMMANDS).index(what) % 2 else "blockdev")
    if "NEW" in left:
        for id, chain in world.chains.items():
            world.new(id, chain.layers[1] if what == "copy" else chain.active)
    words = world.words(words)
    verb = words[:2] if words[0] == "snapshot" else words[:1]
    done = rechain.run(*verb, world.vm.qmp_path, *words[len(verb):], *(HOW[:1] if "NEW" in left else ()), "--grow-lv=1M",
                       json=True).expect(0).json
    assert done["state"] == "done"
    for row in done["disks"]:
        id = row["disk"]
        assert_chain(world.vm, [world.path(word, id) for word in left], id)
        if receiver:
            assert world.path(receiver, id) in [grew["path"] for grew in row["grown"]]
            assert all(grew["size"] > grew["size-before"] for grew in row["grown"])
    assert {node["write_threshold"] for node in world.vm.nodes().values()} == {0}
    world.vm.stop()
    world.check_data(left[0])


def test_without_it_what_does_not_fit_is_refused_and_the_cure_is_named(volumes, rechain):
    world = volumes("blockdev", disks=1)
    said = rechain.run("pull", world.vm.qmp_path, "vda", json=True).expect(4).error
    assert f"not enough space in '{world.path('current', 'vda')}'" in said["message"]
    assert "use --grow-lv" in said["hint"]
    said = rechain.run("allocate", world.vm.qmp_path, "vda", json=True).expect(4).error
    assert "not enough space" in said["message"] and "lvextend" in said["hint"]


def test_a_snapshot_that_was_taken_with_it_is_undone_with_it(volumes, rechain, group):
    world = volumes("blockdev", disks=1)
    chain = world.chains["vda"]
    new = group.volume("vda-new", 8)
    image(new, chain, chain.active)
    taken = rechain.run("snapshot", "create", world.vm.qmp_path, f"vda,to={new}", "--reuse", "--grow-lv=1M",
                        json=True).expect(0).json
    world.vm.guest_write(0, 6 * MiB, 7)
    undone = rechain.run("op", "undo", taken["operation"], "--yes", json=True).expect(0).json
    assert [grew["path"] for grew in undone["disks"][0]["grown"]] == [chain.active]
    assert_chain(world.vm, chain.layers)
    world.vm.stop()
    with images.raw_view(chain.active, dir=group.dir) as raw, open(raw, "rb") as shown:
        assert shown.read(6 * MiB) == b"\7" * 6 * MiB


def test_two_disks_that_fit_one_by_one_and_not_together_are_refused(volumes, rechain, group):
    world = volumes("blockdev")
    group.set_total(group.used() + 10 * MiB)
    said = rechain.run("pull", world.vm.qmp_path, "vda", "vdb", "--grow-lv=1M", json=True).expect(4).error
    assert f"'{world.path('current', 'vda')}' and others together would have to get" in said["message"]
    assert "(10485760 bytes)" in said["message"] and "vgextend" in said["hint"]
    assert rechain.run("pull", world.vm.qmp_path, "vda", "--grow-lv=1M", "--dry-run").rc == 0


# --- lvextend dies, or rechain does, at each point of growth ---

@pytest.mark.parametrize("point", ["begun", "recorded", "extended"])
def test_an_lvextend_that_is_killed_is_mended_or_tried_again(volumes, rechain, group, point):
    world = volumes("blockdev", disks=1)
    group.dies(point)
    done = rechain.run("pull", world.vm.qmp_path, "vda", "--grow-lv=1M", json=True)
    assert not os.path.exists(os.path.join(group.dir, f"dies-{point}")), "it was killed"
    if done.rc == 0:
        assert grown(done.json)["size"] == group.size("vda-current")
        assert_chain(world.vm, [world.path("current", "vda")])
    else:
        assert_chain(world.vm, world.chains["vda"].layers)
    assert done.rc == 0, str(done)
    world.vm.stop()
    world.check_data("current")


@pytest.mark.parametrize("point, direction, also", [
    ("begun", "--finish", "lvextend-too"), ("begun", "--undo", "rechain-alone"), ("recorded", "--finish", "lvextend-too"),
    ("recorded", "--undo", "lvextend-too"), ("recorded", "--finish", "rechain-alone"), ("extended", "--undo", "lvextend-too")])
def test_rechain_is_killed_while_a_volume_grows_and_recover_forgets_nothing(volumes, rechain, group, point, direction,
                                                                           also):
    world = volumes("blockdev", disks=1)
    if also == "lvextend-too":
        group.dies(point)
    group.hold(point)
    run = rechain.start("pull", world.vm.qmp_path, "vda", "--grow-lv=1M")
    group.wait_for(point)
    run.kill()
    group.let_go(point)
    settled = sound(rechain.run("recover", direction, json=True)).expect(0)
    (operation,) = settled.json["operations"]
    assert operation["state"] == ("done" if direction == "--finish" else "undone")
    assert grown(operation)["size"] == group.size("vda-current") == group.recorded("vda-current")
    if direction == "--undo":
        assert group.size("vda-current") > grown(operation)["size-before"] or (point, also) == ("begun", "lvextend-too")
        assert_chain(world.vm, world.chains["vda"].layers)
    else:
        assert_chain(world.vm, [world.path("current", "vda")])
    assert sound(rechain.run("recover", json=True)).expect(0).json["operations"] == []
    assert world.vm.run_state() == "running"
    world.vm.stop()
    world.check_data("current")


@pytest.mark.parametrize("scenario", sweep.GROWTHS, ids=str)
def test_killed_at_any_message_it_is_done_or_undone(version, scenario):
    sweep.sweep(scenario, sweep.killed, version, 1)
