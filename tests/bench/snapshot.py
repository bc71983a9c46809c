"""Snapshots of 1, 4 and 8 disks."""

import os
import statistics
import time

import raw
from figures import Bound, measure, shown
from harness import images, qemu, rechain
from harness.images import MiB
from harness.proxy import PASS, Proxy
from harness.qmp import QmpMonitor

COUNTS = (1, 4, 8)


def bench(world, report):
    """Three snapshots of each fresh QEMU: by a bare script, by rechain, and by rechain through a
    proxy that tells how long QEMU took for the transaction."""
    raws, walls, cpus, transactions = ({n: [] for n in COUNTS} for _ in range(4))
    with rechain.Rechain(world.folder("state")) as cli:
        for round in range(-1, world.repeat(10)):           # round -1 only warms
            for count in COUNTS:
                dir = world.folder(f"round{round}-{count}")
                chains = [images.make_chain(os.path.join(dir, f"d{i}"), ["t", "a"], size=64 * MiB, share=0)
                          for i in range(count)]
                disks = [qemu.Disk(chain, id=f"d{i}") for i, chain in enumerate(chains)]
                os.sync()
                with qemu.Vm(world.version, disks, dir=dir) as vm:
                    taken = (_raw(vm, disks), _snapshot(cli, vm.qmp_path, disks, "a"), _transaction(cli, vm, disks))
                if round >= 0:
                    report.command(shown(taken[1].argv, dir))
                    raws[count].append(taken[0])
                    walls[count].append(taken[1].wall)
                    cpus[count].append(taken[1].cpu)
                    transactions[count].append(taken[2])
    for name, values in (("transaction", transactions), ("bare script, all", raws), ("rechain, all", walls),
                         ("CPU, with qemu-img", cpus)):
        for count in COUNTS:
            report.figure(f"{name}: {count}", [v * 1000 for v in values[count]], "ms")
    first, last = COUNTS[0], COUNTS[-1]
    for name, values, bound in (("transaction", transactions, None), ("bare script", raws, None),
                                ("rechain", walls, Bound(2))):
        ratio = statistics.median(values[last]) / statistics.median(values[first])
        report.figure(f"{name}: {last} disks / {first} disk", ratio, "", bound)


def _snapshot(cli, monitor, disks, name):
    return measure(cli, "snapshot", "create", monitor, *(f"{d.id},to={d.chain.dir}/{name}.snap" for d in disks))


def _raw(vm, disks):
    start = time.monotonic()
    for disk in disks:
        raw.create_overlay(f"{disk.chain.dir}/raw.snap", disk.chain.active, disk.chain.size)
    with QmpMonitor(vm.qmp_path) as qmp:
        for disk in disks:
            raw.add_overlay(qmp, f"{disk.id}-raw", f"{disk.chain.dir}/raw.snap")
        raw.snapshot(qmp, [(disk.node(), f"{disk.id}-raw") for disk in disks])
    return time.monotonic() - start


def _transaction(cli, vm, disks):
    times = {}

    def note(message):
        if message.name == "transaction":
            times[message.kind] = time.monotonic()
        return PASS

    with Proxy(vm.qmp_path, note) as proxy:
        _snapshot(cli, proxy.path, disks, "b")
    return times["return"] - times["command"]
