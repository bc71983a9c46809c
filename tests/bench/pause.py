"""How long the guest is held for a pivot; and a live commit against the same by a bare QMP script."""

import json
import os
import statistics
import time

import raw
from figures import Bound, measure, shown
from harness import images, qemu, rechain
from harness.images import MiB

IDS = [f"vd{c}" for c in "abcdefgh"]


def pauses(world, report):
    """commit of a fresh overlay, and copy to a new file, of 1 and 8 disks of a guest that writes to the first
    one, and of one that does not."""
    for load, count in (("idle", 1), ("idle", 8), ("writing", 1), ("writing", 8)):
        dir, ids = world.folder(f"{load}{count}"), IDS[:count]
        chains = [images.make_chain(os.path.join(dir, id), size=48 * MiB, share=0.1, seed=i) for i, id in enumerate(ids)]
        held = {"commit": [], "copy": []}
        with qemu.Vm(world.version, chains, dir=dir, guest=load == "writing") as vm, \
                rechain.Rechain(world.folder("state")) as cli:
            if load == "idle":
                vm.cont()
            for round in range(-1, world.repeat(15)):       # round -1 only warms
                cli.run("snapshot", "create", vm.qmp_path, *ids, "--name", f"s{round}").expect(0)
                commit = measure(cli, "-o", "json", "commit", vm.qmp_path, *ids, "--delete")
                copy = measure(cli, "-o", "json", "copy", vm.qmp_path, "--delete",
                               *[f"{id},to={dir}/{id}/copy{round}.qcow2" for id in ids])
                if round >= 0:
                    held["commit"].append(json.loads(commit.out)["pause-ms"])
                    held["copy"].append(json.loads(copy.out)["pause-ms"])
        report.command(shown(commit.argv, dir))
        for kind, values in held.items():
            report.figure(f"{kind}: {count} disk{'s' if count > 1 else ''}, {load}", values, "ms")


class Committer:
    """A QEMU whose active layer is committed again and again, each time with the same data."""

    def __init__(self, world, data):
        self.dir, self.data, self.count = world.dir, data, 0
        self.chain = images.make_chain(world.dir, ["base"], size=data + 64 * MiB, share=0)
        self.vm = qemu.Vm(world.version, self.chain).start()
        self.vm.cont()

    def prepare(self):
        """A new overlay with the data; returns its file and the node below it."""
        self.count += 1
        path, below = os.path.join(self.dir, f"o{self.count}.qcow2"), self.vm.block()["inserted"]["node-name"]
        raw.create_overlay(path, self.chain.active, self.chain.size)
        raw.add_overlay(self.vm.qmp, f"o{self.count}", path)
        raw.snapshot(self.vm.qmp, [(below, f"o{self.count}")])
        for offset in range(0, self.data, 64 * MiB):
            self.vm.guest_write(offset, 64 * MiB, self.count % 255 + 1)
        self.vm.flush()
        os.sync()
        return path, below

    def raw(self, delete=False):
        path, below = self.prepare()
        start = time.monotonic()
        raw.commit(self.vm.qmp_path, f"o{self.count}", below)
        if delete:
            raw.remove(path)
        wall = time.monotonic() - start
        self._clear(path)
        return wall

    def rechain(self, cli, delete=False):
        path, _ = self.prepare()
        usage = measure(cli, "commit", self.vm.qmp_path, "vda", *["--delete"] * delete)
        assert delete != os.path.exists(path)
        self._clear(path)
        return usage

    def _clear(self, path):
        if os.path.exists(path):
            os.unlink(path)


def commit_512m(world, report):
    _commit(world, report, 512 * MiB)


def commit_1g(world, report):
    """As much as move-1g: what rechain takes does not grow with the data."""
    _commit(world, report, 1024 * MiB)


def _commit(world, report, data):
    committer = Committer(world, data)
    with committer.vm, rechain.Rechain(world.folder("state")) as cli:
        committer.raw(), committer.rechain(cli)
        took = {False: ([], []), True: ([], [])}
        for round in range(world.repeat(10)):
            for delete in (False, True):
                raws, ours = took[delete]
                for who in ("raw", "rechain") if round % 2 == 0 else ("rechain", "raw"):
                    if who == "raw":
                        raws.append(committer.raw(delete))
                    else:
                        usage = committer.rechain(cli, delete)
                        ours.append(usage.wall)
                report.command(shown(usage.argv, world.dir))
    for delete, (raws, ours) in took.items():
        what = ", and the file removed for good" if delete else ""
        report.figure(f"raw QMP{what}", raws, "s")
        report.figure(f"rechain{' --delete' if delete else ''}", ours, "s")
        report.figure(f"medians: rechain / raw{what}", statistics.median(ours) / statistics.median(raws), "", Bound(1.10))
    report.note("the end of a removal is the sync of the directory; on a filesystem that discards (mount -o discard) that takes "
                "as long as the file is large")
