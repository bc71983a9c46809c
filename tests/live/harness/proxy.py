"""A man in the middle of a QMP connection: counts messages and makes mishaps.

    with Proxy(vm.qmp_path, policy=refuse("block-stream")) as proxy:
        rechain.run("pull", proxy.path, "vda")

A policy is called with every message (class Message) and returns what to do:
PASS, DROP, TWICE, CUT, CUT_AFTER, a Delay(seconds) or, for a command, a Reply(...).
It may also do things itself, such as killing QEMU, before it returns."""

import json
import os
import shutil
import socket
import tempfile
import threading
import time

PASS, DROP, CUT, CUT_AFTER, TWICE = "pass", "drop", "cut", "cut after", "twice"


class Delay:
    """Forward after a while; the other direction goes on."""

    def __init__(self, seconds):
        self.seconds = seconds


class Reply:
    """Answer a command in QEMU's place, by default with an error."""

    def __init__(self, desc="injected error", error_class="GenericError", value=None):
        self.body = {"return": value} if value is not None else {"error": {"class": error_class, "desc": desc}}


class Message:
    """number: counts all messages of both directions, from 1, over reconnects.
    kind: "command", "greeting", "return", "error" or "event". name: of the command (also of the one
    that a reply answers, where ids tell) or event. nth: how many of that kind and name, from 1."""

    def __init__(self, number, kind, name, nth, data):
        self.number, self.kind, self.name, self.nth, self.data = number, kind, name, nth, data

    @property
    def arguments(self):
        return self.data.get("arguments", {})

    def __repr__(self):
        return f"{self.number}:{self.kind}:{self.name}#{self.nth}"


def pass_all(message):
    return PASS


def refuse(command, desc="injected error", nth=None, where=None):
    """A policy: the command (its nth, or each; only with these arguments: where(arguments)) is
    answered with an error and never reaches QEMU."""
    def policy(m):
        hit = (m.kind == "command" and m.name == command and nth in (None, m.nth)
               and (where is None or where(m.arguments)))
        return Reply(desc) if hit else PASS
    return policy


def at(number, action):
    """A policy: does `action` (an action, or a callable that returns one) at message `number`."""
    def policy(m):
        if m.number != number:
            return PASS
        return action(m) if callable(action) else action
    return policy


def on(kind, name, action, nth=1):
    """A policy: the same for the nth message of a kind and name."""
    def policy(m):
        if (m.kind, m.name, m.nth) != (kind, name, nth):
            return PASS
        return action(m) if callable(action) else action
    return policy


class Proxy:
    """path: for rechain. seen: all Messages so far. Reconnects are accepted, one at a time, as QEMU
    does. `policy` may be replaced at any time."""

    def __init__(self, upstream, policy=pass_all):
        self.upstream, self.policy, self.seen = upstream, policy, []
        self._dir = tempfile.mkdtemp(prefix="rcpx-", dir="/tmp")
        self.path = os.path.join(self._dir, "qmp")
        self._lock = threading.Lock()
        self._counts, self._names = {}, {}
        self._connection, self._closing = None, False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(8)
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def count(self):
        """Messages so far, both directions."""
        return len(self.seen)

    def commands(self):
        """The names of the commands that came, in order."""
        return [m.name for m in self.seen if m.kind == "command"]

    def cut(self):
        """Closes the present connection at once; a new one is accepted."""
        connection = self._connection
        if connection:
            connection.close()

    def say(self, raw):
        """To the client, as if QEMU did; it is not counted."""
        self._connection.say(raw)

    def close(self):
        self._closing = True
        self.cut()
        self._listener.close()
        try:                                # wakes the accept()
            socket.socket(socket.AF_UNIX).connect(self.path)
        except OSError:
            pass
        shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _accept(self):
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            qemu = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                qemu.connect(self.upstream)
            except OSError:                 # QEMU is dead: so are we, for this client
                client.close()
                qemu.close()
                continue
            self.connections += 1
            self._connection = _Connection(self, client, qemu)
            self._connection.run()

    def forget(self):
        """Counts from one again."""
        with self._lock:
            self.seen.clear()
            self._counts.clear()

    def _notice(self, data, from_client):
        """Numbers a message and asks the policy."""
        with self._lock:
            if from_client:
                kind, name = "command", data.get("execute", data.get("exec-oob"))
                if "id" in data:
                    self._names[json.dumps(data["id"])] = name
            elif "event" in data:
                kind, name = "event", data["event"]
            elif "QMP" in data:
                kind, name = "greeting", "greeting"
            else:
                kind = "return" if "return" in data else "error"
                name = self._names.get(json.dumps(data.get("id")))
            nth = self._counts[kind, name] = self._counts.get((kind, name), 0) + 1
            message = Message(len(self.seen) + 1, kind, name, nth, data)
            self.seen.append(message)
            return message


class _Connection:
    def __init__(self, proxy, client, qemu):
        self.proxy, self.client, self.qemu = proxy, client, qemu
        self.to_client = threading.Lock()   # QEMU's messages and injected replies do not mix

    def run(self):
        """Returns when the connection has ended, in both directions."""
        backwards = threading.Thread(target=self._pump, args=(self.qemu, False), daemon=True)
        backwards.start()
        self._pump(self.client, True)
        backwards.join()
        self.client.close()
        self.qemu.close()

    def close(self):
        for sock in (self.client, self.qemu):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def say(self, raw):
        self._send(False, raw)

    def _pump(self, source, from_client):
        buffer, decoder = "", json.JSONDecoder()
        pending = b""
        try:
            while True:
                data = source.recv(1 << 20)
                if not data:
                    break
                pending += data
                try:
                    text, pending = pending.decode(), b""
                except UnicodeDecodeError:  # the middle of a character
                    continue
                buffer += text
                while True:
                    buffer = buffer.lstrip()
                    try:
                        message, end = decoder.raw_decode(buffer)
                    except ValueError:      # not whole yet
                        break
                    raw, buffer = buffer[:end], buffer[end:]
                    if not self._handle(message, raw.encode() + b"\r\n", from_client):
                        return
        except OSError:
            pass
        finally:
            self.close()

    def _handle(self, data, raw, from_client):
        """Does what the policy says; False: the connection ends."""
        action = self.proxy.policy(self.proxy._notice(data, from_client))
        if isinstance(action, Delay):
            time.sleep(action.seconds)
        elif isinstance(action, Reply):
            assert from_client, "only a command can be answered"
            body = dict(action.body, **({"id": data["id"]} if "id" in data else {}))
            self._send(False, json.dumps(body).encode() + b"\r\n")
            return True
        elif action == DROP:
            return True
        elif action == CUT:
            return False
        self._send(from_client, raw * 2 if action == TWICE else raw)
        return action != CUT_AFTER

    def _send(self, to_qemu, raw):
        if to_qemu:
            self.qemu.sendall(raw)
        else:
            with self.to_client:
                self.client.sendall(raw)
