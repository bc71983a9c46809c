"""Frozen filesystems: on a real guest with qemu-ga and mounted, written ext4, and with agents of all sorts."""

import os
import time

import pytest

from harness import images, qemu
from harness.agent import HANG_UP, PASS, SILENT, FakeAgent, refusal
from harness.images import MiB
from harness.proxy import DROP, Delay, Proxy, on
from harness.qemu import leftovers
from harness.scene import assert_chain, change, change_of, graph, tree, valid, wait_until

DISKS = ("vda", "vdb", "vdc", "vdd")
FREEZE, THAW, STATUS, SYNC = ("guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "guest-fsfreeze-status",
                              "guest-sync-delimited")


# ---- a real guest ----

@pytest.fixture
def ext4_vm(make_vm, workdir):
    """A guest with qemu-ga that writes numbers in turn to the ext4 of each of four disks."""
    chains = [images.make_ext4_chain(os.path.join(workdir, id)) for id in DISKS]
    return make_vm(chains, dir=workdir, guest=True, agent=True, files=DISKS)


def agent_of(vm):
    return ("--agent", vm.agent_path, "--max-freeze", "60s")


def stands_still(guest, seconds=0.7):
    time.sleep(0.2)
    before = guest.number
    time.sleep(seconds)
    return guest.number == before


def test_a_quiesced_snapshot_mounts_clean_and_no_write_is_missing_before_a_later_one(ext4_vm, rechain, workdir):
    vm, seen = ext4_vm, {}
    vm.guest.wait_numbers(300)
    for name, options in (("rough", ()), ("clean", ("--quiesce", *agent_of(vm)))):
        before = vm.guest.number
        document = change(rechain, vm, "snapshot create", "--name", name, *options)
        seen[name] = (before, document)
        vm.guest.wait_numbers(200)                          # nobody is left frozen
    told = seen["clean"][1]
    assert told["filesystems"] == 4 and told["freeze-ms"] > 0
    assert seen["rough"][1]["freeze-ms"] == 0 and "filesystems" not in seen["rough"][1]
    leftovers(vm, rechain.state_dir, [c.chain.dir for c in vm.disks])
    vm.kill()
    rough, clean = ([images.Ext4(change_of(seen[name][1], id)["chain"][1], workdir) for id in DISKS]
                    for name in ("rough", "clean"))
    assert [fs.problems for fs in clean] == [""] * 4
    assert not any(fs.dirty for fs in clean)
    assert [fs.mounted for fs in clean] == [fs.numbers for fs in clean]
    written = sorted(number for fs in clean for number in fs.numbers)
    assert written == list(range(1, len(written) + 1)), "a write is missing while a later one is there"
    assert len(written) >= seen["clean"][0]                 # what was acknowledged before is there
    # Without a freeze it is not so: the judgement above can fail.
    assert all(fs.dirty and fs.mounted is None for fs in rough)
    assert sum(len(fs.numbers) for fs in rough) < seen["rough"][0]


def test_quiesce_and_thaw_as_commands_and_a_recovery_of_who_died_between(ext4_vm, rechain, workdir):
    vm = ext4_vm
    vm.guest.wait_numbers(100)
    agent = ("--agent", vm.agent_path)
    frozen = valid(rechain.run("quiesce", vm.qmp_path, *agent_of(vm), json=True).expect(0).json)
    assert (frozen["state"], frozen["filesystems"], frozen["changed"]) == ("frozen", 4, True)
    assert stands_still(vm.guest)
    again = rechain.run("quiesce", vm.qmp_path, *agent).expect(0)
    assert "already" in again.out and "rechain thaw" in again.err
    refused = rechain.run("snapshot", "create", vm.qmp_path, "--quiesce", *agent).expect(4)
    assert "frozen already" in refused.err and "rechain thaw" in refused.err
    change(rechain, vm, "snapshot create", "vda", "--name", "one")      # freeze once, snapshot several things
    change(rechain, vm, "snapshot create", "vdb", "--name", "two")
    assert rechain.run("recover").expect(0).out == "nothing to recover\n"
    assert stands_still(vm.guest)                           # deliberately left so
    thawed = valid(rechain.run("thaw", vm.qmp_path, *agent, json=True).expect(0).json)
    assert (thawed["state"], thawed["filesystems"], thawed["changed"]) == ("thawed", 4, True)
    vm.guest.wait_numbers(100)
    assert "already" in rechain.run("thaw", vm.qmp_path, *agent).expect(0).out

    new = os.path.join(workdir, "new.qcow2")
    document = change(rechain, vm, "move", "vdc", "--to", new, "--quiesce", *agent_of(vm))
    assert document["filesystems"] == 4 and document["freeze-ms"] > 0
    vm.guest.wait_numbers(100)

    before = vm.chain("vdd")

    def die(message):
        if (message.kind, message.name) == ("command", "transaction"):
            run.process.kill()
            return DROP
        return "pass"

    with Proxy(vm.qmp_path) as proxy:
        run = rechain.start("snapshot", "create", proxy.path, "vdd", "--quiesce", *agent_of(vm))
        proxy.policy = die
        run.wait()
        assert stands_still(vm.guest)
        proxy.policy = lambda message: "pass"
        (settled,) = valid(rechain.run("recover", json=True).expect(0).json)["operations"]
    assert settled["state"] == "undone" and settled["freeze-ms"] > 0
    vm.guest.wait_numbers(100)
    assert vm.chain("vdd") == before
    leftovers(vm, rechain.state_dir, [c.chain.dir for c in vm.disks])


# ---- agents of all sorts ----

@pytest.fixture
def scene(make_chain, rechain):
    """A running machine without a guest OS, and what was there before. One version is enough: what differs
    is the agent."""
    if not qemu.versions():
        pytest.skip("no QEMU is here: run tools/fetch-qemu")
    chain = make_chain(size=4 * MiB)
    vm = qemu.Vm(qemu.versions()[0], [chain]).start()
    vm.cont()

    class Scene:
        path = os.path.join(vm.run_dir, "fake")
        before = None

        def look(self):
            files = tree(chain.dir, skip=(".log", ".reference"))
            ours = os.path.join(rechain.state_dir, "")
            return graph(vm), {path: what for path, what in files.items() if not path.startswith(ours)}

        def run(self, *options, json=False):
            self.before = self.look()
            return rechain.run("snapshot", "create", vm.qmp_path, "vda", "--name", "s", "--quiesce", "--agent",
                               self.path, *options, json=json)

        def unchanged(self):
            assert self.look() == self.before

    scene = Scene()
    scene.vm, scene.chain, scene.rechain = vm, chain, rechain
    yield scene
    vm.close()


HUGE = b'{"return": "' + b"x" * 100000 + b'"}\n'
DEEP = b'{"return": ' + b"[" * 3000 + b"]" * 3000 + b"}\n"
ENDLESS = b"x" * (10 << 20)


@pytest.mark.parametrize("answers, code, words", [
    ({SYNC: [SILENT]}, 6, "does not answer"),
    ({SYNC: [HANG_UP]}, 6, "closed the connection"),
    ({SYNC: [ENDLESS]}, 6, ""),
    ({STATUS: [HUGE]}, 6, "too long"),
    ({STATUS: [DEEP]}, 6, "nested too deep"),
    ({STATUS: [b"hello\n"]}, 6, "not a JSON object"),
    ({STATUS: [refusal("no, thanks")]}, 1, "no, thanks"),
    ({"guest-info": [b'{"return": {"supported_commands": 7}}\n']}, 4, "does not offer"),
], ids=lambda value: "" if isinstance(value, (dict, int)) else value.replace(" ", "-"))
def test_an_agent_that_fails_the_preflight_is_a_refusal_and_nothing_is_changed(scene, answers, code, words):
    with FakeAgent(scene.path, answers) as agent:
        result = scene.run().expect(code)
        assert words in result.err and FREEZE not in agent.asked
    scene.unchanged()


@pytest.mark.parametrize("answers, words", [
    ({FREEZE: [refusal("Device or resource busy")]}, "Device or resource busy"),
    ({FREEZE: [HANG_UP]}, "closed the connection"),
    ({FREEZE: [SILENT]}, "deadline"),
    ({FREEZE: [HUGE]}, "too long"),
    ({FREEZE: [1.5]}, "deadline"),
    ({FREEZE: [DEEP], THAW: [HANG_UP, PASS]}, "nested too deep"),
], ids=("refuses", "dies", "is silent", "is huge", "is slow", "is deep and dies again"))
def test_a_freeze_that_fails_is_undone_and_thawed(scene, answers, words):
    with FakeAgent(scene.path, answers) as agent:
        result = scene.run("--max-freeze", "500ms").expect(7)
        assert words in result.err
        assert agent.asked[-1] == THAW and not agent.frozen
    scene.unchanged()
    leftovers(scene.vm, scene.rechain.state_dir, [scene.chain.dir], result=False)


@pytest.mark.alone
def test_a_snapshot_that_takes_too_long_is_taken_back_and_the_guest_thawed_at_once(scene):
    """QEMU is slow; the guest does not wait for it."""
    with FakeAgent(scene.path) as agent, Proxy(scene.vm.qmp_path, on("return", "transaction", Delay(2))) as proxy:
        frozen = []
        agent.on_command = lambda command: frozen.append((command, time.monotonic()))
        result = scene.rechain.run("snapshot", "create", proxy.path, "vda", "--name", "s", "--quiesce", "--agent",
                                   scene.path, "--max-freeze", "300ms").expect(7)
        times = {command: when for command, when in frozen}
        assert "frozen for longer than 300 ms" in result.err
        assert 0.2 < times[THAW] - times[FREEZE] < 1.5 and not agent.frozen
    assert_chain(scene.vm, scene.chain.layers)
    leftovers(scene.vm, scene.rechain.state_dir, [scene.chain.dir], result=False)


@pytest.mark.parametrize("answers, frozen", [({}, False), ({THAW: [SILENT]}, True)], ids=["answers", "is-silent"])
def test_who_lets_go_of_an_operation_leaves_nobody_frozen(scene, answers, frozen):
    """Ctrl-C for the second time, while QEMU is slow: thawed, as far as the agent answers; a third one waits for nobody."""
    with FakeAgent(scene.path, answers) as agent, Proxy(scene.vm.qmp_path, on("return", "transaction", Delay(4))) as proxy:
        run = scene.rechain.start("snapshot", "create", proxy.path, "vda", "--name", "s", "--quiesce", "--agent",
                                  scene.path, "--max-freeze", "30s")
        wait_until(lambda: "transaction" in proxy.commands(), "the snapshot")
        run.sigint()
        wait_until(lambda: "interrupt again" in run.err_so_far(), "the first interrupt")
        assert agent.frozen
        run.sigint()
        if frozen:
            wait_until(lambda: agent.asked[-1] == THAW, "the thaw")
            run.sigint()
        result = run.wait(10).expect(8)
        assert agent.frozen == frozen and ("may still be frozen" in result.err) == frozen, str(result)
        agent.answers = {}
        wait_until(lambda: scene.rechain.run("recover").rc == 0, "the slow QEMU", timeout=20)
        assert not agent.frozen
    leftovers(scene.vm, scene.rechain.state_dir, [scene.chain.dir])


def test_in_best_effort_no_agent_is_told_and_no_reason_to_fail(scene):
    result = scene.run("--quiesce-best-effort").expect(0)
    assert "not frozen" in result.err and "does not exist" in result.err
    with FakeAgent(scene.path, {FREEZE: [refusal("no")]}):
        document = change(scene.rechain, scene.vm, "snapshot create", "--name", "t", "--quiesce-best-effort",
                          "--agent", scene.path)
    assert document["freeze-ms"] == 0 and "filesystems" not in document


def test_a_guest_that_cannot_be_thawed_is_stuck_and_recovered_when_its_agent_is_back(scene):
    with FakeAgent(scene.path, {THAW: [HANG_UP]}) as agent:
        result = scene.run().expect(8)
        assert "may still be frozen" in result.err and agent.frozen
        agent.answers = {}
        scene.rechain.run("recover").expect(0)
        assert not agent.frozen
    leftovers(scene.vm, scene.rechain.state_dir, [scene.chain.dir])


def test_refusals_that_need_no_agent(scene):
    rechain, vm = scene.rechain, scene.vm
    create = ("snapshot", "create", vm.qmp_path, "vda")
    assert "--agent" in rechain.run(*create, "--quiesce").expect(2).err
    assert "no option '--quiesce'" in rechain.run("pull", vm.qmp_path, "vda", "--quiesce").expect(2).err
    assert "--agent" in rechain.run("quiesce", vm.qmp_path).expect(2).err
    assert "--agent" in rechain.run("thaw", vm.qmp_path).expect(2).err
    rechain.run("thaw", vm.qmp_path, "--agent", "/no/such/socket").expect(6)
    vm.qmp.execute("stop")
    with FakeAgent(scene.path) as agent:
        assert "stopped (paused)" in scene.run().expect(4).err
        assert "stopped (paused)" in rechain.run("quiesce", vm.qmp_path, "--agent", scene.path).expect(4).err
        assert agent.asked == []


def test_the_plan_tells_what_is_asked_of_the_agent_and_asks_nothing_that_changes(scene):
    with FakeAgent(scene.path) as agent:
        plan = valid(scene.run("--dry-run", json=True).expect(0).json)
        assert set(agent.asked) == {SYNC, STATUS, "guest-info"}
        text = scene.run("--dry-run").expect(0).out
    steps = {step["step"]: step for step in plan["steps"]}
    assert list(steps)[:5] == ["overlay", "attach", "quiesce", "snapshot", "thaw"]
    assert steps["quiesce"]["agent"] == [{"execute": FREEZE}] and steps["thaw"]["agent"] == [{"execute": THAW}]
    assert FREEZE in text
    scene.unchanged()
