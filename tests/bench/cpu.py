"""What rechain itself costs while it watches a long stream."""

import os
import pty
import threading
import time

from figures import Bound, shown, start
from harness import images, qemu, rechain
from harness.images import MiB

RATE, DATA = 10, 240                        # MiB/s and MiB: 24 s
MODES = ["none", "json", "plain", "bar"]


def bench(world, report):
    """Four moves at once, each of its own QEMU, so that it takes 24 s and not 96."""
    vms, runs = [], []
    try:
        for mode in MODES:
            dir = world.folder(mode)
            chain = images.make_chain(dir, ["template", "current1"], size=DATA * MiB, share=[0, 0])
            images.run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 0x5a 0 {DATA * MiB}", chain.active)
            vms.append(qemu.Vm(world.version, chain, dir=dir).start())
        for mode, vm in zip(MODES, vms):
            cli = rechain.Rechain(os.path.join(vm.dir, "state"))
            screen = _screen() if mode == "bar" else None
            runs.append(start(cli, f"--progress={mode}", "move", vm.qmp_path, "vda", "--to", f"{vm.dir}/new.qcow2",
                              "--bandwidth", f"{RATE}M", stderr=screen))
        while any([run.look() for run in runs]):
            time.sleep(0.02)                # the peak is read until the very end
        usages = [run.wait().expect() for run in runs]
    finally:
        for vm in vms:
            vm.close()
    for mode, usage in zip(MODES, usages):
        report.command(shown(usage.argv, world.folder(mode)))
        assert usage.wall >= 20, f"too short to say anything: {usage.wall} s"
    report.figure("stream", [u.wall for u in usages], "s")
    for mode, usage in zip(MODES, usages):
        report.figure(f"CPU, --progress={mode}", usage.cpu / usage.wall * 100, "% of wall", Bound(2))
    for mode, usage in zip(MODES, usages):
        report.figure(f"peak RSS, --progress={mode}", usage.own_rss, "MiB", Bound(25))
    report.figure("peak RSS with its qemu-img", [u.rss for u in usages], "MiB")
    report.note("CPU is user + system of rechain and of the qemu-img that it ran, by wait4()")


def _screen():
    """The writing end of a terminal that somebody reads."""
    master, slave = pty.openpty()

    def read():
        try:
            while os.read(master, 65536):
                pass
        except OSError:
            pass

    threading.Thread(target=read, daemon=True).start()
    return slave
