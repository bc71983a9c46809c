#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records what a real QEMU answers, one JSON file per scenario, for tests/unit/test-chain.c.

    tests/unit/data/record.py [QEMU [SCENARIO...]]

The images lie in /tmp/rc-record, so that a new recording differs only where QEMU does."""

import json, os, shutil, socket, subprocess, sys, time

DIR = "/tmp/rc-record"
HERE = os.path.dirname(os.path.abspath(__file__))
QUERIES = [("query-block", {}), ("query-named-block-nodes", {"flat": True}),
           ("x-debug-query-block-graph", {}), ("query-jobs", {}), ("query-block-jobs", {}),
           ("query-block-exports", {}), ("query-status", {}), ("query-migrate", {})]
# What the tests do not read and what would only make the files long.
DROP = {"detect_zeroes", "cache", "iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr",
        "write_threshold", "dirty-flag", "shared-perm", "stats"}


class Qemu:
    def __init__(self, program, args):
        path = DIR + "/qmp"
        self.process = subprocess.Popen(
            [program, "-machine", "q35", "-accel", "tcg", "-S", "-display", "none", "-nodefaults",
             "-qmp", f"unix:{path},server=on,wait=off", *args], cwd=DIR)
        for _ in range(200):
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            reply = json.loads(self.file.readline())
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def close(self):
        self("quit")
        self.process.wait()


def slim(value):
    if isinstance(value, dict):
        return {k: slim(v) for k, v in value.items() if k not in DROP}
    return [slim(v) for v in value] if isinstance(value, list) else value


def image(name, size="16M", backing=None, fmt="qcow2", data=None):
    args = ["qemu-img", "create", "-q", "-f", fmt]
    args += ["-u", "-b", backing, "-F", "qcow2"] if backing else []
    subprocess.run(args + ["./" + name, size], cwd=DIR, check=True)
    if data:
        subprocess.run(["qemu-io", "-f", fmt, "-c", f"write -P 7 {data}", "./" + name], cwd=DIR, check=True,
                       stdout=subprocess.DEVNULL)


def dev(**options):
    return ["-blockdev", json.dumps({k.replace("_", "-"): v for k, v in options.items()})]


def proto(node, name):
    return dev(driver="file", node_name=node, filename=f"{DIR}/{name}", auto_read_only=True)


def fmt(node, file, backing=None, **more):
    return dev(driver="qcow2", node_name=node, file=file, backing=backing, **more)


def blockdev(program):
    """A shared template, two disks; relative and absolute backing names; a raw disk; an empty tray."""
    image("template.qcow2", data="0 1M")
    image("mid.qcow2", backing=f"{DIR}/template.qcow2")
    image("top.qcow2", backing="mid.qcow2")
    image("other.qcow2", backing="template.qcow2")
    image("plain.raw", fmt="raw")
    image("bare.raw", fmt="raw")
    return Qemu(program, [
        *proto("t-f", "template.qcow2"), *fmt("t", "t-f", read_only=True),
        *proto("mid-f", "mid.qcow2"), *fmt("mid", "mid-f", "t", read_only=True),
        *proto("top-f", "top.qcow2"), *fmt("top", "top-f", "mid"),
        *proto("other-f", "other.qcow2"), *fmt("other", "other-f", "t"),
        *proto("raw-f", "plain.raw"), *dev(driver="raw", node_name="raw", file="raw-f"),
        *proto("bare", "bare.raw"),
        "-device", "virtio-blk-pci,id=vda,drive=top",
        "-device", "virtio-blk-pci,id=vdb,drive=other",
        "-device", "virtio-blk-pci,id=vdc,drive=raw",
        "-device", "virtio-blk-pci,drive=bare",
        "-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-cd,id=cd"])


def drive(program):
    """-drive: nodes named #block123."""
    blockdev_images = [("a.qcow2", None), ("b.qcow2", f"{DIR}/a.qcow2"), ("c.qcow2", "b.qcow2")]
    for name, backing in blockdev_images:
        image(name, backing=backing)
    image("d.qcow2")
    return Qemu(program, [
        "-drive", "if=none,id=drive0,file=c.qcow2,format=qcow2",
        "-device", "virtio-blk-pci,id=vda,drive=drive0",
        "-drive", "if=none,id=loose,file=d.qcow2,format=qcow2",
        "-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-cd,id=cd"])


def filters(program):
    """throttle and copy-on-read above, blkdebug below, raw over qcow2, throttle inside the chain."""
    image("base.qcow2")
    image("over.qcow2", backing="base.qcow2")
    image("slice.qcow2")
    return Qemu(program, [
        "-object", "throttle-group,id=tg",
        *proto("base-f", "base.qcow2"), *fmt("base", "base-f", read_only=True),
        *dev(driver="throttle", node_name="inner", throttle_group="tg", file="base", read_only=True),
        *proto("over-f", "over.qcow2"), *dev(driver="blkdebug", node_name="dbg", image="over-f"),
        *fmt("over", "dbg", "inner"),
        *dev(driver="copy-on-read", node_name="cor", file="over"),
        *dev(driver="throttle", node_name="thr", throttle_group="tg", file="cor"),
        *proto("slice-f", "slice.qcow2"), *fmt("slice-q", "slice-f"),
        *dev(driver="raw", node_name="slice", file="slice-q"),
        "-device", "virtio-blk-pci,id=vda,drive=thr", "-device", "virtio-blk-pci,id=vdb,drive=slice"])


def jobs(program):
    """A stream, an inner commit, an active commit at READY and a mirror, none with a named filter."""
    args = []
    for disk in "abcd":
        image(f"{disk}0.qcow2", data="0 8M")
        image(f"{disk}1.qcow2", backing=f"{disk}0.qcow2", data="0 8M")
        image(f"{disk}2.qcow2", backing=f"{disk}1.qcow2", data="8M 8M")
        for i in range(3):
            below = f"{disk}{i - 1}" if i else None
            args += proto(f"{disk}{i}-f", f"{disk}{i}.qcow2")
            args += fmt(f"{disk}{i}", f"{disk}{i}-f", below, read_only=i < 2)
        args += ["-device", f"virtio-blk-pci,id=vd{disk},drive={disk}2"]
    image("target.qcow2")
    qemu = Qemu(program, args + proto("target-f", "target.qcow2") + fmt("target", "target-f"))
    later = {"auto_finalize": False, "auto_dismiss": False}
    qemu("block-stream", device="a2", job_id="rc-12345678-vda-stream", base_node="a0", speed=1, **later)
    qemu("block-commit", device="b2", job_id="inner", top_node="b1", base_node="b0", speed=1, **later)
    qemu("block-commit", device="c2", job_id="active", base_node="c1", **later)
    qemu("blockdev-mirror", device="d2", job_id="mirror", target="target", sync="full", speed=65536,
         **later)
    time.sleep(1.0)
    return qemu


def exports(program):
    """A read-only and a writable NBD export on nodes of disks, and a backing file by json: name."""
    image("r.qcow2")
    image("w.qcow2")
    image("odd,name: \".qcow2")
    image("deb.qcow2")
    qemu = Qemu(program, [
        *proto("r-f", "r.qcow2"), *fmt("r", "r-f", read_only=True), *proto("w-f", "w.qcow2"),
        *fmt("w", "w-f"),
        *proto("odd-f", "odd,name: \".qcow2"), *fmt("odd", "odd-f", "r"),
        *dev(driver="file", node_name="deb-f", filename="deb.qcow2"),
        *dev(driver="blkdebug", node_name="deb-d", image="deb-f"), *fmt("deb", "deb-d"),
        "-device", "virtio-blk-pci,id=vda,drive=odd,share-rw=on",
        "-device", "virtio-blk-pci,id=vdb,drive=w,share-rw=on",
        "-device", "virtio-blk-pci,id=vdc,drive=deb"])
    qemu("nbd-server-start", addr={"type": "unix", "data": {"path": DIR + "/nbd"}})
    qemu("block-export-add", type="nbd", id="ro", node_name="r", name="ro")
    qemu("block-export-add", type="nbd", id="rw", node_name="w", name="rw", writable=True)
    return qemu


SCENARIOS = {f.__name__: f for f in (blockdev, drive, filters, jobs, exports)}


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "qemu-system-x86_64"
    for name in sys.argv[2:] or SCENARIOS:
        shutil.rmtree(DIR, ignore_errors=True)
        os.mkdir(DIR)
        qemu = SCENARIOS[name](program)
        replies = {"cwd": DIR, **{q: slim(qemu(q, **a)) for q, a in QUERIES}}
        qemu.close()
        with open(f"{HERE}/{name}.json", "w") as out:
            json.dump(replies, out, separators=(",", ":"))
            out.write("\n")
    shutil.rmtree(DIR, ignore_errors=True)


main()
