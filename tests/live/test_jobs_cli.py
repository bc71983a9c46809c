"""Jobs and operations while they run: bandwidth, speed, list, show, wait, pause, and the one monitor they share."""

import os
import time

import pytest

from harness import images
from harness.images import MiB
from harness.qemu import leftovers
from harness.scene import assert_chain, valid, wait_until

FULL = [0.25, 1.0]              # the active layer holds the whole disk: offsets of the job are bytes copied
CALM = {"region": MiB, "rate": 200}


@pytest.fixture
def new(workdir):
    return os.path.join(workdir, "new.qcow2")


def the_job(rechain, vm):
    jobs = valid(rechain.run("job", "list", vm.qmp_path, json=True).expect(0).json)["jobs"]
    assert len(jobs) == 1, jobs
    return jobs[0]


def start_move(rechain, vm, new, *options, disks=("vda",)):
    """A move in the background that streams already."""
    targets = [f"{d},to={new}" if len(disks) == 1 else f"{d},to={new}.{d}" for d in disks]
    running = rechain.start("move", vm.qmp_path, *targets, *options, json=True)

    def streams():
        assert running.is_running(), str(running.wait())
        return sum(j["type"] == "stream" and j["status"] == "running" for j in vm.jobs().values()) == len(disks)
    wait_until(streams, "the move streams")
    return running


def measured(vm, seconds, settle=0.0):
    """Bytes per second of all streams, by QEMU's counters."""
    time.sleep(settle)
    total = lambda: sum(j["current-progress"] for j in vm.jobs().values())      # noqa: E731
    first, begin = total(), time.monotonic()
    time.sleep(seconds)
    last, end = total(), time.monotonic()
    assert last > 0, "the job ended too early to be measured"
    return (last - first) / (end - begin)


# --- rates ---

@pytest.mark.alone
def test_the_bandwidth_holds_while_the_guest_writes(make_chain, make_vm, rechain, new):
    """Within 15% over 10 s; and the whole is not faster than the limit allows."""
    chain = make_chain(share=FULL)
    vm = make_vm(chain, guest=True, writer=CALM)
    begin = time.monotonic()
    running = start_move(rechain, vm, new, "--bandwidth", "5M")
    rate = measured(vm, 10.5, settle=0.5)
    document = valid(running.wait().expect(0).json)
    took = time.monotonic() - begin
    assert 0.85 * 5 * MiB < rate < 1.15 * 5 * MiB, rate / MiB
    assert took > 0.85 * 62 / 5 and document["bytes"] > 60 * MiB
    assert_chain(vm, [new, chain.base])
    vm.kill()
    vm.check(image=new)


@pytest.mark.alone
def test_the_bandwidth_is_shared_by_the_disks_of_an_operation(make_vm, rechain, workdir, new):
    chains = [images.make_chain(os.path.join(workdir, d), size=24 * MiB, share=FULL) for d in ("a", "b")]
    vm = make_vm(chains)
    running = start_move(rechain, vm, new, "--bandwidth", "6M", disks=("vda", "vdb"))
    rate = measured(vm, 4, settle=0.5)
    assert 0.85 * 6 * MiB < rate < 1.15 * 6 * MiB, rate / MiB
    running.wait().expect(0)


@pytest.mark.alone
def test_job_speed_changes_the_rate_of_a_running_move_through_its_own_monitor(make_chain, make_vm, rechain, new):
    """The move holds the only monitor; the second rechain borrows it."""
    chain = make_chain(share=FULL)
    vm = make_vm(chain, guest=True, writer=CALM)
    running = start_move(rechain, vm, new, "--bandwidth", "1M")
    slow = measured(vm, 4, settle=0.3)      # a stream copies pieces of 512 KiB
    job = the_job(rechain, vm)
    result = valid(rechain.run("job", "speed", vm.qmp_path, job["id"], "8M", json=True).expect(0).json)
    assert result["jobs"][0]["speed"] == 8 * MiB
    fast = measured(vm, 3, settle=0.5)
    assert 0.7 * MiB < slow < 1.3 * MiB and 0.85 * 8 * MiB < fast < 1.15 * 8 * MiB, (slow / MiB, fast / MiB)
    assert running.is_running()
    rechain.run("job", "speed", vm.qmp_path, job["id"], "0").expect(0)
    assert all(j["speed"] == 0 for j in vm.qmp.execute("query-block-jobs"))
    running.wait().expect(0)
    assert_chain(vm, [new, chain.base])
    vm.kill()
    vm.check(image=new)


# --- looking at a move that runs, through its own monitor ---

def test_everything_can_be_looked_at_while_a_move_runs(make_chain, make_vm, rechain, new, style):
    chain = make_chain(share=FULL, size=16 * MiB)
    vm = make_vm(chain, style=style)
    running = start_move(rechain, vm, new, "--bandwidth", "2M")
    job = the_job(rechain, vm)
    assert job["ours"] and job["type"] == "stream" and job["disk"] == "vda" and job["speed"] == 2 * MiB
    assert 0 <= job["current"] <= job["total"]
    shown = valid(rechain.run("job", "show", vm.qmp_path, job["id"], json=True).expect(0).json)["jobs"]
    assert [j["id"] for j in shown] == [job["id"]]
    info = valid(rechain.run("info", vm.qmp_path, json=True).expect(0).json)
    (operation,) = valid(rechain.run("op", "list", json=True).expect(0).json)["operations"]
    assert info["borrowed-from"] == operation["operation"] == job["operation"]
    assert operation["state"] == "running" and operation["owner"] == "alive"
    (disk,) = valid(rechain.run("chain", vm.qmp_path, json=True).expect(0).json)["disks"]
    assert [layer["file"] for layer in disk["chain"]] == [new] + chain.layers
    assert [j["id"] for j in disk["jobs"]] == [job["id"]]
    assert job["id"] in rechain.run("job", "list", vm.qmp_path).expect(0).out
    steps = {line["step"] for line in
             valid(rechain.run("op", "show", operation["operation"][:4], json=True).expect(0).json)["journal"]}
    assert {"overlay", "attach", "snapshot", "stream"} <= steps
    running.wait().expect(0)


@pytest.mark.alone
def test_a_move_can_be_paused_and_resumed(make_chain, make_vm, rechain, new):
    chain = make_chain(share=FULL, size=16 * MiB)
    vm = make_vm(chain)
    running = start_move(rechain, vm, new, "--bandwidth", "4M")
    job = the_job(rechain, vm)["id"]
    rechain.run("job", "pause", vm.qmp_path, job).expect(0)
    assert the_job(rechain, vm)["paused"]
    assert measured(vm, 1, settle=0.6) == 0
    rechain.run("job", "resume", vm.qmp_path, job).expect(0)
    assert not the_job(rechain, vm).get("paused")
    running.wait().expect(0)
    assert_chain(vm, [new, chain.base])
    vm.stop()
    vm.check(image=new)


def test_others_wait_for_a_move(make_chain, make_vm, rechain, new):
    """op wait and job wait end with it; a timeout ends the waiting only."""
    chain = make_chain(share=FULL, size=16 * MiB)
    vm = make_vm(chain)
    running = start_move(rechain, vm, new, "--bandwidth", "4M")
    job = the_job(rechain, vm)
    error = valid(rechain.run("op", "wait", job["operation"], "--timeout", "300ms", json=True).expect(9).error)
    assert error["code"] == "timeout" and running.is_running()
    rechain.run("job", "wait", vm.qmp_path, job["id"], "--timeout", "300ms").expect(9)
    waits = [rechain.start("op", "wait", job["operation"], json=True),
             rechain.start("job", "wait", vm.qmp_path, job["id"], json=True)]
    running.wait().expect(0)
    assert valid(waits[0].wait().expect(0).json)["state"] == "done"
    valid(waits[1].wait().expect(0).json)
    assert valid(rechain.run("op", "wait", job["operation"], json=True).expect(0).json)["state"] == "done"


def test_the_job_of_a_move_can_be_cancelled_and_the_move_is_undone(make_chain, make_vm, rechain, new):
    chain = make_chain(share=FULL, size=16 * MiB)
    vm = make_vm(chain)
    running = start_move(rechain, vm, new, "--bandwidth", "1M")
    rechain.run("job", "cancel", vm.qmp_path, the_job(rechain, vm)["id"]).expect(0)
    document = valid(running.wait().expect(7).json)
    assert document["state"] == "undone" and document["error"]["code"] == "undone"
    assert_chain(vm, chain.layers)
    leftovers(vm, rechain.state_dir, [chain.dir], result=False)
    assert not os.path.exists(new)


def test_progress_is_told_as_json_lines(make_chain, make_vm, rechain, new):
    chain = make_chain(share=FULL, size=16 * MiB)
    vm = make_vm(chain)
    result = rechain.run("--progress", "json", "move", vm.qmp_path, "vda", "--to", new, "--bandwidth", "8M").expect(0)
    lines = [images.json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    assert lines and all(line["operation"] == lines[0]["operation"] for line in lines)
    streamed = [line["current"] for line in lines if line["step"] == "stream"]
    assert streamed == sorted(streamed) and streamed[-1] > 8 * MiB


# --- jobs of others ---

@pytest.fixture
def foreign(make_chain, make_vm, style):
    chain = make_chain(["template", "middle", "current1"], share=[0.1, 1.0, 0.0], size=16 * MiB)
    vm = make_vm(chain, style=style)
    vm.qmp.execute("block-stream", job_id="theirs", device=vm.block()["inserted"]["node-name"], speed=262144)
    return vm


def test_a_foreign_job_is_shown_but_not_touched_without_the_word(foreign, rechain):
    vm = foreign
    job = the_job(rechain, vm)
    assert (job["id"], job["ours"], job["type"], job["speed"]) == ("theirs", False, "stream", 262144)
    for words in (["cancel", "theirs"], ["pause", "theirs"], ["resume", "theirs"], ["speed", "theirs", "1M"]):
        error = valid(rechain.run("job", words[0], vm.qmp_path, *words[1:], json=True).expect(4).error)
        assert "--foreign" in error["hint"] and "theirs" in error["message"]
    assert the_job(rechain, vm)["speed"] == 262144 and not the_job(rechain, vm).get("paused")
    rechain.run("job", "speed", vm.qmp_path, "theirs", "1M", "--foreign").expect(0)
    assert the_job(rechain, vm)["speed"] == MiB
    rechain.run("job", "pause", vm.qmp_path, "theirs", "--foreign").expect(0)
    assert the_job(rechain, vm)["paused"]
    rechain.run("job", "resume", vm.qmp_path, "theirs", "--foreign").expect(0)
    rechain.run("job", "cancel", vm.qmp_path, "theirs", "--foreign").expect(0)
    assert vm.jobs() == {}


def test_an_unknown_job_is_not_found_and_the_jobs_are_listed(foreign, rechain):
    vm = foreign
    for words in (["show", "x"], ["cancel", "x"], ["pause", "x"], ["resume", "x"], ["speed", "x", "1M"], ["wait", "x"]):
        error = valid(rechain.run("job", words[0], vm.qmp_path, *words[1:], json=True).expect(3).error)
        assert "'x'" in error["message"] and "theirs" in error["hint"], error


def test_a_foreign_job_can_be_waited_for(foreign, rechain):
    vm = foreign
    waiting = rechain.start("job", "wait", vm.qmp_path, "theirs", "--timeout", "30s")
    time.sleep(0.5)
    assert waiting.is_running()
    vm.qmp.execute("block-job-set-speed", device="theirs", speed=0)
    waiting.wait().expect(0)
    assert vm.jobs() == {}


def test_a_rate_that_is_none_is_a_usage_error(foreign, rechain):
    for rate in ("fast", "-1", "1X", "99999999999999999999"):
        error = valid(rechain.run("job", "speed", foreign.qmp_path, "theirs", rate, "--foreign", json=True).expect(2).error)
        assert rate in error["message"] + error.get("hint", "")


def test_an_unknown_operation_is_not_found(rechain, version):
    for verb in ("show", "wait", "cancel"):
        assert valid(rechain.run("op", verb, "0bad", json=True).expect(3).error)["code"] == "not-found"
    assert valid(rechain.run("op", "list", json=True).expect(0).json)["operations"] == []
