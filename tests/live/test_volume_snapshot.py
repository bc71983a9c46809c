"""vol snapshot of files and btrfs subvolumes, vol copy --snapshot: what was there stays, whatever is written later.
Logical volumes: test_lvm_volumes.py."""

import json
import os

import pytest

from harness import images
from harness.images import MiB, run
from harness.scene import valid
from harness.volumes import as_guest, digest, kill_with_programs, leftovers, program_around, scatter, vol


@pytest.fixture
def btrfs(workdir):
    with images.btrfs(300, workdir) as path:
        yield path


@pytest.fixture
def image(workdir):
    raw, path = scatter(os.path.join(workdir, "raw.img"), 3 * MiB + 7, 1), os.path.join(workdir, "web1.qcow2")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    os.unlink(raw)
    return path


def names_in(image):
    return [s["name"] for s in json.loads(run("qemu-img", "info", "--output=json", image)).get("snapshots", [])]


def overwrite(path):
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 77 0 2M", path)


def test_a_snapshot_inside_an_image_is_its_contents_of_then(rechain, workdir, image):
    before = as_guest(image, "qcow2", workdir)
    assert vol(rechain, "snapshot", image, "s1", "--method", "internal")["state"] == "done"
    assert names_in(image) == ["s1"]
    vol(rechain, "snapshot", image, "s1", "--method", "internal", rc=4)
    overwrite(image)
    assert as_guest(image, "qcow2", workdir) != before
    run("qemu-img", "snapshot", "-a", "s1", image)
    assert as_guest(image, "qcow2", workdir) == before
    images.check_image(image)


def test_a_snapshot_over_an_image_leaves_it_alone(rechain, workdir, image):
    before, stamp = as_guest(image, "qcow2", workdir), digest(image)
    plan = valid(rechain.run("vol", "snapshot", image, "s1", "--method", "external", "-n", json=True).expect(0).json)
    assert "web1.s1.qcow2" in plan["notes"][0]
    vol(rechain, "snapshot", image, "s1", "--method", "external")
    overlay = os.path.join(workdir, "web1.s1.qcow2")
    assert images.info(overlay)["backing-filename"] == image
    overwrite(overlay)
    assert digest(image) == stamp and as_guest(image, "qcow2", workdir) == before
    vol(rechain, "snapshot", image, "s1", "--method", "external", rc=4)


def test_a_method_must_fit_the_volume(rechain, workdir, image):
    raw = scatter(os.path.join(workdir, "a.img"), MiB, 1)
    for words, rc in (([raw, "s", "--method", "internal"], 4), ([raw, "s", "--method", "lvm"], 2),
                      ([workdir, "s", "--method", "internal"], 2), ([raw, "s", "--method", "magic"], 2),
                      ([raw, "a/b"], 2), ([raw, "s", "--capacity", "1M"], 2), ([workdir, "s"], 4)):
        vol(rechain, "snapshot", *words, rc=rc)
    assert leftovers(workdir) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_snapshot_inside_an_image_is_taken_back_when_its_maker_was_killed(rechain, workdir, image, moment):
    bin = program_around(workdir, "qemu-img",
                         **{moment: f'[ "$1" != snapshot ] || {{ touch {workdir}/now; sleep 60; }}'})
    before = as_guest(image, "qcow2", workdir)
    running = rechain.start("vol", "snapshot", image, "s1", "--method", "internal",
                            env={"PATH": f"{bin}:{os.environ['PATH']}"})
    while not os.path.exists(f"{workdir}/now"):
        assert running.is_running(), running.wait()
    kill_with_programs(running)
    (settled,) = valid(rechain.run("recover", json=True).expect(0).json)["operations"]
    assert settled["state"] == "undone" and names_in(image) == []
    assert as_guest(image, "qcow2", workdir) == before
    images.check_image(image)


def test_a_subvolume_is_kept_as_it_is(rechain, btrfs):
    path = os.path.join(btrfs, "images")
    run("btrfs", "subvolume", "create", path)
    disk = scatter(os.path.join(path, "a.img"), MiB, 3)
    before = digest(disk)
    vol(rechain, "snapshot", path, "s1")
    scatter(disk, MiB, 4)
    assert digest(os.path.join(path + ".s1", "a.img")) == before != digest(disk)
    assert sorted(os.listdir(btrfs)) == ["images", "images.s1"]
    vol(rechain, "snapshot", path, "s1", rc=4)
    with pytest.raises(OSError):
        open(os.path.join(path + ".s1", "a.img"), "r+b")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_snapshot_of_a_subvolume_is_taken_back_when_its_maker_was_killed(rechain, workdir, btrfs, moment):
    path = os.path.join(btrfs, "images")
    run("btrfs", "subvolume", "create", path)
    bin = program_around(workdir, "btrfs", **{moment: f'[ "$2" != snapshot ] || {{ touch {workdir}/now; sleep 60; }}'})
    running = rechain.start("vol", "snapshot", path, "s1", env={"PATH": f"{bin}:{os.environ['PATH']}"})
    while not os.path.exists(f"{workdir}/now"):
        assert running.is_running(), running.wait()
    kill_with_programs(running)
    (settled,) = valid(rechain.run("recover", json=True).expect(0).json)["operations"]
    assert settled["state"] == "undone" and os.listdir(btrfs) == ["images"]


def test_a_copy_of_a_snapshot_is_what_was_there_when_it_began(rechain, workdir, btrfs):
    src, dst = scatter(os.path.join(btrfs, "a.img"), 3 * MiB + 5, 3), os.path.join(workdir, "b.img")
    before = digest(src)
    bin = program_around(workdir, "zstd", before=f"printf changed | dd of={src} conv=notrunc 2> /dev/null")
    for words in (["copy", src, dst + ".zst", "--archive", "--snapshot"],):
        document = vol(rechain, *words, env={"PATH": f"{bin}:{os.environ['PATH']}"})
        assert document["state"] == "done"
    run("zstd", "-q", "-d", dst + ".zst")
    assert digest(dst) == before != digest(src) and leftovers(btrfs) == []
    old = scatter(os.path.join(workdir, "old.img"), 4 * MiB, 9)
    vol(rechain, "copy-contents", src, old, "--snapshot")
    assert digest(old) == digest(src, 4 * MiB) and leftovers(btrfs) == []
    assert "share blocks" in vol(rechain, "copy", old, dst, "--overwrite", "--snapshot", rc=4).error["message"]


def test_a_copy_of_a_snapshot_that_was_interrupted_leaves_none(rechain, workdir, btrfs):
    src = scatter(os.path.join(btrfs, "a.img"), 3 * MiB + 5, 3)
    bin = program_around(workdir, "zstd", before=f"touch {workdir}/now; sleep 60")
    running = rechain.start("vol", "copy", src, os.path.join(workdir, "b.zst"), "--archive", "--snapshot",
                            env={"PATH": f"{bin}:{os.environ['PATH']}"})
    while not os.path.exists(f"{workdir}/now"):
        assert running.is_running(), running.wait()
    assert len(leftovers(btrfs)) == 1
    kill_with_programs(running)
    rechain.run("recover").expect(0)
    assert os.listdir(btrfs) == ["a.img"] and leftovers(workdir) == []
    assert not os.path.exists(os.path.join(workdir, "b.zst"))
