"""Offline pull and commit by rechain against qemu-img on copies of the same images."""

import os
import statistics
import time

from figures import Bound, measure, shown
from harness import rechain
from harness.images import run

DATA, SMALL = 768, 8


def _chain(dir, data):
    """top <- mid <- base, each with data of its own, some of it over the same clusters."""
    names = [os.path.join(dir, f"{n}.qcow2") for n in ("top", "mid", "base")]
    piece = max(data // 12, 1)
    for name, below in zip(reversed(names), [None] + list(reversed(names))):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", below, "-F", "qcow2"] if below else []), name, "4G")
    for layer, (name, start, length) in enumerate(zip(names, (data // 2, data // 4, 0), (data // 4, data, data // 2))):
        for at in range(start, start + length, piece):
            run("qemu-io", "-f", "qcow2", "-c",
                f"write -q -P {at // piece + 70 * layer + 1} {at}M {min(piece, start + length - at)}M", name)
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


def _sized(world, report, cli, data, ways, compare):
    """Each verb by each way, in turn, `compare` told of the seconds; only the layer that receives has to be made anew."""
    names = _chain(world.folder(f"{data}"), data)
    kept = world.folder(f"kept{data}")
    for name in names:
        os.rename(name, os.path.join(kept, os.path.basename(name)))
    top, mid, base = names
    verbs = {
        "pull": (("rebase", "-f", "qcow2", "-b", base, "-F", "qcow2", top), top),
        "commit": (("commit", "-q", "-d", "-f", "qcow2", "-b", base, top), base),
    }
    for verb, ((command, *words), receiver) in verbs.items():
        bare = {"qemu-img": [], "qemu-img -t none": ["-t", "none"]}
        took = {way: [] for way in ways}
        _fresh(names, kept)
        for round in range(world.repeat(5)):
            for way in ways if round % 2 == 0 else reversed(ways):
                _fresh([receiver], kept)
                if way in bare:
                    took[way].append(_timed("qemu-img", command, *bare[way], *words))
                else:
                    usage = measure(cli, verb, "--offline", top, "--base", base)
                    took[way].append(usage.wall)
        report.command(shown(usage.argv, world.dir))
        compare(verb, took)


def bench(world, report):
    def ratio(verb, took):
        for way, seconds in took.items():
            report.figure(f"{verb}: {way}", seconds, "s")
        medians = {way: statistics.median(seconds) for way, seconds in took.items()}
        report.figure(f"{verb}: medians, rechain / qemu-img", medians["rechain"] / medians["qemu-img"], "", Bound(1.05))
        report.figure(f"{verb}: medians, rechain / qemu-img -t none", medians["rechain"] / medians["qemu-img -t none"])

    def more(verb, took):
        medians = {way: statistics.median(seconds) * 1000 for way, seconds in took.items()}
        report.figure(f"{verb} of {SMALL} MiB: medians, rechain - qemu-img", medians["rechain"] - medians["qemu-img"], "ms")

    with rechain.Rechain(world.folder("state")) as cli:
        _sized(world, report, cli, DATA, ("qemu-img", "qemu-img -t none", "rechain"), ratio)
        _sized(world, report, cli, SMALL, ("qemu-img", "rechain"), more)
    report.note(f"{DATA} MiB in the middle layer; all of them flush what they wrote, rechain also keeps a journal, checks and "
                "reads back, which is what a small image shows")
