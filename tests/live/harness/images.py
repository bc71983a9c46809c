"""Images and chains of images with known contents, and small filesystems to fill up."""

import contextlib
import json
import os
import random
import subprocess
import tempfile

MiB = 1024 * 1024
BLOCK = 4096


def run(*argv, **options):
    """Runs a program; an AssertionError with its own words when it fails."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, argv))}: {done.stderr or done.stdout}"
    return done.stdout


class Chain:
    """A chain of images. `layers` are absolute paths, top first; `formats` goes along with it;
    `reference` is a raw file with what the guest must see."""

    def __init__(self, layers, formats, reference, size):
        self.layers, self.formats, self.reference, self.size = layers, formats, reference, size

    @property
    def active(self):
        return self.layers[0]

    @property
    def base(self):
        return self.layers[-1]

    @property
    def dir(self):
        return os.path.dirname(self.active)

    def format_of(self, path):
        return self.formats[self.layers.index(path)]

    def path(self, name):
        """The layer made for `name` in make_chain()."""
        for layer in self.layers:
            if os.path.splitext(os.path.basename(layer))[0] == name:
                return layer
        raise KeyError(name)


def make_ext4_chain(dir, size=32 * MiB):
    """A chain of two layers whose base holds an empty ext4 filesystem."""
    os.makedirs(dir, exist_ok=True)
    dir = os.path.realpath(dir)
    raw, base, top = (os.path.join(dir, name) for name in ("fs.raw", "template.qcow2", "current1.qcow2"))
    with open(raw, "wb") as file:
        file.truncate(size)
    run("mkfs.ext4", "-q", "-F", raw)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    return Chain([top, base], ["qcow2", "qcow2"], raw, size)


class Ext4:
    """What an image's ext4 is, read without its journal.

    dirty    its journal would have to be replayed      problems  what e2fsck says where it is not clean
    numbers  those in its file `numbers`, in order      mounted   what that file holds on a mount that may write
                                                                  nothing, not even a journal; None: no mount"""

    def __init__(self, path, dir):
        with raw_view(path, dir=dir) as raw:
            head = run("dumpe2fs", "-h", raw)
            check = subprocess.run(["e2fsck", "-f", "-n", raw], capture_output=True, text=True)
            listed = subprocess.run(["debugfs", "-R", "cat /numbers", raw], capture_output=True, text=True)
            self.mounted = self._read_mounted(raw, os.path.join(dir, "mounted"))
        self.dirty = "needs_recovery" in head
        self.problems = "" if check.returncode == 0 else check.stdout + check.stderr
        self.numbers = [int(line) for line in listed.stdout.split()]

    @staticmethod
    def _read_mounted(raw, mount):
        os.makedirs(mount)
        try:
            if subprocess.run(["mount", "-o", "loop,ro", raw, mount], capture_output=True).returncode != 0:
                return None
            with open(os.path.join(mount, "numbers")) as file:
                return [int(line) for line in file]
        finally:
            _umount(mount) if os.path.ismount(mount) else os.rmdir(mount)


def _extents(rng, size, share, count=24):
    """`count` extents, 4 KiB aligned, no overlap, together about `share` of `size`."""
    slot = size // count // BLOCK * BLOCK
    length = int(slot * share) // BLOCK * BLOCK
    if length == 0:
        return
    for index in range(count):
        room = (slot - length) // BLOCK
        yield index * slot + rng.randint(0, room) * BLOCK, length


def make_chain(dir, names=("template", "current1"), size=64 * MiB, share=0.25, formats=None,
               relative=False, cluster_size=65536, seed=0):
    """Makes a chain in `dir`, base first in `names`; each layer holds other pseudo-random data in
    about `share` of the disk (one number, or one per layer). `formats` per name, default qcow2.
    `relative`: backing names in headers are relative. The same arguments give the same bytes."""
    os.makedirs(dir, exist_ok=True)
    dir = os.path.realpath(dir)
    formats = list(formats or ["qcow2"] * len(names))
    shares = list(share) if isinstance(share, (list, tuple)) else [share] * len(names)
    reference = os.path.join(dir, f"{names[-1]}.reference")
    paths = [os.path.join(dir, f"{name}.{'img' if fmt == 'raw' else fmt}") for name, fmt in zip(names, formats)]

    with open(reference, "w+b") as view, tempfile.TemporaryDirectory(dir=dir) as scratch:
        view.truncate(size)
        for index, (name, path, fmt) in enumerate(zip(names, paths, formats)):
            argv = ["qemu-img", "create", "-q", "-f", fmt]
            if fmt == "qcow2":
                argv += ["-o", f"cluster_size={cluster_size}"]
            if index > 0:
                backing = os.path.basename(paths[index - 1]) if relative else paths[index - 1]
                argv += ["-u", "-b", backing, "-F", formats[index - 1]]
            run(*argv, path, size)
            rng = random.Random(f"{seed} {index} {name}")
            commands = []
            for number, (offset, length) in enumerate(_extents(rng, size, shares[index])):
                data = rng.randbytes(length)
                os.pwrite(view.fileno(), data, offset)
                piece = os.path.join(scratch, f"{index}-{number}")
                with open(piece, "wb") as file:
                    file.write(data)
                commands.append(f"write -q -s {os.path.basename(piece)} {offset} {length}")
            if commands:
                run("qemu-io", "-f", fmt, path, input="\n".join(commands) + "\n", cwd=scratch)
    return Chain(paths[::-1], formats[::-1], reference, size)


_made = {}      # arguments of make_chain_again -> a Chain and the bytes of its files


def make_chain_again(dir, *args, **options):
    """make_chain(), but where this process made the same in a folder whose name is as long, the files are copied
    and the name of the folder in their headers replaced: much cheaper."""
    dir = os.path.realpath(dir)
    key = (len(dir), repr(args), repr(sorted(options.items())))
    if key not in _made:
        chain = make_chain(dir, *args, **options)
        _made[key] = chain, {path: open(path, "rb").read() for path in [*chain.layers, chain.reference]}
        return chain
    old, files = _made[key]
    os.makedirs(dir)
    for path, data in files.items():
        head = data[:65536].replace(old.dir.encode(), dir.encode())
        with open(os.path.join(dir, os.path.basename(path)), "wb") as file:
            file.writelines([head, data[65536:]] if path != old.reference else [data])
    return Chain([os.path.join(dir, os.path.basename(path)) for path in old.layers], old.formats,
                 os.path.join(dir, os.path.basename(old.reference)), old.size)


def add_overlay(chain, path):
    """Puts an empty qcow2 overlay on top of a chain made before; the view stays the same."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", chain.active, "-F", chain.formats[0],
        path, chain.size)
    return Chain([path] + chain.layers, ["qcow2"] + chain.formats, chain.reference, chain.size)


def info(path, format=None):
    """`qemu-img info` of one image, also of a live one."""
    argv = ["qemu-img", "info", "-U", "--output=json"] + (["-f", format] if format else []) + [path]
    return json.loads(run(*argv))


def header_chain(path):
    """What the headers say: absolute paths, top first. Not for images of strangers."""
    layers = json.loads(run("qemu-img", "info", "-U", "--backing-chain", "--output=json", path))
    return [layer["filename"] for layer in layers]


def check_image(path, format="qcow2"):
    """`qemu-img check`: corruption is an AssertionError, leaked clusters (after a kill) are not."""
    done = subprocess.run(["qemu-img", "check", "-q", "-f", format, path], capture_output=True, text=True)
    assert done.returncode in (0, 3), f"qemu-img check {path}: {done.stdout}{done.stderr}"


@contextlib.contextmanager
def raw_view(path, format="qcow2", dir=None):
    """A raw file in `dir` (default: beside it) with what `path` shows, its chain read by the headers;
    removed afterwards. Takes no -U: it fails when a living QEMU still has the image."""
    fd, raw = tempfile.mkstemp(prefix="view-", dir=dir or os.path.dirname(path))
    os.close(fd)
    try:
        run("qemu-img", "convert", "-f", format, "-O", "raw", path, raw)
        yield raw
    finally:
        os.unlink(raw)


@contextlib.contextmanager
def _loop_fs(name, mib, dir, *mkfs):
    image, mount = os.path.join(dir, f"{name}.img"), os.path.join(dir, name)
    os.makedirs(mount)
    with open(image, "wb") as file:
        file.truncate(mib * MiB)
    run(*mkfs, image)
    run("mount", "-o", "loop", image, mount)
    try:
        yield mount
    finally:
        _umount(mount)
        os.unlink(image)


def small_fs(mib, dir):
    """A loop-mounted ext4 filesystem of `mib` MiB, for "No space left on device". Yields its path."""
    return _loop_fs("small-fs", mib, dir, "mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal")


def btrfs(mib, dir):
    """A loop-mounted btrfs of `mib` MiB. Yields its path."""
    return _loop_fs("btrfs", mib, dir, "mkfs.btrfs", "-q", "-m", "single")


@contextlib.contextmanager
def tmpfs(mib, dir):
    """A tmpfs of `mib` MiB. Yields its path."""
    mount = tempfile.mkdtemp(prefix="tmpfs-", dir=dir)
    run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", mount)
    try:
        yield mount
    finally:
        _umount(mount)


def _umount(mount):
    # A process that is just being killed may still hold a file: a lazy umount is enough then.
    if subprocess.run(["umount", mount], capture_output=True).returncode != 0:
        run("umount", "-l", mount)
    os.rmdir(mount)
