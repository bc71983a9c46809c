"""From `recover` to a settled operation: after the death of rechain, of QEMU, of both."""

import datetime
import os
import re
import shutil
import time

from figures import Bound, Process, measure, shown
from harness import images, qemu, rechain
from harness.images import MiB
from harness.proxy import CUT, PASS, Proxy

IDS = [f"vd{c}" for c in "abcdefgh"]
# Where it dies: when the last copying was begun (then it is taken back), and when the pivot was decided (then it is
# finished). The copying is slow, so that little of it is there to be copied back.
MOMENTS = {"copying": ("return", "block-stream"), "decided": ("command", "job-finalize")}
DEATHS = ("rechain", "QEMU", "both")


def bench(world, report):
    """A move of 1 and of 8 disks that is killed. After rechain's death the time of `rechain recover`, less that in
    which what the guest wrote meanwhile is copied back; after that of QEMU alone the time until rechain has settled
    it by itself and ended."""
    for death in DEATHS:
        for moment in MOMENTS:
            for count in (1, 8):
                seconds = [_one(world, report, death, moment, count) for _ in range(world.repeat(5))]
                report.figure(f"{death} died, {moment}, {count} disk{'s' if count > 1 else ''}", seconds, "s", Bound(1))


def _one(world, report, death, moment, count):
    dir = world.folder("round")
    chains = [images.make_chain(os.path.join(dir, id), size=32 * MiB, share=[0, 0.25], seed=i) for i, id in enumerate(IDS[:count])]
    try:
        with qemu.Vm(world.version, chains, dir=dir) as vm, rechain.Rechain(os.path.join(dir, "state")) as cli, \
                Proxy(vm.qmp_path) as proxy:
            vm.cont()
            died = []
            speed = ["--bandwidth", "16M"] if moment == "copying" else []
            argv = cli._argv(["move", proxy.path, *(f"{id},to={dir}/{id}.new" for id in IDS[:count]), *speed], False)

            def policy(m):
                if died or (m.kind, m.name) != MOMENTS[moment] or (moment == "copying" and m.nth < count):
                    return PASS
                died.append(time.monotonic())
                if death != "QEMU":
                    os.kill(process.pid, 9)
                if death != "rechain":
                    vm.sigkill()
                return CUT
            process = Process(argv, cli.state_dir, cli.env)
            proxy.policy = policy
            usage = process.wait()
            ended = time.monotonic()
            assert died, usage.err
            if death == "QEMU":
                assert usage.rc == (7 if moment == "copying" else 0), usage.err
                return ended - died[0]
            assert usage.rc == -9, usage.err
            if death == "both":
                vm.process.wait()
            settled = measure(cli, "recover")
            assert f"{'undone' if moment == 'copying' else 'done'}" in settled.out, settled.out
            report.command(shown(settled.argv, dir))
            return settled.wall - _copying(cli)
    finally:
        shutil.rmtree(dir)


def _copying(cli):
    """Seconds from the first word of the history about the copying back to the last one."""
    operation = cli.run("op", "list", json=True).json["operations"][0]["operation"]
    lines = cli.run("op", "show", operation).out.splitlines()
    times = [line.split()[0].rstrip("Z") for line in lines if re.search(r"Z fold-copy .* fold ", line)]
    if not times:
        return 0
    first, last = (datetime.datetime.fromisoformat(times[at]) for at in (0, -1))
    return (last - first).total_seconds()
