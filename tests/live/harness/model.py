"""An independent model of a backing chain: what each layer holds, and what it must hold after a merge.

It knows nothing of jobs: a layer is a map from cluster to bytes, and what a layer shows is the
topmost of them from it down. `make()` builds the same on disk, `check()` compares every layer that
is left, alone and with what backs it, bit for bit."""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import tempfile

from .images import run

CLUSTER = 65536


class Layers:
    """`own[i]`: cluster -> bytes of layer i, top first. `files[i]`, `formats[i]` go along with it.
    `alive`: the indices of the layers that the chain still has, top first."""

    def __init__(self, files, formats, clusters):
        self.files, self.formats, self.clusters = files, formats, clusters
        self.own = [{} for _ in files]
        self.alive = list(range(len(files)))
        self.sums = {}

    # ---- what is ----

    def below(self, layer):
        """Layers from `layer` down, itself first."""
        return self.alive[self.alive.index(layer):]

    def cluster(self, layer, number):
        for index in self.below(layer):
            if number in self.own[index]:
                return self.own[index][number]
        return bytes(CLUSTER)

    def view(self, layer):
        return b"".join(self.cluster(layer, n) for n in range(self.clusters))

    def alone(self, layer):
        return b"".join(self.own[layer].get(n, bytes(CLUSTER)) for n in range(self.clusters))

    # ---- what must become of it ----

    def _merged(self, upper, lower):
        """What the layers from `upper` down to (and without) `lower` hold together."""
        chain = self.alive[self.alive.index(upper):self.alive.index(lower) if lower is not None else None]
        together = {}
        for index in reversed(chain):
            together.update(self.own[index])
        return together, chain

    def pull(self, top=None, base=None):
        """Data of the layers above `base` (None: all) goes up into `top`; they fall out."""
        top = self.alive[0] if top is None else top
        self.own[top], chain = self._merged(top, base)
        self._drop(chain[1:])

    def commit(self, top=None, base=None):
        """`top`, and what lies between, goes down into `base` (None: the next one)."""
        top = self.alive[0] if top is None else top
        base = self.alive[self.alive.index(top) + 1] if base is None else base
        together, chain = self._merged(top, base)
        self.own[base].update(together)
        self._drop(chain)

    def merge(self, source, dest):
        if source < dest:
            self.commit(source, dest)
        else:
            under = self.below(source)[1:]
            self.pull(dest, under[0] if under else None)

    def _drop(self, layers):
        self.alive = [index for index in self.alive if index not in layers]

    def chain(self):
        return [self.files[index] for index in self.alive]

    # ---- on disk ----

    def remember(self):
        self.sums = {index: _sum(file) for index, file in enumerate(self.files)}

    def check(self, written=None, dropped_stay=True):
        """Every layer that is left holds and shows what it must, its header names the next one, and it is sound.
        `written`: the layers that the operation may have written to; no other file has changed by a byte."""
        for place, index in enumerate(self.alive):
            file, fmt = self.files[index], self.formats[index]
            below = self.alive[place + 1] if place + 1 < len(self.alive) else None
            _same(read(file, fmt, alone=True), self.alone(index), f"{file} alone")
            _same(read(file, fmt), self.view(index), f"{file} and what backs it")
            if fmt == "qcow2":
                header = json.loads(run("qemu-img", "info", "-f", "qcow2", "--output=json", file))
                assert header.get("full-backing-filename") == (self.files[below] if below is not None else None), header
                assert header.get("backing-filename-format") == (self.formats[below] if below is not None else None)
                sound(file)
        for index, file in enumerate(self.files):
            if index not in (written or ()) and index in self.sums and (dropped_stay or index in self.alive):
                assert _sum(file) == self.sums[index], f"{file} was written to"


def _sum(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _same(found, wanted, what):
    if found == wanted:
        return
    assert len(found) == len(wanted), f"{what}: {len(found)} bytes and not {len(wanted)}"
    bad = [n for n in range(len(wanted) // CLUSTER)
           if found[n * CLUSTER:(n + 1) * CLUSTER] != wanted[n * CLUSTER:(n + 1) * CLUSTER]]
    raise AssertionError(f"{what}: clusters {bad} are wrong")


def sound(file):
    """No error and no leaked cluster."""
    done = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", file], capture_output=True, text=True)
    assert done.returncode == 0, f"qemu-img check {file}: {done.returncode} {done.stdout}{done.stderr}"


def read(file, fmt, alone=False):
    """What an image shows, or, `alone`, what it holds itself (zeros elsewhere)."""
    spec = {"driver": fmt, "file": {"driver": "file", "filename": file}}
    if alone and fmt == "qcow2":
        spec["backing"] = None
    fd, raw = tempfile.mkstemp(dir=os.path.dirname(file), prefix="read-")
    os.close(fd)
    try:
        run("qemu-img", "convert", "-O", "raw", f"json:{json.dumps(spec)}", raw)
        with open(raw, "rb") as view:
            return view.read()
    finally:
        with contextlib.suppress(OSError):
            os.unlink(raw)


def make(dir, length, clusters=48, seed=0, base_format="qcow2", relative=False, options="", suffix=""):
    """A chain of `length` layers in `dir`: l0 on top, each with its own random data, zeros and holes; some
    writes are smaller than a cluster, so that QEMU has to fill up the rest from below."""
    dir = os.path.realpath(dir)
    rng = random.Random(f"{seed} {length}")
    formats = ["qcow2"] * (length - 1) + [base_format]
    files = [os.path.join(dir, f"l{index}{suffix}.{'img' if fmt == 'raw' else fmt}")
             for index, fmt in enumerate(formats)]
    layers = Layers(files, formats, clusters)
    with tempfile.TemporaryDirectory(dir=dir) as scratch:
        for index in reversed(range(length)):
            _create(layers, index, relative, options)
            layers.alive = list(range(index, length))
            _fill(layers, index, rng, scratch)
    layers.remember()
    return layers


def _create(layers, index, relative, options):
    argv = ["qemu-img", "create", "-q", "-f", layers.formats[index]]
    if layers.formats[index] == "qcow2" and options:
        argv += ["-o", options]
    if index + 1 < len(layers.files):
        below = layers.files[index + 1]
        argv += ["-u", "-b", os.path.basename(below) if relative else below, "-F", layers.formats[index + 1]]
    run(*argv, layers.files[index], layers.clusters * CLUSTER)


def _fill(layers, index, rng, scratch):
    commands = []
    raw = layers.formats[index] == "raw"
    if raw:
        layers.own[index] = {n: bytes(CLUSTER) for n in range(layers.clusters)}
    for number in rng.sample(range(layers.clusters), layers.clusters // 3):
        at = number * CLUSTER
        kind = rng.choice(["data", "data", "data", "part", "zero"])
        if kind == "zero":
            layers.own[index][number] = bytes(CLUSTER)
            commands.append(f"write -q -z {at} {CLUSTER}")
            continue
        offset, length = (0, CLUSTER) if kind == "data" else (rng.randrange(1, 120) * 512, 512 * rng.randrange(1, 8))
        data = rng.randbytes(length)
        old = layers.cluster(index, number)
        layers.own[index][number] = old[:offset] + data + old[offset + length:]
        piece = f"{index}-{number}"                     # relative: qemu-io splits at blanks and quotes
        with open(os.path.join(scratch, piece), "wb") as file:
            file.write(data)
        commands.append(f"write -q -s {piece} {at + offset} {length}")
    run("qemu-io", "-f", layers.formats[index], layers.files[index], input="\n".join(commands) + "\n", cwd=scratch)


def copy(layers, dir):
    """The same chain once more, in another folder; for headers with relative names."""
    os.makedirs(dir, exist_ok=True)
    files = [os.path.join(os.path.realpath(dir), os.path.basename(file)) for file in layers.files]
    for old, new in zip(layers.files, files):
        run("cp", "--sparse=always", old, new)
    twin = Layers(files, list(layers.formats), layers.clusters)
    twin.own = [dict(own) for own in layers.own]
    twin.remember()
    return twin
