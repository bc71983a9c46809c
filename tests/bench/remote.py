"""vol copy to another host against rsync and scp, over the same sshd and the same pair of network namespaces, in
turn. Each ends with the result on disk there."""

import os
import random
import statistics
import time

from figures import Bound, measure, shown
from harness import hosts, images
from harness.images import MiB

SIZE, DATA = 1024 * MiB, 192 * MiB


def bench(world, report):
    why = hosts.missing()
    if why:
        report.note(f"not measured: {why}")
        return
    with hosts.Net(world.dir) as net:
        sparse = _image(os.path.join(world.dir, "sparse.img"), SIZE, DATA)
        full = _image(os.path.join(world.dir, "full.img"), 512 * MiB, 512 * MiB)
        large = _image(os.path.join(world.dir, "large.img"), 4096 * MiB, 1024 * MiB)
        _compare(world, report, net, "4 GiB, 1 GiB of data", large, "rsync", Bound(1.0))
        # scp knows no holes: it is compared where there are none.
        _compare(world, report, net, "1 GiB, 192 MiB of data", sparse, "rsync", Bound(1.0))
        _compare(world, report, net, "512 MiB of data", full, "rsync", Bound(1.0))
        _compare(world, report, net, "512 MiB of data", full, "scp", Bound(1.2))


def _image(path, size, data):
    rng = random.Random(0)
    with open(path, "wb") as file:
        file.truncate(size)
        for index in range(data // MiB):
            file.seek(index * size // (data // MiB))
            file.write(rng.randbytes(MiB))
        os.fsync(file.fileno())
    return path


def _peer(net, program, source, target):
    ssh = ["ssh", "-F", net.ssh_config]
    enter = ["ip", "netns", "exec", net.a.netns]
    if program == "rsync":
        return enter + ["rsync", "--sparse", "--whole-file", "-e", " ".join(ssh), source, f"b:{target}"]
    return enter + ["scp", "-q", "-F", net.ssh_config, source, f"b:{target}"]


def _compare(world, report, net, what, source, program, bound):
    target = os.path.join(world.dir, "target.img")
    cli, peer = net.a.rechain(), _peer(net, program, source, target)
    ours, theirs = [], []
    for _ in range(world.repeat(5)):
        os.sync()
        ours.append(measure(cli, "vol", "copy", source, f"b:{target}"))
        os.unlink(target)
        os.sync()
        theirs.append(_timed(peer, target))
        os.unlink(target)
    report.command(shown(ours[-1].argv, world.dir))
    report.command(shown(peer, world.dir))
    report.figure(f"{what}: rechain", [u.wall for u in ours], "s")
    report.figure(f"{what}: {program}", theirs, "s")
    ratio = statistics.median(u.wall for u in ours) / statistics.median(theirs)
    report.figure(f"{what}: ratio to {program}", ratio, "", bound)


def _timed(argv, result):
    start = time.monotonic()
    images.run(*argv)
    fd = os.open(result, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return time.monotonic() - start
