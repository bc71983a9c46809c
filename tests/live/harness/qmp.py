"""A small synchronous QMP client, independent of the one under test."""

import json
import socket
import threading
import time


def connect(path, timeout):
    """A stream to the unix socket `path`, as soon as somebody listens there."""
    deadline = time.monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class QmpError(Exception):
    """QEMU answered with an error."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error.get('desc')}")
        self.error_class = error.get("class")
        self.desc = error.get("desc")


class QmpMonitor:
    """One connection to a QMP socket. `events` holds all events seen and not yet waited for."""

    def __init__(self, path, timeout=30):
        self.path = path
        self.events = []
        self._buffer = b""
        self._next_id = 0
        self._one_at_a_time = threading.RLock()     # a proxy's thread writes, too
        self._socket = connect(path, timeout)
        self.greeting = self._read_until(lambda m: "QMP" in m, timeout)
        self.execute("qmp_capabilities")

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read_message(self, deadline):
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self.path}: QEMU said nothing in time")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(1 << 20)
            except socket.timeout:
                continue
            if not data:
                raise ConnectionError(f"{self.path}: QEMU closed the monitor")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def _read_until(self, wanted, timeout):
        deadline = time.monotonic() + timeout
        while True:
            message = self._read_message(deadline)
            if wanted(message):
                return message
            if "event" in message:
                self.events.append(message)

    def execute(self, command, arguments=None, timeout=30, **more):
        """Runs a command; `more` are arguments with _ for -. Returns "return", raises QmpError."""
        arguments = dict(arguments or {}, **{k.replace("_", "-"): v for k, v in more.items()})
        with self._one_at_a_time:
            self._next_id += 1
            request = {"execute": command, "id": self._next_id}
            if arguments:
                request["arguments"] = arguments
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            reply = self._read_until(lambda m: m.get("id") == request["id"], timeout)
        if "error" in reply:
            raise QmpError(command, reply["error"])
        return reply["return"]

    def hmp(self, line, timeout=30):
        """A human monitor command; returns its text (empty for a good `qemu-io ... flush`)."""
        return self.execute("human-monitor-command", {"command-line": line}, timeout)

    def qemu_io(self, node_or_device, command, device=False):
        """qemu-io on a live node, or with device=True on a device ("vda")."""
        target = f"-d /machine/peripheral/{node_or_device}/virtio-backend" if device else node_or_device
        text = self.hmp(f'qemu-io {target} "{command}"')
        assert "error" not in text.lower() and "failed" not in text.lower(), text
        return text

    def wait_event(self, name, timeout=30, **data):
        """The next event of that name whose data contains `data` (again _ for -); others stay."""
        data = {k.replace("_", "-"): v for k, v in data.items()}

        def wanted(message):
            return message.get("event") == name and data.items() <= message.get("data", {}).items()

        for index, event in enumerate(self.events):
            if wanted(event):
                return self.events.pop(index)
        return self._read_until(wanted, timeout)

    def drain(self):
        """Reads what has arrived; returns and forgets all events so far."""
        self.execute("query-status")
        events, self.events = self.events, []
        return events
