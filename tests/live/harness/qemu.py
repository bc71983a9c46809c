"""Real QEMUs with the disks under test."""

import ctypes
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time

from . import CACHE, oracle
from .guest import Guest
from .qmp import QmpMonitor

# The versions that can be tested: name -> folder of wrappers (None: the host's own QEMU).
SOURCES = {"5.2": "qemu-bullseye", "7.2": None, "10.0": "qemu-trixie", "11.1": "qemu-sid"}
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def binary(version, program="qemu-system-x86_64"):
    """The path of a version's program, or None when it is not here."""
    folder = SOURCES[version]
    if folder is None:
        return shutil.which(program)
    path = os.path.join(CACHE, folder, "run", program)
    return path if os.access(path, os.X_OK) else None


def offline_programs(version):
    """The environment in which rechain works on files with that QEMU's programs; None when they are not here."""
    found = {name: binary(version, program) for name, program in
             (("RECHAIN_QEMU_IMG", "qemu-img"), ("RECHAIN_QEMU_STORAGE_DAEMON", "qemu-storage-daemon"))}
    return found if all(found.values()) else None


def versions():
    """RECHAIN_QEMU ("7.2,10.0"), or those of the two that are here."""
    wanted = os.environ.get("RECHAIN_QEMU")
    if wanted:
        return [v.strip() for v in wanted.split(",")]
    return [v for v in ("7.2", "10.0") if binary(v)]


def die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Disk:
    """One disk of a Vm.

    chain      what images.make_chain() returned
    id         the device's id; `vda` is also the guest's name of the first disk
    filters    of "throttle", "copy-on-read", from the top down
    iothread   the device runs in an IOThread of its own
    werror, rerror  as in -device
    cache      as in -drive (blockdev style: none or writeback)
    top_file   blockdev style: JSON object for the active image's protocol node in place of the
               plain file; "FILE" within it stands for the plain file's node name (for blkdebug)
    files      the same for any layer, by depth
    """

    def __init__(self, chain, id="vda", filters=(), iothread=False, werror=None, rerror=None,
                 cache="writeback", top_file=None, files=None):
        self.chain, self.id, self.filters, self.iothread = chain, id, tuple(filters), iothread
        self.werror, self.rerror, self.cache = werror, rerror, cache
        self.files = {**(files or {}), **({0: top_file} if top_file else {})}

    def node(self, depth=0):
        """The node name of a layer, blockdev style; depth 0 is the active one. The base is ID-0."""
        return f"{self.id}-{len(self.chain.layers) - 1 - depth}"


class Vm:
    """A QEMU process; use it as a context manager, it always ends with the QEMU dead.

    version    "7.2", "10.0" ...
    disks      Disk objects, or Chains (which become vda, vdb ...)
    dir        where its log and records go (default: the first disk's folder)
    style      "blockdev" (as libvirt: explicit nodes) or "drive" (-drive and auto-named nodes)
    guest      True: boots Linux with the verifying writer. False: -S, no kernel, fast
    machine    "q35", or "none" (nodes only, no devices)
    writer     kernel words of the writer: {"rate": 200, "region": 16 << 20, "batch": 8, ...}
    files      ids of disks that hold an ext4 (images.make_ext4_chain): the guest mounts them, and writes
               numbers to them in turn in place of records
    agent      with a guest agent: qemu-ga in the guest, its socket at agent_path
    args       more QEMU arguments
    env        more environment

    After start():
    qmp_path   the monitor for rechain            pid     QEMU's
    qmp        the test's own monitor             guest   the Guest, or None
    """

    def __init__(self, version, disks, dir=None, style="blockdev", guest=False, machine="q35",
                 writer=None, args=(), files=(), agent=False, env=None):
        self.version, self.style, self.machine = version, style, machine
        self.disks = [d if isinstance(d, Disk) else Disk(d, id="vd" + "abcdefghij"[i])
                      for i, d in enumerate(disks if isinstance(disks, (list, tuple)) else [disks])]
        self.dir = dir or self.disks[0].chain.dir
        self.writer, self.args, self.with_guest = dict(writer or {}), list(args), guest
        self.files, self.agent, self.env = list(files), agent, dict(env or {})
        self.log_path = os.path.join(self.dir, "qemu.log")
        self.records = os.path.join(self.dir, "records.log")
        self.process = self.qmp = self.guest = self.run_dir = self.state_before = None

    # --- the command line ---

    def _storage_args(self, disk):
        return self._blockdev_args(disk) if self.style == "blockdev" else self._drive_args(disk)

    def _blockdev_args(self, disk):
        nodes, below = [], None
        cache = {"direct": disk.cache == "none", "no-flush": False}
        for depth in reversed(range(len(disk.chain.layers))):
            name, active = disk.node(depth), depth == 0
            path = disk.chain.layers[depth]
            driver = "host_device" if stat.S_ISBLK(os.stat(path).st_mode) else "file"
            nodes.append({"driver": driver, "node-name": f"{name}-file", "filename": path,
                          "auto-read-only": True, "discard": "unmap", "cache": cache})
            file = f"{name}-file"
            if depth in disk.files:
                file = json.loads(json.dumps(disk.files[depth]).replace('"FILE"', json.dumps(file)))
            node = {"driver": disk.chain.formats[depth], "node-name": name, "file": file,
                    "read-only": not active, "discard": "unmap", "cache": cache}
            if node["driver"] == "qcow2":
                node["backing"] = below
            nodes.append(node)
            below = name
        args = []
        for kind in reversed(disk.filters):
            name = f"{disk.id}-{kind}"
            node = {"driver": kind, "node-name": name, "file": below}
            if kind == "throttle":
                # 5.2 takes no JSON here, and x-bps-total is in all of them.
                args += ["-object", f"throttle-group,id={name}-group,x-bps-total={1 << 30}"]
                node["throttle-group"] = f"{name}-group"
            nodes.append(node)
            below = name
        for node in nodes:
            args += ["-blockdev", json.dumps(node)]
        return args, below

    def _drive_args(self, disk):
        name = f"drive{self.disks.index(disk)}"
        words = ["if=none", f"id={name}", "file=" + _escape(disk.chain.active),
                 f"format={disk.chain.formats[0]}", f"cache={disk.cache}", "discard=unmap"]
        words += [f"{o}={getattr(disk, o)}" for o in ("werror", "rerror") if getattr(disk, o)]
        for kind in disk.filters:
            words.append({"throttle": f"throttling.bps-total={1 << 30}", "copy-on-read": "copy-on-read=on"}[kind])
        return ["-drive", ",".join(words)], name

    def _device_args(self, disk, drive):
        words = [f"virtio-blk-pci,id={disk.id},drive={drive}"]
        args = []
        if disk.iothread:
            args += ["-object", f"iothread,id={disk.id}-iothread"]
            words.append(f"iothread={disk.id}-iothread")
        if self.style == "blockdev":
            words += [f"{o}={getattr(disk, o)}" for o in ("werror", "rerror") if getattr(disk, o)]
        return args + ["-device", ",".join(words)]

    def command_line(self):
        path = binary(self.version)
        assert path, f"QEMU {self.version} is not here: run tools/fetch-qemu"
        args = [path, "-nodefaults", "-display", "none", "-accel", "tcg", "-name", f"rc-test-{os.getpid()}",
                "-machine", self.machine, "-m", "256"]
        for name, target in (("qmp", self.qmp_path), ("qmp-test", self._test_path)):
            args += ["-chardev", f"socket,id={name},path={target},server=on,wait=off",
                     "-mon", f"chardev={name},mode=control"]
        for disk in self.disks:
            storage, drive = self._storage_args(disk)
            args += storage
            if self.machine != "none":
                args += self._device_args(disk, drive)
        args += self._guest_args() if self.with_guest else ["-S", "-bios", self._bios()]
        return args + self.args

    def _bios(self):
        """Firmware that only halts: nobody waits for one that finds nothing to boot."""
        path = os.path.join(self.run_dir, "bios")
        with open(path, "wb") as file:
            file.write(bytes(0xfff0) + b"\xf4\xeb\xfd".ljust(16, b"\0"))    # hlt; jmp back
        return path

    def _guest_args(self):
        guest = os.path.join(CACHE, "guest")
        assert os.path.exists(f"{guest}/initrd"), "no guest here: run tools/fetch-guest"
        words = {"disks": ",".join(self._raw_disks()), "start": self._last_version(), **self.writer}
        if self.files:
            words["files"] = ",".join(self.files)
        initrd = f"{guest}/initrd-agent" if self.agent or self.files else f"{guest}/initrd"
        return ["-kernel", f"{guest}/vmlinuz", "-initrd", initrd,
                "-append", "console=ttyS0 quiet panic=-1 " + " ".join(f"rc.{k}={v}" for k, v in words.items()),
                "-chardev", f"file,id=console,path={_escape(self.dir)}/console.log",
                "-serial", "chardev:console", "-no-reboot",
                "-chardev", f"socket,id=writer,path={self._writer_path},server=on,wait=off",
                "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=writer"] + self._agent_args()

    def _agent_args(self):
        if not self.agent:
            return []
        return ["-chardev", f"socket,id=agent,path={self.agent_path},server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]

    def _raw_disks(self):
        return [d.id for d in self.disks if d.id not in self.files]

    def _last_version(self):
        """Versions grow over restarts; the records say how far they are."""
        last = 0
        if os.path.exists(self.records):
            with open(self.records) as file:
                for line in file:
                    words = line.split()
                    if words[0] == "I":
                        last = max(last, int(words[2]) + len(words) - 4)
        return last

    # --- life ---

    def start(self, wait_boot=True):
        """Starts QEMU; with a guest, waits until it writes. Returns self."""
        # Unix socket paths have 107 bytes: their folder must have a short name.
        self.run_dir = tempfile.mkdtemp(prefix="rcvm-", dir="/tmp")
        self.qmp_path, self._test_path, self._writer_path, self.agent_path = (
            os.path.join(self.run_dir, name) for name in ("qmp", "test", "writer", "agent"))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command_line(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=die_with_parent,
                                            env={**os.environ, **self.env})
        try:
            self._connect()
            if self.guest and wait_boot:
                self.guest.wait_boot()
            self.state_before = self.run_state()
        except BaseException as error:
            self.close()
            if isinstance(error, (OSError, AssertionError)):
                raise AssertionError(f"QEMU {self.version} did not start: {error}\n{self.log()}") from error
            raise
        return self

    def _connect(self):
        while not os.path.exists(self._test_path):
            if self.process.poll() is not None:
                raise AssertionError(f"it exited with {self.process.returncode}")
            time.sleep(0.01)
        self.qmp = QmpMonitor(self._test_path)
        if self.with_guest:
            self.guest = Guest(self._writer_path, self.records, self._raw_disks(), numbers=bool(self.files))

    @property
    def pid(self):
        return self.process.pid

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def assert_alive(self):
        assert self.is_alive(), f"QEMU {self.version} died ({self.process.returncode}):\n{self.log()}"

    def wait(self, timeout=60):
        """Waits for the process to end by itself; returns its exit status."""
        status = self.process.wait(timeout)
        self._clean()
        return status

    def kill(self):
        """SIGKILL. The records stay complete: see guest.py."""
        if self.is_alive():
            self.process.kill()
        if self.process is not None:
            self.process.wait()
        self._clean()

    def sigkill(self):
        """SIGKILL and nothing else: for proxy policies and other threads; the test calls kill() later."""
        self.process.kill()
        self.process.wait()

    def cont(self):
        """Lets a guest=False machine run (its firmware halts); leftovers() expects
        it to run from then on."""
        self.qmp.execute("cont")
        self.state_before = self.run_state()

    def stop(self):
        """The graceful end: the guest powers off, or without a guest QEMU quits."""
        if self.guest:
            self.guest.quit()
        else:
            self.qmp.execute("quit")
        return self.wait()

    def quit_qemu(self):
        """QMP quit under a running guest: graceful for QEMU, sudden for the guest."""
        self.qmp.execute("quit")
        return self.wait()

    def restart(self, disks=None):
        """Starts again after an end, with the same disks or others (same ids)."""
        assert not self.is_alive(), "restart of a running QEMU"
        if disks is not None:
            old = self.disks
            self.disks = [d if isinstance(d, Disk) else Disk(d, id=old[i].id) for i, d in enumerate(disks)]
        return self.start()

    def _clean(self):
        if self.guest:
            self.guest.close()
            self.guest = None
        if self.qmp:
            self.qmp.close()
            self.qmp = None
        if self.run_dir:
            shutil.rmtree(self.run_dir, ignore_errors=True)
            self.run_dir = None

    close = kill

    def __enter__(self):
        return self if self.process else self.start()

    def __exit__(self, *_):
        self.close()

    # --- looking ---

    def disk(self, id="vda"):
        return next(d for d in self.disks if d.id == id)

    def run_state(self):
        return self.qmp.execute("query-status")["status"]

    def jobs(self):
        return {j["id"]: j for j in self.qmp.execute("query-jobs")}

    def nodes(self):
        return {n["node-name"]: n for n in self.qmp.execute("query-named-block-nodes", flat=True)}

    def block(self, id="vda"):
        """query-block's entry of a disk."""
        for entry in self.qmp.execute("query-block"):
            if entry.get("qdev", "") in (id, f"/machine/peripheral/{id}/virtio-backend"):
                return entry
        raise KeyError(id)

    def chain(self, id="vda"):
        """The file names of the live chain, top first, without filters; as QEMU's graph has it."""
        image, files = self.block(id)["inserted"]["image"], []
        while image:
            file = _file_of(image["filename"])
            if file not in files[-1:]:
                files.append(file)
            image = image.get("backing-image")
        return files

    def guest_write(self, offset, length, pattern, id="vda"):
        """Writes as the guest would, for tests without one."""
        self.qmp.qemu_io(id, f"write -P {pattern} {offset} {length}", device=True)

    def flush(self, id="vda"):
        self.qmp.qemu_io(id, "flush", device=True)

    def check(self, id="vda", image=None, format="qcow2", graceful=False):
        """The oracle's judgement on a disk after QEMU's end; `image` where it is no longer the
        chain's own active layer."""
        chain = self.disk(id).chain
        return oracle.check(self.records if os.path.exists(self.records) else os.devnull, id,
                            image or chain.active, chain.reference, format, graceful)


def _escape(text):
    """As a value in QEMU's comma-separated options."""
    return text.replace(",", ",,")


def _file_of(name):
    """The plain file behind a json:{...} pseudo name, which may have filters around it."""
    if not name.startswith("json:"):
        return name
    node = json.loads(name[5:])
    while "filename" not in node and ("file" in node or "image" in node):
        node = node.get("file", node.get("image"))
    return node.get("filename", name)


def _reachable(graph):
    """The ids of all block nodes that a device or export can see."""
    below = {}
    for edge in graph["edges"]:
        below.setdefault(edge["parent"], []).append(edge["child"])
    todo, seen = [n["id"] for n in graph["nodes"] if n["type"] == "block-backend"], set()
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += below.get(node, [])
    return seen


def leftovers(vm, state_dir=None, dirs=(), result=True):
    """Asserts that nothing of rechain's is left: no job, export, bitmap or node `rc-*` in QEMU, the
    guest in the run state it had at the start, no file `.rc-*` in `dirs`, no socket in the state
    folder. `result=False`: not even a node that a disk uses (after an operation that was undone)."""
    left = []
    if vm is not None and vm.is_alive():
        left += [f"job {i}" for i in vm.jobs() if i.startswith("rc-")]
        left += [f"export {e['id']}" for e in vm.qmp.execute("query-block-exports") if e["id"].startswith("rc-")]
        graph = vm.qmp.execute("x-debug-query-block-graph")
        used = _reachable(graph) if result else ()
        left += [f"node {n['name']}" for n in graph["nodes"]
                 if n["type"] == "block-driver" and n["name"].startswith("rc-") and n["id"] not in used]
        for name, node in vm.nodes().items():
            left += [f"bitmap {name}/{b.get('name')}" for b in node.get("dirty-bitmaps", [])
                     if b.get("name", "").startswith("rc-")]
        if vm.run_state() != vm.state_before:
            left.append(f"run state {vm.run_state()}, was {vm.state_before}")
    for dir in dirs:
        left += [f"file {os.path.join(dir, f)}" for f in os.listdir(dir) if f.startswith(".rc-")]
    if state_dir and os.path.isdir(state_dir):
        left += [f"socket {e.path}" for e in os.scandir(state_dir)
                 if not e.is_file(follow_symlinks=False) and not e.is_dir(follow_symlinks=False)]
    assert not left, "left behind: " + ", ".join(left)
