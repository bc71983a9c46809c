"""A guest whose kernel has a device-mapper, for the tests of volume groups: this host's own may have none.

The script of a test runs in it as root, with rechain, lvm and their libraries from this host; a volume group's
disk is /dev/vda. What the script prints is the result."""

import os
import shlex
import shutil
import subprocess
import tempfile

from . import CACHE, ROOT
from .rechain import binary
from .sweep import COMPLAINTS

PROGRAMS = ["/usr/sbin/lvm", "/usr/sbin/dmsetup", "/usr/bin/qemu-img", "/usr/bin/flock"]
QEMU = "/usr/bin/qemu-system-x86_64"
_FIRMWARE = "/usr/share/seabios/bios-256k.bin"
_TCG = "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so"
_SOURCE = os.path.join(ROOT, "tests", "lvm-guest")


def missing(programs=()):
    """Why these tests cannot run here; None where they can."""
    for path in PROGRAMS + list(programs) + [os.path.join(CACHE, "guest", "initrd")]:
        if not os.path.exists(path):
            return f"{path} is not here"
    return None if shutil.which("qemu-system-x86_64") else "qemu-system-x86_64 is not here"


def _module(name):
    found = subprocess.run(["find", os.path.join(CACHE, "kernel"), "-name", f"{name}.ko"], capture_output=True,
                           text=True, check=True).stdout.split()
    return found[-1]


def _libraries(program):
    for word in subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split():
        if word.startswith("/"):
            yield word


def _assemble_writer(dir, disks, stride):
    """A boot sector that writes in turn to so many disks, and the firmware that starts it."""
    source = os.path.join(os.path.dirname(__file__), "writer.S")
    object, sector = (os.path.join(dir, "lvm", "share", name) for name in ("writer.o", "writer"))
    subprocess.run(["gcc", "-m32", "-c", f"-Wa,--defsym,DISKS={disks}",
                    f"-Wa,--defsym,STRIDE={stride}", source, "-o", object], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", object, "-o", sector],
                   check=True)


def _copy_firmware(dir):
    shutil.copy(_FIRMWARE, os.path.join(dir, "lvm", "share"))
    os.makedirs(dir + os.path.dirname(_TCG))
    shutil.copy(_TCG, dir + _TCG)


def _tree(dir, script, programs, more_modules, files, writes, stride, firmware):
    for folder in ("bin", "lib", "modules", "share"):
        os.makedirs(os.path.join(dir, "lvm", folder))
    if writes:
        _assemble_writer(dir, writes, stride)
    if writes or firmware:
        _copy_firmware(dir)
    shutil.copy(os.path.join(_SOURCE, "init"), os.path.join(dir, "init"))
    os.chmod(os.path.join(dir, "init"), 0o755)
    with open(os.path.join(_SOURCE, "modules")) as file:
        modules = file.read().split() + list(more_modules)
    for name in modules:
        shutil.copy(_module(name), os.path.join(dir, "lvm", "modules"))
    with open(os.path.join(dir, "lvm", "modules", "order"), "w") as file:
        file.write("\n".join(modules) + "\n")
    loader = None
    for program in PROGRAMS + [shutil.which(name) for name in programs] + [binary()]:
        shutil.copy(os.path.realpath(program), os.path.join(dir, "lvm", "bin", os.path.basename(program)))
        for library in _libraries(program):
            shutil.copy(library, os.path.join(dir, "lvm", "lib"))
            loader = library if "/ld-linux" in library else loader
    target = os.path.join(dir, loader.lstrip("/"))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(loader, target)
    for name, path in files.items():
        shutil.copy(path, os.path.join(dir, "lvm", name))
    with open(os.path.join(dir, "lvm", "script"), "w") as file:
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            file.write(f"export {name}={shlex.quote(os.environ.get(name, ''))}\n")
        file.write(script)


def run(script, dir, disk_mib=256, timeout=180, programs=(), modules=(), files=None, memory_mib=512,
        writes=0, stride=1, firmware=False):
    """Boots, runs the script and returns what it printed; the error has all that was said. `programs`, `modules`:
    what it needs besides LVM, modules in the order of loading; `files`: {name in /lvm: path here}. `writes`:
    also /lvm/share/writer, for so many disks of a QEMU within the guest; it writes to every `stride`th sector;
    `firmware`: what such a QEMU needs. RECHAIN_PATIENCE=4: a slow program, such as one with sanitizers, may take
    four times as long."""
    timeout *= float(os.environ.get("RECHAIN_PATIENCE", "1"))
    disk, out, initrd = (os.path.join(dir, name) for name in ("lvm-disk.img", "lvm-out", "lvm-initrd"))
    with open(disk, "wb") as file:
        file.truncate(disk_mib << 20)
    with tempfile.TemporaryDirectory(dir=dir) as tree:
        _tree(tree, script, programs, modules, files or {}, writes, stride, firmware)
        cpio = subprocess.run("find . | cpio --quiet -o -H newc -R 0:0", shell=True, cwd=tree, check=True,
                              capture_output=True).stdout
    with open(initrd, "wb") as file, open(os.path.join(CACHE, "guest", "initrd"), "rb") as base:
        file.write(base.read())
        file.write(cpio)
    argv = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", str(memory_mib), "-smp", "1", "-nodefaults", "-display", "none",
         "-no-reboot", "-kernel", os.path.join(CACHE, "guest", "vmlinuz"), "-initrd", initrd, "-append",
         "console=ttyS0 quiet panic=-1 no_timer_check", "-serial", "stdio", "-serial", f"file:{out}",
         "-drive", f"file={disk},format=raw,if=virtio"]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"not done in {timeout} s: {(late.stdout or b'').decode(errors='replace')[-6000:]}") from None
    assert "script ended with 0" in done.stdout, done.stdout[-6000:] + done.stderr
    for words in COMPLAINTS:
        assert words not in done.stdout, done.stdout[-20000:]
    with open(out) as file:
        return file.read()
