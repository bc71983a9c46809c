"""Something happens at the n-th call by which a program changes files: shim.c, made for the machine it runs on."""

import contextlib
import functools
import os
import struct
import subprocess
import tempfile

_SOURCE = os.path.join(os.path.dirname(__file__), "shim.c")


@functools.cache
def _library():
    path = os.path.join(tempfile.mkdtemp(prefix="rct-shim-"), "shim.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, _SOURCE, "-ldl"], check=True)
    return path


class Shim:
    """`program` is counted, at files below `paths` where some are given, without `syncs` if wanted; at call `at` (0: never) `act` happens:
    kill, both, tear, EIO, ENOSPC, EIO-once, ENOSPC-once."""

    def __init__(self, dir, program, at=0, act="kill", paths=None, syncs=True):
        self.file = os.path.join(dir, "shim.count")
        self._at, self._once = at, act.endswith("-once")
        self._set(0, at)
        self.env = {"LD_PRELOAD": _library(), "SHIM_PROGRAM": program, "SHIM_COUNT": self.file, "SHIM_DO": act}
        if paths is not None:
            self.env["SHIM_PATH"] = "\n".join(paths)
        if not syncs:
            self.env["SHIM_WRITES"] = "1"

    def _set(self, *numbers, offset=0):
        with open(self.file, "r+b" if os.path.exists(self.file) else "wb") as file:
            file.seek(offset)
            file.write(struct.pack(f"={len(numbers)}Q", *numbers))

    @property
    def count(self):
        with open(self.file, "rb") as file:
            return struct.unpack("=Q", file.read(8))[0]

    def arm(self, after):
        """It happens at the so many-th call from now on."""
        self._at = self.count + after
        self._set(self._at, offset=8)

    def mend(self):
        """It happens no more."""
        self._at = 0
        self._set(0, offset=8)

    @contextlib.contextmanager
    def resting(self):
        """What is done meanwhile does not count, and does not fail."""
        at, before = self._at, self.count
        self.mend()
        try:
            yield
        finally:
            if at > before:
                self.arm(at - before)
            elif at and not self._once:
                self.arm(1)
