"""Freeze to thaw: how long a real guest's writes stand still for a quiesced snapshot of 1 and 8 disks."""

import json
import os

from figures import Bound, measure, shown
from harness import images, libvirt, qemu, rechain
from harness.agent import AgentProxy

COUNTS = (1, 8)
FREEZE, THAW = "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"


def _disks(dir, count):
    ids = [f"vd{chr(ord('a') + i)}" for i in range(count)]
    return ids, [images.make_ext4_chain(os.path.join(dir, id)) for id in ids]


def _by_libvirt(world, report, count):
    dir = world.folder(f"libvirt-{count}")
    ids, chains = _disks(dir, count)
    figures = []
    with libvirt.LibvirtVm(chains, ids, dir) as vm:
        for round in range(-1, world.repeat(10)):
            vm.guest.wait_numbers(200)
            figures.append(vm.snapshot(f"s{round}"))
    disks = f"{count} disk{'s' if count > 1 else ''}"
    report.command("virsh snapshot-create-as DOMAIN NAME --disk-only --quiesce --atomic --no-metadata")
    report.figure(f"virsh, freeze to thaw: {disks}", [total for total, _ in figures[1:]], "ms")
    report.figure(f"virsh, the rest: {disks}", [total - agent for total, agent in figures[1:]], "ms")


def bench(world, report):
    """The guest has as many ext4 filesystems as are snapshotted, and writes to all of them. What its agent
    takes is seen from between it and rechain. Then the same by libvirt, where it is installed."""
    for count in COUNTS:
        frozen, agents, overs = [], [], []
        dir = world.folder(f"{count}")
        ids, chains = _disks(dir, count)
        with qemu.Vm(world.version, chains, dir=dir, guest=True, agent=True, files=ids) as vm, \
                rechain.Rechain(world.folder("state")) as cli, \
                AgentProxy(vm.agent_path, os.path.join(vm.run_dir, "proxy")) as proxy:
            for round in range(-1, world.repeat(10)):       # round -1 only warms
                vm.guest.wait_numbers(200)
                usage = measure(cli, "-o", "json", "snapshot", "create", vm.qmp_path, "--name", f"s{round}",
                                "--quiesce", "--agent", proxy.path)
                if round < 0:
                    continue
                ms = json.loads(usage.out)["freeze-ms"]
                agent = (proxy.took[FREEZE] + proxy.took[THAW]) * 1000
                frozen.append(ms)
                agents.append(agent)
                overs.append(ms - agent)
        report.command(shown(usage.argv, dir))
        disks = f"{count} disk{'s' if count > 1 else ''}"
        report.figure(f"freeze to thaw: {disks}", frozen, "ms")
        report.figure(f"the agent of it: {disks}", agents, "ms")
        report.figure(f"the rest: {disks}", overs, "ms", Bound(30))
        if libvirt.missing() is None:
            _by_libvirt(world, report, count)
    if libvirt.missing() is not None:
        report.note(f"virsh was not measured: {libvirt.missing()}")
