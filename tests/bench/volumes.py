"""vol clone and vol copy against the programs that do the same job, in turn: qemu-img, cp, nbdcopy, zstd. Each ends with
the result on disk, since a volume that is not yet durable has no name here. CPU seconds are those of the program and
of all that it runs: they say the same on a machine that is busy with other things."""

import contextlib
import os
import random
import statistics

from figures import Bound, Process, measure, shown
from harness import images, rechain
from harness.images import MiB

SIZE, DATA = 1024 * MiB, 192 * MiB


def bench(world, report):
    source = _image(os.path.join(world.dir, "source.img"))
    large = _image(os.path.join(world.dir, "large.img"), 4 * SIZE, SIZE)
    served = ["qemu-nbd", "-f", "raw", "-r", source]
    with rechain.Rechain(world.folder("state")) as cli:
        _compare(world, report, cli, "clone to qcow2", world.dir, "clone", [source, "DST", "--format", "qcow2"],
                 [["qemu-img", "convert", "-W", "-f", "raw", "-O", "qcow2", source, "DST"]])
        _compare(world, report, cli, "clone to raw", world.dir, "clone", [source, "DST"],
                 [["qemu-img", "convert", "-W", "-f", "raw", "-O", "raw", source, "DST"],
                  ["cp", "--sparse=auto", "--reflink=never", source, "DST"],
                  ["nbdcopy", "--", "[", *served, "]", "DST"]])
        _compare(world, report, cli, "copy", world.dir, "copy", [source, "DST"],
                 [["cp", "--sparse=auto", "--reflink=never", source, "DST"]])
        _compare(world, report, cli, "copy of 4 GiB, 1 GiB of data", world.dir, "copy", [large, "DST"],
                 [["cp", "--sparse=auto", "--reflink=never", large, "DST"]])
        _compare(world, report, cli, "archive", world.dir, "copy", [source, "DST.zst", "--archive"],
                 [["zstd", "-q", "-T2", source, "-o", "DST.zst"]])
        with _xfs(world) as dir:
            shared = _image(os.path.join(dir, "source.img"))
            for verb in ("copy", "clone"):
                _compare(world, report, cli, f"{verb} by reflink", dir, verb, [shared, "DST"],
                         [["cp", "--reflink=always", shared, "DST"]], more=Bound(0.15))


def _image(path, size=SIZE, data=DATA):
    """Data in pieces, holes between them."""
    rng = random.Random(0)
    with open(path, "wb") as file:
        file.truncate(size)
        for index in range(data // MiB):
            file.seek(index * size // (data // MiB))
            file.write(rng.randbytes(MiB // 2) * 2)
        os.fsync(file.fileno())
    return path


def _compare(world, report, cli, what, dir, verb, words, peers, more=None):
    """@more: where the work itself takes no time, the seconds that planning and the journal may take."""
    target = os.path.join(dir, "target.img")
    words, *peers = ([word.replace("DST", target) for word in argv] for argv in (words, *peers))
    result = next(word for word in words if word.startswith(target))
    ours, theirs = [], [[] for _ in peers]
    for _ in range(world.repeat(5)):
        os.sync()
        ours.append(measure(cli, "vol", verb, *words))
        os.unlink(result)
        for argv, usages in zip(peers, theirs):
            os.sync()
            usages.append(Process(["sh", "-c", '"$@" && sync "$0"', result, *argv], cli.state_dir, os.environ).wait().expect())
            os.unlink(result)
    report.command(shown(ours[-1].argv, world.dir))
    for argv in peers:
        report.command(shown(argv, world.dir))
    for kind in ("wall", "cpu"):
        _figures(report, f"{what}, {kind}", [getattr(u, kind) for u in ours],
                 {argv[0]: [getattr(u, kind) for u in usages] for argv, usages in zip(peers, theirs)}, more)


def _figures(report, what, mine, theirs, more):
    report.figure(f"{what}: rechain", mine, "s")
    for program, values in theirs.items():
        report.figure(f"{what}: {program}", values, "s")
    fastest = min(theirs, key=lambda program: statistics.median(theirs[program]))
    other, own = statistics.median(theirs[fastest]), statistics.median(mine)
    if more is None:
        report.figure(f"{what}: of {fastest}", own / other, "", Bound(1.05))
    else:
        report.figure(f"{what}: more than {fastest}", own - other, "s", more)


@contextlib.contextmanager
def _xfs(world):
    image, mount = os.path.join(world.dir, "xfs.img"), world.folder("xfs")
    with open(image, "wb") as file:
        file.truncate(2048 * MiB)
    images.run("mkfs.xfs", "-q", image)
    images.run("mount", "-o", "loop", image, mount)
    try:
        yield mount
    finally:
        images._umount(mount)
