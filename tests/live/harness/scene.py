"""What several scenarios do: change a disk, see that all witnesses agree, see that nothing changed."""

import hashlib
import json
import os
import time

import jsonschema

from . import ROOT, images
from .qemu import _file_of


def wait_until(condition, what, timeout=60):
    """Waits for condition() to be true; `what` is said where it does not come."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)


def valid(document):
    """The document, after its schema in schemas/ took it."""
    name, version = document["schema"].removeprefix("rechain.").split("/")
    assert version == "1"
    with open(os.path.join(ROOT, "schemas", f"{name}.json")) as schema:
        jsonschema.Draft7Validator(json.load(schema)).validate(document)
    return document


def change(rechain, vm, verb, *arguments, **options):
    """Runs `rechain VERB VM ARGUMENTS -o json`, which must succeed; returns the operation's document."""
    result = rechain.run(*verb.split(), vm.qmp_path, *arguments, json=True, **options).expect(0)
    document = valid(result.json)
    assert document["state"] == "done", str(result)
    assert document["error"] is None, str(result)
    return document


def change_of(document, disk="vda"):
    """One disk's part of an operation's document."""
    return next(d for d in document["disks"] if d["disk"] == disk)


def nodes_of(vm, path):
    """The nodes that have a file open, whatever way they name it."""
    return [name for name, node in vm.nodes().items() if _file_of(node["file"]) == path]


def assert_chain(vm, layers, id="vda"):
    """QEMU and the headers tell the same chain, and each header names the format that QEMU uses."""
    assert vm.chain(id) == layers
    assert [os.path.realpath(path) for path in images.header_chain(layers[0])] == layers
    image = vm.block(id)["inserted"]["image"]
    while image.get("backing-image"):
        below = image["backing-image"]
        path = _file_of(image["filename"])
        if path != _file_of(below["filename"]):     # the same: it is a filter
            header = images.info(path)
            assert header.get("backing-filename-format") == _header_format(below), header
        image = below


def _header_format(image):
    return "raw" if image["format"] in ("file", "host_device") else image["format"]


def assert_gone(vm, paths):
    """No node has one of these files open, and nobody holds a lock on them."""
    left = {path: nodes_of(vm, path) for path in paths if nodes_of(vm, path)}
    assert not left, f"still open in QEMU: {left}"
    fds = f"/proc/{vm.pid}/fd"
    still = [path for path in paths for fd in os.listdir(fds) if os.path.realpath(f"{fds}/{fd}") == path]
    assert not still, f"still open files of QEMU: {still}"


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(*dirs, skip=(".log", ".reference")):
    """Every file below `dirs` with its contents' digest, inode and mode. Logs of the harness do not count."""
    seen = {}
    for dir in dirs:
        for where, folders, files in os.walk(dir):
            for name in folders:
                seen[os.path.join(where, name)] = "folder"
            for name in files:
                path = os.path.join(where, name)
                if not path.endswith(tuple(skip)):
                    stat = os.lstat(path)
                    what = digest(path) if os.path.isfile(path) else "special"
                    seen[path] = (stat.st_ino, oct(stat.st_mode), stat.st_size, what)
    return seen


def graph(vm):
    """All that QEMU tells of its disks, jobs and nodes, without counters."""
    debug = vm.qmp.execute("x-debug-query-block-graph")
    return {"nodes": sorted((n["name"], n["type"]) for n in debug["nodes"]),
            "edges": sorted((e["parent"], e["child"], e["name"], tuple(e["perm"])) for e in debug["edges"]),
            "files": {name: (node["file"], node["ro"], node["drv"]) for name, node in vm.nodes().items()},
            "jobs": sorted(vm.jobs()),
            "exports": vm.qmp.execute("query-block-exports"),
            "state": vm.run_state()}


def assert_no_exports(rechain, vm=None):
    """No export in QEMU, and no socket of an operation of this state folder."""
    if vm is not None:
        assert vm.qmp.execute("query-block-exports") == []
    for operation in rechain.run("op", "list", json=True).expect(0).json["operations"]:
        assert not os.path.exists(f"/run/rc-{operation['operation']}-0"), operation
