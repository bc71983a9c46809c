#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One idea: watch the operations of a host, from Python, and say when one changes its state.

    GI_TYPELIB_PATH=build/src/lib LD_LIBRARY_PATH=build/src/lib examples/agent.py [STATE_DIR] [SECONDS]
"""
import json
import sys

import gi
gi.require_version("Rechain", "1")
from gi.repository import GLib, Rechain  # noqa: E402

controller = Rechain.Controller.new(sys.argv[1] if len(sys.argv) > 1 else None)
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0
known = {}


def look():
    for operation in json.loads(controller.list_operations())["operations"]:
        name, state = operation["operation"], operation["state"]
        if known.get(name) != state:
            print(f"{name} {operation['kind']}: {known.get(name, 'new')} -> {state}", flush=True)
        known[name] = state
        if operation.get("owner") == "dead":
            print(f"{name} was interrupted: rechain recover --op {name}", flush=True)
    return GLib.SOURCE_CONTINUE


loop = GLib.MainLoop()
look()
GLib.timeout_add(500, look)
if seconds:
    GLib.timeout_add(int(seconds * 1000), loop.quit)
loop.run()
