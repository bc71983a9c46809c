"""vol list, vol info, storage info: what is told is what the world has, and nothing is touched."""

import os
import subprocess

import pytest

from harness import images
from harness.images import MiB, run
from harness.rechain import Rechain
from harness.scene import valid


def info(rechain, path, *options):
    return valid(rechain.run("vol", "info", path, *options, json=True).expect(0).json)


def listed(rechain, where):
    document = valid(rechain.run("vol", "list", where, json=True).expect(0).json)
    return {os.path.basename(v["path"]): v for v in document["volumes"]}


def make(path, content=b"", size=0):
    with open(path, "wb") as file:
        file.write(content)
        if size:
            file.truncate(size)
    return path


@pytest.fixture
def limited(workdir):
    """A folder that is allowed, one that is not, and a rechain that is held to the first."""
    inside, outside = (os.path.join(workdir, name) for name in ("inside", "outside"))
    os.mkdir(inside)
    os.mkdir(outside)
    config = make(os.path.join(workdir, "rechain.conf"), f"[storage]\nallow={inside}\nallow-vg=vg1\n".encode())
    with Rechain(os.path.join(workdir, "state"), config=config) as program:
        yield program, inside, outside


HOSTILE = ["a,b.qcow2", "a:b.qcow2", 'q"uote.qcow2', "new\nline.qcow2", "%s%n.qcow2", "-o.qcow2", "json:{}.qcow2"]


def test_a_directory_lists_every_file_whatever_its_name(rechain, workdir):
    images_dir = os.path.join(workdir, "images")
    os.mkdir(images_dir)
    for name in HOSTILE:
        run("qemu-img", "create", "-q", "-f", "qcow2", "base.img", MiB, cwd=images_dir)
        os.rename(os.path.join(images_dir, "base.img"), os.path.join(images_dir, name))
    make(os.path.join(images_dir, "odd.img"), size=1001)
    found = listed(rechain, images_dir)
    assert sorted(found) == sorted(HOSTILE + ["odd.img"])
    assert {found[name]["format"] for name in HOSTILE} == {"qcow2"}
    assert (found["odd.img"]["format"], found["odd.img"]["virtual-size"], found["odd.img"]["allocated"]) == \
        ("raw", 1001, 0)
    text = rechain.run("vol", "list", images_dir).expect(0).out
    assert len(text.splitlines()) == 1 + len(found)
    for name in HOSTILE:
        assert info(rechain, os.path.join(images_dir, name))["virtual-size"] == MiB


def test_a_header_that_lies_spoils_nothing_but_its_own_row(rechain, workdir):
    make(os.path.join(workdir, "liar.qcow2"), b"QFI\xfb" + b"\xff" * 600)
    run("qemu-img", "create", "-q", "-f", "qcow2", os.path.join(workdir, "good.qcow2"), MiB)
    found = listed(rechain, workdir)
    assert "broken" in found["liar.qcow2"] and "broken" not in found["good.qcow2"]
    rechain.run("vol", "info", os.path.join(workdir, "liar.qcow2")).expect(1)


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_the_filesystem_is_told_also_inside_qcow2(rechain, workdir, fs, format):
    raw, image = (os.path.join(workdir, name) for name in ("fs.img", "fs.qcow2"))
    make(raw, size=320 * MiB)
    run(f"mkfs.{fs}", "-q", "-L", "data", raw)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
    filesystem = info(rechain, raw if format == "raw" else image)["filesystem"]
    assert (filesystem["type"], filesystem["label"]) == (fs, "data")
    assert len(filesystem["uuid"]) == 36


def test_a_partition_table_is_told(rechain, workdir):
    path = make(os.path.join(workdir, "disk.img"), size=16 * MiB)
    run("sfdisk", "-q", path, input="label: gpt\nsize=4M\n")
    assert info(rechain, path)["partition-table"] == "gpt"


def test_a_chain_is_told_from_both_ends(rechain, workdir):
    chain = images.make_chain(workdir, ["template", "current1"], size=MiB)
    assert [layer["file"] for layer in info(rechain, chain.active)["chain"]] == chain.layers
    assert info(rechain, chain.base)["backs"] == [chain.active]
    os.unlink(chain.base)
    assert "backing file" in info(rechain, chain.active)["broken"]


@pytest.mark.parametrize("codec, suffix", [("zstd", "zst"), ("gzip", "gz"), ("xz", "xz"), ("lz4", "lz4"),
                                           ("lzop", "lzo")])
def test_an_archive_is_known_by_name_and_content_both(rechain, workdir, codec, suffix):
    raw = make(os.path.join(workdir, "disk.img"), b"x" * 5000)
    with open(f"{raw}.{suffix}", "wb") as out, open(raw, "rb") as source:
        subprocess.run([codec, "-c"], stdin=source, stdout=out, check=True)
    document = info(rechain, f"{raw}.{suffix}")
    assert document["codec"] == codec and "format" not in document
    # A guest that writes such a beginning into its raw disk makes no archive of it.
    os.rename(f"{raw}.{suffix}", raw)
    assert info(rechain, raw)["format"] == "raw"


def test_who_has_it_open_is_told(rechain, workdir):
    path = make(os.path.join(workdir, "disk.img"), size=MiB)
    document = info(rechain, path)
    assert (document["open"], document["locked"], document["mounted"]) == ([], False, [])
    with open(path, "r+b"):
        (by,) = info(rechain, path)["open"]
        assert (by["pid"], by["writes"]) == (os.getpid(), True)
    with open(path, "rb"):
        (by,) = info(rechain, path)["open"]
        assert by["writes"] is False
        assert f"{os.getpid()}" in rechain.run("vol", "list", workdir).expect(0).out


def test_a_mounted_file_is_told(rechain, workdir):
    with images.small_fs(8, workdir) as mount:
        document = info(rechain, os.path.join(workdir, "small-fs.img"))
        assert document["mounted"] == [mount]
        (device,) = document["devices"]
        assert device.startswith("loop")


def test_a_running_vm_is_told_by_lock_process_and_name(make_chain, make_vm, workdir):
    chain = make_chain(size=MiB)
    vm = make_vm(chain)
    config = make(os.path.join(workdir, "vm.conf"), f"[vm web1]\nqmp={vm.qmp_path}\n".encode())
    with Rechain(os.path.join(workdir, "state2"), config=config) as rechain:
        active, base = info(rechain, chain.active), info(rechain, chain.base)
        assert active["locked"] and vm.pid in [by["pid"] for by in active["open"]]
        assert active["vms"] == [{"vm": "web1", "disk": "vda", "depth": 0}]
        assert base["vms"] == [{"vm": "web1", "disk": "vda", "depth": 1}]
        assert "web1" in rechain.run("vol", "info", chain.active).expect(0).out


def test_what_is_not_allowed_is_refused_however_it_is_reached(limited):
    rechain, inside, outside = limited
    good, secret = make(os.path.join(inside, "a.img")), make(os.path.join(outside, "secret.img"))
    os.symlink(secret, os.path.join(inside, "link.img"))
    os.symlink(outside, os.path.join(inside, "dir"))
    info(rechain, good)
    for path in (secret, os.path.join(inside, "link.img"), os.path.join(inside, "dir", "secret.img"),
                 os.path.join(inside, "..", "outside", "secret.img"), outside + "/./secret.img"):
        result = rechain.run("vol", "info", path, json=True).expect(5)
        assert result.error["code"] == "permission" and result.out == ""
    rechain.run("vol", "list", outside).expect(5)
    rechain.run("vol", "list", os.path.join(inside, "dir")).expect(5)
    assert list(listed(rechain, inside)) == ["a.img"]
    rechain.run("vol", "list", "vg2").expect(5)


def test_a_symlink_into_the_allowed_directory_is_fine(limited):
    rechain, inside, outside = limited
    good = make(os.path.join(inside, "a.img"))
    os.symlink(inside, os.path.join(outside, "to"))
    assert info(rechain, os.path.join(outside, "to", "a.img"))["path"] == good


def test_a_chain_that_leads_out_of_the_allowed_directories_is_broken(limited):
    rechain, inside, outside = limited
    run("qemu-img", "create", "-q", "-f", "qcow2", os.path.join(outside, "base.qcow2"), MiB)
    top = os.path.join(inside, "top.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", os.path.join(outside, "base.qcow2"), "-F", "qcow2",
        top, MiB)
    document = info(rechain, top)
    assert "outside" in document["broken"] and "chain" not in document


def test_what_is_no_volume_is_refused(rechain, workdir):
    os.mkfifo(os.path.join(workdir, "fifo"))
    rechain.run("vol", "info", workdir).expect(4)
    rechain.run("vol", "info", os.path.join(workdir, "fifo")).expect(4)
    rechain.run("vol", "info", os.path.join(workdir, "missing")).expect(3)
    rechain.run("vol", "list", os.path.join(workdir, "missing/")).expect(3)


@pytest.mark.skipif("device-mapper" in open("/proc/misc").read(), reason="this kernel has a device-mapper")
def test_a_host_without_device_mapper_says_so(rechain):
    result = rechain.run("vol", "list", "vg0").expect(1)
    assert "device-mapper" in result.err and len(result.err.splitlines()) <= 3


def test_storage_info_tells_pools_and_what_this_host_can_do(rechain, limited, workdir):
    document = valid(rechain.run("storage", "info", json=True).expect(0).json)
    assert {"raw", "qcow2"} <= set(document["formats"])
    assert {c["codec"]: c["usable"] for c in document["codecs"]}["zstd"]
    assert "/" in [pool.get("path") for pool in document["pools"]]
    (pool,) = valid(limited[0].run("storage", "info", json=True).expect(0).json)["pools"]
    space = os.statvfs(workdir)
    assert pool["path"] == limited[1] and pool["total"] == space.f_blocks * space.f_frsize
    assert "qcow2" in rechain.run("storage", "info").expect(0).out
