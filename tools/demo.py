"""The demonstration itself; tools/demo prepares for it."""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "live"))

from harness import images, qemu                            # noqa: E402
from harness.images import MiB                              # noqa: E402
from harness.rechain import binary                          # noqa: E402

BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


def say(text):
    print(f"\n{BOLD}# {text}{PLAIN}", flush=True)


def rechain(dir, *arguments):
    print(f"$ rechain {' '.join(arguments)}", flush=True)
    status = subprocess.run([binary(), "--state-dir", f"{dir}/state", *arguments]).returncode
    if status != 0:
        sys.exit(f"demo: rechain {arguments[0]} ended with {status}")


def main():
    with tempfile.TemporaryDirectory(prefix="rechain-demo-", dir="/var/tmp") as dir:
        say("A disk of 512 MiB: template <- current1, with 256 MiB of data in current1")
        chain = images.make_chain(dir, ["template", "current1"], size=512 * MiB, share=[0.25, 0.5])
        target = f"{dir}/current2.qcow2"

        say("A Linux guest boots from it, and writes and flushes all the time")
        # At most 400 writes a second: the guest's CPU is emulated, and the copy wants some too.
        with qemu.Vm("7.2", chain, guest=True, writer={"rate": 400}) as vm:
            vm.guest.wait_flushed(400)
            print(f"{vm.guest.flushed()} writes are on disk")

            say("The chain now")
            rechain(dir, "chain", vm.qmp_path, "vda")
            say("Move the disk into another image; the template stays shared")
            before = vm.guest.flushed()
            rechain(dir, "move", vm.qmp_path, "vda", "--to", target, "--bandwidth", "32M")
            during = vm.guest.flushed() - before
            say("The chain after")
            rechain(dir, "chain", vm.qmp_path, "vda")

            vm.guest.wait_flushed(400)
            say("The proof")
            assert during > 0, "the guest stood still during the move"
            blocks = vm.guest.verify()
            print(f"guest:  flushed {during} writes during the move; read back {blocks} blocks, all right")
            vm.stop()

        expected = [target, chain.base]
        assert images.header_chain(target) == expected, f"the headers say {images.header_chain(target)}"
        os.unlink(chain.active)             # nothing may need the old image any more
        report = vm.check(image=target, graceful=True)
        history = report.history
        print(f"oracle: {history.acknowledged} acknowledged writes, {history.flushed} flushed, "
              f"{len(report.bad)} lost; {report.untouched} blocks that nobody wrote are unchanged")
        print(f"chain:  {' <- '.join(os.path.basename(p) for p in reversed(expected))}; "
              f"{os.path.basename(chain.active)} was deleted before the oracle looked")


if __name__ == "__main__":
    main()
