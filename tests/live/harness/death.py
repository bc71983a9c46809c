"""QEMU dies, with rechain or without it, at any message of an operation; more mishaps and scenarios for
harness/sweep.py. What is judged afterwards is on the disk: headers, data, and what is left."""

import copy
import os

from . import images
from .proxy import DROP, PASS, TWICE, Delay, refuse
from .qemu import leftovers
from .sweep import (ALLOCATE, ALLOCATE_DETACH, BLOCK, LONG, MOVE, MOVE_TWO, SNAPSHOT_THREE, UNDO, UNDO_TWO, DELETE_TWO,
                    MERGE_THREE, COPY_TWO, LEAVE_TWO, Scenario, copying, digest, killed_as, on_disks, soon, sound, without)


# --- scenarios ---

def merging(name, command, after, **options):
    return Scenario(name, 1, command, after, names=LONG, makes=False, reopens=True, **options)


def copied(*kept):
    """The target over the layers of these depths."""
    return lambda stage: {id: [stage.target(id)] + [c.layers[d] for d in kept] for id, c in stage.chains.items()}


PULL = merging("pull", on_disks("pull"), without(1, 2, 3))
PULL_PARTIAL = merging("pull-partial", on_disks("pull", "base=template.qcow2"), without(1, 2))
PULL_INNER = merging("pull-inner", on_disks("pull", "top=middle.qcow2,base=template.qcow2"), without(2))
COMMIT = merging("commit", on_disks("commit"), without(0))
COMMIT_INNER = merging("commit-inner", on_disks("commit", "top=middle.qcow2"), without(1))
COPY = Scenario("copy", 1, copying(), copied(), names=LONG, reopens=True)
COPY_SHALLOW = Scenario("copy-shallow", 1, copying("--shallow"), copied(1, 2, 3), names=LONG, reopens=True)
DONE = [SNAPSHOT_THREE, MOVE, MOVE_TWO, PULL, PULL_PARTIAL, PULL_INNER, COMMIT, COMMIT_INNER, MERGE_THREE, COPY,
        COPY_SHALLOW, COPY_TWO, LEAVE_TWO, DELETE_TWO, ALLOCATE, ALLOCATE_DETACH]


def undone(scenario, command="job-finalize", nth=None):
    """The same, refused by QEMU at its last step before the end, on the last disk: the others have pivoted."""
    other = copy.copy(scenario)
    other.name, other.upset = f"{scenario.name}-undo", refuse(command, nth=nth or scenario.disks)
    return other


# Those that finalize no job, and what is refused of them.
OTHERWISE = {SNAPSHOT_THREE: "transaction", LEAVE_TWO: "block-job-cancel", ALLOCATE: "human-monitor-command"}
UNDONE = [UNDO, UNDO_TWO] + [undone(s, command, 1) for s, command in OTHERWISE.items()]
UNDONE += [undone(s) for s in DONE if s not in OTHERWISE]
ALL = DONE + UNDONE


# --- judging what is on disk ---

def judge_files(stage, chains, new, kept):
    """`chains` as their headers have it; `new`: a target is to be there, `kept`: it was before."""
    for id, files in chains.items():
        assert images.header_chain(files[0]) == files, f"headers of {id} say {images.header_chain(files[0])}"
        there = (new and stage.makes) or kept
        assert os.path.exists(stage.target(id)) == there, f"{stage.target(id)} is{' not' if there else ''} there"
    leftovers(None, stage.cli.state_dir, [stage.new, *(c.dir for c in stage.chains.values())])
    run = os.path.join(stage.cli.state_dir, "run")
    assert not os.path.isdir(run) or not os.listdir(run), f"left in {run}: {os.listdir(run)}"
    for base, was in stage.templates.items():
        assert digest(base) == was, f"{base} was changed"
    for id, files in chains.items():
        judge_crashed(stage, id, files[0])
        if new and stage.leaves:
            stage.judge_copy(id)


def may_show(stage, id, block, original):
    """What a block may show after a crash: the last flushed write, or a later one."""
    patterns, flushed = stage.written[id][block], stage.flushed[id].get(block, 0)
    first = original if flushed == 0 else bytes([patterns[flushed - 1]]) * BLOCK
    return [first] + [bytes([p]) * BLOCK for p in patterns[flushed:]]


def judge_crashed(stage, id, active):
    """Every flushed write is there, and everything else is as it was made."""
    images.check_image(active)
    stage.judge_blocks(id, active, lambda block, original: may_show(stage, id, block, original))


def settle(case, result, before=()):
    """recover leaves the old or the new chain, on all disks, says what to start from, and has nothing to do
    the second time. `before`: what another recover has settled already."""
    stage, scenario = case.stage, case.scenario
    ended = result.rc in (0, 7)
    state = result.json["state"] if ended else None
    told = result.json["authoritative"] if ended else None
    settled = sound(stage.cli.run("recover", json=True, timeout=60)).expect(0)
    assert not (ended and settled.json["operations"]), f"it had ended: {result}, {settled}"
    assert not (before and settled.json["operations"]), f"settled twice: {settled}"
    for operation in before or settled.json["operations"]:
        state, told = operation["state"], operation["authoritative"]
        assert told is not None, str(settled)
    again = sound(stage.cli.run("recover", json=True)).expect(0)
    assert again.json["operations"] == [], f"the second recover did something: {again}"
    case.proxy.cut()
    new = state == "done"
    chains = scenario.after(stage) if new else scenario.before(stage)
    assert told is None or told == {id: files[0] for id, files in chains.items()}, f"{told} is told of a {state} one"
    judge_files(stage, chains, new, scenario.prepare is not None)
    return {"done": "new", "undone": "old"}.get(state, "refused")


# --- mishaps ---

def kill_qemu(case):
    case.stage.killed = True
    case.stage.vm.sigkill()


def after_death(case, result):
    """rechain lives: it settles by itself, or had not begun."""
    assert result.rc in (0, 1, 4, 6, 7), str(sound(result))
    return settle(case, result)


def qemu_killed(case):
    """SIGKILL of QEMU when the message passes, which it does not get any more."""
    def mishap(m):
        kill_qemu(case)
        return PASS
    result = case.start(mishap).wait(60)
    return after_death(case, result) if case.stage.killed else case.judge_result(result)


def qemu_killed_soon(case):
    """SIGKILL of QEMU while it is at work on what the message asks for, or some milliseconds later."""
    timer = soon(case, lambda: kill_qemu(case))

    def mishap(m):
        timer.start()
        return PASS
    result = case.start(mishap).wait(60)
    if not timer.ident:
        return case.judge_result(result)
    timer.join()
    return after_death(case, result)


def both_killed(case):
    """SIGKILL of both, rechain first."""
    def mishap(m):
        case.kill()
        kill_qemu(case)
        return PASS
    result = case.start(mishap).wait(60)
    if result.rc >= 0:
        return case.judge_result(result)
    case.stage.vm.process.wait(10)
    return settle(case, result)


def qemu_killed_later(case):
    """SIGKILL of rechain; the guest writes on, then QEMU dies too."""
    result = killed_as(case)
    if result.rc >= 0:
        return case.judge_result(result)
    case.proxy.policy = case.stage.writing(lambda m: PASS)
    for _ in range(4):
        case.stage.write()
    kill_qemu(case)
    return settle(case, result)


def delayed(case):
    """Three seconds late."""
    return case.judge_result(case.start(lambda m: Delay(3)).wait(60))


def doubled(case):
    return case.judge_result(case.start(lambda m: TWICE if m.kind == "event" else PASS).wait(60))


def dropped(case):
    return case.judge_result(case.start(lambda m: DROP if m.kind == "event" else PASS).wait(60))
