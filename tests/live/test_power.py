"""The host loses its page cache, with QEMU and rechain: each disk is old or new, with all that its guest had flushed."""

import contextlib
import os

import pytest

from harness import death
from harness.power import Power
from harness.proxy import PASS, Proxy
from harness.sweep import MOVE, SNAPSHOT_THREE, Case

# Message (kind, name, nth) -> what must come of it; None: either.
POINTS = {
    SNAPSHOT_THREE: {("command", "blockdev-add", 3): "old", ("command", "transaction", 1): None,
                     ("return", "transaction", 1): "new"},
    MOVE: {("return", "transaction", 1): "old", ("event", "BLOCK_JOB_PENDING", 1): "old",
           ("return", "human-monitor-command", 1): "old", ("command", "job-finalize", 1): "new",
           ("return", "job-finalize", 1): "new", ("command", "blockdev-del", 1): "new"},
    death.PULL: {("return", "block-stream", 1): "old", ("event", "BLOCK_JOB_PENDING", 1): "old",
                 ("command", "job-finalize", 1): "new", ("return", "job-finalize", 1): "new",
                 ("command", "blockdev-del", 1): "new"},
    death.COMMIT: {("return", "block-commit", 1): "old", ("return", "stop", 1): "old", ("return", "job-complete", 1): "old",
                   ("command", "job-finalize", 1): "new", ("return", "job-finalize", 1): "new",
                   ("command", "blockdev-del", 1): "new"},
}


@pytest.fixture
def power(workdir):
    with Power(workdir) as power:
        yield power


def close_logs(stage):
    """They lie on the filesystem that is to be unmounted."""
    for running in stage.cli._started:
        running._out.close(), running._err.close()


def lose(power, version, scenario, point):
    """The power goes when this message passes. Returns what became of it: "old" or "new"."""
    power.format()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(scenario.stage(version, dir=os.path.join(power.mount, "s")))
        proxy = stack.enter_context(Proxy(stage.vm.qmp_path))
        stack.callback(close_logs, stage)
        case = Case(stage, proxy, scenario, -1)
        for _ in range(4):
            stage.write()
        power.sync()                        # what lies there for long

        def mishap(m):
            if (m.kind, m.name, m.nth) == point and not stage.killed:
                power.cut()
                case.kill()
                death.kill_qemu(case)
            return PASS
        case.start(None)
        proxy.policy = stage.writing(mishap)
        result = case.run.wait(60)
        assert stage.killed, f"{point} never came: {result}"
        stage.vm.kill()
        close_logs(stage)
        power.restore(stage.cli.state_dir)
        return death.settle(case, result)


@pytest.mark.parametrize("scenario", POINTS, ids=str)
def test_a_host_that_loses_its_page_cache_leaves_the_old_chain_or_the_new_one(power, version, scenario):
    for point, wanted in POINTS[scenario].items():
        became = lose(power, version, scenario, point)
        assert became == wanted or wanted is None, f"{scenario} at {point}: {became}"


def test_what_is_not_flushed_is_lost_here(power):
    """Else the others prove nothing."""
    power.format()
    flushed, lost = (os.path.join(power.mount, name) for name in ("flushed", "lost"))
    for path in (flushed, lost):
        with open(path, "wb") as file:
            file.write(b"x" * 4096)
            if path == flushed:
                file.flush()
                os.fsync(file.fileno())
    power.cut()
    power.restore()
    assert open(flushed, "rb").read() == b"x" * 4096
    assert not os.path.exists(lost) or open(lost, "rb").read() != b"x" * 4096
