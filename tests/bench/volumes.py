"""vol clone and vol copy against the programs that do the same job, in turn: qemu-img, cp, zstd. Each ends with
the result on disk, since a volume that is not yet durable has no name here."""

import contextlib
import os
import random
import statistics
import time

from figures import Bound, measure, shown
from harness import images, rechain
from harness.images import MiB

SIZE, DATA = 1024 * MiB, 192 * MiB


def bench(world, report):
    source = _image(os.path.join(world.dir, "source.img"))
    with rechain.Rechain(world.folder("state")) as cli:
        _compare(world, report, cli, "clone to qcow2", world.dir, "clone", [source, "DST", "--format", "qcow2"],
                 ["qemu-img", "convert", "-W", "-f", "raw", "-O", "qcow2", source, "DST"])
        _compare(world, report, cli, "copy", world.dir, "copy", [source, "DST"], ["cp", "--sparse=auto", source, "DST"])
        _compare(world, report, cli, "archive", world.dir, "copy", [source, "DST.zst", "--archive"],
                 ["zstd", "-q", "-T2", source, "-o", "DST.zst"])
        with _xfs(world) as dir:
            shared = _image(os.path.join(dir, "source.img"))
            _compare(world, report, cli, "copy by reflink", dir, "copy", [shared, "DST"],
                     ["cp", "--reflink=always", shared, "DST"], more=Bound(0.15))


def _image(path):
    """192 MiB of data in pieces, holes between them."""
    rng = random.Random(0)
    with open(path, "wb") as file:
        file.truncate(SIZE)
        for index in range(DATA // MiB):
            file.seek(index * SIZE // (DATA // MiB))
            file.write(rng.randbytes(MiB // 2) * 2)
        os.fsync(file.fileno())
    return path


def _compare(world, report, cli, what, dir, verb, words, peer, more=None):
    """@more: where the work itself takes no time, the seconds that planning and the journal may take."""
    target = os.path.join(dir, "target.img")
    ours, theirs = [], []
    words, peer = ([word.replace("DST", target) for word in argv] for argv in (words, peer))
    result = next(word for word in words if word.startswith(target))
    for _ in range(world.repeat(5)):
        os.sync()
        ours.append(measure(cli, "vol", verb, *words))
        os.unlink(result)
        os.sync()
        theirs.append(_timed(peer, result))
        os.unlink(result)
    report.command(shown(ours[-1].argv, world.dir))
    report.command(shown(peer, world.dir))
    report.figure(f"{what}: rechain", [u.wall for u in ours], "s")
    report.figure(f"{what}: {peer[0]}", theirs, "s")
    mine, other = statistics.median(u.wall for u in ours), statistics.median(theirs)
    if more is None:
        report.figure(f"{what}: ratio", mine / other, "", Bound(1.05))
    else:
        report.figure(f"{what}: more than {peer[0]}", mine - other, "s", more)


def _timed(argv, result):
    start = time.monotonic()
    images.run(*argv)
    fd = os.open(result, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return time.monotonic() - start


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
