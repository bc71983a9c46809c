"""What fails midway is taken back: exit 7, the old chain, every acknowledged write, nothing left."""

import json
import os
import time

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import PASS, Proxy, Reply, on
from harness.qemu import Disk, leftovers
from harness.qmp import QmpError, QmpMonitor
from harness.sweep import Stage, sound
from harness.taken_back import CALM, SLOW, Case, faulty_target, fill, wait_copying


@pytest.fixture
def writing(make_chain, make_vm, rechain, workdir):
    """writing(target=, **of Disk) -> a Case with a guest that writes."""
    def make(target=None, style="blockdev", size=64 * MiB, writer=None, **disk):
        vm = make_vm(Disk(make_chain(size=size), **disk), style=style, guest=True, writer=writer or CALM)
        return Case(vm, rechain, target or os.path.join(workdir, "new.qcow2"))
    return make


# --- the target is full ---

@pytest.mark.parametrize("style, werror", [("blockdev", None), ("blockdev", "report"), ("drive", None), ("drive", "stop")])
def test_a_target_that_fills_up_is_taken_back(writing, workdir, style, werror):
    with images.small_fs(64, workdir) as dir:
        case = writing(f"{dir}/new.qcow2", style, werror=werror)
        run = case.start("--bandwidth", SLOW)
        wait_copying(case.vm)
        fill(dir)
        case.is_undone(run.wait(), "space")


def test_a_guest_that_was_stopped_by_enospc_runs_again(writing, workdir):
    """The guest fills the target: it stops first, not the job."""
    with images.small_fs(64, workdir) as dir:
        case = writing(f"{dir}/new.qcow2", writer={"rate": 400})
        run = case.start("--bandwidth", "100K")
        wait_copying(case.vm)
        fill(dir)
        case.vm.qmp.wait_event("STOP")
        case.is_undone(run.wait(), "space")


def test_without_undo_a_full_target_is_left_for_inspection(writing, workdir):
    with images.small_fs(64, workdir) as dir:
        case = writing(f"{dir}/new.qcow2", werror="report")
        run = case.start("--bandwidth", SLOW, "--no-undo")
        wait_copying(case.vm)
        fill(dir)
        result = sound(run.wait()).expect(8)
        assert result.json["state"] == "stuck"
        assert "inspection" in json.dumps(result.json["error"])
        assert os.path.exists(case.target)
        assert case.vm.chain()[0] == case.target
        settled = sound(case.rechain.run("recover", "--undo", json=True)).expect(0)
        assert [o["state"] for o in settled.json["operations"]] == ["undone"]
        case.is_old()
        case.has_all()


# --- I/O errors on the target ---

@pytest.mark.parametrize("once", [True, False], ids=["once", "always"])
def test_an_io_error_while_copying_is_taken_back(writing, once):
    case = writing()
    fault = {"event": "cluster_alloc", "errno": 5, "once": once}
    with Proxy(case.vm.qmp_path, faulty_target(case.vm, fault)) as proxy:
        case.is_undone(case.start(address=proxy.path).wait(), "Input/output error")


@pytest.mark.parametrize("style, once", [("blockdev", False), ("drive", True)])
def test_a_header_that_cannot_be_written_at_the_pivot_is_taken_back(writing, style, once):
    case = writing(style=style)
    fault = {"event": "none", "iotype": "write", "sector": 0, "errno": 5, "once": once}
    with Proxy(case.vm.qmp_path, faulty_target(case.vm, fault)) as proxy:
        # A -drive guest's QEMU drops the old layers by itself.
        case.is_undone(case.start(address=proxy.path).wait(), "Input/output error", reopened=style == "drive")


# --- cancelled ---

def test_job_cancel_by_another_rechain_undoes_the_move(writing):
    case = writing()
    run = case.start("--bandwidth", SLOW)
    job, = wait_copying(case.vm)
    sound(case.rechain.run("job", "cancel", case.vm.qmp_path, job)).expect(0)   # over the borrowed monitor
    case.is_undone(run.wait(), "cancel")


def test_job_cancel_over_a_second_monitor_undoes_the_move(writing):
    case = writing()
    run = case.start("--bandwidth", SLOW)
    job, = wait_copying(case.vm)
    case.vm.qmp.close()
    sound(case.rechain.run("job", "cancel", case.vm._test_path, job)).expect(0)
    case.vm.qmp = QmpMonitor(case.vm._test_path)
    case.is_undone(run.wait(), "cancel")


@pytest.mark.parametrize("style, dismiss", [("blockdev", True), ("drive", False)])
def test_a_job_that_a_stranger_cancels_undoes_the_move(writing, style, dismiss):
    case = writing(style=style)
    run = case.start("--bandwidth", SLOW)
    job, = wait_copying(case.vm)
    case.vm.qmp.execute("job-cancel", id=job)
    if dismiss:
        try:
            case.vm.qmp.execute("job-dismiss", id=job)
        except QmpError:
            pass                                # rechain was faster
    case.is_undone(run.wait())


def test_a_job_that_a_stranger_finalizes_still_ends_well(writing):
    case = writing()
    policy = on("command", "human-monitor-command", lambda m: finalize(case.vm))
    with Proxy(case.vm.qmp_path, policy) as proxy:
        sound(case.start(address=proxy.path).wait()).expect(0)
    assert case.vm.chain() == [case.target, case.vm.disk().chain.base]
    leftovers(case.vm, case.rechain.state_dir, [os.path.dirname(case.target)])
    case.vm.stop()
    case.vm.check(image=case.target, graceful=True)


def finalize(vm):
    job, = [i for i in vm.jobs() if i.startswith("rc-")]
    vm.qmp.execute("job-finalize", id=job)
    return PASS


def test_op_cancel_undoes_the_move(writing):
    case = writing()
    run = case.start("--bandwidth", SLOW)
    wait_copying(case.vm)
    operations = case.rechain.run("op", "list", json=True).expect(0).json["operations"]
    sound(case.rechain.run("op", "cancel", operations[0]["operation"])).expect(0)
    case.is_undone(run.wait(), "cancel")


@pytest.mark.parametrize("style, signal", [("blockdev", "sigint"), ("drive", "sigterm")])
def test_an_interrupt_undoes_the_move(writing, style, signal):
    case = writing(style=style)
    run = case.start("--bandwidth", SLOW)
    wait_copying(case.vm)
    getattr(run, signal)()
    case.is_undone(run.wait(), "cancel")


def test_a_second_interrupt_leaves_it_to_recover(writing):
    case = writing()
    result, settled = case.interrupt_twice(case.start("--bandwidth", "100K"))
    if result.rc == 8:
        assert [o["state"] for o in settled.json["operations"]] == ["undone"]
    case.is_old()
    case.has_all()


def test_a_timeout_undoes_the_move(writing):
    case = writing()
    case.is_undone(case.start("--bandwidth", "500K", "--timeout", "2s").wait(), "2000 ms")


def test_the_undo_of_a_slow_move_is_not_slow(writing):
    """The guest writes faster than --bandwidth: what it wrote must be copied back all the same."""
    case = writing(writer={"rate": 400})
    run = case.start("--bandwidth", "200K")
    wait_copying(case.vm)
    case.vm.guest.wait_flushed(500)
    run.sigint()
    case.is_undone(run.wait(60), "cancel")


# --- the undo itself meets trouble ---

@pytest.mark.parametrize("command", ["block-commit", "job-complete", "job-finalize", "stop", "blockdev-del"])
def test_an_undo_that_is_refused_for_good_is_stuck_until_recover(version, command):
    """Once more than it is tried; a single refusal is among the sweeps of test_sweep.py."""
    with Stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        begun = []

        def policy(m):
            if m.kind == "command" and m.name == "human-monitor-command" and not begun:
                begun.append(m.number)
                return Reply("injected error")
            return Reply("injected second error") if begun and m.kind == "command" and m.name == command else PASS
        proxy.policy = stage.writing(policy)
        result = sound(stage.cli.run("move", proxy.path, *stage.disk_words(), json=True)).expect(8)
        assert result.json["state"] == "stuck"
        assert "injected second error" in json.dumps(result.json["error"])
        assert stage.vm.run_state() == "running"
        proxy.policy = stage.writing(lambda m: PASS)
        stage.write()
        settled = sound(stage.cli.run("recover", json=True)).expect(0)
        assert [o["state"] for o in settled.json["operations"]] == ["undone"]
        proxy.cut()
        stage.judge(False, stage.old())


# --- several disks ---

@pytest.fixture
def two(make_vm, rechain, workdir):
    chains = [images.make_chain(os.path.join(workdir, d)) for d in ("a", "b")]
    vm = make_vm(chains, guest=True, writer=CALM)
    case = Case(vm, rechain, os.path.join(workdir, "vda.qcow2"))
    case.second = os.path.join(workdir, "second", "vdb.qcow2")
    os.mkdir(os.path.dirname(case.second))
    return case


def move_two(case, address, *more, env=None):
    return case.rechain.start("move", address, f"vda,to={case.target}", f"vdb,to={case.second}", *more, json=True,
                              env=env)


def test_a_second_disk_without_an_overlay_leaves_the_first_alone(two):
    """Its filesystem has room, but takes no more files: no preflight can see that."""
    dir = os.path.dirname(two.second)
    images.run("mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=1", "tmpfs", dir)
    try:
        with Proxy(two.vm.qmp_path) as proxy:
            result = sound(move_two(two, proxy.path).wait()).expect(7)
            assert "No space left" in json.dumps(result.json["error"])
            assert not {"blockdev-add", "transaction"} & set(proxy.commands())
        two.is_old([dir])
    finally:
        images.run("umount", dir)
    two.has_all(("vda", "vdb"))


@pytest.mark.alone
def test_a_second_stream_that_fails_takes_both_disks_back(two):
    fault = {"event": "cluster_alloc", "errno": 5, "once": False}
    faulty = faulty_target(two.vm, fault)

    def policy(m):
        return faulty(m) if "vdb" in m.arguments.get("node-name", "") else PASS
    with Proxy(two.vm.qmp_path, policy) as proxy:
        begun = time.monotonic()
        result = sound(move_two(two, proxy.path, "--bandwidth", "1M").wait()).expect(7)
        assert time.monotonic() - begun < 25, "the first disk's stream, of 32 s, ran to its end for nothing"
    assert "Input/output error" in json.dumps(result.json["error"])
    assert not os.path.exists(two.second)
    two.is_old([os.path.dirname(two.second)])
    two.has_all(("vda", "vdb"))
