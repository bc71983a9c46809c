"""`rechain map` of a large disk in many pieces, against the tools that are made for it."""

import os
import random
import statistics

from figures import Bound, Process, measure, shown
from harness import images, qemu, rechain

TiB = 1 << 40
EXTENTS, GROUPS, PIECE = 100_000, 100, 4096
CONTEXTS = ("base:allocation", "qemu:allocation-depth")


def bench(world, report):
    """1 TiB with 100,000 extents; all in turn, so that all see the same machine. Beside the wall time, which
    is that of a quiet machine only, the CPU time of all who take part: with a live disk QEMU, too."""
    chain = images.Chain([_image(world.dir)], ["qcow2"], None, TiB)
    runs = {}
    with rechain.Rechain(world.folder("state")) as cli:
        for _ in range(world.repeat(7)):
            with qemu.Vm(world.version, chain) as vm:
                # QEMU reads its tables at the first look, whoever looks.
                measure(cli, "map", vm.qmp_path, "vda")
                _keep(runs, "map", lambda: measure(cli, "map", vm.qmp_path, "vda"), vm)
                _keep(runs, "map -o json", lambda: measure(cli, "-o", "json", "map", vm.qmp_path, "vda"), vm)
                for context in CONTEXTS:
                    _keep(runs, f"nbdinfo --map={context}", lambda c=context: _nbdinfo(world, vm, c), vm)
                vm.quit_qemu()
            _keep(runs, "map --offline", lambda: measure(cli, "map", "--offline", chain.active))
            _keep(runs, "map --offline -o json", lambda: measure(cli, "-o", "json", "map", "--offline", chain.active))
            _keep(runs, "qemu-img map", lambda: Process(
                ["qemu-img", "map", "--output=json", "-f", "qcow2", chain.active], world.dir).wait().expect())
    # One context alone tells either what is data or which layer has it: another pass of QEMU for each.
    both = {what: sum(_median(runs[f"nbdinfo --map={c}"], what) for c in CONTEXTS) for what in ("wall", "cpu")}
    tools = {"map": both, "map --offline": {what: _median(runs["qemu-img map"], what) for what in ("wall", "cpu")}}
    fastest = min(both["wall"], tools["map --offline"]["wall"])
    report.figure("nbdinfo, both contexts: wall", both["wall"] * 1000, "ms")
    report.figure("nbdinfo, both contexts: CPU with QEMU's", both["cpu"] * 1000, "ms")
    for name, usages in runs.items():
        assert all(abs(u.out.count("\n") + u.out.count("},{") - EXTENTS) < EXTENTS / 100 for u in usages), name
        report.figure(f"{name}: wall", [u.wall * 1000 for u in usages], "ms")
        report.figure(f"{name}: CPU of all", [u.cpu * 1000 for u in usages], "ms")
        report.command(shown(usages[-1].argv, world.dir))
        if name.startswith("map"):
            tool = tools[name.removesuffix(" -o json")]
            report.figure(f"{name}: wall against the faster tool that tells the same", [u.wall / fastest for u in usages],
                          "", Bound(1.2))
            report.figure(f"{name}: CPU against its own tool", [u.cpu / tool["cpu"] for u in usages], "", Bound(1.2))
            report.figure(f"{name}: peak RSS", [u.rss for u in usages], "MiB", Bound(64))


def _median(usages, what):
    return statistics.median(getattr(u, what) for u in usages)


def _cpu_of(pid):
    with open(f"/proc/{pid}/schedstat") as file:            # of its main thread, nanoseconds
        return int(file.read().split()[0]) / 1e9


def _keep(runs, name, run, vm=None):
    before = _cpu_of(vm.pid) if vm else 0
    usage = run()
    usage.cpu += (_cpu_of(vm.pid) if vm else 0) - before
    runs.setdefault(name, []).append(usage)


def _nbdinfo(world, vm, context):
    """Of the same disk in the same QEMU; the export is made beforehand and costs it nothing."""
    socket = os.path.join(vm.run_dir, "nbd")
    vm.qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": socket}})
    vm.qmp.execute("block-export-add", type="nbd", id="bench", node_name=vm.disks[0].node(), name="bench",
                   allocation_depth=True)
    try:
        url = f"nbd+unix:///bench?socket={socket}"
        return Process(["nbdinfo", f"--map={context}", url], world.dir).wait().expect()
    finally:
        vm.qmp.execute("nbd-server-stop")


def _image(dir):
    """Every second cluster of some stretches, all over the disk."""
    raw, image = os.path.join(dir, "raw"), os.path.join(dir, "map.qcow2")
    data, per_group = random.Random(0).randbytes(PIECE), EXTENTS // 2 // GROUPS
    with open(raw, "wb") as file:
        file.truncate(TiB)
        for group in range(GROUPS):
            for n in range(per_group):
                os.pwrite(file.fileno(), data, group * (TiB // GROUPS) // PIECE * PIECE + 2 * n * PIECE)
    images.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", f"cluster_size={PIECE}", raw, image)
    os.unlink(raw)
    return image
