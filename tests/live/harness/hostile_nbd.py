"""An NBD server in place of QEMU's that tells of what cannot be (NBD: doc/proto.md).

    with Proxy(vm.qmp_path, hostile_nbd.instead(answer)) as proxy: ...

`answer(offset, length)` returns the extents of each of the two contexts as lists of (length, flags), or bytes
that are sent as they are before the connection is closed."""

import os
import socket
import struct
import threading

from .proxy import PASS, on

_CONTEXTS = {b"base:allocation": 1, b"qemu:allocation-depth": 2}
_STRUCTURED, _SET_CONTEXT, _GO = 8, 10, 7
_ACK, _INFO, _CONTEXT, _UNSUPPORTED = 1, 3, 4, 0x80000001


def instead(answer, size=8 << 20):
    """A policy: when QEMU is asked for the export, its socket is removed and ours lies there."""
    def take_over(message):
        path = _path_of[0]
        os.unlink(path)
        _serve(path, answer, size)
        return PASS

    _path_of = []

    def policy(message):
        if message.kind == "command" and message.name == "nbd-server-start":
            _path_of.append(message.arguments["addr"]["data"]["path"])
        return on("command", "block-export-add", take_over)(message)
    return policy


def _serve(path, answer, size):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()

    def run():
        connection = server.accept()[0]
        try:
            if _negotiate(connection, size):
                _answer_all(connection, answer)
        except OSError:
            pass
        connection.close()
        server.close()
    threading.Thread(target=run, daemon=True).start()


def _read(connection, n):
    data = b""
    while len(data) < n:
        piece = connection.recv(n - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


def _negotiate(connection, size):
    def reply(kind, data=b""):
        connection.sendall(struct.pack(">QIII", 0x3e889045565a9, option, kind, len(data)) + data)

    connection.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
    _read(connection, 4)
    while True:
        option, length = struct.unpack(">8xII", _read(connection, 16))
        data = _read(connection, length)
        if option == _STRUCTURED:
            reply(_ACK)
        elif option == _SET_CONTEXT:
            for name, id in _CONTEXTS.items():
                if name in data:
                    reply(_CONTEXT, struct.pack(">I", id) + name)
            reply(_ACK)
        elif option == _GO:
            reply(_INFO, struct.pack(">HQH", 0, size, 1))
            reply(_ACK)
            return True
        else:
            reply(_UNSUPPORTED)


def _answer_all(connection, answer):
    while True:
        kind, cookie, offset, length = struct.unpack(">6xHQQI", _read(connection, 28))
        if kind != 7:
            return
        said = answer(offset, length)
        if isinstance(said, bytes):
            connection.sendall(said)
            return
        for id, extents in enumerate(said, 1):
            payload = struct.pack(">I", id) + b"".join(struct.pack(">II", *e) for e in extents)
            connection.sendall(struct.pack(">IHHQI", 0x668e33ef, id == len(said), 5, cookie, len(payload)) + payload)
