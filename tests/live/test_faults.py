"""Disks that fail, filesystems that go away, guests that stop, reset and power off, a monitor that is slow or talks
too much: in the middle of each operation. What fails at any single call is tests/crash/faults."""

import contextlib
import copy
import os
import subprocess
import tempfile
import time

import pytest

from harness import death, faults, images, sweep
from harness.images import MiB
from harness.proxy import PASS, Delay, Proxy, refuse
from harness.qemu import versions
from harness.rechain import Rechain
from harness.scene import wait_until
from harness.sweep import Case, sound
from test_undo import CALM, SLOW, fill

MOVE, COPY = death.MOVE, death.COPY
COMMIT = death.COMMIT                           # the active layer into middle.qcow2
INNER = death.COMMIT_INNER                      # middle.qcow2 into low.qcow2
PULL = death.PULL_PARTIAL
JOBS = {"block-stream", "block-commit", "blockdev-mirror"}


def performed(scenario, version, policy=lambda m: PASS, **more):
    """Runs it to its end under this policy, recovers where it says so, and judges. Returns old, new or refused."""
    with scenario.stage(version, **more) as stage, Proxy(stage.vm.qmp_path) as proxy:
        case = Case(stage, proxy, scenario, 0)
        case.scenario.begin(stage, proxy)
        case.start(None)
        return judged(case, case.run.wait(120))


def judged(case, result):
    if sound(result).rc == 8:
        return case.judge(case.recover())
    return case.judge_result(result)


# --- a disk fails ---

def bad(event, once):
    """From this event of qcow2's on, requests of its kind fail; others do not."""
    kind = {"read_aio": "read", "flush_to_disk": "flush"}.get(event, "write")
    return {"driver": "blkdebug", "image": "FILE", "inject-error": [{"event": event, "iotype": kind, "once": once}]}


@pytest.mark.parametrize("once", [True, False], ids=["once", "always"])
@pytest.mark.parametrize("scenario, depth, event", [
    (MOVE, 1, "read_aio"),
    (COPY, 0, "read_aio"), (COPY, 3, "read_aio"),
    (PULL, 1, "read_aio"), (PULL, 2, "read_aio"),
    (COMMIT, 0, "read_aio"), (COMMIT, 1, "write_aio"), (COMMIT, 1, "l2_update"), (COMMIT, 1, "flush_to_disk"),
    (INNER, 1, "read_aio"), (INNER, 2, "write_aio"), (INNER, 2, "flush_to_disk"),
], ids=lambda value: str(value))
def test_an_error_of_a_layer_leaves_the_old_or_the_new_chain(version, scenario, depth, event, once):
    performed(scenario, version, files={depth: bad(event, once)})


def test_an_error_is_not_overlooked_where_somebody_continues_the_guest(version):
    """QEMU forgets the io-status of its jobs at every cont, and they stay paused."""
    with COMMIT.stage(version, files={1: bad("write_aio", True)}) as stage, Proxy(stage.vm.qmp_path) as proxy:
        case = Case(stage, proxy, COMMIT, 0)
        run = case.start(None)

        def policy(m):
            if (m.kind, m.name) == ("event", "BLOCK_JOB_ERROR"):
                stage.vm.qmp.execute("cont")
            return PASS
        proxy.policy = policy
        result = run.wait(30)
        assert [m.name for m in proxy.seen].count("BLOCK_JOB_ERROR") == 1
        assert judged(case, result) == "old"


@pytest.mark.parametrize("act", ["EIO-once", "ENOSPC-once"])
def test_a_header_that_could_not_be_written_back_is_written_once_more(version, act):
    """QEMU shows the old name from then on, and the file has the new one."""
    fault, scenario = faults.Fault("qemu", faults.target, act), copy.copy(death.DELETE_TWO)
    refused, failed = refuse("job-finalize", nth=2), []
    with fault.stage(scenario, version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        def upset(m):
            if m.kind == "command" and m.arguments.get("job-id", "").endswith("-fold") and not failed:
                stage.shim.arm(1)
            if m.kind == "event" and m.data.get("data", {}).get("error"):
                failed.append(m)
            return refused(m)
        scenario.begin(stage, proxy)
        scenario.upset = upset
        case = Case(stage, proxy, scenario, 0)
        result = case.start(None).wait(60)
        stage.shim.mend()
        assert failed and judged(case, result) == "old"


def test_a_layer_that_can_never_be_read_again_leaves_it_stuck_and_loses_nothing(version):
    """The overlay cannot be folded into it. Once QEMU has ended and the disk is well, recover folds it."""
    with MOVE.stage(version, files={0: bad("read_aio", False)}) as stage, Proxy(stage.vm.qmp_path) as proxy:
        case = Case(stage, proxy, MOVE, 0)
        sound(case.start(None).wait(60)).expect(8)
        assert stage.now() == {"vda": [stage.target("vda")] + stage.chains["vda"].layers}
        sound(stage.cli.run("recover", json=True)).expect(8)
        stage.write(always=True)
        stage.vm.stop()
        settled = sound(stage.cli.run("recover", json=True)).expect(0).json["operations"][0]
        assert settled["state"] == "undone"
        death.judge_files(stage, stage.old(), False, False)


# --- its filesystem fills up, or goes away ---

def at_the_job(does, kind="return"):
    """A policy: that, once, when QEMU has started the job that copies, or (kind "command") is to start it."""
    def policy(m):
        if m.kind == kind and m.name in JOBS and m.nth == 1:
            does()
        return PASS
    return policy


@pytest.mark.parametrize("scenario", [MOVE, COPY, death.MOVE_TWO, death.COPY_TWO], ids=str)
def test_a_full_target_is_taken_back(version, workdir, scenario):
    with images.small_fs(24, workdir) as new:
        with scenario.stage(version, new=new) as stage, Proxy(stage.vm.qmp_path) as proxy:
            case = Case(stage, proxy, scenario, 0)
            stage.write()
            run = case.start(None)
            proxy.policy = at_the_job(lambda: fill(new), "command")
            result = run.wait(60)
            os.unlink(os.path.join(new, "filler"))
            assert judged(case, result) == "old"


@pytest.mark.parametrize("scenario", [COPY, death.COPY_TWO], ids=str)
def test_a_target_that_fills_up_once_the_copy_has_caught_up_is_taken_back(version, workdir, scenario):
    """Before 6.2 a mirror that is ready ends in its own time, which never comes."""
    with images.small_fs(24, workdir) as new:
        with scenario.stage(version, new=new) as stage, Proxy(stage.vm.qmp_path) as proxy:
            case, full = Case(stage, proxy, scenario, 0), []

            def policy(m):
                if (m.kind, m.name) == ("event", "BLOCK_JOB_READY") and not full:
                    full.append(fill(new))
                    for _ in range(4):
                        stage.write()
                return PASS
            run = case.start(None)
            proxy.policy = policy
            result = run.wait(60)
            assert full
            os.unlink(os.path.join(new, "filler"))
            assert judged(case, result) == "old"


def test_a_full_filesystem_of_the_layer_that_receives_is_taken_back(version, workdir):
    """A commit cannot grow the layer under it."""
    with images.small_fs(64, workdir) as dir:
        with COMMIT.stage(version, dir=dir) as stage, Proxy(stage.vm.qmp_path) as proxy:
            stage.cli = Rechain(os.path.join(workdir, "state"))
            case = Case(stage, proxy, COMMIT, 0)
            stage.write()
            run = case.start(None)
            proxy.policy = at_the_job(lambda: fill(dir), "command")
            result = run.wait(60)
            os.unlink(os.path.join(dir, "filler"))
            assert judged(case, result) == "old"


@pytest.mark.parametrize("scenario", [MOVE, COPY, death.SNAPSHOT_THREE], ids=str)
def test_a_target_whose_filesystem_is_unmounted_is_settled_once_it_is_back(version, workdir, scenario):
    """Lazily: QEMU goes on with what it has open, and nobody finds it by its name."""
    with images.small_fs(24, workdir) as new:
        device = images.run("findmnt", "-n", "-o", "SOURCE", new).strip()
        # A file is known by its device, too: it is to have the same number again.
        with open(device, "rb"), scenario.stage(version, new=new) as stage, Proxy(stage.vm.qmp_path) as proxy:
            case = Case(stage, proxy, scenario, 0)
            gone = []

            def policy(m):
                if not gone and m.kind == "return" and m.name in JOBS | {"transaction"}:
                    gone.append(subprocess.run(["umount", "-l", new], check=True))
                return PASS
            run = case.start(None)
            proxy.policy = stage.writing(policy)
            result = run.wait(60)
            assert gone, str(result)
            subprocess.run(["mount", device, new], check=True)
            judged(case, result)


@contextlib.contextmanager
def other_number(mount):
    """The filesystem of images.small_fs is mounted again, from a device of another number."""
    image, device = mount + ".img", images.run("findmnt", "-n", "-o", "SOURCE", mount).strip()
    images.run("umount", mount)
    with tempfile.NamedTemporaryFile() as other:
        other.truncate(MiB)
        images.run("losetup", device, other.name)
        try:
            was = os.stat(device).st_rdev
            images.run("mount", "-o", "loop", image, mount)
            assert os.stat(mount).st_dev != was
            yield
        finally:
            images.run("losetup", "-d", device)


@pytest.mark.parametrize("scenario", [MOVE, COPY, death.SNAPSHOT_THREE], ids=str)
def test_what_was_made_on_a_device_that_comes_back_under_another_number_is_known(version, workdir, scenario):
    """A host that lost its storage, and what ran on it. It is settled once, and no unfinished file stays."""
    with images.small_fs(24, workdir) as new:
        with scenario.stage(version, new=new) as stage, Proxy(stage.vm.qmp_path) as proxy:
            case = Case(stage, proxy, scenario, 0)

            def policy(m):
                if m.kind == "command" and m.name in JOBS | {"transaction"}:
                    case.kill()
                    death.kill_qemu(case)
                return PASS
            run = case.start(None)
            proxy.policy = stage.writing(policy)
            result = run.wait(60)
            stage.vm.process.wait(10)
            with other_number(new):
                assert os.listdir(new) != ["lost+found"]
                assert death.settle(case, result) in ("old", "new")


def into_a_full_device(stage, *words):
    """The exit status of a run whose standard output takes nothing."""
    with open("/dev/full", "w") as full:
        return subprocess.run(stage.cli._argv(words, True), stdout=full, env=stage.cli.env).returncode


def test_what_became_of_an_operation_stands_where_it_cannot_be_printed(version):
    """Exit 1 would say that nothing was changed."""
    with MOVE.stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        proxy.policy = refuse("job-finalize")
        assert into_a_full_device(stage, *MOVE.command(stage, proxy)) == 8
        assert into_a_full_device(stage, "recover") == 8
        proxy.policy = lambda m: PASS
        sound(stage.cli.run("recover")).expect(0)
        proxy.policy = refuse("block-stream")
        assert into_a_full_device(stage, *MOVE.command(stage, proxy)) == 7
        proxy.policy = lambda m: PASS
        assert into_a_full_device(stage, "info", proxy.path) == 1
        assert into_a_full_device(stage, *MOVE.command(stage, proxy)) == 0
        stage.judge(True, stage.moved())


# --- the guest ---

@pytest.mark.parametrize("scenario", [MOVE, PULL, INNER, COMMIT, COPY, death.DELETE_TWO], ids=str)
@pytest.mark.parametrize("command", ["stop", "system_reset", "quit"])
def test_a_guest_that_is_stopped_reset_or_ended_meanwhile(version, scenario, command):
    with scenario.stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        case = Case(stage, proxy, scenario, 0)
        scenario.begin(stage, proxy)

        def meanwhile():
            if command == "stop" and stage.vm.run_state() == "running":     # else it is we who hold it
                stage.vm.state_before = "paused"
            if command == "quit":
                stage.killed = True
                stage.flushed = {id: {b: len(p) for b, p in w.items()} for id, w in stage.written.items()}
            try:
                stage.vm.qmp.execute(command)
            except ConnectionError:
                assert command == "quit"
        run = case.start(None)
        proxy.policy = stage.writing(at_the_job(meanwhile))
        result = run.wait(60)
        if command == "quit":
            stage.vm.process.wait(10)
            death.after_death(case, result)
            return
        assert sound(result).rc == 0, str(result)
        assert case.judge_result(result) == "new"


@pytest.mark.parametrize("verb", ["move", "copy", "commit"])
def test_a_guest_that_powers_off_in_the_middle_keeps_every_write(make_chain, make_vm, rechain, workdir, verb):
    vm = make_vm(make_chain(("template", "low", "current")), guest=True, writer=CALM)
    to = [] if verb == "commit" else ["--to", os.path.join(workdir, "new.qcow2")]
    run = rechain.start(verb, vm.qmp_path, "vda", *to, "--bandwidth", SLOW, json=True)
    wait_until(lambda: any(j["current-progress"] > 0 for j in vm.jobs().values()) or not run.is_running(), "the job")
    vm.guest.wait_flushed(50)
    vm.stop()
    result = sound(run.wait())
    assert result.rc in (0, 7), str(result)
    assert sound(rechain.run("recover", json=True)).expect(0).json["operations"] == []
    vm.check(image=result.json["authoritative"]["vda"], graceful=True)


# --- the monitor ---

@pytest.mark.parametrize("scenario", [MOVE, INNER], ids=str)
def test_a_monitor_that_is_slow_by_seconds_is_waited_for(version, scenario):
    """Two seconds for every command that changes something."""
    if version != versions()[0]:
        pytest.skip("what waits is ours; one QEMU is enough")
    def slow(m):
        return Delay(2) if m.kind == "return" and sweep.is_telling(m) and m.name != "qmp_capabilities" else PASS
    with scenario.stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        case = Case(stage, proxy, scenario, 0)
        run = case.start(None)
        proxy.policy = stage.writing(slow)
        assert judged(case, run.wait(120)) == "new"


FLOOD = 100_000


def foreign_events(count):
    """Of jobs and disks that are none of ours, and such as no QEMU sends."""
    kinds = [b'{"event":"JOB_STATUS_CHANGE","data":{"status":"concluded","id":"job%d"},"timestamp":{}}',
             b'{"event":"BLOCK_JOB_ERROR","data":{"device":"job%d","operation":"read","action":"stop"},"timestamp":{}}',
             b'{"event":"BLOCK_JOB_COMPLETED","data":{"device":"rc-00000000-vd%d-stream","type":"stream","len":1,'
             b'"offset":1,"speed":0},"timestamp":{}}',
             b'{"event":"RTC_CHANGE","data":{"offset":%d},"timestamp":{"seconds":1,"microseconds":2}}']
    return b"\r\n".join(kinds[n % len(kinds)] % n for n in range(count)) + b"\r\n"


@pytest.mark.parametrize("scenario", [MOVE, COPY], ids=str)
def test_a_flood_of_events_changes_nothing(version, scenario):
    flood = foreign_events(FLOOD)
    most = []

    with scenario.stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        case = Case(stage, proxy, scenario, 0)
        run = case.start(None)

        def policy(m):
            if m.kind == "return" and m.name in JOBS:
                proxy.say(flood)
                with open(f"/proc/{run.pid}/status") as status:
                    most.append(int(next(line for line in status if line.startswith("VmHWM")).split()[1]) >> 10)
            return PASS
        proxy.policy = stage.writing(policy)
        begun = time.monotonic()
        assert case.judge_result(run.wait(60)) == "new"
    assert most and most[0] < 200, f"{most} MiB"
    assert time.monotonic() - begun < 30
