"""Runs cases: an operation with a mishap, kill, recover, judge.

A case is one run of one operation with one mishap at one number (of a message, of a call). What came of it is a line
in the results file; a case that has one is not run again, so that a run which was ended goes on where it was.
Whenever it is ended, what was done is spread evenly: over operations and mishaps, and over the numbers of each."""

import argparse
import collections
import concurrent.futures
import contextlib
import functools
import itertools
import json
import os
import random
import subprocess
import time
import traceback

from harness import death, sweep
from harness.proxy import Proxy
from harness.qemu import die_with_parent, versions

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
OUTCOMES = ("old", "new", "refused", "wrong")


class AtMessage:
    """A mishap of sweep.py or death.py at each message, or at those of one kind."""

    def __init__(self, happens, kind=None):
        self.happens, self.kind, self.__name__ = happens, kind, happens.__name__

    def stage(self, scenario, version):
        return scenario.stage(version)

    def numbers(self, scenario, version, telling_only):
        """Two messages that tell QEMU something or are told by it, then one of a mere question, and so on."""
        seen = [m for m in sweep.rehearse(scenario, version) if m.kind == self.kind or self.kind is None]
        telling = spread([m.number for m in seen if sweep.is_telling(m)])
        if telling_only:
            return telling
        return by_turns(telling[::2], telling[1::2], spread([m.number for m in seen if not sweep.is_telling(m)]))

    def __call__(self, case):
        return self.happens(case)


class AtCall:
    """A mishap of faults.py."""

    def __init__(self, fault):
        self.happens, self.stage, self.__name__ = fault, fault.stage, fault.__name__

    def numbers(self, scenario, version, _telling_only):
        return spread(range(1, self.happens.count(scenario, version) + 1))

    def __call__(self, case):
        return self.happens(case)


def spread(items):
    """The same in an order whose every beginning is spread evenly over all of them."""
    bits = max(len(items) - 1, 1).bit_length()
    order = [int(f"{n:0{bits}b}"[::-1], 2) for n in range(1 << bits)]
    return [items[n] for n in order if n < len(items)]


def by_turns(*groups):
    """One of each after the other, until all are used up."""
    none = object()
    return [item for row in itertools.zip_longest(*groups, fillvalue=none) for item in row if item is not none]


# --- in the worker processes ---

def scenario_of(name):
    return next(s for s in death.ALL if s.name == name)


def numbers(mishaps, telling_only, version, operation):
    """Per mishap those where it can happen, by a run without one; and what went wrong with that."""
    try:
        return [m.numbers(scenario_of(operation), version, telling_only) for m in mishaps], None
    except Exception:
        return [[] for _ in mishaps], traceback.format_exc()[-6000:]


def perform(case, mishap):
    """Runs one case; returns it with its outcome."""
    version, operation, name, number = case
    scenario = scenario_of(operation)
    begun = time.monotonic()
    try:
        with mishap.stage(scenario, version) as stage, Proxy(stage.vm.qmp_path) as proxy:
            scenario.begin(stage, proxy)
            try:
                outcome, words = mishap(sweep.Case(stage, proxy, scenario, number)), None
            except Exception as error:
                at = next((m for m in proxy.seen if m.number == number), "no message")
                raise AssertionError(f"{name} {number}: {at}, of {proxy.count} messages") from error
    except Exception:                       # whatever it is: this case went wrong, the others go on
        outcome, words = "wrong", traceback.format_exc()[-6000:]
    return {"case": case, "outcome": outcome, "seconds": round(time.monotonic() - begun, 2), "words": words}


# --- which cases ---

def commit():
    with contextlib.suppress(subprocess.CalledProcessError):
        words = ["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    return ""


class Run:
    def __init__(self, mishaps, options, results):
        self.mishaps, self.options = mishaps, options
        self.wrong = [c for c, done in results.items() if done["outcome"] == "wrong"] if options.again else []
        self.results = {case: done for case, done in results.items() if case not in self.wrong}
        self.head = commit()

    def note(self, done):
        self.results[tuple(done["case"])] = done
        print(json.dumps({**done, "commit": self.head}), file=self.file, flush=True)
        if done["outcome"] == "wrong":
            print("WRONG", *done["case"], "\n" + done["words"], flush=True)

    def all_cases(self, places):
        """Of these (version, operation), one of each group after the other."""
        groups = []
        found = self.pool.map(functools.partial(numbers, self.mishaps, self.options.telling), *zip(*places))
        for (version, operation), (per_mishap, words) in zip(places, found):
            if words:
                self.note({"case": (version, operation, "none", 0), "outcome": "wrong", "words": words})
            groups += [[(version, operation, mishap.__name__, number) for number in its]
                       for mishap, its in zip(self.mishaps, per_mishap)]
        return by_turns(*spread(groups))

    def slice(self):
        """Some operations on each QEMU, other ones for each commit; of those so many cases, some of each mishap."""
        count, operations = self.options.slice, self.options.operations
        random.seed(f"{sweep.SEED} {self.head}")
        some = min(len(operations), max(3, count // 20))
        cases = self.all_cases([(v, o) for v in self.options.qemu for o in random.sample(operations, some)])
        random.shuffle(cases)
        groups = collections.defaultdict(list)
        for case in cases:
            groups[case[0], case[2]].append(case)
        return by_turns(*groups.values())[:count]

    def perform(self):
        options = self.options
        until = time.monotonic() + options.seconds if options.seconds else float("inf")
        mishaps = {m.__name__: m for m in self.mishaps}
        with concurrent.futures.ProcessPoolExecutor(options.jobs, initializer=die_with_parent) as self.pool, \
             open(options.results, "a") as self.file:
            places = [(v, o) for v in options.qemu for o in options.operations]
            cases = self.slice() if options.slice else self.all_cases(places)
            waiting = (c for c in self.wrong + cases if c not in self.results and c[2] in mishaps)
            running = {self.pool.submit(perform, c, mishaps[c[2]]) for c in itertools.islice(waiting, options.jobs)}
            while running:
                ended, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in ended:
                    self.note(future.result())
                    following = next(waiting, None) if time.monotonic() < until else None
                    if following is not None:
                        running.add(self.pool.submit(perform, following, mishaps[following[2]]))


# --- what came of them ---

def load(path):
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return {tuple(done["case"]): done for done in map(json.loads, file)}


def cell(count):
    """Old / new / refused, and what was wrong."""
    if not count:
        return ""
    return "/".join(str(count[o]) for o in OUTCOMES[:3]) + (f" **{count['wrong']} wrong**" if count["wrong"] else "")


def print_table(mishaps, results):
    """Per QEMU: operations down, mishaps across."""
    counts = collections.defaultdict(collections.Counter)
    for (version, operation, mishap, _), done in results.items():
        for key in itertools.product((version, "all"), (operation, "all"), (mishap, "all")):
            counts[key][done["outcome"]] += 1
    names = [m.__name__ for m in mishaps] + ["all"]
    for version in sorted({v for v, _, _ in counts}):
        print(f"\n{'QEMU ' * (version != 'all')}{version}: old/new/refused\n")
        print("| operation | cases | " + " | ".join(n.replace("_", " ") for n in names) + " |\n|"
              + "---|" * (2 + len(names)))
        for operation in [s.name for s in death.ALL if (version, s.name, "all") in counts] + ["all"]:
            row = [counts.get((version, operation, n)) for n in names]
            print("| " + " | ".join([operation, str(row[-1].total()), *map(cell, row)]) + " |")
    total = counts["all", "all", "all"]
    print(f"\n{total.total()} cases: " + ", ".join(f"{total[o]} {o}" for o in OUTCOMES))


def main(doc, mishaps, results_file):
    """The program. `doc`: of its --help; `mishaps`: AtMessage and AtCall. Returns its exit status."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--operations", default=",".join(s.name for s in death.ALL))
    parser.add_argument("-m", "--mishaps", default=",".join(m.__name__ for m in mishaps))
    parser.add_argument("-q", "--qemu", default=",".join(versions()))
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    parser.add_argument("-r", "--results", default=results_file, help="default: %(default)s")
    parser.add_argument("--telling", action="store_true", help="not at mere questions and their answers")
    parser.add_argument("--again", action="store_true", help="first run those that went wrong once more")
    parser.add_argument("--slice", type=int, help="so many cases, chosen by the commit")
    parser.add_argument("--seconds", type=float, help="no case begins after that")
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    options.operations, options.qemu = options.operations.split(","), options.qemu.split(",")
    chosen = [m for m in mishaps if m.__name__ in options.mishaps.split(",")]
    results = load(options.results)
    if not options.table:
        run = Run(chosen, options, results)
        run.perform()
        results = run.results
    print_table(mishaps, results)
    wrong = sum(done["outcome"] == "wrong" for done in results.values())
    print(f"{len(results) - wrong} passed, {wrong} failed")
    return 1 if wrong else 0
