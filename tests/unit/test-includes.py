#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may include whom (design, section 2), and that every public symbol is documented."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Layer -> the layers it may include. The longest folder that a path begins with is its layer.
MAY = {
    "src/common": {"src/common"},
    "qmp": {"src/common", "qmp"},
    "src/remote": {"src/common", "qmp", "src/remote"},
    "jobs": {"src/common", "qmp", "src/remote", "jobs"},
    "src/storage": {"src/common", "qmp", "jobs", "src/storage"},
    "src/lib": {"src/common", "qmp", "src/remote", "jobs", "src/storage", "src/lib", "rechain"},
    "src/cli": {"src/common", "src/cli", "rechain"},
    "src/agent": {"src/common", "src/agent", "rechain"},
    "examples": {"rechain"},
}
PUBLIC = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "src/lib").glob("rechain*.h")) + ["src/common/rechain-error.h"]


def layer_of(path):
    fits = [layer for layer in list(MAY) + ["rechain"] if path.startswith(layer + "/")]
    return max(fits, key=len, default=None)


def includes(path):
    return re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', path.read_text(), re.M)


def wrong_directions():
    for layer, may in MAY.items():
        for path in sorted((ROOT / layer).glob("**/*.[ch]")):
            for name in includes(path):
                target = layer_of(name)
                local = '"' in next(l for l in path.read_text().splitlines() if name in l and "include" in l)
                if target is None and local and "/" not in name:
                    yield f'{path.relative_to(ROOT)}: "{name}" does not name its layer'
                if target is not None and target not in may:
                    yield f'{path.relative_to(ROOT)}: {layer} may not see "{name}"'


def foreign_types_in_public_headers():
    for header in PUBLIC:
        for name in includes(ROOT / header):
            if not name.startswith(("gio/", "glib", "rechain/")):
                yield f"{header}: a public header includes <{name}>"


def undocumented_symbols():
    for header in PUBLIC:
        text = (ROOT / header).read_text()
        documented = set(re.findall(r"^ \* (\w+):$", text, re.M))
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        functions = set(re.findall(r"\b(rechain_\w+) \(", code))
        types = set(re.findall(r"^\} (Rechain\w+);", code, re.M))
        types |= set(re.findall(r"G_DECLARE_FINAL_TYPE \((\w+)", code))
        generated = {f for f in functions if f.endswith("_get_type")}
        for symbol in sorted((functions | types) - generated - documented):
            yield f"{header}: {symbol} has no doc comment"


def undocumented_parameters():
    for header in PUBLIC:
        text = (ROOT / header).read_text()
        for doc, name, parameters in re.findall(
                r"/\*\*\n((?: \*[^\n]*\n)+?) \*/\n(?:(?!/\*\*|DECLARE)[^;{])*?\b(rechain_\w+) \(([^;]*)\);", text):
            for parameter in re.findall(r"(\w+)(?:,|$)", parameters.replace("void", "")):
                if f"@{parameter}:" not in doc:
                    yield f"{header}: {name}: parameter {parameter} is not documented"


def main():
    checks = [wrong_directions, foreign_types_in_public_headers, undocumented_symbols,
              undocumented_parameters]
    wrong = 0
    print(f"1..{len(checks)}")
    for i, check in enumerate(checks, 1):
        found = list(check())
        wrong += len(found)
        print("\n".join("# " + line for line in found) + "\n" if found else "", end="")
        print("not ok" if found else "ok", i, "- no", check.__name__.replace("_", " "))
    return wrong > 0


sys.exit(main())
