"""move by rechain against the same move by a bare QMP script, in turn."""

import os
import statistics
import time

import raw
from figures import Bound, measure, shown
from harness import images, qemu, rechain
from harness.images import MiB


class Mover:
    """One QEMU whose disk is moved again and again; after each move the old file goes, so every
    move finds template <- active with the same data."""

    def __init__(self, world, size, data):
        self.dir, self.size, self.count = world.dir, size, 0
        self.chain = images.make_chain(world.dir, ["template", "current1"], size=size, share=[64 * MiB / size / 4, 0])
        # Not zeros, which QEMU would treat in another way.
        for offset in range(0, data, 256 * MiB):
            images.run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 0x5a {offset} {min(256 * MiB, data - offset)}",
                       self.chain.active)
        self.active, self.base = self.chain.active, self.chain.base
        self.streams = []                   # of each move: the seconds that QEMU's job ran
        self.vm = qemu.Vm(world.version, self.chain).start()

    def _next(self):
        self.count += 1
        # Writeback of the move before is not this move's cost.
        os.sync()
        return os.path.join(self.dir, f"moved{self.count}.qcow2")

    def _done(self, new):
        assert self.vm.chain() == [new, self.base], self.vm.chain()
        os.unlink(self.active)
        self.active = new
        at = {e["data"]["status"]: e["timestamp"]["seconds"] + e["timestamp"]["microseconds"] / 1e6
              for e in self.vm.qmp.drain() if e["event"] == "JOB_STATUS_CHANGE"}
        self.streams.append(at["pending"] - at["running"])

    def _nodes(self):
        """(active node, base node, what is to be deleted after the move), as they are now. Only the first
        file node is one by itself."""
        top = self.vm.block()["inserted"]["node-name"]
        for node in self.vm.nodes().values():
            if node["drv"] == "file" and node["file"] == self.active:
                return top, self.vm.disks[0].node(1), [top] + [node["node-name"]] * (self.count == 1)
        raise AssertionError(f"no file node of {self.active}")

    def raw(self):
        new = self._next()
        top, base, old = self._nodes()
        start = time.monotonic()
        raw.move(self.vm.qmp_path, top, new, self.size, f"raw{self.count}", base, [self.active, self.base], old)
        wall = time.monotonic() - start
        self._done(new)
        return wall

    def rechain(self, cli):
        new = self._next()
        usage = measure(cli, "move", self.vm.qmp_path, "vda", "--to", new)
        self._done(new)
        return usage


def _alternate(world, report, size, data, rounds):
    mover = Mover(world, size, data)
    with mover.vm, rechain.Rechain(world.folder("state")) as cli:
        mover.raw()                         # both once before it counts: the page cache, and the
        mover.rechain(cli)                  # features of this QEMU, which rechain keeps
        raws, ours = [], []
        raw_streams, our_streams = [], []
        # A B, B A, A B ...: the two alternate, and neither always gets the disk region that the
        # other's last file has just left.
        for round in range(rounds):
            for who in ("raw", "rechain") if round % 2 == 0 else ("rechain", "raw"):
                if who == "raw":
                    raws.append(mover.raw())
                    raw_streams += mover.streams[-1:]
                else:
                    ours.append(mover.rechain(cli))
                    our_streams += mover.streams[-1:]
        colds = []
        if data == 0:
            for index in range(min(rounds, 5)):
                with rechain.Rechain(world.folder(f"cold{index}")) as cold:
                    colds.append(mover.rechain(cold))
    report.command(shown(ours[-1].argv, world.dir))
    report.note("raw.py knows all names, keeps no journal, checks nothing; its time is without Python's own start, "
                "rechain's is that of the whole process")
    return raws, ours, raw_streams, our_streams, colds


def with_data(world, report):
    """QEMU's job is the same in both and takes nearly all the time, so on a busy machine its noise is
    larger than the difference. The ratio without that noise stands beside the one that counts; it
    cannot tell whether rechain slowed the job down, so it has no bound."""
    raws, ours, raw_streams, our_streams, _ = _alternate(world, report, 1536 * MiB, 1024 * MiB, world.repeat(12))
    report.figure("raw QMP", raws, "s")
    report.figure("rechain", [u.wall for u in ours], "s")
    report.figure("pairs: rechain / raw", [u.wall / r for u, r in zip(ours, raws)])
    ratio = statistics.median(u.wall for u in ours) / statistics.median(raws)
    report.figure("medians: rechain / raw", ratio, "", Bound(1.10))
    rests = [statistics.median(t) for t in ([r - s for r, s in zip(raws, raw_streams)],
                                            [u.wall - s for u, s in zip(ours, our_streams)])]
    job = statistics.median(raw_streams + our_streams)
    report.figure("rechain / raw, had the jobs taken equally long", (job + rests[1]) / (job + rests[0]))
    report.figure("raw QMP: the job itself", raw_streams, "s")
    report.figure("rechain: the job itself", our_streams, "s")
    report.figure("raw QMP: all but the job", [(r - s) * 1000 for r, s in zip(raws, raw_streams)], "ms")
    report.figure("rechain: all but the job", [(u.wall - s) * 1000 for u, s in zip(ours, our_streams)], "ms")
    report.figure("rechain CPU, with qemu-img", [u.cpu * 1000 for u in ours], "ms")


def empty(world, report):
    raws, ours, _, _, colds = _alternate(world, report, 64 * MiB, 0, world.repeat(25))
    extra = statistics.median(u.wall for u in ours) - statistics.median(raws)
    report.figure("raw QMP", [r * 1000 for r in raws], "ms")
    report.figure("rechain", [u.wall * 1000 for u in ours], "ms")
    report.figure("pairs: rechain - raw", [(u.wall - r) * 1000 for u, r in zip(ours, raws)], "ms")
    report.figure("medians: rechain - raw", extra * 1000, "ms", Bound(60))
    report.figure("minima: rechain - raw", (min(u.wall for u in ours) - min(raws)) * 1000, "ms")
    report.figure("rechain, a QEMU it never met", [u.wall * 1000 for u in colds], "ms")
    report.figure("rechain CPU, with qemu-img", [u.cpu * 1000 for u in ours], "ms")
