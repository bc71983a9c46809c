"""The program under test."""

import json
import os
import signal
import subprocess

from . import ROOT


def binary():
    return os.environ.get("RECHAIN", os.path.join(ROOT, "build", "src", "cli", "rechain"))


class Result:
    """A finished run: rc, out, err, argv."""

    def __init__(self, argv, rc, out, err):
        self.argv, self.rc, self.out, self.err = argv, rc, out, err

    @property
    def json(self):
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def error(self):
        """The error document on stderr (-o json): its last line that is one."""
        for line in reversed(self.err.strip().splitlines()):
            try:
                document = json.loads(line)
            except ValueError:
                continue
            if str(document.get("schema", "")).startswith("rechain.error/"):
                return document
        return json.loads(self.err)

    def expect(self, rc=0):
        assert self.rc == rc, f"exit {self.rc}, expected {rc}: {self}"
        return self

    def __str__(self):
        return f"{' '.join(self.argv)}\nexit {self.rc}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Running:
    """A run in the background. Its output goes to files: a pipe that nobody reads would stop it."""

    def __init__(self, argv, env, dir):
        self.argv = argv
        self._out = open(os.path.join(dir, f"run-{id(self)}.out"), "w+")
        self._err = open(os.path.join(dir, f"run-{id(self)}.err"), "w+")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err, env=env)

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def sigint(self):
        self.signal(signal.SIGINT)

    def sigterm(self):
        self.signal(signal.SIGTERM)

    def kill(self):
        """SIGKILL; returns the Result."""
        if self.is_running():
            self.process.kill()
        return self.wait()

    def is_running(self):
        return self.process.poll() is None

    def err_so_far(self):
        with open(self._err.name) as file:
            return file.read()

    def wait(self, timeout=120):
        try:
            rc = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end in {timeout} s: {' '.join(self.argv)}\n{self.err_so_far()}")
        with open(self._out.name) as out, open(self._err.name) as err:
            return Result(self.argv, rc, out.read(), err.read())


class Rechain:
    """The command line with a private state folder and no configuration of this host."""

    def __init__(self, state_dir, config=None, env=None, program=None):
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        self.state_dir, self._program = state_dir, program
        self.config = config or os.path.join(state_dir, "empty.conf")
        if config is None:
            open(self.config, "a").close()
        self.env = {**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", **(env or {})}
        self._started = []

    def _argv(self, arguments, json):
        return ([self._program or binary(), "--state-dir", self.state_dir, "--config", self.config]
                + (["-o", "json"] if json else []) + [str(a) for a in arguments])

    def run(self, *arguments, json=False, timeout=120, env=None):
        """Runs to the end; any exit status is returned, only a hang is an AssertionError."""
        return self.start(*arguments, json=json, env=env).wait(timeout)

    def start(self, *arguments, json=False, env=None):
        running = Running(self._argv(arguments, json), {**self.env, **(env or {})}, self.state_dir)
        self._started.append(running)
        return running

    def close(self):
        """Kills what still runs."""
        for running in self._started:
            if running.is_running():
                running.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
