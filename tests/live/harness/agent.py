"""A guest agent of our own making, well-behaved until it is told otherwise, behind a unix socket.

    with FakeAgent(path, {"guest-fsfreeze-freeze": [b"garbage"]}) as agent: ...

`answers`: command -> what it says in place of its answer, one for each time it is asked, the last one for
good: bytes; SILENT, HANG_UP, PASS (answer as it should); or a number: seconds after which it answers."""

import json
import os
import socket
import threading
import time

SILENT, HANG_UP, PASS = "silent", "hang up", "pass"


class FakeAgent:
    def __init__(self, path, answers=None, filesystems=2):
        self.path, self.filesystems = path, filesystems
        self.answers = {command: list(said) for command, said in (answers or {}).items()}
        self.frozen, self.asked, self.on_command = False, [], None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(8)
        self._closing, self._client = False, None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self._closing = True
        for sock in (self._client, self._listener):
            if sock:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()
        self._thread.join(10)
        os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self):
        while not self._closing:
            try:
                self._client, _ = self._listener.accept()
                with self._client:
                    self._talk(self._client)
            except OSError:
                continue

    def _talk(self, client):
        rest = b""
        while True:
            data = client.recv(1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not self._take(client, json.loads(line.rsplit(b"\xff", 1)[-1])):
                    return

    def _take(self, client, message):
        """False: hang up."""
        command = message["execute"]
        self.asked.append(command)
        if self.on_command:
            self.on_command(command)
        said = self.answers.get(command, [PASS])
        action = said.pop(0) if len(said) > 1 else said[0]
        if action == HANG_UP:
            return False
        if action == SILENT:
            return True
        if isinstance(action, bytes):
            client.sendall(action)
            return True
        if isinstance(action, (int, float)):
            time.sleep(action)
        answer = json.dumps(self._perform(command, message.get("arguments", {}))).encode() + b"\n"
        client.sendall((b"\xff" if command == "guest-sync-delimited" else b"") + answer)
        return True

    def _perform(self, command, arguments):
        if command in ("guest-fsfreeze-freeze", "guest-fsfreeze-thaw"):
            freeze = command.endswith("freeze-freeze")
            count = self.filesystems if freeze != self.frozen else 0
            self.frozen = freeze
            return {"return": count}
        if command == "guest-fsfreeze-status":
            return {"return": "frozen" if self.frozen else "thawed"}
        if command == "guest-info":
            return {"return": {"version": "7.2.0", "supported_commands": [
                {"name": "guest-fsfreeze-freeze", "enabled": not self.frozen, "success-response": True}]}}
        if command == "guest-sync-delimited":
            return {"return": arguments["id"]}
        return {"error": {"class": "CommandNotFound", "desc": "The command has not been found"}}


def refusal(words):
    """An error of the agent's, as an answer."""
    return json.dumps({"error": {"class": "GenericError", "desc": words}}).encode() + b"\n"


class AgentProxy:
    """Between rechain and a real agent: `took` has, per command, the seconds from question to answer."""

    def __init__(self, upstream, path):
        self.upstream, self.path, self.took = upstream, path, {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
                agent.connect(self.upstream)
                back = threading.Thread(target=self._pump, args=(agent, client, self._answered), daemon=True)
                back.start()
                self._pump(client, agent, self._asked)
                agent.shutdown(socket.SHUT_RDWR)
                back.join()

    def _pump(self, source, target, notice):
        try:
            while data := source.recv(1 << 16):
                notice(data)
                target.sendall(data)
        except OSError:
            pass

    def _asked(self, data):
        command = json.loads(data.splitlines()[-1].rsplit(b"\xff", 1)[-1])["execute"]
        self._question = (command, time.monotonic())

    def _answered(self, data):
        command, when = self._question
        self.took[command] = time.monotonic() - when
