"""Mishaps at every message of an operation: a stage per case, and what must be true of it afterwards.

A Stage is a running QEMU without a guest OS whose disks are written through the test's monitor, as a
guest would write, all through the operation; a model knows what the guest must read. A sweep performs
one scenario again and again, each time with the mishap at another message, and judges every outcome:
exactly the old chain or exactly the new one, on all disks, every write there, nothing left behind."""

import contextlib
import filecmp
import functools
import hashlib
import os
import random
import shutil
import tempfile
import threading

from . import images, loops, oracle
from .images import MiB
from .proxy import CUT, CUT_AFTER, DROP, PASS, Proxy, Reply
from .qemu import Disk, Vm, leftovers
from .rechain import Rechain

WIDTH = os.environ.get("RECHAIN_SWEEP", "")    # "full": every message; "telling": all but mere questions
SEED = 20260101
BLOCK = 64 << 10

# Where the guest writes: before these commands reach QEMU.
WRITES = {"transaction", "block-stream", "human-monitor-command", "job-finalize", "job-cancel", "block-commit",
          "query-block-jobs", "stop", "blockdev-del", "blockdev-add", "blockdev-mirror", "block-job-cancel"}


COMPLAINTS = ("Sanitizer", "runtime error:", "CRITICAL", "GLib-WARNING")


def sound(result):
    """No sanitizer, no GLib warning has anything to say about a run. Returns it."""
    for words in COMPLAINTS:
        assert words not in result.err, f"{words}: {result}"
    return result


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Stage:
    """vm, cli (a Rechain), dir, new (folder of the targets), chains; `writes` per disk, and all that
    were ever `written` to a block, of which so many are `flushed`; `in_flight`: the block (id, number) whose write was not answered. `killed`: QEMU is, by us. `makes`: what is done leaves a target, `leaves`: beside
    the chain. `room`: layers and targets lie in volumes with so many MiB to spare,
    and each target's image is over the layer `behind`. `reopens`: what is undone may leave QEMU with an old layer under another node name. `shim`: of
    QEMU, made by shim(stage); what fails is none of the guest's own writes, of which QEMU makes what it will."""

    def __init__(self, version, disks=1, style="blockdev", size=8 * MiB, dir=None, running=True,
                 new=None, names=("template", "current1"), makes=True, leaves=False, reopens=False,
                 shim=None, room=None, behind=0, **disk_options):
        self.dir = dir or tempfile.mkdtemp(prefix="rct-", dir=os.environ.get("RECHAIN_TMP", "/var/tmp"))
        self.keep = dir is not None or bool(os.environ.get("RECHAIN_KEEP"))
        self.new = new or os.path.join(self.dir, "new")
        os.makedirs(self.new, exist_ok=True)
        ids = ["vd" + "abcdefghij"[i] for i in range(disks)]
        self.chains = {id: images.make_chain_again(os.path.join(self.dir, id), names, size=size, share=0.2)
                       for id in ids}
        self.makes, self.leaves, self.reopens, self.behind = makes, leaves, reopens, behind
        self.group = loops.Group(os.path.join(self.dir, "vg")) if room is not None else None
        if self.group:
            self.chains = {id: self.group.put_chain(id, chain, room) for id, chain in self.chains.items()}
        self.volumes = {id: self._volume(id, 2 + room) for id in ids} if self.group and makes else {}
        self.cli = Rechain(os.path.join(self.dir, "state"), program=self.group and self.group.program)
        self.shim = shim(self) if shim else None
        self.vm = Vm(version, [Disk(c, id=i, **disk_options) for i, c in self.chains.items()],
                     style=style, dir=self.dir, env=self.shim.env if self.shim else None)
        self.templates = {c.base: digest(c.base) for c in self.chains.values()}
        self.writes = {id: {} for id in ids}
        self.written = {id: {} for id in ids}
        self.flushed = {id: {} for id in ids}
        self._count, self._lock, self.killed, self.in_flight = 0, threading.Lock(), False, None
        self.vm.start()
        if running:
            self.vm.cont()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cli.close()
        self.vm.close()
        if self.group:
            self.group.close()
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def _volume(self, id, room):
        """One with an empty image, for --reuse."""
        device, chain = self.group.volume(f"{id}-new", room), self.chains[id]
        backing = chain.layers[self.behind]
        images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "qcow2", device, chain.size)
        return device

    def target(self, id):
        return self.volumes[id] if self.volumes else os.path.join(self.new, f"{id}.qcow2")

    def disk_words(self):
        return [f"{id},to={self.target(id)}" for id in self.chains]

    def ask(self, command, **arguments):
        """A QMP command of the test's own, beside the guest's writes."""
        with self._lock:
            return self.vm.qmp.execute(command, **arguments)

    def write(self, always=False):
        """One more guest write per disk; none while the guest is stopped, as a guest would not."""
        with self._lock:
            if not self.vm.is_alive() or not (always or self.vm.run_state() == "running"):
                return
            with self.shim.resting() if self.shim else contextlib.nullcontext():
                self._write()

    def _write(self):
        for id, chain in self.chains.items():
            self._count += 1
            block, pattern = (self._count * 7) % (chain.size // BLOCK), self._count % 255 + 1
            self.writes[id][block] = pattern
            self.written[id].setdefault(block, []).append(pattern)
            self.in_flight = id, block
            self.vm.guest_write(block * BLOCK, BLOCK, pattern, id)
            self.in_flight = None
        if self._count % 3 == 0:
            self._flush()

    def _flush(self):
        for id, written in self.written.items():
            self.vm.flush(id)
            self.flushed[id] = {block: len(patterns) for block, patterns in written.items()}

    def writing(self, policy):
        """A policy that lets the guest write before every telling command, then does as `policy` says."""
        def both(m):
            if m.kind == "command" and m.name in WRITES:
                try:
                    self.write()
                except (OSError, AssertionError):
                    if not self.killed and not self.shim:
                        raise
            return policy(m)
        return both

    # --- judging ---

    def old(self):
        return {id: c.layers for id, c in self.chains.items()}

    def moved(self):
        return {id: [self.target(id), c.base] for id, c in self.chains.items()}

    def snapped(self):
        return {id: [self.target(id)] + c.layers for id, c in self.chains.items()}

    def deleted(self):
        """The first disk without its old layer, the others without the new one."""
        return {id: c.layers if i else [self.target(id), c.base] for i, (id, c) in enumerate(self.chains.items())}

    def now(self):
        return {id: self.vm.chain(id) for id in self.chains}

    def judge(self, is_new, chains, kept=False):
        """All that must be true of the world now; ends QEMU. @kept: the targets were there before."""
        self.vm.assert_alive()
        assert self.now() == chains, f"chains are {self.now()}"
        for id, files in chains.items():
            assert images.header_chain(files[0]) == files, f"headers of {id} say {images.header_chain(files[0])}"
            there = (is_new and self.makes) or kept or bool(self.volumes)
            assert os.path.exists(self.target(id)) == there, f"{self.target(id)} is{' not' if there else ''} there"
        leftovers(self.vm, self.cli.state_dir, [self.new], result=is_new or kept or self.reopens)
        run = os.path.join(self.cli.state_dir, "run")
        assert not os.path.isdir(run) or not os.listdir(run), f"left in {run}: {os.listdir(run)}"
        self.write(always=True)
        for base, was in self.templates.items():
            assert digest(base) == was, f"{base} was changed"
        self.vm.stop()
        for id, files in chains.items():
            self.judge_data(id, files[0])
            if is_new and self.leaves:
                self.judge_copy(id)

    def judge_data(self, id, active):
        """Every write, and nothing else, in what `active` shows; after QEMU's end."""
        images.check_image(active)
        self.judge_blocks(id, active, lambda block, original: [bytes([self.writes[id][block]]) * BLOCK])

    def judge_blocks(self, id, active, may_show):
        """What was written shows one of what may_show(block, original contents) says, all else what was made."""
        expected = os.path.join(self.dir, f"{id}.expected")
        shutil.copyfile(self.chains[id].reference, expected)
        with images.raw_view(active, dir=self.dir) as raw, open(raw, "rb") as now, open(expected, "r+b") as file:
            for block in self.written[id]:
                shown = os.pread(now.fileno(), BLOCK, block * BLOCK)
                may = may_show(block, os.pread(file.fileno(), BLOCK, block * BLOCK))
                part = 512 if (id, block) == self.in_flight else BLOCK
                is_right = all(shown[at:at + part] in [m[at:at + part] for m in may] for at in range(0, BLOCK, part))
                os.pwrite(file.fileno(), shown if is_right else may[0], block * BLOCK)
            is_sound = filecmp.cmp(raw, expected, shallow=False)
        if not is_sound:
            oracle.check_unwritten(active, expected)        # which says what is wrong
            raise AssertionError(f"{active} does not show what {expected} does")
        os.unlink(expected)

    def judge_copy(self, id):
        """A copy of some instant: each block is one that the guest saw."""
        images.check_image(self.target(id))
        with images.raw_view(self.target(id), dir=self.dir) as path, open(path, "rb") as copy, \
             open(self.chains[id].reference, "rb") as old:
            for block in range(self.chains[id].size // BLOCK):
                is_, was = copy.read(BLOCK), old.read(BLOCK)
                seen = [was] + [bytes([p]) * BLOCK for p in self.written[id].get(block, [])]
                assert is_ in seen, f"{self.target(id)}: block {block} is nothing that {id} ever had"


# --- scenarios ---

def move(stage, proxy, *more):
    return ["move", proxy.path, *stage.disk_words(), *more]


def snapshot(stage, proxy, *more):
    return ["snapshot", "create", proxy.path, *stage.disk_words(), *more]


def take(stage, proxy):
    """The seed case's snapshot: the first disk is to go forward, the others backward."""
    words = [word + ("" if i else ",on-delete=forward") for i, word in enumerate(stage.disk_words())]
    stage.cli.run("snapshot", "create", proxy.path, *words, "--name", "tmpsnap").expect(0)


def delete(stage, proxy, *more):
    return ["snapshot", "delete", proxy.path, "tmpsnap", *more]


LONG = ("template", "low", "middle", "current")


def on_disks(verb, *options):
    """A command on all disks of the stage; `options` for all of them, or of each."""
    def command(stage, proxy, *more):
        disks = [id + "," * bool(options) + options[i % len(options)] if options else id
                 for i, id in enumerate(stage.chains)]
        return [verb, proxy.path, *disks, *more]
    return command


def copying(*words):
    def command(stage, proxy, *more):
        return ["copy", proxy.path, *stage.disk_words(), *words, *more]
    return command


def without(*dropped):
    """The chain without these layers, by depth; per disk where tuples are given."""
    def after(stage):
        per_disk = dropped if isinstance(dropped[0], tuple) else [dropped] * len(stage.chains)
        return {id: [f for depth, f in enumerate(c.layers) if depth not in per_disk[i]]
                for i, (id, c) in enumerate(stage.chains.items())}
    return after


class Scenario:
    """`upset`: a policy of its own, under the mishap's. `prepare`: what is done before, without one; then
    `before` is the old chain. `stage`: what its Stage is made of."""

    def __init__(self, name, disks, command, after, upset=None, style="blockdev", prepare=None, before=Stage.old,
                 **stage):
        self.name, self.disks, self.command, self.after = name, disks, command, after
        self.upset, self.style, self.prepare, self.before, self.options = upset, style, prepare, before, stage

    def __repr__(self):
        return self.name

    def stage(self, version, **more):
        return Stage(version, self.disks, self.style, **self.options, **more)

    def begin(self, stage, proxy):
        if self.prepare:
            self.prepare(stage, proxy)
            proxy.forget()


def fails_at_flush(m):
    """The first flush of the streamed data is refused: the whole move is taken back."""
    return Reply("injected error") if (m.kind, m.name, m.nth) == ("command", "human-monitor-command", 1) else PASS


MOVE = Scenario("move", 1, move, Stage.moved)
MOVE_DRIVE = Scenario("move-drive", 1, move, Stage.moved, style="drive")
MOVE_TWO = Scenario("move-two", 2, move, Stage.moved)
SNAPSHOT_THREE = Scenario("snapshot-three", 3, snapshot, Stage.snapped)
UNDO = Scenario("undo", 1, move, Stage.moved, fails_at_flush)
UNDO_DRIVE = Scenario("undo-drive", 1, move, Stage.moved, fails_at_flush, style="drive")
UNDO_TWO = Scenario("undo-two", 2, move, Stage.moved, fails_at_flush)
COPY_TWO = Scenario("copy-two", 2, copying("--shallow"), Stage.moved, reopens=True)
COPY_DRIVE = Scenario("copy-drive", 1, copying("--shallow"), Stage.moved, style="drive", reopens=True)
LEAVE_TWO = Scenario("leave-two", 2, copying("--no-pivot", "--shallow"), Stage.old, leaves=True)
# Three ways at once: pulled up, committed down by the active layer, committed down inside.
MERGE_THREE = Scenario("merge-three", 3, on_disks(
    "merge", "source=middle.qcow2,dest=current.qcow2", "source=current.qcow2,dest=middle.qcow2",
    "source=middle.qcow2,dest=low.qcow2"), without((1,), (0,), (1,)), names=LONG, makes=False, reopens=True)
PULL_DRIVE = Scenario("pull-drive", 1, on_disks("pull", "base=low.qcow2"), without(1), style="drive",
                      names=LONG, makes=False, reopens=True)
COMMIT_DRIVE = Scenario("commit-drive", 1, on_disks("commit", "base=low.qcow2"), without(0, 1), style="drive",
                        names=LONG, makes=False, reopens=True)
INNER_DRIVE = Scenario("inner-drive", 1, on_disks("commit", "top=middle.qcow2"), without(1), style="drive",
                       names=LONG, makes=False, reopens=True)
# Beside writes of the test's own, which no hold stops: zeros are left to tests/live/test_allocate.py.
ALLOCATE = Scenario("allocate", 1, on_disks("allocate"), Stage.old, names=LONG, makes=False)
ALLOCATE_DETACH = Scenario("allocate-detach", 1, lambda stage, proxy, *more: [
    "allocate", proxy.path, "vda", "--detach-backing", *more], without(1, 2, 3), names=LONG, makes=False, reopens=True)
# Into volumes that are to be extended meanwhile, by so much that no write of ours finds them full: nothing tells.
EXTENDS = ("--reuse", "--grow-lv=4M")
GROW_MOVE = Scenario("grow-move", 2, lambda stage, proxy, *more: move(stage, proxy, *EXTENDS, *more), Stage.moved, room=3)
GROW_COPY = Scenario("grow-copy", 2, copying("--shallow", *EXTENDS), Stage.moved, room=3, behind=1,
                     reopens=True)
GROW_UNDO = Scenario("grow-undo", 2, lambda stage, proxy, *more: move(stage, proxy, *EXTENDS, *more), Stage.moved,
                     fails_at_flush, room=3)
GROW_MERGE = Scenario("grow-merge", 3, lambda stage, proxy, *more: [
    "merge", proxy.path, *(f"{id},source={chain.layers[source]},dest={chain.layers[dest]}" for (id, chain), (source, dest)
                           in zip(stage.chains.items(), ((1, 0), (0, 1), (1, 2)))), "--grow-lv=4M", *more],
    without((1,), (0,), (1,)), names=LONG, makes=False, reopens=True, room=3)
GROWTHS = [GROW_MOVE, GROW_COPY, GROW_UNDO, GROW_MERGE]
REGIONS = [ALLOCATE, ALLOCATE_DETACH]
MERGES = [COPY_TWO, COPY_DRIVE, LEAVE_TWO, MERGE_THREE, PULL_DRIVE, COMMIT_DRIVE, INNER_DRIVE]
DELETE_TWO = Scenario("delete-two", 2, delete, Stage.deleted, prepare=take, before=Stage.snapped)
SCENARIOS = [MOVE, MOVE_DRIVE, MOVE_TWO, SNAPSHOT_THREE, UNDO, UNDO_DRIVE, UNDO_TWO, DELETE_TWO]


# --- mishaps: each runs one case and returns "old", "new" or "refused" (nothing was begun) ---

class Case:
    def __init__(self, stage, proxy, scenario, number):
        self.stage, self.proxy, self.scenario, self.number = stage, proxy, scenario, number
        self.run, self._started = None, threading.Event()

    def policy(self, mishap):
        """The mishap, if any, at the message, after the scenario's own upset."""
        upset = self.scenario.upset or (lambda m: PASS)

        def both(m):
            return mishap(m) if mishap and m.number == self.number else upset(m)
        return self.stage.writing(both)

    def start(self, mishap, *more, env=None):
        self.proxy.policy = self.policy(mishap)
        self.run = self.stage.cli.start(*self.scenario.command(self.stage, self.proxy, *more), json=True, env=env)
        self._started.set()
        return self.run

    def kill(self):
        self._started.wait(10)
        self.run.process.kill()
        self.run.process.wait()

    def recover(self, *more):
        """Settles, and changes nothing the second time. Returns the operation's state, if there was one."""
        first = sound(self.stage.cli.run("recover", *more, json=True, timeout=60)).expect(0)
        states = [op["state"] for op in first.json["operations"]]
        assert all(s in ("done", "undone") for s in states), str(first)
        again = sound(self.stage.cli.run("recover", json=True)).expect(0)
        assert again.json["operations"] == [], f"the second recover did something: {again}"
        return states[0] if states else self.ended_as()

    def ended_as(self):
        """The state of the newest operation on record, if there is one."""
        listed = sound(self.stage.cli.run("op", "list", json=True)).expect(0).json["operations"]
        ours = [op for op in listed if op["kind"] != "snapshot" or self.scenario.prepare is None]
        return ours[0]["state"] if ours else None

    def judge(self, state):
        """By the operation's state: done is the new chain, undone and no operation at all the old one."""
        kept = self.scenario.prepare is not None
        if kept:
            self.judge_records(state)
        self.proxy.cut()
        if state == "done":
            self.stage.judge(True, self.scenario.after(self.stage), kept)
            return "new"
        self.stage.judge(False, self.scenario.before(self.stage), kept)
        return "old" if state == "undone" else "refused"

    def judge_records(self, state):
        """What was deleted is off the record; else it is as it was, and matches."""
        self.proxy.policy = lambda m: PASS
        shown = sound(self.stage.cli.run("snapshot", "show", self.proxy.path, "tmpsnap", json=True))
        assert shown.rc == (3 if state == "done" else 0), str(shown)

    def judge_result(self, result):
        """By the exit code of a run that ended by itself."""
        sound(result)
        assert result.rc in (0, 1, 4, 6, 7), str(result)
        return self.judge({0: "done", 7: "undone"}.get(result.rc))


def killed_as(case, action=PASS):
    """SIGKILL of rechain as the message comes. Returns how it ended: rc >= 0 where it did so before."""
    def mishap(m):
        case.kill()
        return action
    return case.start(mishap).wait(60)


def after_kill(case, result, *recover):
    """The guest writes on, and recover settles."""
    if result.rc >= 0:
        return case.judge_result(result)
    case.proxy.policy = case.stage.writing(lambda m: PASS)
    case.stage.write()
    return case.judge(case.recover(*recover))


def killed(case, *recover):
    """SIGKILL of rechain as the message passes; QEMU gets it all the same."""
    return after_kill(case, killed_as(case), *recover)


def killed_before(case):
    """SIGKILL of rechain before it has sent the command."""
    return after_kill(case, killed_as(case, DROP))


def killed_soon(case):
    """SIGKILL of rechain while it is at work on the message, or some milliseconds later."""
    timer = soon(case, case.kill)

    def mishap(m):
        timer.start()
        return PASS
    result = case.start(mishap).wait(60)
    if timer.ident:
        timer.join()
    return after_kill(case, result)


def soon(case, what):
    """A timer that does it in the next milliseconds, always the same for the same case."""
    ms = random.Random(f"{SEED} {case.scenario} {case.number}").choice((0, 0.3, 1, 2, 4, 8, 16))
    return threading.Timer(ms / 1000, what)


def killed_to_undo(case):
    """The same, then --undo; refused where the pivot took effect."""
    result = killed_as(case)
    if result.rc >= 0:
        return case.judge_result(result)
    case.proxy.policy = case.stage.writing(lambda m: PASS)
    back = sound(case.stage.cli.run("recover", "--undo", json=True, timeout=60))
    assert back.rc in (0, 8), str(back)
    return case.judge(case.recover() if back.rc else state_of(back) or case.ended_as())


def state_of(result):
    operations = result.json["operations"]
    return operations[0]["state"] if operations else None


def killed_to_finish(case):
    return killed(case, "--finish")


def killed_twice(case):
    """recover is killed too, at a message of its own."""
    result = killed_as(case)
    if result.rc >= 0:
        return case.judge_result(result)
    begun = case.proxy.count
    fatal = begun + random.Random(f"{SEED} {case.number}").randint(3, 120)

    def again(m):
        if m.number == fatal:
            case.kill()
        return PASS
    case._started.clear()
    case.proxy.policy = case.stage.writing(again)
    case.run = case.stage.cli.start("recover", json=True)
    case._started.set()
    second = case.run.wait(60)
    case.proxy.policy = case.stage.writing(lambda m: PASS)
    if second.rc >= 0:
        return case.judge(state_of(sound(second).expect(0)) or case.ended_as())
    return case.judge(case.recover())


def cut(case):
    """The connection ends in place of the message; a new one is welcome."""
    return case.judge_result(case.start(lambda m: CUT).wait(60))


def cut_after(case):
    """The message arrives, then the connection ends."""
    return case.judge_result(case.start(lambda m: CUT_AFTER).wait(60))


def refused(case):
    """QEMU says no to one command, without doing it."""
    return case.judge_result(case.start(lambda m: Reply("injected refusal") if m.kind == "command" else PASS).wait(60))


# --- the sweep ---

def is_telling(message):
    return not (message.name or "").startswith(("query-", "x-debug"))


@functools.cache
def rehearse(scenario, version):
    """The messages of the scenario without a mishap."""
    with scenario.stage(version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        scenario.begin(stage, proxy)
        case = Case(stage, proxy, scenario, 0)
        result = case.start(None).wait(60)
        seen = list(proxy.seen)
        case.judge_result(result)
        return seen


def numbers(scenario, version, mishap, samples):
    """Of the messages to do it at: all in a full sweep, else some, mostly not of mere questions."""
    seen = rehearse(scenario, version)
    if mishap is refused:
        seen = [m for m in seen if m.kind == "command"]
    if WIDTH == "full":
        return [m.number for m in seen]
    if WIDTH == "telling":
        return [m.number for m in seen if is_telling(m)]
    rng = random.Random(f"{SEED} {scenario} {mishap.__name__} {version}")
    telling = [m.number for m in seen if is_telling(m)]
    others = [m.number for m in seen if not is_telling(m)]
    return sorted(rng.sample(telling, min(samples, len(telling))) + rng.sample(others, min(samples // 3, len(others))))


def sweep(scenario, mishap, version, samples=4):
    """Performs it; an AssertionError lists every case that went wrong. Returns {"old": n, "new": n ...}."""
    outcomes, wrong = {}, []
    for number in numbers(scenario, version, mishap, samples):
        with contextlib.ExitStack() as stack:
            stage = stack.enter_context(scenario.stage(version))
            proxy = stack.enter_context(Proxy(stage.vm.qmp_path))
            scenario.begin(stage, proxy)
            case = Case(stage, proxy, scenario, number)
            try:
                outcome = mishap(case)
            except Exception as error:      # a case that went wrong must not hide the others
                outcome = "wrong"
                at = next((m for m in proxy.seen if m.number == number), None)
                print(f"WRONG {scenario} {mishap.__name__} {version} {number}", flush=True)
                wrong.append(f"--- message {number} {at!r}: {type(error).__name__}: {str(error)[:2500]}")
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    line = f"SWEEP {scenario} {mishap.__name__} {version}: {sum(outcomes.values())} cases, {outcomes}"
    print(line, flush=True)
    assert not wrong, "\n".join([line] + wrong)
    return outcomes
