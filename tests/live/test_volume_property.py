"""vol clone, copy and copy-contents of random volumes: random extents and holes, sizes that are no multiple of anything,
cluster sizes and chains; what comes out is held against a model of plain bytes."""

import os
import random

import pytest

from harness import images
from harness.images import run
from harness.volumes import leftovers, rounded, vol

SEEDS = range(14)


class Model:
    """A volume and the bytes that a guest must see in it."""

    def __init__(self, path, format, data):
        self.path, self.format, self.data = path, format, data


def random_bytes(rng, size):
    """Data at odd places, runs of written zeroes, and nothing between."""
    data = bytearray(size)
    for _ in range(rng.randrange(8)):
        start, length = rng.randrange(size), rng.choice([1, 17, 511, 513, 4096, 65536, 65537, 200003])
        piece = bytes(length) if rng.random() < 0.2 else rng.randbytes(length)
        data[start:start + length] = piece[:max(size - start, 0)]
    del data[size:]
    return data


def write_sparse(path, data):
    """With holes where a whole block is zero, but for some."""
    with open(path, "wb") as file:
        for at in range(0, len(data), 4096):
            if any(data[at:at + 4096]) or at % 7 == 0:
                file.seek(at)
                file.write(data[at:at + 4096])
        file.truncate(len(data))
    return path


def random_volume(rng, dir, name):
    size = rng.choice([1, 511, 513, 65537, rng.randrange(1, 900000), rng.randrange(900000, 3000000)])
    data = random_bytes(rng, size)
    raw = write_sparse(os.path.join(dir, f"{name}.img"), data)
    if rng.random() < 0.4:
        return Model(raw, "raw", bytes(data))
    path = os.path.join(dir, f"{name}.qcow2")
    cluster = rng.choice([512, 4096, 65536, 1 << 21])
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", f"cluster_size={cluster}", raw, path)
    os.unlink(raw)
    data = data.ljust(rounded(size), b"\0")
    for layer in range(rng.randrange(3)):                  # a chain, with other data in each layer
        upper = os.path.join(dir, f"{name}{layer}.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", upper)
        for _ in range(rng.randrange(4)):
            at, byte = rng.randrange(len(data)), rng.randrange(256)
            length = min(rng.choice([1, 512, 70000]), len(data) - at)
            run("qemu-io", "-f", "qcow2", "-c", f"write -q -P {byte} {at} {length}" if byte else f"write -q -z {at} {length}", upper)
            data[at:at + length] = bytes([byte]) * length
        path = upper
    return Model(path, "qcow2", bytes(data))


def guest_bytes(path, format, dir):
    with images.raw_view(path, format=format, dir=dir) as raw, open(raw, "rb") as file:
        return file.read()


def check(path, format, data, dir):
    seen = guest_bytes(path, format, dir)
    assert seen[:len(data)] == data and not any(seen[len(data):]) and len(seen) - len(data) < 512, path
    if format == "qcow2":
        images.check_image(path)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clone_is_what_a_guest_sees(rechain, workdir, seed):
    rng = random.Random(f"clone {seed}")
    source = random_volume(rng, workdir, "src")
    for to in ("raw", "qcow2"):
        path = os.path.join(workdir, f"dst.{to}")
        more = rng.choice([0, 0, 512, 100 * 512, rng.randrange(1, 1000) * 512])
        capacity = [] if more == 0 else ["--capacity", str(rounded(len(source.data)) + more)]
        allocation = rng.choice([[], [], ["--allocation", "falloc"]])
        vol(rechain, "clone", source.path, path, "--format", to, *capacity, *allocation)
        expected = source.data if more == 0 else source.data.ljust(rounded(len(source.data)) + more, b"\0")
        check(path, to, expected, workdir)
    assert leftovers(workdir) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clone_with_a_backing_file_is_the_same_and_keeps_less(rechain, workdir, seed):
    rng = random.Random(f"backing {seed}")
    base = random_volume(rng, workdir, "base")
    source, path = os.path.join(workdir, "src.qcow2"), os.path.join(workdir, "dst.qcow2")
    run("qemu-img", "convert", "-f", base.format, "-O", "qcow2", base.path, source)
    data = bytearray(base.data.ljust(rounded(len(base.data)), b"\0"))
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(data))
        length = min(rng.choice([1, 512, 70000]), len(data) - at)
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 5 {at} {length}", source)
        data[at:at + length] = bytes([5]) * length
    vol(rechain, "clone", source, path, "--backing", base.path, "--backing-format", base.format)
    assert images.info(path)["backing-filename"] == base.path
    check(path, "qcow2", bytes(data), workdir)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_is_byte_for_byte_also_through_an_archive(rechain, workdir, seed):
    rng = random.Random(f"copy {seed}")
    source = write_sparse(os.path.join(workdir, "src.img"), random_bytes(rng, rng.choice([1, 4097, rng.randrange(1, 3000000)])))
    with open(source, "rb") as file:
        data = file.read()
    copy, archive, back = (os.path.join(workdir, name) for name in ("copy.img", "a.zst", "back.img"))
    vol(rechain, "copy", source, copy, *rng.choice([[], ["--bandwidth", "1G"]]))
    vol(rechain, "copy", copy, archive, "--archive")
    vol(rechain, "copy", archive, back)
    for path in (copy, back):
        with open(path, "rb") as file:
            assert file.read() == data
        assert os.stat(path).st_blocks <= os.stat(source).st_blocks + 16


@pytest.mark.parametrize("seed", SEEDS)
def test_contents_replace_all_that_was_there(rechain, workdir, seed):
    rng = random.Random(f"contents {seed}")
    one, other = (random_volume(rng, workdir, name) for name in ("one", "other"))
    source, target = sorted((one, other), key=lambda v: rounded(len(v.data)))
    size = len(guest_bytes(target.path, target.format, workdir))
    if len(source.data) > size:
        vol(rechain, "copy-contents", source.path, target.path, rc=4)
        return
    vol(rechain, "copy-contents", source.path, target.path)
    check(target.path, target.format, source.data.ljust(size, b"\0"), workdir)
