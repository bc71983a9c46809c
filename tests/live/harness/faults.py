"""Calls that change files fail, in rechain or in QEMU, at any of them; mishaps like those of sweep.py and death.py,
whose number is that of the call. rechain's journal or its image files, QEMU's target or the layers that were there."""

import functools
import os
import random

from . import death, sweep
from .proxy import PASS, Proxy
from .shim import Shim
from .sweep import SEED, Case, after_kill, sound

ERRORS = ("EIO", "EIO-once", "ENOSPC", "ENOSPC-once")


def journal(stage):
    return [stage.cli.state_dir]


def target(stage):
    return [stage.new]


def layers(stage):
    return [c.dir for c in stage.chains.values()]


def images(stage):
    return target(stage) + layers(stage)


class Fault:
    """`act` of Shim happens to `program` at call number N to files of `where`."""

    def __init__(self, program, where, act):
        self.program, self.where, self.act = program, where, act
        self.__name__ = f"{program}_{where.__name__}_{act}".replace("-", "_")

    def of_qemu(self):
        return self.program == "qemu"

    def stage(self, scenario, version):
        shim = functools.partial(_shim_of_qemu, self.where, self.act) if self.of_qemu() else None
        return scenario.stage(version, shim=shim)

    def count(self, scenario, version):
        """How many such calls there are when all goes well."""
        return _count(scenario, version, self.program, self.where)

    def __call__(self, case):
        return (in_qemu if self.of_qemu() else in_rechain)(case, self)


def _shim_of_qemu(where, act, stage):
    """Writes alone: after one failed sync of a file QEMU lets all later flushes of it fail, as long as it lives."""
    return Shim(stage.dir, "qemu-system-x86_64", act=act, paths=where(stage), syncs=False)


@functools.cache
def _count(scenario, version, program, where):
    fault = Fault(program, where, "kill")
    with fault.stage(scenario, version) as stage, Proxy(stage.vm.qmp_path) as proxy:
        scenario.begin(stage, proxy)
        shim = stage.shim or Shim(stage.dir, "rechain", paths=where(stage))
        before = shim.count
        case = Case(stage, proxy, scenario, 0)
        result = case.start(None, env=shim.env if not stage.shim else None).wait(60)
        count = shim.count - before
        case.judge_result(result)
        return count


def settled(case, result):
    """The program lives and has ended: what it says is so, and where it does not know, recover does."""
    assert sound(result).rc in (0, 1, 4, 6, 7, 8), str(result)
    if result.rc != 8:
        return case.judge_result(result)
    case.proxy.policy = case.stage.writing(lambda m: PASS)
    state = case.recover()
    assert state, f"nothing was left to settle: {result}"
    return case.judge(state)


def remove_locks(state_dir):
    """A folder in which nothing can be removed keeps the lock file of what never began."""
    run = os.path.join(state_dir, "run")
    for name in os.listdir(run) if os.path.isdir(run) else []:
        if name.endswith(".lock"):
            os.unlink(os.path.join(run, name))


def in_rechain(case, fault):
    shim = Shim(case.stage.dir, "rechain", case.number, fault.act, fault.where(case.stage))
    result = case.start(None, env=shim.env).wait(60)
    if fault.where is journal and fault.act == "EIO" and result.rc == 1:
        remove_locks(case.stage.cli.state_dir)
    elif fault.where is journal and result.rc in (0, 7):    # it ended, and could not remove its socket
        case.stage.cli.run("recover").expect(0)
    return after_kill(case, result) if result.rc < 0 else settled(case, result)


def in_qemu(case, fault):
    """An error, until the operation has ended; or the death of QEMU in the middle of a write."""
    stage = case.stage
    stage.shim.arm(case.number)
    result = case.start(None).wait(60)
    stage.shim.mend()
    if fault.act not in ERRORS and not stage.vm.is_alive():
        stage.killed = True
        return death.after_death(case, result)
    return settled(case, result)


class DeadPrograms:
    """QEMU and rechain are dead; then qemu-img meets `act` at a call while recover has it settle the files."""

    def __init__(self, act):
        self.act, self.__name__ = act, f"recover_qemu_img_{act}".replace("-", "_")

    def stage(self, scenario, version):
        return scenario.stage(version)

    def count(self, scenario, version):
        return 16

    def __call__(self, case):
        stage, scenario = case.stage, case.scenario
        rng = random.Random(f"{SEED} {scenario} {case.number}")
        telling = [m.number for m in sweep.rehearse(scenario, stage.vm.version) if sweep.is_telling(m)]
        case.number = rng.choice(telling)

        def mishap(m):
            case.kill()
            death.kill_qemu(case)
            return PASS
        result = case.start(mishap).wait(60)
        if result.rc >= 0:
            return case.judge_result(result)
        stage.vm.process.wait(10)
        shim = Shim(stage.dir, "qemu-img", rng.randint(1, 30), self.act, images(stage))
        first = sound(stage.cli.run("recover", json=True, timeout=60, env=shim.env))
        assert first.rc in (0, 8), str(first)
        return death.settle(case, result, first.json["operations"] if first.rc == 0 else [])


ALL = [Fault("rechain", journal, act) for act in ("kill", "tear", *ERRORS)]
ALL += [Fault("rechain", images, act) for act in ("kill", "tear", *ERRORS)]
ALL += [Fault("qemu", where, act) for where in (target, layers) for act in ERRORS]
ALL += [Fault("qemu", images, "tear"), *(DeadPrograms(act) for act in ("kill", "EIO-once", "EIO"))]
