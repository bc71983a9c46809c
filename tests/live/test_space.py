"""The space that a plan tells is the space that is taken, and what does not fit is refused before anything is done."""

import os

import pytest

from harness import images
from harness.images import MiB
from harness.scene import valid
from test_map import random_chain

CLUSTER = 65536
# Tables: of clusters, of those, and what a filesystem rounds up.
SLACK = 8 * CLUSTER


def forecast(rechain, *argv):
    plan = valid(rechain.run(*argv, "--dry-run", json=True).expect(0).json)
    (space,) = plan["space"]
    assert space["free"] > 0
    return space["path"], space["needed"]


def taken(path):
    return os.stat(path).st_blocks * 512 if os.path.exists(path) else 0


def assert_forecast_holds(rechain, *argv, exact=True):
    path, needed = forecast(rechain, *argv)
    before = taken(path)
    rechain.run(*argv).expect(0)
    grown = taken(path) - before
    assert grown - SLACK <= needed, (argv[0], needed, grown)
    assert not exact or needed <= grown + SLACK, (argv[0], needed, grown)


OFFLINE = {
    "pull all": ("pull", ["{0}"]),
    "pull some": ("pull", ["{0}", "--base", "{2}"]),
    "pull into the middle": ("pull", ["{0}", "--top", "{1}"]),
    "commit the active layer": ("commit", ["{0}"]),
    "commit all": ("commit", ["{0}", "--base", "{3}"]),
    "commit the middle": ("commit", ["{0}", "--top", "{1}", "--base", "{2}"]),
    "allocate": ("allocate", ["{0}"]),
    "allocate a part": ("allocate", ["{0}", "--offset", 3 * MiB, "--length", 10 * MiB]),
    "allocate all": ("allocate", ["{0}", "--fill", "full"]),
}


@pytest.mark.parametrize("base", ["qcow2", "raw"])
@pytest.mark.parametrize("name", OFFLINE)
def test_offline_a_forecast_is_what_is_taken(rechain, workdir, name, base):
    """Layers with clusters of other sizes can need less: a stream writes pieces with zeros in them or does not."""
    verb, words = OFFLINE[name]
    for seed, kinds in enumerate([("plain", "compressed"), ("plain", "small", "compressed")]):
        chain = random_chain(workdir, seed, 4, base, kinds=kinds, punched=False)
        assert_forecast_holds(rechain, verb, "--offline", *[str(w).format(*chain.layers) for w in words],
                              exact="small" not in kinds)


LIVE = {
    "move": ["move", "--to", "{new}"],
    "flatten": ["move", "--to", "{new}", "--base", "none"],
    "copy": ["copy", "--to", "{new}"],
    "copy to raw": ["copy", "--to", "{new}", "--format", "raw"],
    "copy the active layer": ["copy", "--to", "{new}", "--shallow"],
    "pull": ["pull"],
    "commit": ["commit"],
    "commit the middle": ["commit", "--top", "{1}"],
    "allocate": ["allocate"],
    "allocate all": ["allocate", "--fill", "full"],
}


@pytest.mark.parametrize("base", ["qcow2", "raw"])
@pytest.mark.parametrize("name", LIVE)
def test_a_forecast_is_what_is_taken(make_vm, rechain, workdir, name, base):
    chain = random_chain(workdir, 7, 3, base, kinds=["plain"], punched=False)
    vm = make_vm(chain)
    verb, *words = [w.format(*chain.layers, new=os.path.join(workdir, "new")) for w in LIVE[name]]
    # A base that is committed into can lose clusters, too: where the new layer has zeros.
    assert_forecast_holds(rechain, verb, vm.qmp_path, "vda", *words, exact=verb != "commit")


def test_what_the_receiver_has_is_not_counted(rechain, workdir):
    """A pull into a layer that is full needs nothing, however full the filesystem."""
    with images.small_fs(32, workdir) as small:
        base, active = os.path.join(workdir, "base.qcow2"), os.path.join(small, "active.qcow2")
        images.run("qemu-img", "create", "-q", "-f", "qcow2", base, 16 * MiB)
        images.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 16M", base)
        images.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", active)
        images.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 2 0 15M", active)
        with open(os.path.join(small, "ballast"), "wb") as file:
            file.write(bytes(6 * MiB))
        _, needed = forecast(rechain, "pull", "--offline", active)
        assert MiB <= needed <= MiB + SLACK
        rechain.run("pull", "--offline", active).expect(0)
        images.check_image(active)


def test_a_map_that_takes_too_long_is_a_note(make_chain, rechain, workdir):
    """The operation is not kept waiting, and says that it could not tell."""
    chain = make_chain(["template", "current1"], size=4 * MiB)
    slow = os.path.join(workdir, "qemu-img")
    with open(slow, "w") as file:
        file.write('#!/bin/sh\n[ "$1" = map ] && exec sleep 60\nexec qemu-img "$@"\n')
    os.chmod(slow, 0o755)
    result = rechain.run("pull", "--offline", chain.active, "-n", json=True, env={"RECHAIN_QEMU_IMG": slow}).expect(0)
    plan = valid(result.json)
    assert plan["space"] == [] and any("is not known" in note for note in plan["notes"])


@pytest.mark.parametrize("words, fits", [(["commit"], True), (["copy", "--to", "{new}"], True), (["commit"], False)])
def test_maps_are_read_only_where_the_whole_disk_may_not_fit(make_vm, rechain, workdir, words, fits):
    """A plan that is shown always tells what is needed."""
    noted, log = os.path.join(workdir, "qemu-img"), os.path.join(workdir, "log")
    with open(noted, "w") as file:
        file.write(f'#!/bin/sh\necho "$1" >> {log}\nexec qemu-img "$@"\n')
    os.chmod(noted, 0o755)

    def maps():
        with open(log, "a+") as file:
            file.seek(0)
            return file.read().split().count("map")
    with images.small_fs(24, workdir) as small:
        vm = make_vm(images.make_chain(workdir if fits else small, size=8 * MiB))
        if not fits:
            with open(os.path.join(small, "ballast"), "wb") as file:
                file.truncate(0)
                os.posix_fallocate(file.fileno(), 0, os.statvfs(small).f_bavail * os.statvfs(small).f_frsize - 7 * MiB)
        verb, *options = [w.format(new=os.path.join(workdir, "new")) for w in words]
        command = [verb, vm.qmp_path, "vda", *options]
        env = {"RECHAIN_QEMU_IMG": noted}
        plan = valid(rechain.run(*command, "-n", json=True, env=env).expect(0).json)
        assert plan["space"][0]["needed"] > 0 and maps() > 0
        shown = maps()
        rechain.run(*command, env=env).expect(0)
        assert (maps() == shown) == fits
