"""sum-results.py DIR
    adds up the results in DIR: NAME.xml of pytest, NAME.json of meson (testlog.json), NAME.jsonl of
    tests/crash/matrix, and `broken`,
    which names stages that could not do their work. Prints a line per file, what failed, and last
    "N passed, N failed[, N skipped]".
sum-results.py --is-told STATUS FILE
    succeeds when the exit status of a test run agrees with the results in FILE."""

import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

CMOCKA = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (\w+)", re.MULTILINE)
WORDS = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}


def of_pytest(path):
    """(name, outcome) of each test case."""
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}: {case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            yield name, "failed"
        elif case.find("skipped") is not None:
            yield name, "skipped"
        else:
            yield name, "passed"


def of_meson(path):
    """(name, outcome) of each cmocka case, or of the program where it has none or broke elsewhere."""
    with open(path) as lines:
        for program in map(json.loads, lines):
            name, result = program["name"], program["result"]
            cases = {}
            for word, case in CMOCKA.findall(program.get("stdout", "") + "\n" + program.get("stderr", "")):
                if cases.get(case) != "failed":
                    cases[case] = WORDS[word]
            yield from ((f"{name}: {case}", outcome) for case, outcome in cases.items())
            good = result in ("OK", "EXPECTEDFAIL")
            if result == "SKIP":
                yield name, "skipped"
            elif not good and "failed" not in cases.values():
                yield f"{name} ({result.lower()})", "failed"
            elif good and not cases:
                yield name, "passed"


def of_matrix(path):
    """(name, outcome) of each case: a mishap at one message of an operation."""
    with open(path) as lines:
        for done in map(json.loads, lines):
            yield " ".join(map(str, done["case"])), "failed" if done["outcome"] == "wrong" else "passed"


def outcomes(path):
    if path.endswith(".jsonl"):
        return list(of_matrix(path))
    return list(of_pytest(path) if path.endswith(".xml") else of_meson(path))


def sentence(count):
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    return f"{count['passed']} passed, {count['failed']} failed{skipped}"


def is_told(status, path):
    try:
        failed = any(outcome == "failed" for _, outcome in outcomes(path))
    except (OSError, ValueError, ElementTree.ParseError):
        return False
    return failed or status == "0"


def main(dir):
    total, failed = {"passed": 0, "failed": 0, "skipped": 0}, []
    for file in sorted(f for f in os.listdir(dir) if f.endswith((".xml", ".json", ".jsonl"))):
        count = dict.fromkeys(total, 0)
        try:
            found = outcomes(os.path.join(dir, file))
        except (ValueError, ElementTree.ParseError):
            continue                        # its stage is among the broken ones
        for name, outcome in found:
            count[outcome] += 1
            total[outcome] += 1
            if outcome == "failed":
                failed.append(name)
        print(f"{os.path.splitext(file)[0]}: {sentence(count)}")
    broken = os.path.join(dir, "broken")
    if os.path.exists(broken):
        with open(broken) as lines:
            stages = lines.read().splitlines()
        failed += [f"stage: {stage}" for stage in stages]
        total["failed"] += len(stages)
    for name in failed:
        print(f"FAILED {name}")
    print(sentence(total))
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    if sys.argv[1] == "--is-told":
        sys.exit(0 if is_told(sys.argv[2], sys.argv[3]) else 1)
    sys.exit(main(sys.argv[1]))
