"""Each operation on volumes, on raw files and qcow2 images, here and on another host through ssh: what a guest sees in
them is right bit for bit. Logical volumes: test_lvm_volumes.py, which runs both ways, too."""

import os

import pytest

from harness import images
from harness.images import MiB, run
from harness.scene import valid
from harness.volumes import as_guest, digest, leftovers, scatter

SIZE = 5 * MiB + 512 * 7


class World:
    """`vol` runs a command where the volumes are; `source` is one of the format, `data` what a guest sees in it."""

    def __init__(self, program, before, format, dir):
        self.program, self.before, self.format, self.dir = program, before, format, dir
        self.data = scatter(os.path.join(dir, "data.img"), SIZE, 11, extents=30)
        self.source = self.path("source")
        run("qemu-img", "convert", "-f", "raw", "-O", format, self.data, self.source)

    def path(self, name):
        return os.path.join(self.dir, f"{name}.{'qcow2' if self.format == 'qcow2' else 'img'}")

    def vol(self, *words, rc=0, command="vol"):
        result = self.program.run(*self.before, command, *words, json=True).expect(rc)
        return valid(result.json) if rc == 0 else result

    def shows(self, path, data=None, format=None, size=None):
        """A guest sees the data in it, and zeroes behind that."""
        assert as_guest(path, format or self.format, self.dir) == digest(data or self.data, size)


@pytest.fixture(params=["here", "ssh"])
def where(request):
    return request.param


@pytest.fixture(params=["raw", "qcow2"])
def world(request, where, workdir):
    dir = os.path.join(workdir, "v")
    os.mkdir(dir)
    if where == "here":
        return World(request.getfixturevalue("rechain"), [], request.param, dir)
    return World(request.getfixturevalue("net").a.rechain(), ["-H", "b"], request.param, dir)


def create(w):
    new = w.path("new")
    w.vol("create", new, "--capacity", "3M", "--format", w.format)
    assert w.vol("info", new)["virtual-size"] == 3 * MiB
    with images.raw_view(new, format=w.format, dir=w.dir) as raw, open(raw, "rb") as file:
        assert file.read() == bytes(3 * MiB)


def delete(w):
    w.vol("delete", w.source)
    assert not os.path.exists(w.source)
    w.vol("delete", w.source, rc=3)


def resize(w):
    w.vol("resize", w.source, "+1M")
    w.shows(w.source, size=SIZE + MiB)
    w.vol("resize", w.source, str(SIZE), rc=4)
    w.vol("resize", w.source, str(SIZE), "--shrink")
    w.shows(w.source)


def growfs_and_shrinkfs(w):
    raw, path, mount, tree = (os.path.join(w.dir, name) for name in ("fs.raw", "fs.vol", "mount", "tree"))
    os.mkdir(tree)
    os.link(w.data, os.path.join(tree, "data.img"))
    with open(raw, "wb") as file:
        file.truncate(24 * MiB)
    run("mkfs.ext4", "-q", "-d", tree, raw)
    with open(raw, "r+b") as file:
        file.truncate(48 * MiB)
    run("qemu-img", "convert", "-f", "raw", "-O", w.format, raw, path)
    os.unlink(raw)
    os.mkdir(mount)
    for words, size in ((["growfs", path], 48), (["shrinkfs", path, "32M"], 32)):
        told = w.vol(*words, *(["--source-format", w.format] if w.format == "qcow2" else []))["disks"][0]["filesystem"]
        assert told["size"] == size * MiB
        with images.raw_view(path, format=w.format, dir=w.dir) as view:
            run("e2fsck", "-fn", view)
            run("mount", "-o", "ro,loop", view, mount)
            try:
                assert digest(os.path.join(mount, "data.img")) == digest(w.data)
            finally:
                run("umount", mount)


def snapshot(w):
    was = digest(w.source)
    w.vol("snapshot", w.source, "s", "--method", "external")
    overlay = os.path.join(w.dir, "source.s.qcow2")
    w.shows(overlay, format="qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 0 1M", overlay)
    assert digest(w.source) == was
    if w.format == "qcow2":
        copy = w.path("copy")
        w.vol("copy", w.source, copy)
        w.vol("snapshot", copy, "s", "--method", "internal")
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 0 1M", copy)
        run("qemu-img", "snapshot", "-a", "s", copy)
        w.shows(copy)


def clone(w):
    for format in ("raw", "qcow2"):
        new = os.path.join(w.dir, f"clone.{format}")
        w.vol("clone", w.source, new, "--format", format, "--capacity", str(SIZE + MiB))
        w.shows(new, format=format, size=SIZE + MiB)


def copy(w):
    w.vol("copy", w.source, w.path("copy"))
    assert digest(w.path("copy")) == digest(w.source)
    w.vol("copy", w.source, w.path("copy"), rc=4)
    w.vol("copy", w.data, w.path("copy"), "--overwrite")
    assert digest(w.path("copy")) == digest(w.data)


def copy_contents(w):
    new = w.path("new")
    run("qemu-img", "create", "-q", "-f", w.format, new, "8M")
    run("qemu-io", "-f", w.format, "-c", "write -q -P 5 0 8M", new)
    w.vol("copy-contents", w.source, new)
    w.shows(new, size=8 * MiB)


def compress_and_decompress(w):
    was = digest(w.source)
    w.vol("compress", w.source, "zstd", "--delete")
    assert not os.path.exists(w.source) and w.vol("info", w.source + ".zst")["codec"] == "zstd"
    w.vol("decompress", w.source + ".zst")
    assert digest(w.source) == was
    w.vol("copy", w.source, w.source + ".gz", "--archive=gzip")
    w.vol("copy", w.source + ".gz", w.path("again"))
    assert digest(w.path("again")) == was


def info_and_list(w):
    info = w.vol("info", w.source)
    assert (info["format"], info["virtual-size"], info["type"]) == (w.format, SIZE, "file")
    assert {v["path"] for v in w.vol("list", w.dir)["volumes"]} == {w.source, w.data}
    assert "raw" in w.vol("info", command="storage")["formats"]


OPERATIONS = [create, delete, resize, growfs_and_shrinkfs, snapshot, clone, copy, copy_contents, compress_and_decompress,
              info_and_list]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_each_operation(world, operation):
    operation(world)
    assert leftovers(world.dir) == []
