"""Two hosts on this machine: each a network namespace with an sshd of its own (port, keys, configuration), joined by
a veth pair. They share the files; each has its own configuration and journal of rechain."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

from .rechain import Rechain, binary

SSHD = "/usr/sbin/sshd"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing():
    """Why there can be no hosts here; None where there can."""
    if not os.path.exists(SSHD) or not shutil.which("ssh"):
        return "openssh-server is not here"
    if not shutil.which("ip") or os.geteuid() != 0:
        return "network namespaces need iproute2 and root"
    tried = subprocess.run(["ip", "netns", "add", f"rct-try-{os.getpid()}"], capture_output=True)
    subprocess.run(["ip", "netns", "del", f"rct-try-{os.getpid()}"], capture_output=True)
    return None if tried.returncode == 0 else f"no network namespace: {tried.stderr.decode().strip()}"


def _ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _keygen(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


class Host:
    """One of them. `dir` is its own folder: state/, config/rechain/rechain.conf, bin/rechain."""

    def __init__(self, net, name, address):
        self.net, self.name, self.address = net, name, address
        self.netns = f"rct{os.getpid()}-{name}"
        self.dir = os.path.join(net.dir, name)
        self.state_dir = os.path.join(self.dir, "state")
        self.config = os.path.join(self.dir, "config", "rechain", "rechain.conf")
        self.sshd = None
        self.reset()

    def reset(self):
        """As it was at first."""
        for folder in ("bin", "state", "config"):
            shutil.rmtree(os.path.join(self.dir, folder), ignore_errors=True)
        for folder in ("bin", "state", "config/rechain"):
            os.makedirs(os.path.join(self.dir, folder))
        os.chmod(self.state_dir, 0o700)
        os.symlink(binary(), os.path.join(self.dir, "bin", "rechain"))
        self.configure("")

    def pretend(self, text):
        """A Python script stands in for rechain there."""
        path = os.path.join(self.dir, "bin", "rechain")
        if os.path.lexists(path):
            os.unlink(path)
        with open(path, "w") as file:
            file.write("#!/usr/bin/python3\n" + text)
        os.chmod(path, 0o755)

    def configure(self, text):
        with open(self.config, "w") as file:
            file.write(text)

    def start_sshd(self):
        key = os.path.join(self.dir, "host-key")
        if not os.path.exists(key):
            _keygen(key)
        config = os.path.join(self.dir, "sshd_config")
        with open(config, "w") as file:
            file.write("\n".join([
                f"Port 22\nListenAddress {self.address}\nHostKey {key}\nPidFile none\nUsePAM no\nStrictModes no",
                f"AuthorizedKeysFile {self.net.dir}/key.pub\nPermitRootLogin yes\nPasswordAuthentication no",
                f"KbdInteractiveAuthentication no\nPrintMotd no\nSubsystem sftp internal-sftp\nMaxStartups 100\nMaxSessions 50\n"
                f"SetEnv PATH={self.dir}/bin:{PATH} RECHAIN_STATE_DIR={self.state_dir} "
                f"XDG_CONFIG_HOME={self.dir}/config LC_ALL=C.UTF-8"]) + "\n")
        os.makedirs("/run/sshd", exist_ok=True)
        self.log = open(os.path.join(self.dir, "sshd.log"), "a")
        self.sshd = subprocess.Popen(["ip", "netns", "exec", self.netns, SSHD, "-D", "-e", "-f", config],
                                     stdin=subprocess.DEVNULL, stderr=self.log, start_new_session=True)

    def pids(self):
        """All processes of this host."""
        return [int(p) for p in subprocess.run(["ip", "netns", "pids", self.netns], capture_output=True,
                                               text=True).stdout.split()]

    def pids_of(self, *words):
        """Those whose command line begins with the words."""
        found = []
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if line[:len(words)] == list(words):
                found.append(pid)
        return found

    def enter(self, *argv):
        """Runs a program where the sshd is, which has mounts of its own; returns what it prints."""
        return subprocess.run(["nsenter", "-t", str(self.sshd.pid), "-m", "-n", *argv], check=True, capture_output=True,
                              text=True).stdout

    def stop_sshd(self):
        if self.sshd is not None:
            self.sshd.kill()
            self.sshd.wait()
            self.log.close()
        self.sshd = None

    def close(self):
        self.stop_sshd()
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)

    def rechain(self):
        """The command line on this host, which knows the others by name."""
        return Local(self)


class Local(Rechain):
    def __init__(self, host):
        super().__init__(host.state_dir, config=host.config)
        self.host = host
        self.env["XDG_CONFIG_HOME"] = os.path.join(host.dir, "config")
        self.env["RECHAIN_STATE_DIR"] = host.state_dir

    def _argv(self, arguments, json):
        return (["ip", "netns", "exec", self.host.netns, binary()] + (["-o", "json"] if json else [])
                + [str(a) for a in arguments])


class Net:
    """Hosts a and b. Each can reach both by the names "a" and "b"."""

    def __init__(self, dir):
        self.dir = tempfile.mkdtemp(prefix="net-", dir=dir)
        _keygen(os.path.join(self.dir, "key"))
        block = os.getpid() % 200
        self.a, self.b = Host(self, "a", f"10.77.{block}.1"), Host(self, "b", f"10.77.{block}.2")
        self.ssh_config = os.path.join(self.dir, "ssh_config")

    def __enter__(self):
        veths = [f"rct{os.getpid() % 100000}{h.name}" for h in (self.a, self.b)]
        for host in (self.a, self.b):
            subprocess.run(["ip", "netns", "del", host.netns], capture_output=True)
            _ip("netns", "add", host.netns)
        _ip("link", "add", veths[0], "netns", self.a.netns, "type", "veth", "peer", "name", veths[1],
            "netns", self.b.netns)
        for host, veth in zip((self.a, self.b), veths):
            host.veth = veth
            _ip("-n", host.netns, "addr", "add", f"{host.address}/24", "dev", veth)
            _ip("-n", host.netns, "link", "set", veth, "up")
            _ip("-n", host.netns, "link", "set", "lo", "up")
            host.start_sshd()
        self._write_ssh_config()
        for host in (self.a, self.b):
            self.know_hosts(host)
            self.wait_for(host)
        return self

    def reset(self):
        for host in (self.a, self.b):
            for pid in host.pids_of("rechain") + host.pids_of("ssh"):
                os.kill(pid, signal.SIGKILL)
            host.reset()
            self.know_hosts(host)

    def know_hosts(self, host, more=""):
        """What `host` has in its configuration besides the hosts."""
        host.configure(more + "".join(f"[host {name}]\nssh-config={self.ssh_config}\n" for name in "ab"))

    def _write_ssh_config(self):
        known = os.path.join(self.dir, "known_hosts")
        with open(known, "w") as file:
            for host in (self.a, self.b):
                with open(os.path.join(host.dir, "host-key.pub")) as key:
                    file.write(f"{host.address} {key.read()}")
        with open(self.ssh_config, "w") as file:
            for host in (self.a, self.b):
                file.write(f"Host {host.name}\nHostName {host.address}\n")
            file.write(f"Host *\nUser root\nPort 22\nIdentityFile {self.dir}/key\nIdentitiesOnly yes\n"
                       f"UserKnownHostsFile {known}\nStrictHostKeyChecking yes\n")

    def wait_for(self, host):
        deadline = time.monotonic() + 20
        while subprocess.run(["ip", "netns", "exec", host.netns, "ssh", "-F", self.ssh_config, "-o", "BatchMode=yes",
                              host.name, "true"], capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, open(os.path.join(host.dir, "sshd.log")).read()
            time.sleep(0.05)

    def __exit__(self, *_):
        self.a.close()
        self.b.close()
