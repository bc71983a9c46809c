"""The test's end of the verifying writer's channel (tests/guest/writer.c describes the lines)."""

import threading
import time

from .qmp import connect


class Guest:
    """Reads the writer's records into a file for the oracle, and sends it commands.

    The thread reads always: a full channel would stop the guest. After QEMU's death it reads
    what is left in the socket, so nothing that the guest said is lost."""

    def __init__(self, path, log_path, disks, numbers=False):
        self.disks = disks
        self.number = 0                 # the last one known to be written to the files
        self._has_numbers = numbers
        self.boot_seconds = None
        self.problems = []              # D and X lines: the writer could not do its work
        self.errors = 0                 # E lines
        self._issued = dict.fromkeys(disks, 0)
        self._flushed = dict.fromkeys(disks, 0)
        self._answers = []              # S, P, R, V, Q lines, as lists of words
        self._changed = threading.Condition()
        self._start = time.monotonic()
        self._ended = False
        self._socket = connect(path, 30)
        self._log = open(log_path, "ab")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        rest = b""
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                break
            lines, newline, rest = (rest + data).rpartition(b"\n")
            if newline:
                self._log.write(lines + b"\n")
                self._take(lines.decode().split("\n"))
        # A line without its end was never finished by the guest, so its writes were never issued.
        self._log.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, lines):
        with self._changed:
            for line in lines:
                kind, *words = line.split(" ")
                if kind == "I":
                    self._issued[words[0]] = int(words[1]) + len(words) - 3
                elif kind == "F":
                    self._flushed[words[0]] = int(words[1])
                elif kind == "B":
                    self.boot_seconds = time.monotonic() - self._start
                elif kind == "E":
                    self.errors += 1
                elif kind == "N":
                    self.number = int(words[0])
                elif kind in "DX":
                    self.problems.append(line)
                elif kind in "SPRVQ":
                    self._answers.append([kind] + words)
            self._changed.notify_all()

    def _wait(self, condition, timeout, what):
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition():
                if self._ended:
                    raise AssertionError(f"the guest is gone, waiting for: {what}; {self.problems}")
                if not self._changed.wait(max(0, deadline - time.monotonic())):
                    raise AssertionError(f"the guest did not answer in {timeout} s: {what}; {self.problems}")

    def _ask(self, command, answer, timeout):
        """Sends a command and waits for one answer of each disk."""
        with self._changed:
            before = len(self._answers)
        self._socket.sendall(command.encode() + b"\n")

        def answered():
            return {a[2] if a[0] == "V" else a[1] for a in self._answers[before:] if a[0] == answer} >= set(self.disks)

        self._wait(answered, timeout, command)
        with self._changed:
            return [a for a in self._answers[before:] if a[0] == answer]

    def wait_boot(self, timeout=120):
        """Returns when the first flush of every disk, and the first numbers in files, are known."""
        if self.disks:
            self.wait_flushed(1, timeout)
        if self._has_numbers:
            self.wait_numbers(1, timeout)

    def wait_numbers(self, count, timeout=60):
        """Returns when `count` more numbers are written to the files."""
        target = self.number + count
        self._wait(lambda: self.number >= target, timeout, f"{count} more numbers")

    def wait_flushed(self, count, timeout=120):
        """Returns when `count` more writes of every disk are flushed."""
        targets = {disk: max(self._flushed[disk], self._issued[disk]) + count for disk in self.disks}
        self._wait(lambda: all(self._flushed[d] >= targets[d] for d in self.disks), timeout,
                   f"{count} more flushed writes on {', '.join(self.disks)}")

    def flushed(self, disk="vda"):
        """The last version known to be flushed."""
        return self._flushed[disk]

    def issued(self, disk="vda"):
        """The last version announced."""
        return self._issued[disk]

    def is_writing(self, seconds=3.0):
        """Whether every disk gets another write flushed in that time."""
        try:
            self.wait_flushed(1, seconds)
            return True
        except AssertionError:
            return False

    def pause(self, timeout=60):
        """Returns when nothing is in flight (not necessarily flushed)."""
        self._ask("pause", "P", timeout)

    def resume(self, timeout=60):
        self._ask("resume", "R", timeout)

    def verify(self, timeout=300):
        """The guest reads back all that it wrote since its boot. Returns the number of blocks."""
        answers = self._ask("verify", "V", timeout)
        bad = [" ".join(a) for a in answers if a[1] == "bad"]
        assert not bad, "the guest read wrong data: " + "; ".join(bad[:10])
        return sum(int(a[3]) for a in answers)

    def quit(self, timeout=60):
        """The guest flushes and powers off."""
        self._socket.sendall(b"quit\n")
        self._wait(lambda: any(a[0] == "Q" for a in self._answers), timeout, "quit")
        self.join(timeout)

    def join(self, timeout=30):
        """Waits for the end of the channel (QEMU's end)."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the guest's channel does not end: is QEMU still there?"

    def close(self):
        """After QEMU's end."""
        self._thread.join(10)
        self._socket.close()
