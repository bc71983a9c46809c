"""A host that loses its page cache: all that is under test lies on a filesystem on a device of its own, and what is left
after the crash is what had reached that device at one instant.

The device is a loop device whose file lies on an xfs, so that an instant of it can be kept by a reflink: that holds
all that the filesystem under test had written to its device until then (when fsync was asked for, or by itself), and
nothing of what was only in its page cache. The device's own cache is not simulated: what it was given it keeps."""

import os
import sqlite3
import subprocess
import time

from .images import MiB, run

def _patiently(*argv):
    deadline = time.monotonic() + 10
    while subprocess.run(argv, capture_output=True).returncode != 0:
        if time.monotonic() > deadline:
            run(*argv)
        time.sleep(0.05)


class Power:
    """mount: where it is mounted. cut(): the instant; restore(): what is left of the filesystem, mounted at its place."""

    def __init__(self, dir, mib=256, kind="ext4"):
        self.dir, self._kind, self._mib = dir, kind, mib
        self._outer, self.mount = os.path.join(dir, "host"), os.path.join(dir, "fs")
        os.makedirs(self._outer)
        os.makedirs(self.mount)
        with open(os.path.join(dir, "host.img"), "wb") as file:
            file.truncate(2048 * MiB)
        run("mkfs.xfs", "-q", os.path.join(dir, "host.img"))
        run("mount", "-o", "loop", os.path.join(dir, "host.img"), self._outer)
        self._file = None

    def format(self):
        """A new filesystem, empty."""
        self._unmount()
        for name in os.listdir(self._outer):
            os.unlink(os.path.join(self._outer, name))
        path = os.path.join(self._outer, "disk.img")
        with open(path, "wb") as file:
            file.truncate(self._mib * MiB)
        run(f"mkfs.{self._kind}", "-q", path)
        self._mount(self._attach(path), path)

    @staticmethod
    def _attach(file):
        return run("losetup", "-f", "--show", file).strip()

    def _mount(self, device, file):
        # Nothing reaches the device by itself for as long as a case takes.
        run("mount", *(["-o", "commit=300"] if self._kind == "ext4" else []), device, self.mount)
        self.device, self._file = device, file

    def _unmount(self):
        if self._file is None:
            return
        _patiently("umount", self.mount)
        run("losetup", "-d", self.device)
        self._file = None

    def sync(self):
        run("sync", "-f", self.mount)

    def cut(self):
        self._kept = os.path.join(self._outer, "crashed.img")
        run("cp", "--reflink=always", self._file, self._kept)

    def restore(self, state_dir=None):
        """The kernel knows the device by another number then, as after a boot; the journal in `state_dir` is told that
        there was one."""
        device = self._attach(self._kept)
        self._unmount()
        self._mount(device, self._kept)
        if state_dir:
            with sqlite3.connect(os.path.join(state_dir, "journal.db")) as db:
                db.execute("UPDATE operations SET plan = json_set (plan, '$.boot', 'the one before')")
            db.close()

    def close(self):
        try:
            self._unmount()
        finally:
            if self._file is not None:      # a case that went wrong may have left it open
                for argv in (["umount", "-l", self.mount], ["losetup", "-d", self.device]):
                    subprocess.run(argv, capture_output=True)
            run("umount", "-l", self._outer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
