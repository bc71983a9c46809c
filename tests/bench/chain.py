"""`rechain chain` of a long chain."""

import time

from figures import Bound, measure, shown
from harness import images, qemu, rechain
from harness.images import MiB
from harness.qmp import QmpMonitor

LAYERS = 200


def bench(world, report):
    chain = images.make_chain(world.dir, [f"layer{i}" for i in range(LAYERS)], size=64 * MiB, share=0)
    live, offline, raws = [], [], []
    with rechain.Rechain(world.folder("state")) as cli:
        with qemu.Vm(world.version, chain) as vm:
            measure(cli, "chain", vm.qmp_path)
            for _ in range(world.repeat(10)):
                raws.append(_raw(vm.qmp_path))
                live.append(measure(cli, "chain", vm.qmp_path))
                assert live[-1].out.count("layer") >= LAYERS, live[-1].out
        for _ in range(world.repeat(10)):
            offline.append(measure(cli, "chain", "--offline", chain.active))
            assert offline[-1].out.count("layer") >= LAYERS, offline[-1].out
    report.figure("bare queries of disks and graph", [r * 1000 for r in raws], "ms")
    for name, usages in (("live", live), ("offline", offline)):
        report.command(shown(usages[-1].argv, world.dir))
        report.figure(f"{name}: wall", [u.wall * 1000 for u in usages], "ms")
        report.figure(f"{name}: CPU", [u.cpu * 1000 for u in usages], "ms")
        report.figure(f"{name}: peak RSS", [u.rss for u in usages], "MiB", Bound(25))


def _raw(path):
    start = time.monotonic()
    with QmpMonitor(path) as qmp:
        qmp.execute("query-block")
        qmp.execute("query-named-block-nodes", flat=True)
        qmp.execute("x-debug-query-block-graph")
    return time.monotonic() - start
