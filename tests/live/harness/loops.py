"""A volume group without a device-mapper: loop devices that rechain takes for logical volumes, in a mount namespace
whose sysfs says so, and a program "lvm" that knows them and makes them longer. For what goes on between rechain and
QEMU while a volume grows, with any QEMU; the real LVM is in harness/lvm.py."""

import os
import shutil
import subprocess
import time

from .images import Chain, MiB, run
from .rechain import binary

_LVM = """#!/usr/bin/python3
import fcntl, json, os, subprocess, sys, time
lock = open({dir!r} + "/lock", "w")
dir, verb, words = {dir!r}, sys.argv[1], sys.argv[2:]
fcntl.flock(lock, fcntl.LOCK_EX if verb == "lvextend" else fcntl.LOCK_SH)
names = sorted(name[:-4] for name in os.listdir(dir) if name.endswith(".img"))
size = {{name: os.path.getsize(f"{{dir}}/{{name}}.img") for name in names}}
record = {{name: int(open(f"{{dir}}/{{name}}.record").read()) if os.path.exists(f"{{dir}}/{{name}}.record") else size[name]
          for name in names}}
free = int(open(f"{{dir}}/total").read()) - sum(record.values())


def meet(point):
    open(f"{{dir}}/{{point}}", "w").close()
    while os.path.exists(f"{{dir}}/held-{{point}}"):
        time.sleep(0.05)
    if os.path.exists(f"{{dir}}/dies-{{point}}"):
        os.unlink(f"{{dir}}/dies-{{point}}")
        os.kill(os.getpid(), 9)


def resize(name, wanted):
    os.truncate(f"{{dir}}/{{name}}.img", wanted)
    subprocess.run(["losetup", "-c", os.readlink(f"{{dir}}/{{name}}")], check=True)


if verb == "lvs":
    rows = [{{"vg_name": "vg0", "lv_name": n, "lv_attr": "-wi-ao----", "segtype": "linear", "lv_size": str(record[n])}}
            for n in names]
    print(json.dumps({{"report": [{{"lv": rows}}]}}))
elif verb == "vgs":
    print(json.dumps({{"report": [{{"vg": [{{"vg_name": "vg0", "vg_free": str(max(free, 0))}}]}}]}}))
elif verb == "lvextend":
    meet("begun")
    free = int(open(f"{{dir}}/total").read()) - sum(record.values())
    name, wanted = words[-1].split("/")[1], -(-int(words[words.index("-L") + 1][:-1]) // {MiB}) * {MiB}
    if wanted - record[name] > free:
        sys.exit("Insufficient free space")
    if wanted <= record[name]:
        sys.exit("New size matches existing size")
    with open(f"{{dir}}/{{name}}.record", "w") as file:
        file.write(str(wanted))
    meet("recorded")
    resize(name, wanted)
    meet("extended")
elif verb == "lvchange":
    name = words[-1].split("/")[1]
    resize(name, record[name])
"""

_WRAPPER = """#!/bin/sh
PATH={dir}/bin:$PATH exec unshare -m --propagation private /bin/sh -c \\
  'mount --bind {dir}/sys /sys/dev/block && mount --bind {dir}/misc /proc/misc && exec {binary} "$@"' rechain "$@"
"""


def missing():
    """Why this cannot be used here; None where it can."""
    for program in ("losetup", "unshare"):
        if shutil.which(program) is None:
            return f"{program} is not here"
    works = subprocess.run(["losetup", "-f"], capture_output=True).returncode == 0
    return None if works and os.geteuid() == 0 else "there are no loop devices"


class Group:
    """`program` is rechain in a world in which the volumes are volumes of "vg0"."""

    def __init__(self, dir, mib=512):
        self.dir, self._devices = dir, []
        for folder in ("bin", "sys"):
            os.makedirs(os.path.join(dir, folder))
        self.program = self._script("rechain", _WRAPPER.format(dir=dir, binary=binary()))
        self._script("bin/lvm", _LVM.format(dir=dir, MiB=MiB))
        self._write("misc", "236 device-mapper\n")
        self.set_total(mib * MiB)

    def _write(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)
        return path

    def _script(self, name, text):
        path = self._write(name, text)
        os.chmod(path, 0o755)
        return path

    def set_total(self, size):
        self._write("total", str(size))

    def used(self):
        return sum(os.path.getsize(os.path.join(self.dir, name)) for name in os.listdir(self.dir)
                   if name.endswith(".img"))

    def volume(self, name, mib):
        """The path of a new one."""
        image = self._write(f"{name}.img", "")
        os.truncate(image, mib * MiB)
        device = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True,
                                text=True).stdout.strip()
        self._devices.append(device)
        os.symlink(device, os.path.join(self.dir, name))
        number = os.stat(device).st_rdev
        place = f"sys/{os.major(number)}:{os.minor(number)}/dm"
        self._write(f"{place}/name", f"vg0-{name.replace('-', '--')}\n")
        self._write(f"{place}/uuid", f"LVM-{name}\n")
        return device

    def extend(self, name, mib):
        """As its administrator would, by hand."""
        os.truncate(os.path.join(self.dir, f"{name}.img"), mib * MiB)
        subprocess.run(["losetup", "-c", os.readlink(os.path.join(self.dir, name))], check=True)

    def size(self, name):
        return os.path.getsize(os.path.join(self.dir, f"{name}.img"))

    def put(self, name, image, room=0):
        """The path of a new volume with a copy of the file `image`, and so many MiB more."""
        device = self.volume(name, -(-os.path.getsize(image) // MiB) + room)
        with open(image, "rb") as file, open(device, "r+b") as volume:
            shutil.copyfileobj(file, volume)
        return device

    def put_chain(self, name, chain, room=0):
        """The same chain, each layer in a volume NAME-LAYER; the files are gone."""
        layers, backing = [], None
        for path, format in zip(reversed(chain.layers), reversed(chain.formats)):
            device = self.put(f"{name}-{os.path.splitext(os.path.basename(path))[0]}", path, room)
            if backing:
                run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", backing[0], "-F", backing[1], device)
            layers.insert(0, device)
            backing = device, format
            os.unlink(path)
        return Chain(layers, chain.formats, chain.reference, chain.size)

    def recorded(self, name):
        """What LVM has on record of its size."""
        path = os.path.join(self.dir, f"{name}.record")
        if not os.path.exists(path):
            return self.size(name)
        with open(path) as file:
            return int(file.read())

    def hold(self, point="begun"):
        """From now on lvextend waits at that point: "begun", "recorded" (LVM's record has the new size, the device
        the old one), "extended"."""
        self._write(f"held-{point}", "")

    def dies(self, point):
        """The next lvextend that comes to that point is killed there."""
        self._write(f"dies-{point}", "")

    def wait_for(self, point="begun", timeout=60):
        until = time.monotonic() + timeout
        while not os.path.exists(os.path.join(self.dir, point)):
            assert time.monotonic() < until, f"lvextend is not {point}"
            time.sleep(0.05)

    def let_go(self, point="begun"):
        os.unlink(os.path.join(self.dir, f"held-{point}"))

    def close(self):
        for device in self._devices:
            subprocess.run(["losetup", "-d", device], check=False)
