"""Volumes with known contents, the commands on them, and programs that meet with a mishap."""

import hashlib
import os
import random
import shutil
import subprocess

from . import images
from .images import run
from .scene import valid


def vol(rechain, *arguments, rc=0, **options):
    """The operation's document, or (rc other than 0) the result."""
    result = rechain.run("vol", *arguments, json=True, **options).expect(rc)
    return valid(result.json) if rc == 0 else result


def scatter(path, size, seed, extents=12):
    """A raw file of exactly `size` bytes with random extents at odd places, and holes between them."""
    rng = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(size)
        for _ in range(extents):
            length = rng.choice([1, 511, 4096, 70000, 300001])
            file.seek(rng.randrange(max(size - length, 1)))
            file.write(rng.randbytes(min(length, size)))
        file.truncate(size)
    return path


def digest(path, size=None):
    with open(path, "rb") as file:
        data = file.read()
    return hashlib.sha256(data if size is None else data.ljust(size, b"\0")).hexdigest()


def as_guest(path, format, dir):
    """Digest of what a guest sees."""
    with images.raw_view(path, format=format, dir=dir) as raw:
        return digest(raw)


def rounded(size):
    return (size + 511) // 512 * 512


def leftovers(dir):
    return [name for name in os.listdir(dir) if name.startswith(".rc-")]


def program_around(workdir, name, before="", after=""):
    """A program of that name that does the work of the real one, and something else around it; its folder."""
    dir = os.path.join(workdir, "bin")
    os.makedirs(dir, exist_ok=True)
    path = os.path.join(dir, name)
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\n{before}\n{shutil.which(name)} \"$@\" || exit $?\n{after}\n")
    os.chmod(path, 0o755)
    return dir


def kill_with_programs(running):
    """SIGKILL for rechain and for every program that it started."""
    children = run("pgrep", "-P", running.pid).split()
    running.kill()
    for child in children:
        subprocess.run(["kill", "-9", child], check=False)
