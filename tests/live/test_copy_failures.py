"""A copy that fails midway is taken back: exit 7, the guest on its old chain, nothing left; however it fails."""

import json
import os
import signal
import time

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import PASS, Delay, Proxy, Reply, on
from harness.qemu import Disk, leftovers
from harness.qmp import QmpError, QmpMonitor
from harness.scene import graph, wait_until
from harness.sweep import sound
from harness.taken_back import CALM, SLOW, Case, faulty_target, fill, wait_copying

KINDS = {"full": (), "shallow": ("--shallow",), "raw": ("--format", "raw"), "apart": ("--no-pivot",)}


@pytest.fixture
def copying(make_chain, make_vm, rechain, workdir):
    """copying(kind, target=, **of Disk) -> a Case with a guest that writes, which copies."""
    def make(kind="full", target=None, style="blockdev", guest=True, chain=None, **disk):
        vm = make_vm(Disk(chain or make_chain(size=48 * MiB), **disk), style=style, guest=guest, writer=CALM, dir=workdir)
        if not guest:
            vm.cont()
        case = Case(vm, rechain, target or os.path.join(workdir, "new.img"), "copy", *KINDS[kind])
        case.before = graph(vm)
        return case
    return make


def is_undone(case, result, words=None):
    """Not a node, an edge or a permission in QEMU is another one."""
    sound(result).expect(7)
    assert graph(case.vm) == case.before
    case.is_undone(result, words)


def is_undone_quietly(case, result, words=None):
    """The same, of a VM whose guest does not write by itself."""
    sound(result).expect(7)
    assert words is None or words in json.dumps(result.json["error"]), str(result)
    assert graph(case.vm) == case.before
    case.is_old()
    case.vm.stop()


# --- the target is full ---

@pytest.mark.parametrize("style", ["blockdev", "drive"])
def test_a_guest_whose_space_the_copy_took_goes_on(copying, workdir, style):
    """It stands for want of space, under a filter of the job's whose name is QEMU's own."""
    with images.small_fs(128, workdir) as dir:
        case = copying("full", f"{dir}/new.qcow2", style, chain=images.make_chain(dir, size=48 * MiB))
        with Proxy(case.vm.qmp_path) as proxy:
            run = case.start("--bandwidth", "4M", address=proxy.path)
            job = wait_copying(case.vm)[0]
            wait_until(lambda: case.vm.jobs()[job]["current-progress"] > 10 * MiB, "so much is copied")
            fill(dir)
            case.vm.qmp.wait_event("STOP")
            result = run.wait(20)
            changes = [name for name in proxy.commands() if not name.startswith(("query-", "x-"))]
        assert changes[-1] == "cont", changes       # once the file is removed, which is after its nodes
        os.unlink(os.path.join(dir, "filler"))      # the oracle makes its files there
        case.vm.cont()                              # what it took could be all used up by now
        is_undone(case, result, "space")

@pytest.mark.parametrize("kind, style", [("full", "blockdev"), ("shallow", "drive"), ("raw", "drive"), ("apart", "blockdev")])
def test_a_target_that_fills_up(copying, workdir, kind, style):
    with images.small_fs(64, workdir) as dir:
        case = copying(kind, f"{dir}/new.img", style)
        run = case.start("--bandwidth", SLOW)
        wait_copying(case.vm)
        fill(dir)
        is_undone(case, run.wait(), "space")


def last_write(case, dir=None):
    """What the guest does just before it is held; the target, in `dir`, is full then."""
    def act(m):
        if dir:
            fill(dir)
        case.vm.guest_write(40 * MiB, MiB, 0x77)
        case.vm.flush()
        return PASS
    return act


@pytest.mark.parametrize("kind, style", [("shallow", "blockdev"), ("full", "drive")])
def test_a_target_that_fills_up_when_all_was_copied(copying, workdir, version, kind, style):
    """The last write does not fit: the guest is held already, and goes on where it was."""
    with images.small_fs(64, workdir) as dir:
        case = copying(kind, f"{dir}/new.img", style, guest=False)
        with Proxy(case.vm.qmp_path, on("command", "stop", last_write(case, dir))) as proxy:
            is_undone_quietly(case, case.start(address=proxy.path).wait(), None if version == "5.2" else "space")
        with images.raw_view(case.vm.disks[0].chain.active) as raw, open(raw, "rb") as file:
            assert os.pread(file.fileno(), MiB, 40 * MiB) == b"\x77" * MiB


# --- I/O errors ---

@pytest.mark.parametrize("kind, style, once", [("full", "blockdev", True), ("shallow", "drive", False), ("apart", "drive", True)])
def test_an_io_error_of_the_target(copying, kind, style, once):
    case = copying(kind, style=style)
    fault = {"event": "cluster_alloc", "errno": 5, "once": once}
    with Proxy(case.vm.qmp_path, faulty_target(case.vm, fault)) as proxy:
        is_undone(case, case.start(address=proxy.path).wait(), "Input/output error")


def test_an_io_error_of_a_raw_target(copying):
    case = copying("raw")
    fault = {"event": "none", "iotype": "write", "errno": 5, "once": False}
    with Proxy(case.vm.qmp_path, faulty_target(case.vm, fault)) as proxy:
        is_undone(case, case.start(address=proxy.path).wait(), "Input/output error")


def test_a_target_that_cannot_be_flushed(copying):
    """A mirror flushes its target before it stands in PENDING."""
    case = copying("full")
    fault = {"event": "none", "iotype": "flush", "errno": 5, "once": False}
    with Proxy(case.vm.qmp_path, faulty_target(case.vm, fault)) as proxy:
        is_undone(case, case.start(address=proxy.path).wait(), "Input/output error")


# --- cancelled ---

@pytest.mark.parametrize("kind, style", [("full", "blockdev"), ("apart", "drive")])
def test_op_cancel(copying, kind, style):
    case = copying(kind, style=style)
    run = case.start("--bandwidth", SLOW)
    wait_copying(case.vm)
    operations = case.rechain.run("op", "list", json=True).expect(0).json["operations"]
    sound(case.rechain.run("op", "cancel", operations[0]["operation"])).expect(0)
    is_undone(case, run.wait(), "cancel")


@pytest.mark.parametrize("kind, style, number", [("shallow", "blockdev", signal.SIGTERM), ("apart", "drive", signal.SIGINT)])
def test_an_interrupt(copying, kind, style, number):
    case = copying(kind, style=style)
    run = case.start("--bandwidth", SLOW)
    wait_copying(case.vm)
    run.signal(number)
    is_undone(case, run.wait(), "cancel")


@pytest.mark.parametrize("kind", ["shallow", "apart"])
def test_an_interrupt_when_the_guest_is_just_to_be_held(copying, kind):
    case = copying(kind)
    at = "block-job-cancel" if kind == "apart" else "stop"

    def interrupt(m):
        run.sigint()
        return PASS
    with Proxy(case.vm.qmp_path, on("command", at, interrupt)) as proxy:
        run = case.start(address=proxy.path)
        result = sound(run.wait())
    if result.rc == 0:                      # it was decided already
        assert result.json["state"] == "done"
        return
    is_undone(case, result, "cancel")


def test_a_second_interrupt_leaves_it_to_recover(copying):
    case = copying("full")
    case.interrupt_twice(case.start("--bandwidth", "100K"))
    assert graph(case.vm) == case.before
    case.is_old()
    case.has_all()


def test_a_cancel_that_qemu_refuses_is_asked_once_more_before_the_guest_goes_on(copying):
    """A copy that is left in PENDING keeps the guest's writes waiting. Before QEMU 6.2 it is block-job-cancel."""
    case = copying("full", guest=False)
    refused = {"job-finalize": Reply("injected"), "job-cancel": Reply("injected")}
    with Proxy(case.vm.qmp_path, lambda m: m.kind == "command" and refused.pop(m.name.removeprefix("block-"), None) or PASS) as proxy:
        result = case.start(address=proxy.path).wait(30)
        names = [name.removeprefix("block-") for name in proxy.commands()]
        assert not refused and names[names.index("job-cancel") + 1] == "job-cancel", names
    is_undone_quietly(case, result, "job-finalize")


def test_who_lets_go_of_a_held_guest_continues_it(copying):
    case = copying("shallow", guest=False)
    with Proxy(case.vm.qmp_path, on("command", "job-complete", Delay(3))) as proxy:
        run = case.start(address=proxy.path, json=False)
        wait_until(lambda: "job-complete" in proxy.commands(), "the hold")
        assert case.vm.run_state() == "paused"
        run.sigint()
        wait_until(lambda: "interrupt again" in run.err_so_far(), "the first interrupt")
        run.sigint()
        run.wait(10).expect(8)
        wait_until(lambda: case.vm.run_state() == "running", "the guest", timeout=10)
        sound(case.rechain.run("recover", json=True)).expect(0)
    assert graph(case.vm) == case.before
    case.is_old()


def test_an_interrupt_before_anything_was_changed(copying):
    case = copying("full")

    def interrupt(m):
        run.sigint()
        return PASS
    with Proxy(case.vm.qmp_path, on("command", "query-block", interrupt)) as proxy:
        run = case.start(address=proxy.path)
        result = sound(run.wait())
    assert result.rc in (130, 7), str(result)
    assert graph(case.vm) == case.before
    case.is_old()


def test_a_timeout(copying):
    case = copying("full")
    is_undone(case, case.start("--bandwidth", "500K", "--timeout", "2s").wait(), "2000 ms")


# --- an outsider's hand on our job ---

@pytest.mark.parametrize("kind", ["full", "apart"])
def test_job_cancel_over_another_monitor(copying, kind):
    case = copying(kind)
    run = case.start("--bandwidth", SLOW)
    job, = wait_copying(case.vm)
    case.vm.qmp.close()
    sound(case.rechain.run("job", "cancel", case.vm._test_path, job)).expect(0)
    case.vm.qmp = QmpMonitor(case.vm._test_path)
    is_undone(case, run.wait(), "cancel")


@pytest.mark.parametrize("style, dismiss", [("blockdev", True), ("drive", False)])
def test_a_job_that_a_stranger_cancels(copying, style, dismiss):
    case = copying("shallow", style=style)
    run = case.start("--bandwidth", SLOW)
    job, = wait_copying(case.vm)
    case.vm.qmp.execute("job-cancel", id=job)
    if dismiss:
        try:
            case.vm.qmp.execute("job-dismiss", id=job)
        except QmpError:
            pass                                # rechain was faster
    is_undone(case, run.wait())


def by_a_stranger(case, command, argument="id", **more):
    """A proxy's act: a stranger's command for our job, which is READY."""
    def act(m):
        job, = [i for i in case.vm.jobs() if i.startswith("rc-")]
        case.vm.qmp.execute(command, {argument: job, **more})
        case.ended_at = time.monotonic()
        return PASS
    return act


def at_hold(version, act):
    """A proxy's policy: `act` when the guest is to be held at the end. On 5.2 it is held when the job is started, too."""
    return on("command", "stop", act, nth=2 if version == "5.2" else 1)


def soon(case, run):
    """The result, long before our patience with a guest that writes too much would have ended: a job in PENDING
    keeps the guest's writes waiting."""
    result = sound(run.wait())
    assert time.monotonic() - case.ended_at < 8, str(result)
    return result


@pytest.mark.parametrize("command, argument, at", [("job-cancel", "id", "stop"), ("block-job-cancel", "device", "stop"),
                                                   ("block-job-cancel", "device", "job-complete")])
def test_a_ready_job_that_a_stranger_cancels(copying, version, command, argument, at):
    """A soft cancel makes a job of a copy that does not switch: the disk stays where it was."""
    case = copying("shallow")
    act = by_a_stranger(case, command, argument)
    with Proxy(case.vm.qmp_path, at_hold(version, act) if at == "stop" else on("command", at, act)) as proxy:
        is_undone(case, soon(case, case.start(address=proxy.path)))


def test_a_ready_job_that_a_stranger_completes(copying, version):
    """Done, or undone; the guest writes on in either case."""
    case = copying("shallow")
    with Proxy(case.vm.qmp_path, at_hold(version, by_a_stranger(case, "job-complete"))) as proxy:
        is_done_or_undone(case, soon(case, case.start(address=proxy.path)))


def test_a_ready_job_that_a_stranger_pauses(copying, version):
    case = copying("shallow")
    with Proxy(case.vm.qmp_path, at_hold(version, by_a_stranger(case, "job-pause"))) as proxy:
        is_done_or_undone(case, sound(case.start("--timeout", "20s", address=proxy.path).wait()))


def is_done_or_undone(case, result):
    if result.rc == 7:
        is_undone(case, result)
        return
    result.expect(0)
    assert case.vm.chain() == [case.target, case.vm.disk().chain.base]
    leftovers(case.vm, case.rechain.state_dir, [os.path.dirname(case.target)])
    assert case.vm.guest.is_writing(10) and case.vm.guest.verify() > 0
    case.vm.stop()
    case.vm.check(image=case.target, graceful=True)


@pytest.mark.parametrize("verb", ["copy", "commit"])
@pytest.mark.parametrize("command, argument", [("block-job-cancel", "device"), ("job-complete", "id")])
def test_a_stranger_ends_a_ready_job_while_another_disk_is_copied(make_vm, rechain, workdir, verb, command, argument):
    """The disk that is ready would stand in PENDING, and its guest wait, until the other one is copied as well."""
    chains = [images.make_chain(f"{workdir}/{i}", ["base", "current"], size=size * MiB, share=[0.1, 0.9], seed=size)
              for i, size in enumerate((4, 48))]
    vm = make_vm(chains, dir=workdir)
    vm.cont()
    before = graph(vm)
    disks = [f"{id},to={workdir}/{id}.new" if verb == "copy" else id for id in ("vda", "vdb")]
    run = rechain.start(verb, vm.qmp_path, *disks, "--bandwidth", "2M", json=True)
    wait_until(lambda: [j for j in vm.jobs().values() if j["status"] == "ready"], "a job that is ready")
    (ready, ), (slow, ) = ([i for i, job in vm.jobs().items() if job["status"] == status] for status in ("ready", "running"))
    vm.qmp.execute(command, {argument: ready})
    ended_at = time.monotonic()
    result = sound(run.wait()).expect(7)
    assert time.monotonic() - ended_at < 5, str(result)
    assert ready in json.dumps(result.json["error"]) and slow not in json.dumps(result.json["error"])
    if verb == "copy":                          # QEMU 7.2 leaves the base of a cancelled commit writable
        assert graph(vm) == before
    assert [vm.chain(disk.id) for disk in vm.disks] == [chain.layers for chain in chains]
    leftovers(vm, rechain.state_dir, [workdir])
    assert rechain.run("recover", json=True).expect(0).json["operations"] == []
    assert vm.run_state() == "running"
    vm.guest_write(0, MiB, 0x42)                # not waiting for a job any more
    vm.stop()
    for chain in chains:
        images.check_image(chain.active)
