"""vol copy between hosts: bit for bit, holes as holes, whole or not at all, whoever dies on the way."""

import contextlib
import ctypes
import os
import random
import signal
import struct
import subprocess

import pytest

from harness import images
from harness.images import MiB
from harness.rechain import binary
from harness.scene import wait_until


def image(path, size, seed, extents=20, longest=MiB):
    """A raw file with random extents at odd places, and holes between."""
    rng = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(size)
        for _ in range(extents if size else 0):
            offset = rng.randrange(size)
            file.seek(offset)
            file.write(rng.randbytes(min(rng.randrange(1, longest), size - offset)))
    return path


def same(one, other):
    assert subprocess.run(["cmp", one, other]).returncode == 0
    blocks = [os.stat(path).st_blocks for path in (one, other)]
    assert blocks[1] <= blocks[0] + 1024, f"holes were filled: {blocks}"


def nothing_left(net, dir, *expected):
    wait_until(lambda: sorted(os.listdir(dir)) == sorted(expected), f"only {expected} in {os.listdir(dir)}")
    for host in (net.a, net.b):
        run_dir = os.path.join(host.state_dir, "run")
        assert not os.path.isdir(run_dir) or not [n for n in os.listdir(run_dir) if n.endswith(".feed")]
        wait_until(lambda: not host.pids_of("rechain", "--stdio"), "no server is left")


@pytest.fixture
def out(workdir):
    path = os.path.join(workdir, "out")
    os.mkdir(path)
    return path


WAYS = {"push": ("{}", "b:{}"), "pull": ("b:{}", "{}"), "through": ("b:{}", "a:{}")}


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_bit_for_bit_and_keeps_its_holes(net, workdir, out, way):
    source, target = WAYS[way]
    for seed, size in enumerate([0, 1, 511, 65536, 3 * MiB + 12345, 40 * MiB - 1]):
        path, copy = image(f"{workdir}/s{seed}.img", size, seed), f"{out}/c{seed}.img"
        os.chmod(path, 0o640)
        document = net.a.rechain().run("vol", "copy", source.format(path), target.format(copy), json=True).expect(0).json
        assert document["state"] == "done"
        same(path, copy)
        assert os.stat(copy).st_mode & 0o777 == 0o640
    holes = image(f"{workdir}/holes.img", 8 << 30, 7, extents=3)
    net.a.rechain().run("vol", "copy", source.format(holes), target.format(f"{out}/holes.img"), timeout=30).expect(0)
    assert os.stat(f"{out}/holes.img").st_blocks <= os.stat(holes).st_blocks + 64
    nothing_left(net, out, *[f"c{seed}.img" for seed in range(6)], "holes.img")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("codec, suffix", [("zstd", "zst"), ("gzip", "gz")])
def test_an_archive_is_made_where_the_source_lies_and_opened_where_the_target_lies(net, workdir, out, way, codec, suffix):
    source, target = WAYS[way]
    path = image(f"{workdir}/s.img", 9 * MiB + 77, 1)
    packed, again, once_more = (f"{out}/{name}" for name in (f"s.img.{suffix}", "again.img", f"more.img.{suffix}"))
    here = net.a.rechain()
    here.run("vol", "copy", source.format(path), target.format(packed), f"--archive={codec}").expect(0)
    assert os.path.getsize(packed) < 9 * MiB
    here.run("vol", "copy", source.format(packed), target.format(again)).expect(0)
    same(path, again)
    here.run("vol", "copy", source.format(packed), target.format(once_more), f"--archive={codec}").expect(0)
    same(packed, once_more)
    here.run("vol", "copy", source.format(path), target.format(f"{out}/wrong.img"), f"--archive={codec}").expect(2)
    nothing_left(net, out, os.path.basename(packed), "again.img", os.path.basename(once_more))


def test_what_stands_there_is_replaced_only_when_asked(net, workdir, out):
    path = image(f"{workdir}/s.img", MiB, 1)
    copy = image(f"{out}/c.img", MiB, 2)
    old = open(copy, "rb").read()
    net.a.rechain().run("vol", "copy", path, f"b:{copy}").expect(4)
    assert open(copy, "rb").read() == old
    net.a.rechain().run("vol", "copy", path, f"b:{copy}", "--overwrite").expect(0)
    same(path, copy)
    net.a.rechain().run("vol", "copy", path, f"b:{out}").expect(0)
    nothing_left(net, out, "c.img", "s.img")


NAMES = ["a b.img", 'q"uo\'te.img', "new\nline.img", "$(id).img", "ünï.img", "c:olon.img"]


def test_names_arrive_as_they_are(net, workdir, out):
    for name in NAMES:
        path = image(f"{workdir}/{name}", 70000, 1)
        net.a.rechain().run("vol", "copy", path, f"b:{out}/").expect(0)
        net.a.rechain().run("vol", "copy", f"b:{out}/{name}", f"{out}/back").expect(0)
        same(path, f"{out}/{name}")
        same(path, f"{out}/back")
        os.unlink(f"{out}/back")
    for word in ("-x:/a", "-oProxyCommand=x:/a", "a b:/x", "b:relative"):
        assert net.a.rechain().run("vol", "copy", "--", word, f"{out}/x").rc == 2
        assert net.a.rechain().run("vol", "copy", "--", path, word).rc == 2


def test_limits_bind_on_both_sides(net, workdir, out):
    path = image(f"{workdir}/s.img", MiB, 1)
    net.know_hosts(net.b, f"[storage]\nallow={out}\n")
    here = net.a.rechain()
    here.run("vol", "copy", path, f"b:{workdir}/no.img").expect(5)
    here.run("vol", "copy", path, f"b:{out}/../no.img").expect(5)
    here.run("vol", "copy", f"b:{path}", f"{workdir}/no.img").expect(5)
    here.run("vol", "copy", path, f"b:{out}/yes.img").expect(0)
    net.know_hosts(net.a, f"[storage]\nallow={out}\n")
    net.a.rechain().run("vol", "copy", path, f"b:{out}/no.img").expect(5)
    net.a.rechain().run("vol", "copy", f"b:{out}/yes.img", f"{workdir}/no.img").expect(5)
    nothing_left(net, out, "yes.img")


def test_a_volume_that_is_written_is_not_copied(net, workdir, out, make_vm, make_chain):
    vm = make_vm(make_chain(["base"]))
    for source, target in WAYS.values():
        result = net.a.rechain().run("vol", "copy", source.format(vm.chain()[0]), target.format(f"{out}/c.qcow2"))
        assert result.rc == 4 and "in use" in result.err
    nothing_left(net, out)


def test_a_backing_file_must_be_there(net, workdir, out, make_chain):
    chain = make_chain(["base", "top"], relative=True)
    assert "is not on this host" in net.a.rechain().run("vol", "copy", chain.active, f"b:{out}/top.qcow2").expect(4).err
    net.a.rechain().run("vol", "copy", chain.base, f"b:{out}/").expect(0)
    net.a.rechain().run("vol", "copy", chain.active, f"b:{out}/top.qcow2").expect(0)
    same(chain.active, f"{out}/top.qcow2")


def test_a_target_that_is_full_is_as_before(net, workdir):
    path, small = image(f"{workdir}/s.img", 24 * MiB, 1, extents=200), f"{workdir}/small"
    os.mkdir(small)
    net.b.enter("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small)
    result = net.a.rechain().run("vol", "copy", path, f"b:{small}/c.img")
    assert result.rc == 4 and "not enough space" in result.err
    result = net.a.rechain().run("vol", "copy", path, f"b:{small}/c.img.gz", "--archive=gzip").expect(7)
    assert "No space left on device" in result.err
    assert net.b.enter("find", small, "-type", "f") == ""
    net.b.enter("umount", small)


# ---- mishaps ----

def begin_slow_copy(net, workdir, out, way, *options):
    source, target = WAYS[way]
    path = image(f"{workdir}/s.img", 16 * MiB, 1, extents=100)
    running = net.a.rechain().start("vol", "copy", source.format(path), target.format(f"{out}/c.img"), "--bandwidth",
                                    "6M", "--progress", "json", *options)
    wait_until(lambda: '"step":"fill"' in running.err_so_far() and '"current":0' not in
               running.err_so_far().splitlines()[-1], "data comes")
    return path, running


def bulk_sessions(net):
    """ssh processes of host a that carry data: all but the first, which carries the commands."""
    return sorted(net.a.pids_of("ssh"))


@pytest.mark.parametrize("way", WAYS)
def test_a_lost_bulk_connection_is_made_again(net, workdir, out, way):
    path, running = begin_slow_copy(net, workdir, out, way)
    os.kill(bulk_sessions(net)[-1], signal.SIGKILL)
    running.wait().expect(0)
    same(path, f"{out}/c.img")
    nothing_left(net, out, "c.img")


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_leaves_nothing(net, workdir, out, way):
    _, running = begin_slow_copy(net, workdir, out, way)
    running.sigint()
    running.wait().expect(7)
    nothing_left(net, out)


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_client_leaves_nothing_that_recover_does_not_remove(net, workdir, out, way):
    _, running = begin_slow_copy(net, workdir, out, way)
    running.kill()
    wait_until(lambda: not net.b.pids_of("rechain", "--stdio") and not net.a.pids_of("rechain", "--stdio"), "no server")
    net.a.rechain().run("recover").expect(0)
    nothing_left(net, out)


def test_a_killed_receiver_is_settled_by_recover(net, workdir, out):
    _, running = begin_slow_copy(net, workdir, out, "push")
    for pid in net.b.pids_of("rechain", "--stdio"):
        os.kill(pid, signal.SIGKILL)
    running.wait().expect(8)
    assert [name for name in os.listdir(out) if name.endswith(".part")]
    net.a.rechain().run("-H", "b", "recover").expect(0)
    assert os.listdir(out) == []


@pytest.mark.parametrize("way", ["push", "pull"])
def test_killed_at_any_time_on_either_side_it_is_there_as_a_whole_or_not_at_all(net, workdir, out, way):
    source, target = WAYS[way]
    rng, path, ends = random.Random(way), image(f"{workdir}/s.img", 24 * MiB, 1, extents=60), set()
    for round in range(9):
        running = net.a.rechain().start("vol", "copy", source.format(path), target.format(f"{out}/c.img"))
        try:
            running.process.wait(rng.uniform(0.02, 0.7))
        except subprocess.TimeoutExpired:
            pass
        if round % 3 != 1:
            for pid in net.b.pids_of("rechain", "--stdio"):
                os.kill(pid, signal.SIGKILL)
        if round % 3 != 0:
            running.kill()
        running.wait()
        assert not os.path.exists(f"{out}/c.img") or subprocess.run(["cmp", path, f"{out}/c.img"]).returncode == 0
        for host in (net.a, net.b):
            wait_until(lambda: not host.pids_of("rechain"), "nobody works any more")
            host.rechain().run("recover").expect(0)
        ends.add(tuple(os.listdir(out)))
        if os.path.exists(f"{out}/c.img"):
            same(path, f"{out}/c.img")
            os.unlink(f"{out}/c.img")
        assert os.listdir(out) == []
    assert ends <= {(), ("c.img",)}


def test_a_source_that_changes_is_no_copy(net, workdir, out):
    path, running = begin_slow_copy(net, workdir, out, "push")
    with open(path, "r+b") as file:
        file.write(b"changed")
    result = running.wait().expect(7)
    assert "was changed while it was copied" in result.err
    nothing_left(net, out)


class _Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def _frame(offset, data):
    """A frame with the right digest (src/remote/frames.h)."""
    xxh3 = ctypes.CDLL("libxxhash.so.0").XXH3_128bits
    xxh3.restype, xxh3.argtypes = _Hash, [ctypes.c_char_p, ctypes.c_size_t]
    head = b"rcf\1" + struct.pack(">IQ", len(data), offset)
    digest = xxh3(head + data, len(head + data))
    return head + struct.pack(">QQ", digest.high, digest.low) + data


HOSTILE = {
    "garbage": "x = b'\\xff' * 1000000",
    "nothing": "x = b''",
    "short": "x = b'rcf\\1' + bytes(28)",
    "huge": "x = b'rcf\\1\\xff\\xff\\xff\\xff' + bytes(8 + 16) + b'x' * 10000000",
    "far": f"x = {_frame(1 << 60, b'data')!r}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_source_that_lies_is_no_copy(net, workdir, out, name):
    """It offers and agrees as it should, and then sends something else."""
    path = image(f"{workdir}/s.img", MiB, 1)
    net.b.pretend(f"""import json, os, subprocess, sys
child = subprocess.Popen(["{binary()}", "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
asked = ""
while True:
  line = child.stdout.readline()
  os.write(1, line)
  if b'"return"' in line and "vol send" in asked:
    sys.stdin.read(1)
    {HOSTILE[name].replace(chr(10), chr(10) + "    ")}
    os.write(1, x)
    break
  if b'"event"' in line:
    continue
  asked = ""
  while '"run"' not in asked and '"hello"' not in asked:
    asked = sys.stdin.readline()
    if not asked:
      sys.exit()
    child.stdin.write(asked.encode())
    child.stdin.flush()
  asked = asked.replace('","', ' ')
""")
    result = net.a.rechain().run("vol", "copy", f"b:{path}", f"{out}/c.img", timeout=90)
    assert result.rc == 7, str(result)
    assert os.listdir(out) == []


# ---- of a snapshot ----

@contextlib.contextmanager
def shared_btrfs(net, workdir):
    """A filesystem that shares blocks, mounted on both hosts at the same place."""
    with images.btrfs(300, workdir) as dir:
        device = images.run("findmnt", "-no", "SOURCE", dir).strip()
        net.b.enter("mount", device, dir)
        try:
            yield dir
        finally:
            net.b.enter("umount", dir)

def operations_of(host):
    return [(o["kind"], o["state"]) for o in host.rechain().run("op", "list", json=True).expect(0).json["operations"]]


def source_host(net, way):
    return net.a if way == "push" else net.b


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_a_snapshot_is_of_one_instant_and_the_snapshot_goes(net, workdir, out, way):
    """While it is copied, somebody writes to the source."""
    source, target = WAYS[way]
    with shared_btrfs(net, workdir) as dir:
        path = image(f"{dir}/s.img", 16 * MiB + 5, 1, extents=100)
        before = image(f"{workdir}/before.img", 16 * MiB + 5, 1, extents=100)
        words = ["vol", "copy", source.format(path), target.format(f"{out}/c.img"), "--snapshot"]
        net.a.rechain().run(*words, "--dry-run").expect(0)
        assert os.listdir(dir) == ["s.img"] and os.listdir(out) == []
        running = net.a.rechain().start(*words, "--bandwidth", "6M", "--progress", "json")
        wait_until(lambda: '"step":"fill"' in running.err_so_far(), "data comes")
        with open(path, "r+b") as file:
            file.write(b"changed")
        running.wait().expect(0)
        subprocess.run(["cmp", before, f"{out}/c.img"], check=True)
        net.a.rechain().run(*words[:3], target.format(f"{out}/c.img.zst"), "--snapshot", "--archive").expect(0)
        assert os.listdir(dir) == ["s.img"]
        assert operations_of(source_host(net, way)).count(("vol-lend", "done")) == 2
        nothing_left(net, out, "c.img", "c.img.zst")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mishap", ["ctrl-c", "client", "source", "target"])
def test_whoever_dies_the_snapshot_goes(net, workdir, out, way, mishap):
    source, target = WAYS[way]
    with shared_btrfs(net, workdir) as dir:
        path = image(f"{dir}/s.img", 16 * MiB, 1, extents=100)
        running = net.a.rechain().start("vol", "copy", source.format(path), target.format(f"{out}/c.img"), "--snapshot",
                                        "--bandwidth", "4M", "--progress", "json")
        wait_until(lambda: '"step":"fill"' in running.err_so_far(), "data comes")
        assert len(os.listdir(dir)) == 2
        if mishap == "ctrl-c":
            running.sigint()
            running.wait().expect(7)
        elif mishap == "client":
            running.kill()
        else:
            host = net.a if (mishap == "source") == (way == "push") else net.b
            for pid in host.pids_of("rechain", "--stdio"):
                os.kill(pid, signal.SIGKILL)
            running.wait()
        for host in (net.a, net.b):
            wait_until(lambda: not host.pids_of("rechain"), "nobody works any more")
            host.rechain().run("recover").expect(0)
        assert os.listdir(dir) == ["s.img"]
        assert [state for host in (net.a, net.b) for _, state in operations_of(host)
                if state not in ("done", "undone")] == []


def test_what_cannot_be_lent_is_refused_and_nothing_is_left(net, workdir, out):
    path = image(f"{workdir}/s.img", MiB, 1)
    for source, target in WAYS.values():
        result = net.a.rechain().run("vol", "copy", source.format(path), target.format(f"{out}/c.img"), "--snapshot")
        assert result.rc == 4 and "share blocks" in result.err
        net.a.rechain().run("vol", "copy", source.format("/no/such"), target.format(f"{out}/c.img"), "--snapshot").expect(3)
    nothing_left(net, out)
