"""Offline pull and commit by rechain against bare qemu-img on copies of the same images."""

import os
import statistics
import time

from figures import Bound, measure, shown
from harness import rechain
from harness.images import MiB, run

DATA = 768


def _chain(dir):
    """top <- mid <- base, each with data, some of it over the same clusters."""
    names = [os.path.join(dir, f"{n}.qcow2") for n in ("top", "mid", "base")]
    for name, below in zip(reversed(names), [None] + list(reversed(names))):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", below, "-F", "qcow2"] if below else []), name, "4G")
    for name, start, length in zip(names, (DATA // 2, DATA // 4, 0), (DATA // 4, DATA, DATA // 2)):
        for at in range(start, start + length, 64):
            run("qemu-io", "-f", "qcow2", "-c", f"write -q -P {at // 64 + 1} {at}M {min(64, start + length - at)}M", name)
    return names


def _fresh(names, dir):
    """A copy under the same names, since headers name absolute files."""
    for name in names:
        run("cp", "--sparse=always", os.path.join(dir, os.path.basename(name)), name)
    os.sync()


def _timed(*argv):
    start = time.monotonic()
    run(*argv)
    return time.monotonic() - start


def bench(world, report):
    names = _chain(world.dir)
    kept = world.folder("kept")
    for name in names:
        os.rename(name, os.path.join(kept, os.path.basename(name)))
    top, mid, base = names
    pairs = {
        "pull": (("qemu-img", "rebase", "-f", "qcow2", "-b", base, "-F", "qcow2", top), ("--base", base)),
        "commit": (("qemu-img", "commit", "-q", "-d", "-f", "qcow2", "-b", base, top), ("--base", base)),
    }
    with rechain.Rechain(world.folder("state")) as cli:
        for verb, (bare, options) in pairs.items():
            theirs, ours = [], []
            for round in range(world.repeat(5)):
                for who in ("bare", "rechain") if round % 2 == 0 else ("rechain", "bare"):
                    _fresh(names, kept)
                    if who == "bare":
                        theirs.append(_timed(*bare))
                    else:
                        usage = measure(cli, verb, "--offline", top, *options)
                        ours.append(usage.wall)
            report.command(shown(usage.argv, world.dir))
            report.figure(f"{verb}: {' '.join(bare[:2])}", theirs, "s")
            report.figure(f"{verb}: rechain", ours, "s")
            report.figure(f"{verb}: medians, rechain / qemu-img", statistics.median(ours) / statistics.median(theirs), "",
                          Bound(1.05))
    report.note(f"{DATA} MiB in the middle layer; qemu-img syncs less: rechain also flushes, checks and reads back")
