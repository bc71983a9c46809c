"""An operation whose controller died in the middle of a job: `recover` goes on with the job that is there, or takes
it back; none is begun a second time. Each way in which a job copies, and several at once."""

import time
from collections import Counter

import pytest

from harness import death, sweep
from harness.images import MiB
from harness.proxy import PASS, Proxy, pass_all
from harness.scene import wait_until
from harness.sweep import sound

JOBS = ("block-stream", "block-commit", "blockdev-mirror")
SLOW = "512K"           # bytes/s, of the 3 MiB that each layer holds
WAYS = [death.MOVE, death.PULL, sweep.PULL_DRIVE, death.PULL_INNER, sweep.COMMIT_DRIVE, sweep.INNER_DRIVE, death.COPY,
        sweep.COPY_DRIVE, sweep.LEAVE_TWO, sweep.MERGE_THREE]
BACK = [death.PULL_INNER, sweep.COPY_DRIVE, sweep.LEAVE_TWO, sweep.MERGE_THREE]     # a move: see the fold


class Interrupted(sweep.Case):
    """An operation whose controller is killed in the middle of copying; the guest writes all the time."""

    def __init__(self, stage, proxy, scenario):
        super().__init__(stage, proxy, scenario, 0)
        self.offsets = {}
        self.start(None, "--bandwidth", SLOW)
        wait_until(self.has_begun, "jobs that copy")
        self.is_copying()
        self.kill()
        self.is_copying()
        assert sum(self.asked_for().values()) == scenario.disks

    def asked_for(self):
        """The jobs that QEMU was ever told to begin, by whomever."""
        return Counter(m.name for m in self.proxy.seen if m.kind == "command" and m.name in JOBS)

    def jobs(self):
        return {job["id"]: job for job in self.stage.ask("query-jobs") if job["id"].startswith("rc-")}

    def copied(self):
        """How far our jobs are. None has gone back."""
        offsets = {id: job["current-progress"] for id, job in self.jobs().items()}
        for id, offset in offsets.items():
            assert offset >= self.offsets.get(id, 0), f"{id} was at {self.offsets[id]}, and is at {offset}"
        self.offsets.update(offsets)
        return offsets

    def has_begun(self):
        copied = self.copied()
        return len(copied) == self.scenario.disks and all(copied.values())

    def is_copying(self):
        """Every job copies more."""
        before = self.copied()
        assert len(before) == self.scenario.disks, f"only the jobs {before} are left"

        def more():
            self.stage.write()
            now = self.copied()
            return all(now[id] > offset for id, offset in before.items())
        wait_until(more, f"more than {before}")

    def recover(self, *words):
        self.run = self.stage.cli.start("recover", *words, json=True)

    def is_waiting(self, silence=0.3):
        """recover has found the jobs, and says nothing more while they copy."""
        assert self.run.is_running(), self.run.wait()
        count = self.proxy.count
        time.sleep(silence)
        return count == self.proxy.count and self.proxy.connections > 1

    def hurry(self):
        """From now on QEMU copies as fast as it can."""
        for id in self.jobs():
            self.stage.ask("block-job-set-speed", device=id, speed=0)

    def is_settled(self, state, jobs):
        """recover comes to its end. `jobs`: all that QEMU was ever asked for."""
        while self.run.is_running():
            self.copied()
            time.sleep(0.02)
        document = sound(self.run.wait()).expect(0).json
        assert [op["state"] for op in document["operations"]] == [state]
        assert self.asked_for() == jobs
        self.stage.ask("query-status")
        created = Counter(e["data"]["id"] for e in self.stage.vm.qmp.events
                          if e["event"] == "JOB_STATUS_CHANGE" and e["data"]["status"] == "created")
        assert sorted(v for id, v in created.items() if id.startswith("rc-")) == [1] * sum(jobs.values()), created
        self.judge(state)


@pytest.fixture
def interrupted(version, way):
    with way.stage(version, size=16 * MiB) as stage, Proxy(stage.vm.qmp_path) as proxy:
        yield Interrupted(stage, proxy, way)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_job_whose_controller_died_is_gone_on_with_not_begun_anew(interrupted):
    """Also by a recover after one that was killed."""
    case, begun = interrupted, interrupted.asked_for()
    case.recover("--finish")
    wait_until(case.is_waiting, "recover that waits for the jobs")
    case.is_copying()
    case.kill()
    case.is_copying()
    case.hurry()
    case.recover("--finish")
    case.is_settled("done", begun)


@pytest.mark.parametrize("way", BACK, ids=str)
def test_a_job_whose_controller_died_is_taken_back(interrupted):
    """Also by a recover after one that was killed as it had told QEMU."""
    case, begun = interrupted, interrupted.asked_for()

    def policy(m):
        if m.kind == "command" and m.name in ("job-cancel", "block-job-cancel"):     # before 6.2
            case.kill()
        return PASS
    case.proxy.policy = case.stage.writing(policy)
    case.recover("--undo")
    assert case.run.wait().rc < 0, "recover was not killed"
    case.proxy.policy = case.stage.writing(pass_all)
    case.stage.write()
    case.recover()
    case.is_settled("undone", begun)


@pytest.mark.parametrize("way", [death.MOVE, sweep.MOVE_TWO], ids=str)
def test_a_fold_whose_controller_died_is_gone_on_with_not_begun_anew(interrupted):
    case = interrupted
    jobs = case.asked_for() + Counter({"block-commit": case.scenario.disks})
    case.recover("--undo")
    wait_until(lambda: case.asked_for() == jobs and case.has_begun(), "a fold that copies")
    case.is_copying()
    case.kill()
    case.is_copying()
    case.hurry()
    case.recover()
    case.is_settled("undone", jobs)
