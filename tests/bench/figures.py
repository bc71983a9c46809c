"""Figures, their bounds, and processes measured from outside."""

import ctypes
import os
import statistics
import subprocess
import time

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


class Bound:
    """At most `high`, at least `low`, of the median."""

    def __init__(self, high, low=None):
        self.low, self.high = low, high

    def holds(self, value):
        return (self.low is None or value >= self.low) and value <= self.high

    def __str__(self):
        return f"<= {self.high:g}" if self.low is None else f"{self.low:g} .. {self.high:g}"


class Report:
    """The rows of one bench, and the command that made them."""

    def __init__(self, name):
        self.name, self.commands, self.rows, self.notes = name, [], [], []
        self.load = os.getloadavg()[0]

    def command(self, argv):
        line = argv if isinstance(argv, str) else " ".join(argv)
        if line not in self.commands:
            self.commands.append(line)

    def note(self, text):
        self.notes.append(text)

    def figure(self, what, values, unit="", bound=None):
        """A row: the values measured (or a single one), and the bound of their median."""
        values = list(values) if isinstance(values, (list, tuple)) else [values]
        self.rows.append((what, values, unit, bound))

    def held(self):
        return all(bound is None or bound.holds(statistics.median(values)) for _, values, _, bound in self.rows)

    def __str__(self):
        table = [("figure", "min", "median", "max", "unit", "n", "bound", "")]
        for what, values, unit, bound in self.rows:
            median = statistics.median(values)
            verdict = "" if bound is None else "held" if bound.holds(median) else "MISSED"
            table.append((what, _text(min(values)), _text(median), _text(max(values)), unit, str(len(values)),
                          str(bound or ""), verdict))
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        load = f"load {self.load:.1f} .. {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        lines = ["", f"== {self.name} ({load})"] + [f"$ {c}" for c in self.commands]
        for row in table:
            lines.append("  ".join(cell.rjust(width) if 1 <= i <= 3 else cell.ljust(width)
                                   for i, (cell, width) in enumerate(zip(row, widths))).rstrip())
        return "\n".join(lines + [f"note: {n}" for n in self.notes])


def _text(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Usage:
    """A finished process, wait4()'s way: wall and CPU seconds, and peak memory in MiB; CPU is that
    of the process and of all that it ran (qemu-img), memory that of the largest of them. `own_rss`:
    the peak of the process alone, where it was watched."""

    def __init__(self, argv, rc, wall, rusage, out, err, own_rss):
        self.argv, self.rc, self.wall, self.out, self.err = argv, rc, wall, out, err
        self.cpu = rusage.ru_utime + rusage.ru_stime
        self.rss, self.own_rss = rusage.ru_maxrss / 1024, own_rss

    def expect(self):
        assert self.rc == 0, f"{' '.join(self.argv)}\nexit {self.rc}\n{self.err}"
        return self


class Process:
    """A program under measurement; wait() tells what it cost.

    It is forked by a small shell and not by this Python: a process inherits the peak memory of the
    one that forked it, and Python's is larger than what is to be measured. The shell ends at once,
    and the orphan comes to us as the subreaper. That costs about 1 ms of the wall time, which
    counts against rechain. We are one no longer than that: libvirtd waits for the end of daemons
    that it has left to init, and we do not reap them."""

    def __init__(self, argv, dir, env=None, stderr=None):
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.argv = argv
        self._out, self._err = (os.path.join(dir, f"bench-{id(self)}.{n}") for n in ("out", "err"))
        self.start = time.monotonic()
        with open(self._out, "w") as out, open(self._err, "w") as err:
            pid = subprocess.run(["/bin/sh", "-c", '"$@" 2>&4 4>&- >&3 3>&- & echo $!', "sh", *argv],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, env=env,
                                 preexec_fn=lambda: (os.dup2(out.fileno(), 3),
                                                     os.dup2(err.fileno() if stderr is None else stderr, 4)),
                                 pass_fds=(3, 4)).stdout
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
        self.pid = int(pid)
        self.own_rss = None

    def look(self):
        """Reads the peak memory so far; False when the process has ended."""
        try:
            with open(f"/proc/{self.pid}/status") as file:
                peak = next(line for line in file if line.startswith("VmHWM"))
        except (OSError, StopIteration):
            return False
        self.own_rss = int(peak.split()[1]) / 1024
        return True

    def wait(self):
        _, status, rusage = os.wait4(self.pid, 0)
        wall = time.monotonic() - self.start
        with open(self._out) as out, open(self._err, errors="replace") as err:
            usage = Usage(self.argv, os.waitstatus_to_exitcode(status), wall, rusage, out.read(), err.read(), self.own_rss)
        os.unlink(self._out)
        os.unlink(self._err)
        return usage


def measure(cli, *arguments, env=None):
    """Runs rechain (a harness.rechain.Rechain) to a good end and returns its Usage."""
    argv = cli._argv([], False) + [str(a) for a in arguments]
    return Process(argv, cli.state_dir, {**cli.env, **(env or {})}).wait().expect()


def start(cli, *arguments, stderr=None):
    argv = cli._argv([], False) + [str(a) for a in arguments]
    return Process(argv, cli.state_dir, cli.env, stderr)


def shown(argv, dir):
    """A command line without what only this machine's folders say."""
    words = [os.path.basename(argv[0])]
    skip = False
    for word in argv[1:]:
        if skip or word in ("--state-dir", "--config"):
            skip = not skip
            continue
        words.append("VM" if word.startswith("/tmp/rc") else word.replace(dir + "/", ""))
    return " ".join(words)
