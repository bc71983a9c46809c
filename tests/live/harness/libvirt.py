"""A guest that libvirt runs, for figures side by side: a libvirtd of our own, in a mount namespace of its own, so
that this host's libvirt is neither asked nor changed."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from datetime import datetime
from xml.sax.saxutils import quoteattr

from . import CACHE
from .guest import Guest

_FOLDERS = ["/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"]
_QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
remember_owner = 0
dynamic_ownership = 0
"""


def missing():
    """Why there is no such guest here; None where there is one."""
    for program in ("libvirtd", "virsh", "unshare", "nsenter"):
        if not shutil.which(program):
            return f"there is no {program}"
    return None if os.path.exists(os.path.join(CACHE, "guest", "initrd-agent")) else "there is no guest with an agent"


class LibvirtVm:
    """As qemu.Vm with `files` and an agent, of the host's QEMU: writes numbers to an ext4 on each disk."""

    def __init__(self, chains, ids, dir):
        self.chains, self.ids, self.dir = chains, ids, dir
        self.run_dir = tempfile.mkdtemp(prefix="rclv-", dir="/tmp")
        self.log_path = os.path.join(dir, "libvirtd.log")
        self.guest = self._daemon = None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def _in(self, *argv):
        return ["nsenter", "-t", str(self._daemon.pid), "-m", *argv]

    def virsh(self, *words):
        """Runs it; an AssertionError with its words where it fails."""
        argv = ["virsh", "-c", "qemu:///system", *words]
        done = subprocess.run(self._in(*argv), capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
        return done.stdout

    def _start_daemon(self):
        mounts = " && ".join(f"mkdir -p {folder} && mount -t tmpfs none {folder}" for folder in _FOLDERS)
        conf = f'log_filters = "1:qemu.qemu_agent"\nlog_outputs = "1:file:{self.log_path}"\nauth_unix_rw = "none"\n'
        for name, text in (("qemu.conf", _QEMU_CONF), ("libvirtd.conf", conf)):
            with open(os.path.join(self.run_dir, name), "w") as file:
                file.write(text)
        self._daemon = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"{mounts} && cp {self.run_dir}/*.conf /etc/libvirt/ && exec libvirtd"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.virsh("version")
            except AssertionError:
                assert self._daemon.poll() is None and time.monotonic() < deadline, "libvirtd does not start"
                time.sleep(0.2)

    def _xml(self):
        guest = os.path.join(CACHE, "guest")
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file={quoteattr(c.active)}/>"
            f"<target dev='{id}' bus='virtio'/></disk>" for id, c in zip(self.ids, self.chains))
        return (f"<domain type='qemu'><name>rc-bench</name><memory unit='MiB'>256</memory><vcpu>1</vcpu><os>"
                f"<type arch='x86_64' machine='q35'>hvm</type><kernel>{guest}/vmlinuz</kernel>"
                f"<initrd>{guest}/initrd-agent</initrd><cmdline>console=ttyS0 quiet panic=-1 rc.disks= rc.start=0 "
                f"rc.files={','.join(self.ids)}</cmdline></os><features><acpi/></features><devices>"
                f"<emulator>/usr/bin/qemu-system-x86_64</emulator>{disks}"
                f"<channel type='unix'><source mode='bind' path='{self.run_dir}/writer'/>"
                f"<target type='virtio' name='writer'/></channel>"
                f"<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
                f"<serial type='file'><source path='{self.dir}/console.log'/></serial><memballoon model='none'/>"
                f"</devices></domain>")

    def start(self):
        self._start_daemon()
        path = os.path.join(self.run_dir, "domain.xml")
        with open(path, "w") as file:
            file.write(self._xml())
        self.virsh("create", path)
        self.guest = Guest(os.path.join(self.run_dir, "writer"), os.path.join(self.dir, "records.log"), [], True)
        self.guest.wait_boot()
        return self

    def close(self):
        if self._daemon and self._daemon.poll() is None:
            subprocess.run(self._in("virsh", "-c", "qemu:///system", "destroy", "rc-bench"), capture_output=True)
            self._daemon.terminate()
            self._daemon.wait()
        if self.guest:
            self.guest.close()
        shutil.rmtree(self.run_dir)

    def snapshot(self, name):
        """A quiesced snapshot of all disks; (milliseconds from freeze to thaw, those of them that the agent took), as
        libvirt's own log of what it asks the agent has them."""
        since = os.path.getsize(self.log_path)
        self.virsh("snapshot-create-as", "rc-bench", name, "--disk-only", "--quiesce", "--atomic", "--no-metadata")
        with open(self.log_path) as file:
            file.seek(since)
            lines = file.read().splitlines()
        times = {}
        asked = None
        for line in lines:
            command = re.search(r"Send command '.*guest-fsfreeze-(freeze|thaw)", line)
            if command:
                asked = command[1]
                times[asked] = _ms(line)
            elif asked and "qemuAgentIOProcessLine" in line and '"return"' in line:
                times[asked + " answered"] = _ms(line)
                asked = None
        agent = sum(times[c + " answered"] - times[c] for c in ("freeze", "thaw"))
        return times["thaw answered"] - times["freeze"], agent


def _ms(line):
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S.%f").timestamp() * 1000
