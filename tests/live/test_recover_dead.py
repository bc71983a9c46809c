"""QEMU dies, with rechain or without it: what is left is settled on the files, and told where to start from."""

import os

import pytest

from harness import death, sweep
from harness.images import Chain
from harness.proxy import PASS, Proxy
from harness.sweep import sound


@pytest.mark.parametrize("scenario", death.ALL, ids=str)
def test_a_qemu_that_dies_leaves_the_old_chain_or_the_new_one(version, scenario):
    sweep.sweep(scenario, death.qemu_killed, version, samples=1)


@pytest.mark.parametrize("scenario", death.ALL, ids=str)
def test_both_may_die(version, scenario):
    sweep.sweep(scenario, death.both_killed, version, samples=1)


# --- a guest that was started again before recover ---

def interrupted(stage, scenario, proxy, kind, name):
    """Both are killed at this message. Returns the operation as `op list` shows it."""
    case = sweep.Case(stage, proxy, scenario, 0)

    def policy(m):
        if (m.kind, m.name, m.nth) == (kind, name, 1):
            stage.write()
            stage.vm.flush()
            stage.flushed = {id: {b: len(p) for b, p in w.items()} for id, w in stage.written.items()}
            case.kill()
            death.kill_qemu(case)
        return PASS
    case.start(None)
    proxy.policy = policy
    case.run.wait()
    stage.vm.process.wait(10)
    stage.vm.kill()
    stage.killed = False
    return stage.cli.run("op", "list", json=True).json["operations"][0]


def start_from(stage, proxy, file, below):
    chain = stage.chains["vda"]
    stage.vm.restart([Chain([file] + below, ["qcow2"] * (1 + len(below)), chain.reference, chain.size)])
    proxy.upstream = stage.vm.qmp_path


@pytest.fixture
def one(version):
    with death.MOVE.stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        yield stage, proxy


def test_a_move_whose_guest_runs_on_the_overlay_waits_for_its_end(one):
    """It may not be folded under a running guest; shut down, it is, with all that was written meanwhile."""
    stage, proxy = one
    told = interrupted(stage, death.MOVE, proxy, "event", "BLOCK_JOB_PENDING")["authoritative"]["vda"]
    assert told == stage.target("vda")
    start_from(stage, proxy, told, stage.chains["vda"].layers)
    stage.write(always=True)
    refused = sound(stage.cli.run("recover", json=True)).expect(8)
    assert "a guest was started from" in refused.json["operations"][0]["error"]["message"]
    assert os.path.exists(told)
    stage.vm.stop()
    settled = sound(stage.cli.run("recover", json=True)).expect(0).json["operations"][0]
    assert (settled["state"], settled["authoritative"]) == ("undone", {"vda": stage.chains["vda"].active})
    death.judge_files(stage, stage.old(), False, False)


def test_a_guest_started_from_the_wrong_file_is_told_and_nothing_is_lost(one):
    stage, proxy = one
    interrupted(stage, death.MOVE, proxy, "event", "BLOCK_JOB_PENDING")
    start_from(stage, proxy, stage.chains["vda"].active, stage.chains["vda"].layers[1:])
    refused = sound(stage.cli.run("recover", json=True)).expect(8)
    assert "open in another process" in refused.json["operations"][0]["error"]["message"]
    stage.vm.stop()
    assert sound(stage.cli.run("recover", json=True)).expect(0).json["operations"][0]["state"] == "undone"
    death.judge_files(stage, stage.old(), False, False)


def test_a_snapshot_whose_guest_runs_on_the_overlay_is_done(version):
    with sweep.Scenario("snapshot", 1, sweep.snapshot, sweep.Stage.snapped).stage(version) as stage, \
         Proxy(stage.vm.qmp_path) as proxy:
        scenario = sweep.Scenario("snapshot", 1, sweep.snapshot, sweep.Stage.snapped)
        told = interrupted(stage, scenario, proxy, "return", "transaction")["authoritative"]["vda"]
        assert told == stage.target("vda")
        start_from(stage, proxy, told, stage.chains["vda"].layers)
        settled = sound(stage.cli.run("recover", json=True)).expect(0).json["operations"][0]
        assert (settled["state"], settled["authoritative"]) == ("done", {"vda": told})
        stage.vm.stop()
        death.judge_files(stage, stage.snapped(), True, False)


def test_what_is_not_decided_cannot_be_finished_without_qemu(one):
    stage, proxy = one
    interrupted(stage, death.MOVE, proxy, "event", "BLOCK_JOB_PENDING")
    refused = sound(stage.cli.run("recover", "--finish", json=True)).expect(8)
    assert "cannot be finished" in refused.json["operations"][0]["error"]["message"]
    assert sound(stage.cli.run("recover", json=True)).expect(0).json["operations"][0]["state"] == "undone"
    death.judge_files(stage, stage.old(), False, False)


@pytest.mark.parametrize("file", ["new", "old"])
def test_a_guest_started_after_the_decision_is_recognised(one, file):
    """From the new file the move is finished under it, or waits for its end; from the old one it is told to be wrong."""
    stage, proxy = one
    told = interrupted(stage, death.MOVE, proxy, "return", "job-finalize")["authoritative"]["vda"]
    assert told == stage.target("vda")
    old = stage.chains["vda"]
    start_from(stage, proxy, *((told, old.layers[1:]) if file == "new" else (old.active, old.layers[1:])))
    result = sound(stage.cli.run("recover", json=True))
    if file == "old":
        assert "a guest was started from" in result.expect(8).json["operations"][0]["error"]["message"]
    stage.vm.stop()
    settled = result if result.rc == 0 else sound(stage.cli.run("recover", json=True)).expect(0)
    assert (settled.json["operations"][0]["state"], settled.json["operations"][0]["authoritative"]) == ("done", {"vda": told})
    death.judge_files(stage, stage.moved(), True, False)
