"""Fixtures of the live tests; README.md says how to write a case."""

import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness import hosts, images, qemu                     # noqa: E402
from harness import rechain as program                      # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time, so nothing else may run beside it")


def pytest_report_header():
    return [f"rechain: {program.binary()}", "QEMU: " + ", ".join(qemu.versions())]


@pytest.fixture
def workdir():
    """A folder with a short name, removed afterwards (kept with RECHAIN_KEEP=1)."""
    path = tempfile.mkdtemp(prefix="rct-", dir=os.environ.get("RECHAIN_TMP", "/var/tmp"))
    yield path
    if not os.environ.get("RECHAIN_KEEP"):
        shutil.rmtree(path)


@pytest.fixture(params=qemu.versions() or ["none"])
def version(request):
    """Each QEMU version under test."""
    if request.param not in qemu.SOURCES or not qemu.binary(request.param):
        pytest.skip(f"QEMU {request.param} is not here: run tools/fetch-qemu")
    return request.param


@pytest.fixture(params=["blockdev", "drive"])
def style(request):
    """Both ways to give a QEMU its disks."""
    return request.param


@pytest.fixture
def make_vm(workdir, version):
    """make_vm(disks, **as Vm) -> a started Vm of the version under test, killed afterwards."""
    vms = []

    def make(disks, start=True, **options):
        vm = qemu.Vm(version, disks, **options)
        vms.append(vm)
        return vm.start() if start else vm

    yield make
    for vm in vms:
        vm.close()


@pytest.fixture
def make_chain(workdir):
    """make_chain(names, **as images.make_chain) -> a Chain in the work folder."""
    return lambda names=("template", "current1"), **options: images.make_chain(workdir, names, **options)


@pytest.fixture
def rechain(workdir):
    """The command line under test, with a private state folder."""
    if not os.access(program.binary(), os.X_OK):
        pytest.skip(f"{program.binary()} is not built")
    with program.Rechain(os.path.join(workdir, "state")) as cli:
        yield cli


@pytest.fixture(scope="module")
def _net():
    why = hosts.missing()
    if why:
        pytest.skip(why)
    dir = tempfile.mkdtemp(prefix="rct-", dir=os.environ.get("RECHAIN_TMP", "/var/tmp"))
    with hosts.Net(dir) as both:
        yield both
    shutil.rmtree(dir)


@pytest.fixture
def net(_net):
    """Two hosts, a and b; `net.a.rechain()` is the command line on a, where "-H b" is the other one."""
    _net.reset()
    return _net
