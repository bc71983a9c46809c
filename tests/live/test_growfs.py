"""vol growfs, vol shrinkfs: every file in the filesystem is there afterwards, and whoever is killed leaves the old
filesystem or the new one."""

import contextlib
import os
import subprocess
import tempfile

import pytest

from harness import images
from harness.images import MiB, run
from harness.scene import valid
from harness.volumes import digest, kill_with_programs, leftovers, program_around, vol

SMALL = {"ext2": 24 * MiB, "ext4": 24 * MiB, "xfs": 320 * MiB, "btrfs": 200 * MiB}


@contextlib.contextmanager
def mounted(raw, *options):
    with tempfile.TemporaryDirectory(prefix="look-") as dir:
        run("mount", "-o", ",".join(("loop",) + options), raw, dir)
        try:
            yield dir
        finally:
            run("umount", dir)


def files_of(raw):
    """{name: digest} of the files in it, and how large the filesystem is."""
    with mounted(raw, "ro") as dir:
        names = [name for name in os.listdir(dir) if name != "lost+found"]
        space = os.statvfs(dir)
        return {name: digest(os.path.join(dir, name)) for name in names}, space.f_blocks * space.f_frsize


def make_fs(dir, kind, format, size, room):
    """A volume of `room` bytes whose filesystem has `size`, with files in it; its path, and what is in it."""
    raw, path = os.path.join(dir, "raw.tmp"), os.path.join(dir, f"vol.{format}")
    with open(raw, "wb") as file:
        file.truncate(size)
    run(f"mkfs.{kind}", "-q", raw)
    with mounted(raw) as mount:
        for index in range(6):
            with open(os.path.join(mount, f"file{index}"), "wb") as file:
                file.write(os.urandom(700001 * (index + 1)))
    with open(raw, "r+b") as file:
        file.truncate(room)
    before = files_of(raw)
    run("qemu-img", "convert", "-f", "raw", "-O", format, raw, path)
    os.unlink(raw)
    return path, before


def seen_in(path, format, dir):
    with images.raw_view(path, format=format, dir=dir) as raw:
        return files_of(raw)


def may_grow_ext4_online():
    """The kernel asks for CAP_SYS_RESOURCE, which root of a container may not have; tests/live/test_lvm.py has it."""
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("CapEff:")]
    return int(line.split()[1], 16) >> 24 & 1


def nothing_is_left(rechain, dir):
    assert leftovers(dir) == []
    operations = valid(rechain.run("op", "list", json=True).expect(0).json)["operations"]
    with open("/proc/mounts") as mounts:
        mounted = mounts.read()
    for private in [f"/run/rc-{one['operation']}-0" for one in operations]:
        assert not os.path.exists(private) and private not in mounted
    assert dir not in run("losetup", "-a")


@pytest.fixture
def d(workdir):
    dir = os.path.join(workdir, "d")
    os.mkdir(dir)
    return dir


@pytest.mark.parametrize("format", ["raw", "qcow2"])
@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_filesystem_grows_to_the_end_of_its_volume(rechain, d, kind, format):
    path, (files, size) = make_fs(d, kind, format, SMALL[kind], 400 * MiB)
    plan = valid(rechain.run("vol", "growfs", path, "-n", json=True).expect(0).json)
    assert [step["step"] for step in plan["steps"]][-3:] == ["decide", "commit", "clear"]
    document = vol(rechain, "growfs", path)
    told = document["disks"][0]["filesystem"]
    assert (told["type"], told["size-before"]) == (kind, SMALL[kind]) and 390 * MiB < told["size"] <= 400 * MiB
    after, larger = seen_in(path, format, d)
    assert after == files and larger > size + 60 * MiB
    nothing_is_left(rechain, d)
    assert "bytes already" in vol(rechain, "growfs", path, rc=4).error["message"]


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_a_filesystem_shrinks_and_the_end_of_the_volume_is_free_then(rechain, d, kind):
    path, (files, _) = make_fs(d, kind, "qcow2", 390 * MiB, 390 * MiB)
    result = valid(vol(rechain, "shrinkfs", path, "8M", rc=7).json)
    least = result["disks"][0]["filesystem"]["minimum-size"]
    assert least > 8 * MiB and str(least) in result["error"]["message"] and seen_in(path, "qcow2", d)[0] == files
    document = vol(rechain, "shrinkfs", path, "300M")
    told = document["disks"][0]["filesystem"]
    assert told["size"] <= 300 * MiB and told["minimum-size"] == least
    vol(rechain, "resize", path, "300M", "--shrink")
    assert seen_in(path, "qcow2", d)[0] == files
    vol(rechain, "resize", path, "250M", "--shrink", rc=4)
    nothing_is_left(rechain, d)


def test_a_size_between_is_taken(rechain, d):
    path, (files, _) = make_fs(d, "ext4", "qcow2", 24 * MiB, 64 * MiB)
    assert vol(rechain, "growfs", path, "40M")["disks"][0]["filesystem"]["size"] == 40 * MiB
    assert vol(rechain, "growfs", path, "+8M")["disks"][0]["filesystem"]["size"] == 48 * MiB
    for words in (["growfs", path, "65M"], ["growfs", path, "20M"], ["shrinkfs", path, "60M"]):
        vol(rechain, *words, rc=4)
    vol(rechain, "shrinkfs", path, "0", rc=2)
    assert seen_in(path, "qcow2", d)[0] == files


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_what_is_mounted_grows_online(rechain, d, kind):
    if kind == "ext4" and not may_grow_ext4_online():
        pytest.skip("root has no CAP_SYS_RESOURCE here")
    path, (files, size) = make_fs(d, kind, "raw", SMALL[kind], 400 * MiB)
    with mounted(path) as dir:
        with open(os.path.join(dir, "file0"), "rb") as busy:
            plan = valid(rechain.run("vol", "growfs", path, "-n", json=True).expect(0).json)
            assert [step["step"] for step in plan["steps"]] == ["resize"] and "mounted" in plan["notes"][0]
            vol(rechain, "growfs", path)
            space = os.statvfs(dir)
            assert space.f_blocks * space.f_frsize > size + 60 * MiB and busy.read(1)
        if kind != "btrfs":
            assert "smaller" in vol(rechain, "shrinkfs", path, "200M", rc=4).error["message"]
        else:
            vol(rechain, "shrinkfs", path, "300M")
    assert files_of(path)[0] == files
    nothing_is_left(rechain, d)


def test_what_cannot_be_resized_is_refused(rechain, d):
    for name, make in (("table", lambda p: run("sfdisk", "-q", p, input="label: gpt\nsize=4M\n")),
                       ("swap", lambda p: run("mkswap", "-q", p)), ("empty", lambda p: None)):
        path = os.path.join(d, name)
        with open(path, "wb") as file:
            file.truncate(16 * MiB)
        make(path)
        before = digest(path)
        vol(rechain, "growfs", path, rc=4)
        assert digest(path) == before
    path, _ = make_fs(d, "xfs", "raw", SMALL["xfs"], SMALL["xfs"])
    assert "cannot be made smaller" in vol(rechain, "shrinkfs", path, "300M", rc=4).error["message"]


def test_a_filesystem_whose_programs_are_not_sure_stays_as_it_is(rechain, d):
    """e2fsck -p does what is safe, and no more: the rest is for people to decide."""
    path, _ = make_fs(d, "ext4", "raw", 24 * MiB, 64 * MiB)
    run("debugfs", "-w", "-R", "clri /file3", path)
    run("debugfs", "-w", "-R", "sif /file4 mode 0", path)
    before = digest(path)
    result = vol(rechain, "growfs", path, rc=7)
    assert "e2fsck" in result.json["error"]["message"] and "RUN fsck" in result.json["error"]["cause"]
    assert digest(path) == before
    nothing_is_left(rechain, d)


@pytest.mark.parametrize("kind, program", [("ext4", "e2fsck"), ("ext4", "resize2fs"), ("xfs", "xfs_growfs"),
                                           ("btrfs", "mount")])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_before_the_result_counts_it_is_the_old_one(rechain, d, workdir, kind, program, moment):
    path, _ = make_fs(d, kind, "qcow2", SMALL[kind], 400 * MiB)
    before = digest(path)
    interrupt(rechain, workdir, ["growfs", path], program, {moment: f"touch {workdir}/now; sleep 60"})
    vol(rechain, "growfs", path, rc=4)
    (settled,) = valid(rechain.run("recover", json=True).expect(0).json)["operations"]
    assert settled["state"] == "undone" and digest(path) == before
    nothing_is_left(rechain, d)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_killed_while_the_result_is_written_it_is_the_new_one(rechain, d, workdir, format, moment):
    path, (files, size) = make_fs(d, "ext4", format, 24 * MiB, 400 * MiB)
    interrupt(rechain, workdir, ["growfs", path], "qemu-img",
              {moment: f'[ "$1" != commit ] || {{ touch {workdir}/now; sleep 60; }}'})
    (settled,) = valid(rechain.run("recover", json=True).expect(0).json)["operations"]
    assert settled["state"] == "done"
    after, larger = seen_in(path, format, d)
    assert after == files and larger > size + 60 * MiB
    nothing_is_left(rechain, d)


def interrupt(rechain, workdir, words, program, mishap):
    bin = program_around(workdir, program, **mishap)
    running = rechain.start("vol", *words, env={"PATH": f"{bin}:{os.environ['PATH']}"})
    while not os.path.exists(f"{workdir}/now"):
        assert running.is_running(), running.wait()
    kill_with_programs(running)


def test_what_fails_in_the_middle_is_taken_back(rechain, d, workdir):
    path, (files, _) = make_fs(d, "btrfs", "raw", SMALL["btrfs"], 400 * MiB)
    before = digest(path)
    bin = program_around(workdir, "btrfs", after='[ "$1" != filesystem ] || { echo no such luck >&2; exit 1; }')
    result = vol(rechain, "growfs", path, rc=7, env={"PATH": f"{bin}:{os.environ['PATH']}"})
    assert "no such luck" in result.json["error"]["cause"] and digest(path) == before
    nothing_is_left(rechain, d)


def test_a_volume_that_somebody_changed_meanwhile_is_not_written(rechain, d, workdir):
    path, _ = make_fs(d, "ext4", "raw", 24 * MiB, 64 * MiB)
    bin = program_around(workdir, "resize2fs", after=f"printf x | dd of={path} bs=1 seek=60000000 conv=notrunc 2>/dev/null")
    result = vol(rechain, "growfs", path, rc=7, env={"PATH": f"{bin}:{os.environ['PATH']}"})
    assert "changed by somebody else" in result.json["error"]["message"]
    assert subprocess.run(["e2fsck", "-f", "-n", path], capture_output=True).returncode == 0
    nothing_is_left(rechain, d)
