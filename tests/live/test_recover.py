"""What `recover` finds and settles; QEMU dead, the journal in trouble, others at work."""

import os
import sqlite3
import time

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import CUT, PASS, Proxy, Reply
from harness.qemu import Disk, Vm, leftovers, versions
from harness.qmp import QmpMonitor
from harness.rechain import Rechain
from harness.scene import wait_until
from harness.sweep import Stage, sound, state_of
from harness.taken_back import CALM, SLOW, Case, wait_copying


@pytest.fixture
def stage(version):
    with Stage(version, size=32 * MiB) as stage:
        yield stage


@pytest.fixture
def writing(make_chain, make_vm, rechain, workdir):
    def make(**options):
        vm = make_vm(Disk(make_chain(), **options), guest=True, writer=CALM)
        return Case(vm, rechain, os.path.join(workdir, "new.qcow2"))
    return make


def move(stage, address=None, *more):
    return stage.cli.start("move", address or stage.vm.qmp_path, "vda", "--to", stage.target("vda"), *more, json=True)


def reverse(stage):
    stage.judge(False, stage.old())


# --- the real guest ---

@pytest.mark.parametrize("when", ["stream", "fold"])
def test_a_killed_rechain_is_recovered_under_a_writing_guest(writing, when):
    case = writing()
    run = case.start("--bandwidth", SLOW)
    wait_copying(case.vm)
    if when == "fold":
        run.sigint()
        wait_until(lambda: any(j.endswith("fold") for j in case.vm.jobs()) or not run.is_running(), "the fold")
    run.kill()
    assert case.vm.guest.is_writing(10) or case.vm.run_state() == "paused"
    settled = sound(case.rechain.run("recover", json=True)).expect(0)
    assert state_of(settled) in ("undone", None)
    assert sound(case.rechain.run("recover", json=True)).expect(0).json["operations"] == []
    case.is_old()
    case.has_all()


def test_a_guest_that_was_held_is_continued_by_recover(writing):
    case = writing()
    with Proxy(case.vm.qmp_path) as proxy:
        started = []

        def policy(m):
            if (m.kind, m.name, m.nth) == ("command", "human-monitor-command", 1):
                return Reply("injected error")
            if (m.kind, m.name) == ("return", "stop"):
                started[0].process.kill()
                started[0].process.wait()
            return PASS
        proxy.policy = policy
        started.append(case.start(address=proxy.path))
        started[0].wait()
        assert case.vm.run_state() == "paused"
        proxy.policy = lambda m: PASS
        sound(case.rechain.run("recover", json=True)).expect(0)
    case.is_old()
    case.has_all()


# --- the monitor stays away ---

def test_a_monitor_that_does_not_come_back_is_stuck_until_it_does(stage, version):
    """15 s of trying, then exit 8; with the monitor back, recover settles."""
    if version != versions()[0]:
        pytest.skip("waits for 15 s of our own; one QEMU is enough")
    with Proxy(stage.vm.qmp_path) as proxy:
        def policy(m):
            if (m.kind, m.name) == ("return", "block-stream"):
                proxy.upstream = "/nowhere"
                return CUT
            return PASS
        proxy.policy = stage.writing(policy)
        result = sound(move(stage, proxy.path).wait(60)).expect(8)
        assert result.json["state"] == "stuck"
        proxy.upstream = stage.vm.qmp_path
        stage.write()
        assert state_of(sound(stage.cli.run("recover", json=True)).expect(0)) == "undone"
    reverse(stage)


def test_a_qemu_whose_new_layer_was_removed_under_it_is_not_taken_for_dead(make_chain, make_vm, rechain, workdir):
    chain, new = make_chain(size=16 * MiB), f"{workdir}/new.qcow2"
    vm = make_vm(chain)
    run = rechain.start("move", vm.qmp_path, "vda", "--to", new, "--bandwidth", "4M", json=True)
    wait_until(lambda: vm.jobs(), "it copies")
    os.unlink(new)
    id = run.wait().expect(8).json["operation"]
    before = [images.info(path) for path in chain.layers]
    assert "is gone" not in rechain.run("op", "show", id).out
    rechain.run("recover").expect(8)                            # nothing is done to the files of a guest that runs
    assert [images.info(path) for path in chain.layers] == before and vm.chain() == [new, *chain.layers]


def test_a_disk_that_is_unplugged_in_the_middle_keeps_what_was_written_meanwhile(make_chain, workdir, version, rechain):
    chain, new = make_chain(size=16 * MiB), f"{workdir}/new.qcow2"

    class Pluggable(Vm):
        def _device_args(self, disk, drive):
            return ["-device", "pcie-root-port,id=rp1,chassis=1",
                    "-device", f"virtio-blk-pci,id={disk.id},drive={drive},bus=rp1"]

    with Pluggable(version, chain) as vm:
        vm.cont()
        run = rechain.start("move", vm.qmp_path, "vda", "--to", new, "--bandwidth", "2M", json=True)
        wait_until(lambda: vm.jobs(), "it copies")
        vm.guest_write(0, 65536, 0x5a)
        vm.flush()
        vm.qmp.execute("device_del", id="vda")
        vm.qmp.execute("system_reset")                          # nobody in the guest answers, so this unplugs it
        error = run.wait().expect(8).json["error"]["message"]
        assert "not in this QEMU any more" in error and new in error and os.path.exists(new)
        rechain.run("recover").expect(8)
        vm.kill()
    settled = rechain.run("recover", json=True).expect(0).json["operations"][0]
    images.run("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 0x5a 0 65536", settled["authoritative"]["vda"])
    with images.raw_view(settled["authoritative"]["vda"]) as raw, open(raw, "rb") as now, open(chain.reference, "rb") as old:
        assert now.read(65536) == b"\x5a" * 65536 and now.read() == old.read()[65536:]


def test_a_process_that_died_after_its_operation_had_ended_leaves_nothing(stage):
    """Files beside the journal: those of ended operations go, those of one that has not stay."""
    sound(move(stage).wait()).expect(0)
    ended = stage.cli.run("op", "list", json=True).json["operations"][0]["operation"]
    run = os.path.join(stage.cli.state_dir, "run")
    for suffix in ("lock", "sock", "busy"):
        open(os.path.join(run, f"{ended}.{suffix}"), "w").close()
    sound(stage.cli.run("recover", json=True)).expect(0)
    assert os.listdir(run) == []


# --- other people at the same VM ---

def test_a_guest_that_somebody_else_stops_stays_stopped(stage):
    with Proxy(stage.vm.qmp_path) as proxy:
        def policy(m):
            if (m.kind, m.name, m.nth) == ("command", "human-monitor-command", 1):
                stage.vm.qmp.execute("stop")
                return Reply("injected error")
            return PASS
        proxy.policy = policy
        sound(move(stage, proxy.path).wait()).expect(7)
    assert stage.vm.run_state() == "paused"
    stage.vm.state_before = "paused"
    reverse(stage)


def test_stop_and_cont_by_somebody_else_do_not_matter(writing):
    case = writing()
    run = case.start("--bandwidth", SLOW)
    wait_copying(case.vm)
    for _ in range(3):
        case.vm.qmp.execute("stop")
        time.sleep(0.1)
        case.vm.qmp.execute("cont")
        time.sleep(0.1)
    run.sigint()
    case.is_undone(run.wait())


def test_a_guest_that_is_reset_meanwhile_keeps_its_writes(writing):
    case = writing()
    run = case.start("--bandwidth", SLOW)
    wait_copying(case.vm)
    case.vm.guest.wait_flushed(50)
    case.vm.qmp.execute("system_reset")     # -no-reboot: QEMU ends
    result = sound(run.wait())
    assert result.rc in (0, 7), str(result)
    case.vm.wait()
    active = (result.json["authoritative"] or {"vda": result.json["disks"][0]["chain"][0]})["vda"]
    case.vm.check(image=active)


# --- QEMU dies ---

@pytest.mark.parametrize("how", ["kill", "quit"])
@pytest.mark.parametrize("when", ["stream", "end"])
def test_a_qemu_that_dies_leaves_a_chain_that_is_named(writing, how, when):
    """It settles by itself: exit 7, and the file that is named holds every flushed write."""
    case = writing()
    run = case.start("--bandwidth", "4M")
    wait_copying(case.vm)
    case.vm.guest.wait_flushed(100)
    if when == "end":
        wait_until(lambda: any(j["current-progress"] > 0.7 * j["total-progress"] for j in case.vm.jobs().values()), "70%")
    if how == "kill":
        case.vm.kill()
    else:
        case.vm.quit_qemu()
    result = sound(run.wait(60))
    assert result.rc in (0, 7), str(result)
    active = result.json["authoritative"]["vda"]
    chain = case.vm.disk().chain
    assert active == (case.target if result.rc == 0 else chain.active)
    case.vm.check(image=active)
    assert images.header_chain(active) == result.json["disks"][0]["chain"]
    assert os.path.exists(case.target) == (result.rc == 0)
    for layer in chain.layers:
        assert os.path.exists(layer)
    assert sound(case.rechain.run("recover", json=True)).expect(0).json["operations"] == []


# --- the journal ---

def test_a_state_folder_that_is_full_refuses_before_anything_happens(stage):
    with images.tmpfs(1, stage.dir) as dir:
        with open(os.path.join(dir, "filler"), "wb") as file:
            try:
                file.write(bytes(2 * MiB))
                file.flush()
            except OSError:
                pass
        try:
            with Rechain(stage.cli.state_dir) as outside:
                result = sound(move_with_state(outside, dir, stage))
        finally:
            os.unlink(os.path.join(dir, "filler"))
    assert result.rc in (1, 4, 5), str(result)
    reverse(stage)


def move_with_state(cli, state_dir, stage):
    """With another state folder than the one that takes the outputs."""
    return cli.run("--state-dir", state_dir, "move", stage.vm.qmp_path, "vda", "--to", stage.target("vda"), json=True)


def test_a_state_folder_that_fills_up_midway_does_not_lose_the_guest(stage):
    """The journal cannot be written any more: we stop, say so, and recover goes on once there is room."""
    with images.tmpfs(1, stage.dir) as dir, Proxy(stage.vm.qmp_path) as proxy:
        filler = os.path.join(dir, "filler")

        def policy(m):
            if (m.kind, m.name) == ("return", "block-stream"):
                with open(filler, "wb", 0) as file:
                    try:
                        while True:
                            file.write(bytes(4096))
                    except OSError:
                        pass
            return PASS
        proxy.policy = stage.writing(policy)
        result = sound(stage.cli.run("--state-dir", dir, "move", proxy.path, "vda", "--to", stage.target("vda"), json=True))
        assert result.rc in (0, 7, 8), str(result)
        os.unlink(filler)
        proxy.policy = stage.writing(lambda m: PASS)
        settled = sound(stage.cli.run("--state-dir", dir, "recover", json=True)).expect(0)
        state = state_of(settled) or {0: "done", 7: "undone"}[result.rc]
        assert stage.vm.run_state() == "running"
        proxy.cut()
        stage.judge(state == "done", stage.moved() if state == "done" else stage.old())


@pytest.mark.parametrize("garbage", ["text", "half", "newer"])
def test_a_journal_that_cannot_be_read_refuses_before_anything_happens(stage, garbage):
    sound(stage.cli.run("move", stage.vm.qmp_path, "vda", "--to", "/nowhere/x.qcow2"))
    os.makedirs(os.path.join(stage.cli.state_dir, "run"), exist_ok=True)
    path = os.path.join(stage.cli.state_dir, "journal.db")
    if garbage == "newer":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        with open(path, "wb") as file:
            file.write(b"this is no database at all\n" * 100 if garbage == "text" else b"SQLite format 3\0" + bytes(84))
    before = open(path, "rb").read()
    result = sound(move(stage).wait())
    assert result.rc in (1, 4, 5), str(result)
    assert open(path, "rb").read() == before
    recovered = sound(stage.cli.run("recover", json=True))
    assert recovered.rc in (1, 4, 8), str(recovered)
    for name in os.listdir(os.path.join(stage.cli.state_dir, "run")):
        os.unlink(os.path.join(stage.cli.state_dir, "run", name))
    reverse(stage)


# --- two at once ---

def test_a_second_move_of_a_disk_is_refused_over_the_same_monitor(stage):
    first = move(stage, None, "--bandwidth", "1M")
    wait_until(lambda: stage.vm.jobs(), "the job")
    second = sound(stage.cli.run("move", stage.vm.qmp_path, "vda", "--to", stage.target("vda") + "2", json=True)).expect(4)
    assert second.error["code"] == "refused"
    first.sigint()
    sound(first.wait()).expect(7)
    assert not os.path.exists(stage.target("vda") + "2")
    reverse(stage)


def test_a_second_move_of_a_disk_is_refused_over_another_monitor(stage):
    with Proxy(stage.vm._test_path) as proxy:
        first = move(stage, None, "--bandwidth", "1M")
        wait_until(lambda: stage.vm.jobs(), "the job")
        stage.vm.qmp.close()
        second = sound(stage.cli.run("move", proxy.path, "vda", "--to", stage.target("vda") + "2", json=True))
        proxy.cut()
    stage.vm.qmp = QmpMonitor(stage.vm._test_path)
    assert second.rc == 4, str(second)
    first.sigint()
    sound(first.wait()).expect(7)
    reverse(stage)


def test_two_moves_that_start_at_once_do_not_meet(stage):
    runs = [stage.cli.start("move", stage.vm.qmp_path, "vda", "--to", f"{stage.target('vda')}{n}", json=True) for n in "12"]
    results = [sound(r.wait()) for r in runs]
    codes = sorted(r.rc for r in results)
    assert codes[0] == 0 and codes[1] in (0, 3, 4, 6), "\n".join(map(str, results))
    assert stage.vm.chain()[-1] == stage.chains["vda"].base
    assert len(stage.vm.chain()) == 2
    leftovers(stage.vm, stage.cli.state_dir, [stage.new])
    active = stage.vm.chain()[0]
    stage.vm.stop()
    stage.judge_data("vda", active)
