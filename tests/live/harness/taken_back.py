"""What fails midway: how to make it fail, and what must be true once it was taken back."""

import json
import os
import time

from . import images
from .images import MiB
from .proxy import PASS, Reply
from .qemu import leftovers
from .scene import wait_until
from .sweep import digest, sound

SLOW = "2M"     # bytes/s; the 16 MiB of the old layer then take 8 s, in which a busy machine does its part too
CALM = {"rate": 200}    # writes/s; a guest that does nothing else takes the time of all others here


def our_jobs(vm):
    return [i for i, j in vm.jobs().items() if i.startswith("rc-") and j["status"] == "running"]


def wait_copying(vm, count=1):
    """Until `count` of our jobs have copied something. Returns their ids."""
    wait_until(lambda: len([j for j in our_jobs(vm) if vm.jobs()[j]["current-progress"] > 0]) == count, "the jobs")
    return our_jobs(vm)


class Case:
    """A VM whose guest writes all the time, and what must be true of it once the operation is taken back."""

    def __init__(self, vm, rechain, target, *words):
        self.vm, self.rechain, self.target, self.words = vm, rechain, target, words or ("move",)
        self.templates = {d.chain.base: digest(d.chain.base) for d in vm.disks}

    def start(self, *more, address=None, json=True):
        verb, *words = self.words
        return self.rechain.start(verb, address or self.vm.qmp_path, "vda", "--to", self.target, *words, *more, json=json)

    def is_old(self, dirs=(), writing=True, reopened=False):
        """The live half of the judgement: the guest goes on where it was. `reopened`: QEMU had let go of
        the old layer, so it is under a name of ours."""
        self.vm.assert_alive()
        for disk in self.vm.disks:
            assert self.vm.chain(disk.id) == disk.chain.layers
            assert images.header_chain(disk.chain.active) == disk.chain.layers
        assert not os.path.exists(self.target)
        leftovers(self.vm, self.rechain.state_dir, [os.path.dirname(self.target), *dirs], result=reopened)
        run = os.path.join(self.rechain.state_dir, "run")
        assert not os.path.isdir(run) or os.listdir(run) == []
        if writing and self.vm.guest:
            assert self.vm.guest.is_writing(10), "the guest does not write any more"
            self.vm.guest.verify()

    def has_all(self, ids=("vda",), graceful=True):
        """The other half, after QEMU's end: every acknowledged write, and an untouched template."""
        if self.vm.is_alive():
            self.vm.stop() if graceful else self.vm.kill()
        for id in ids:
            report = self.vm.check(id, graceful=graceful)
            assert report.history.acknowledged > 0
        for base, was in self.templates.items():
            assert digest(base) == was, f"{base} was changed"

    def interrupt_twice(self, run):
        """Ctrl-C while it copies, then again and again until it lets go; returns what it said and what recover did."""
        wait_copying(self.vm)
        run.sigint()
        run.sigint()
        wait_until(lambda: not run.is_running() or "interrupt again" in run.err_so_far(), "the first interrupt")
        while run.is_running():
            run.sigint()
            time.sleep(0.01)
        result = sound(run.wait())
        assert result.rc in (7, 8), str(result)
        return result, sound(self.rechain.run("recover", self.vm.qmp_path, json=True)).expect(0)

    def is_undone(self, result, words=None, dirs=(), **more):
        sound(result).expect(7)
        assert result.json["state"] == "undone"
        if words:
            said = json.dumps(result.json["error"])
            assert words.lower() in said.lower(), said
        assert result.json["disks"][0]["chain"] == self.vm.disk("vda").chain.layers
        self.is_old(dirs, **more)
        self.has_all()


def fill(dir, leave=0):
    """Fills a filesystem, but for `leave` bytes."""
    with open(os.path.join(dir, "filler"), "wb") as file:
        try:
            while True:
                stat = os.statvfs(dir)
                left = stat.f_bavail * stat.f_frsize - leave
                if left <= 0:
                    break
                file.write(bytes(min(left, MiB)))
                file.flush()
        except OSError:
            pass


def faulty_target(vm, *rules):
    """A proxy policy: QEMU opens the new layer over a blkdebug node with these rules, made for it alone."""
    def policy(m):
        arguments = m.arguments
        if m.kind != "command" or m.name != "blockdev-add" or arguments.get("driver") not in ("qcow2", "raw"):
            return PASS
        file = {"driver": "blkdebug", "image": arguments["file"], "inject-error": list(rules)}
        vm.qmp.execute("blockdev-add", dict(arguments, file=file))
        return Reply(value={})
    return policy
