"""Whether a stream keeps to --bandwidth, also after `job speed`, under a guest that writes."""

import time

from figures import Bound, measure, shown, start
from harness import images, qemu, rechain
from harness.images import MiB

FIRST, THEN = 8, 16                         # MiB/s
SECONDS = 11                                # at each of the two
# All of the disk holds data above the base, so a job's progress is bytes copied; the guest writes
# only to the first 16 MiB.
SIZE = 320 * MiB


def bench(world, report):
    chain = images.make_chain(world.dir, ["template", "current1"], size=SIZE, share=[0, 0])
    images.run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 0x5a 0 {SIZE}", chain.active)
    with open(chain.reference, "r+b") as view:
        for offset in range(0, SIZE, MiB):
            view.seek(offset)
            view.write(b"\x5a" * MiB)
    new = f"{world.dir}/new.qcow2"
    with rechain.Rechain(world.folder("state")) as cli, \
            qemu.Vm(world.version, chain, guest=True, writer={"region": 16 * MiB, "rate": 200}) as vm:
        run = start(cli, "move", vm.qmp_path, "vda", "--to", new, "--bandwidth", f"{FIRST}M")
        job = _stream(vm)
        before = vm.guest.flushed()
        _past_the_guests_region(vm, job)
        report.figure(f"at --bandwidth {FIRST}M", _rates(vm, job), "MiB/s", Bound(FIRST * 1.15, FIRST * 0.85))
        speed = measure(cli, "job", "speed", vm.qmp_path, job, f"{THEN}M")
        time.sleep(1)                       # QEMU's slices, and what was allowed before
        report.figure(f"after job speed {THEN}M", _rates(vm, job), "MiB/s", Bound(THEN * 1.15, THEN * 0.85))
        assert vm.jobs()[job]["status"] == "running", "the stream ended before the measurement"
        writes = vm.guest.flushed() - before
        measure(cli, "job", "speed", vm.qmp_path, job, "0")
        usage = run.wait().expect()
        assert vm.chain() == [new, chain.base], vm.chain()
        vm.kill()
        vm.check(image=new)
    report.command(shown(usage.argv, world.dir))
    report.command(shown(speed.argv, world.dir))
    report.figure("guest's writes meanwhile", writes)
    report.figure("rechain job speed", speed.wall * 1000, "ms")
    report.note(f"measured over {SECONDS} s each, by the progress of the job; the oracle found every write")


def _stream(vm):
    """The id of rechain's job, when it runs."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for job in vm.jobs().values():
            if job["id"].startswith("rc-") and job["status"] == "running":
                return job["id"]
        time.sleep(0.01)
    raise AssertionError("no stream came")


def _progress(vm, job):
    return vm.jobs()[job]["current-progress"]


def _past_the_guests_region(vm, job):
    while _progress(vm, job) < 20 * MiB:
        time.sleep(0.05)


def _rates(vm, job):
    """The whole time's rate first of all; with it that of its four quarters, for min and max."""
    points = []
    for _ in range(5):
        points.append((time.monotonic(), _progress(vm, job)))
        if len(points) < 5:
            time.sleep(SECONDS / 4)

    def rate(a, b):
        return (b[1] - a[1]) / MiB / (b[0] - a[0])

    whole = rate(points[0], points[-1])
    quarters = [rate(a, b) for a, b in zip(points, points[1:])]
    # So that the median is the whole time's.
    return sorted([whole, min(min(quarters), whole), max(max(quarters), whole)])
