"""Something happens at the n-th call by which a program changes files: shim.c, made for the machine it runs on."""

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
    """`program` is counted; at call `at` (0: never) `act` happens: kill, both, EIO, ENOSPC."""

    def __init__(self, dir, program, at=0, act="kill"):
        self.file = os.path.join(dir, "shim.count")
        with open(self.file, "wb") as file:
            file.write(bytes(8))
        self.env = {"LD_PRELOAD": _library(), "SHIM_PROGRAM": program, "SHIM_COUNT": self.file, "SHIM_AT": str(at),
                    "SHIM_DO": act}

    @property
    def count(self):
        with open(self.file, "rb") as file:
            return struct.unpack("=Q", file.read(8))[0]
