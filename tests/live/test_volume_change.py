"""vol create, clone, copy, resize, delete and so on: what comes out is bit for bit right, and nobody's disk is hurt."""

import hashlib
import os
import random
import shutil
import subprocess

import pytest

from harness import images
from harness.images import MiB, run
from harness.proxy import CUT, PASS, Proxy
from harness.rechain import Rechain
from harness.scene import valid
from harness.volumes import as_guest, digest, kill_with_programs, leftovers, program_around, rounded, scatter, vol


@pytest.fixture
def loop_fs(workdir):
    """Mounts a new filesystem of a kind; returns its folder."""
    mounts = []

    def make(kind, mib=320):
        image, mount = (os.path.join(workdir, f"{kind}{len(mounts)}{end}") for end in (".fs", ""))
        with open(image, "wb") as file:
            file.truncate(mib * MiB)
        run(f"mkfs.{kind}", "-q", image)
        os.mkdir(mount)
        run("mount", "-o", "loop", image, mount)
        mounts.append(mount)
        return mount

    yield make
    for mount in mounts:
        images._umount(mount)


# ---- create ----

@pytest.mark.parametrize("format", ["raw", "qcow2", "vmdk", "vdi", "vhdx", "qed"])
def test_a_volume_of_each_format_is_made(rechain, workdir, format):
    path = os.path.join(workdir, f"new.{format}")
    document = vol(rechain, "create", path, "--capacity", "8M", "--format", format)
    assert (document["kind"], document["state"]) == ("vol-create", "done")
    assert images.info(path, format)["virtual-size"] == 8 * MiB
    assert leftovers(workdir) == [] and os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("format, allocation, least, most", [
    ("raw", "sparse", 0, 0), ("raw", "falloc", 8, 8), ("raw", "full", 8, 8), ("qcow2", "sparse", 0, 1),
    ("qcow2", "metadata", 0, 1), ("qcow2", "falloc", 8, 9), ("qcow2", "full", 8, 9)])
def test_allocation_is_what_was_asked(rechain, workdir, format, allocation, least, most):
    path = os.path.join(workdir, "new.img")
    vol(rechain, "create", path, "--capacity", "8M", "--format", format, "--allocation", allocation)
    assert least * MiB <= os.stat(path).st_blocks * 512 <= most * MiB + 4096
    assert as_guest(path, format, workdir) == hashlib.sha256(bytes(8 * MiB)).hexdigest()


def test_a_raw_volume_has_exactly_the_bytes_that_were_asked(rechain, workdir):
    vol(rechain, "create", os.path.join(workdir, "odd.img"), "--capacity", "1001", "--mode", "0640")
    st = os.stat(os.path.join(workdir, "odd.img"))
    assert (st.st_size, st.st_mode & 0o7777) == (1001, 0o640)


def test_an_overlay_takes_size_and_format_from_its_backing_volume(rechain, workdir):
    base = os.path.join(workdir, "base.img")
    vol(rechain, "create", base, "--capacity", "3M")
    for name, options, backing in (("a.qcow2", [], base), ("b.qcow2", ["--relative"], "base.img")):
        vol(rechain, "create", os.path.join(workdir, name), "--backing", base, *options)
        info = images.info(os.path.join(workdir, name))
        assert (info["virtual-size"], info["backing-filename"], info["backing-filename-format"]) == \
            (3 * MiB, backing, "raw")


def test_a_document_says_the_same_as_options(rechain, workdir):
    base, path, document = (os.path.join(workdir, name) for name in ("base.qcow2", "new.qcow2", "volume.xml"))
    run("qemu-img", "create", "-q", "-f", "qcow2", base, "1M")
    with open(document, "w") as file:
        file.write(f"""<volume><name>new</name><capacity unit='MiB'>3</capacity><allocation>0</allocation>
<target><path>{path}</path><format type='qcow2'/><permissions><mode>0640</mode><owner>1</owner><group>2</group></permissions>
</target><backingStore><path>{base}</path><format type='qcow2'/></backingStore></volume>""")
    vol(rechain, "create", "--xml", document)
    info, st = images.info(path), os.stat(path)
    assert (info["virtual-size"], info["format"], info["backing-filename"]) == (3 * MiB, "qcow2", base)
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o640, 1, 2)
    vol(rechain, "clone", path, path + "2.qcow2", "--xml", document)
    assert images.info(path + "2.qcow2")["backing-filename"] == base
    with open(document, "w") as file:
        file.write("<volume><capacity>many</capacity></volume>")
    assert document in rechain.run("vol", "create", path + "3", "--xml", document).expect(2).err


@pytest.mark.parametrize("arguments, rc", [
    (["--format", "raw"], 2), (["--capacity", "1M", "--allocation", "some"], 2),
    (["--capacity", "1M", "--format", "raw", "--allocation", "metadata"], 2),
    (["--capacity", "1M", "--mode", "9"], 2), (["--capacity", "1M", "--format", "nonsense"], 7),
    (["--capacity", "-1"], 2), (["--backing", "/no/such/file"], 3)])
def test_what_cannot_be_made_is_refused_and_leaves_nothing(rechain, workdir, arguments, rc):
    dir = os.path.join(workdir, "dir")
    os.mkdir(dir)
    vol(rechain, "create", os.path.join(dir, "x.img"), *arguments, rc=rc)
    assert os.listdir(dir) == []


def test_what_exists_stays(rechain, workdir):
    path = scatter(os.path.join(workdir, "a.img"), MiB, 1)
    before = digest(path)
    for words in (["create", path, "--capacity", "1M"], ["clone", path, path], ["copy", path, path]):
        result = vol(rechain, *words, rc=4)
        assert result.error["code"] == "refused"
    assert digest(path) == before


# ---- clone and copy ----

@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("to", ["raw", "qcow2"])
@pytest.mark.parametrize("source", ["raw", "qcow2"])
def test_a_clone_shows_a_guest_what_its_source_shows(rechain, workdir, source, to, seed):
    size = random.Random(seed).choice([1, 512, 65537, MiB, 3 * MiB + 1, 5 * MiB + 513])
    raw = scatter(os.path.join(workdir, "raw.img"), size, seed)
    src, dst = (os.path.join(workdir, name) for name in ("src.img", "dst.img"))
    run("qemu-img", "convert", "-f", "raw", "-O", source, raw, src) if source == "qcow2" else os.rename(raw, src)
    wanted = as_guest(src, source, workdir)
    vol(rechain, "clone", src, dst, "--format", to)
    assert as_guest(dst, to, workdir) == wanted
    if source == to == "raw":
        assert digest(src) == digest(dst) and os.stat(dst).st_size == size
    assert leftovers(workdir) == []
    assert os.stat(dst).st_blocks <= os.stat(src).st_blocks + 2000


def test_a_chain_is_cloned_flat(rechain, make_chain, workdir):
    chain = make_chain(["template", "middle", "current1"], size=8 * MiB)
    for format in ("raw", "qcow2"):
        dst = os.path.join(workdir, f"flat.{format}")
        vol(rechain, "clone", chain.active, dst, "--format", format)
        assert as_guest(dst, format, workdir) == digest(chain.reference)
        assert "backing-filename" not in images.info(dst, format)


def test_a_clone_with_backing_keeps_only_what_differs(rechain, make_chain, workdir):
    chain = make_chain(["template", "current1"], size=64 * MiB, share=[0.5, 0.05])
    dst = os.path.join(workdir, "small.qcow2")
    vol(rechain, "clone", chain.reference, dst, "--backing", chain.base, "--format", "qcow2")
    assert as_guest(dst, "qcow2", workdir) == digest(chain.reference)
    assert images.info(dst)["backing-filename"] == chain.base
    assert os.stat(dst).st_blocks * 512 < 8 * MiB
    # The same by an overlay, whose backing file is the very one.
    vol(rechain, "clone", chain.active, dst + "2", "--backing", chain.base, "--format", "qcow2")
    assert as_guest(dst + "2", "qcow2", workdir) == digest(chain.reference)


@pytest.mark.parametrize("to", ["raw", "qcow2"])
def test_a_larger_clone_ends_with_zeroes(rechain, workdir, to):
    src, dst = scatter(os.path.join(workdir, "src.img"), MiB, 3), os.path.join(workdir, "dst.img")
    vol(rechain, "clone", src, dst, "--format", to, "--capacity", "3M")
    with images.raw_view(dst, format=to, dir=workdir) as raw:
        assert digest(raw) == digest(src, 3 * MiB)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_smaller_clone_loses_no_filesystem(rechain, workdir, format):
    raw, src, dst = (os.path.join(workdir, name) for name in ("raw.img", "src.img", "dst.img"))
    with open(raw, "wb") as file:
        file.truncate(16 * MiB)
    run("mkfs.ext4", "-q", "-b", "4096", raw, "8M")
    run("qemu-img", "convert", "-f", "raw", "-O", format, raw, src)
    assert "--shrink" in vol(rechain, "clone", src, dst, "--capacity", "8M", "--format", format, rc=4).error["hint"]
    assert str(8 * MiB) in vol(rechain, "clone", src, dst, "--capacity", "7M", "--shrink", rc=4).error["message"]
    vol(rechain, "clone", src, dst, "--capacity", "8M", "--shrink", "--format", format)
    with images.raw_view(dst, format=format, dir=workdir) as view:
        assert os.stat(view).st_size == 8 * MiB
        run("e2fsck", "-fn", view)


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_is_the_same_file_with_the_same_holes(rechain, workdir, seed):
    src, dst = (os.path.join(workdir, name) for name in ("src.img", "dst.img"))
    scatter(src, random.Random(seed).randrange(8 * MiB), seed)
    os.chmod(src, 0o640)
    vol(rechain, "copy", src, dst, *(["--bandwidth", "1G"] if seed % 2 else []))
    assert digest(src) == digest(dst) and os.stat(dst).st_size == os.stat(src).st_size
    assert os.stat(dst).st_blocks <= os.stat(src).st_blocks + 16
    assert os.stat(dst).st_mode & 0o777 == 0o640
    assert leftovers(workdir) == []


@pytest.mark.parametrize("name", ["a,b.qcow2", "a:b.qcow2", 'q"uote.qcow2', "new\nline.qcow2", "%s%n.qcow2", "-o.qcow2",
                                  "json:{}.qcow2"])
def test_names_of_any_kind_go_through_every_command(rechain, workdir, name):
    dir = os.path.join(workdir, "d")
    os.mkdir(dir)
    path = os.path.join(dir, name)
    vol(rechain, "create", path, "--capacity", "1M")
    vol(rechain, "clone", path, path + "2.qcow2")
    vol(rechain, "clone", path, path + "3.qcow2", "--backing", path)
    vol(rechain, "delete", path + "3.qcow2")
    vol(rechain, "copy", path, path + ".4")
    vol(rechain, "copy-contents", path, path + ".4")
    vol(rechain, "resize", path, "2M")
    vol(rechain, "compress", path)
    os.unlink(path)
    vol(rechain, "decompress", path + ".zst")
    assert images.info(path)["virtual-size"] == 2 * MiB
    for end in ("", "2.qcow2", ".4", ".zst"):
        vol(rechain, "delete", path + end)
    assert os.listdir(dir) == []


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_blocks_are_shared_where_the_filesystem_can(rechain, loop_fs, kind):
    dir = loop_fs(kind)
    src = scatter(os.path.join(dir, "src.img"), 150 * MiB, 7)
    with open(src, "r+b") as file:
        file.write(os.urandom(120 * MiB))
    run("sync", "-f", dir)
    free = os.statvfs(dir).f_bavail * os.statvfs(dir).f_bsize
    for words in (["clone", src, os.path.join(dir, "clone.img")], ["copy", src, os.path.join(dir, "copy.img")],
                  ["snapshot", src, "s1"]):
        plan = valid(rechain.run("vol", *words, "-n", json=True).expect(0).json)
        assert "FICLONE" in str(plan["steps"][1])
        vol(rechain, *words)
    run("sync", "-f", dir)
    assert free - os.statvfs(dir).f_bavail * os.statvfs(dir).f_bsize < 8 * MiB
    for name in ("clone.img", "copy.img", "src.s1.img"):
        assert digest(os.path.join(dir, name)) == digest(src)


def test_a_snapshot_needs_a_filesystem_that_shares(rechain, workdir):
    src = scatter(os.path.join(workdir, "src.img"), MiB, 7)
    result = vol(rechain, "snapshot", src, "s1", rc=4)
    assert "share blocks" in result.error["message"]


# ---- contents ----

@pytest.mark.parametrize("to", ["raw", "qcow2"])
def test_contents_are_replaced_as_a_whole_and_the_rest_is_zeroed(rechain, workdir, to):
    src, dst = (os.path.join(workdir, name) for name in ("src.img", "dst.img"))
    scatter(src, 2 * MiB, 1)
    old = scatter(os.path.join(workdir, "old.img"), 5 * MiB, 2, extents=200)
    run("qemu-img", "convert", "-f", "raw", "-O", to, old, dst)
    os.chmod(dst, 0o604)
    vol(rechain, "copy-contents", src, dst)
    with images.raw_view(dst, format=to, dir=workdir) as raw:
        assert digest(raw) == digest(src, 5 * MiB)
    assert os.stat(dst).st_mode & 0o777 == 0o604 and leftovers(workdir) == []
    vol(rechain, "copy-contents", old, src, rc=4)


# ---- archives ----

@pytest.mark.parametrize("codec, suffix", [("zstd", "zst"), ("gzip", "gz"), ("xz", "xz"), ("lz4", "lz4"),
                                           ("lzop", "lzo")])
def test_an_archive_gives_back_every_byte_and_the_holes(rechain, workdir, codec, suffix):
    src, back = (os.path.join(workdir, name) for name in ("src.img", "back.img"))
    scatter(src, 9 * MiB + 77, 5)
    archive = f"{src}.{suffix}"
    vol(rechain, "copy", src, archive, f"--archive={codec}")
    assert os.stat(archive).st_size < os.stat(src).st_blocks * 512 + 65536
    vol(rechain, "copy", archive, back)
    assert digest(back) == digest(src)
    assert os.stat(back).st_blocks < os.stat(src).st_size // 512 // 2
    os.unlink(archive)
    vol(rechain, "compress", src, codec, "--delete")
    assert not os.path.exists(src)
    document = vol(rechain, "decompress", archive, "--delete")
    assert document["disks"][0]["removed"] == [archive]
    assert digest(back) == digest(src) and not os.path.exists(archive)


def test_a_broken_archive_gives_nothing(rechain, workdir):
    src = scatter(os.path.join(workdir, "src.img"), 4 * MiB, 5)
    vol(rechain, "compress", src)
    with open(src + ".zst", "r+b") as file:
        file.seek(os.stat(src + ".zst").st_size // 2)
        file.write(b"garbage" * 40)
    result = rechain.run("vol", "copy", src + ".zst", os.path.join(workdir, "out.img"))
    assert result.rc == 7 and "zstd" in result.err
    assert sorted(os.listdir(workdir)) == ["src.img", "src.img.zst", "state"]


def test_an_archive_name_must_say_so(rechain, workdir):
    src = scatter(os.path.join(workdir, "src.img"), MiB, 5)
    vol(rechain, "copy", src, src + ".bak", "--archive", rc=2)
    vol(rechain, "decompress", src, rc=4)


# ---- resize and delete ----

@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_new_space_reads_as_zeroes_and_old_data_stays(rechain, workdir, format):
    raw = scatter(os.path.join(workdir, "raw.img"), 2 * MiB, 1)
    path = os.path.join(workdir, "a.img")
    run("qemu-img", "convert", "-f", "raw", "-O", format, raw, path)
    vol(rechain, "resize", path, "+1M")
    with images.raw_view(path, format=format, dir=workdir) as view:
        assert digest(view) == digest(raw, 3 * MiB)
    assert "--shrink" in vol(rechain, "resize", path, "1M", rc=4).error["hint"]
    vol(rechain, "resize", path, "2M", "--shrink")
    vol(rechain, "resize", path, "4M")
    with images.raw_view(path, format=format, dir=workdir) as view:
        assert digest(view) == digest(raw, 4 * MiB)
    vol(rechain, "resize", path, "4M", rc=4)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
@pytest.mark.parametrize("fs, size", [("ext4", 8 * MiB), ("xfs", 320 * MiB), ("btrfs", 200 * MiB)])
def test_no_filesystem_loses_its_end(rechain, workdir, fs, size, format):
    raw, path = (os.path.join(workdir, name) for name in ("raw.img", "a.img"))
    with open(raw, "wb") as file:
        file.truncate(size)
    run(f"mkfs.{fs}", "-q", raw)
    with open(raw, "r+b") as file:
        file.truncate(size + 16 * MiB)
    run("qemu-img", "convert", "-f", "raw", "-O", format, raw, path)
    result = vol(rechain, "resize", path, str(size - MiB), "--shrink", rc=4)
    assert fs in result.error["message"] and str(size) in result.error["message"]
    vol(rechain, "resize", path, str(size), "--shrink")


def test_no_partition_loses_its_end(rechain, workdir):
    path = os.path.join(workdir, "a.img")
    with open(path, "wb") as file:
        file.truncate(16 * MiB)
    run("sfdisk", "-q", path, input="label: dos\nstart=2048,size=8M\n")
    assert str(9 * MiB) in vol(rechain, "resize", path, "8M", "--shrink", rc=4).error["message"]
    vol(rechain, "resize", path, "9M", "--shrink")


def test_what_something_is_built_on_is_neither_deleted_nor_cut(rechain, make_chain):
    chain = make_chain(["template", "current1"], size=4 * MiB)
    assert chain.active in vol(rechain, "delete", chain.base, rc=4).error["message"]
    vol(rechain, "resize", chain.base, "2M", "--shrink", rc=4)
    vol(rechain, "delete", chain.base, "--force", "backing")
    assert not os.path.exists(chain.base)
    vol(rechain, "delete", chain.active)


def test_what_is_open_or_mounted_is_not_deleted(rechain, workdir):
    path = scatter(os.path.join(workdir, "a.img"), MiB, 1)
    with open(path, "rb"):
        assert str(os.getpid()) in vol(rechain, "delete", path, rc=4).error["message"]
        vol(rechain, "delete", path, "--force", "mounted", rc=4)
        vol(rechain, "delete", path, "--force", "open")
    with images.small_fs(8, workdir):
        assert "mounted" in vol(rechain, "delete", os.path.join(workdir, "small-fs.img"), rc=4).error["message"]
        vol(rechain, "copy", os.path.join(workdir, "small-fs.img"), path, rc=4)


# ---- through a running VM (what no command touches: test_in_use.py) ----

def test_a_disk_of_a_running_vm_is_made_larger_through_its_qemu(make_chain, make_vm, workdir):
    chain = make_chain(["template", "current1"], size=8 * MiB)
    vm = make_vm(chain)
    config = os.path.join(workdir, "vm.conf")
    with open(config, "w") as file:
        file.write(f"[vm web1]\nqmp={vm.qmp_path}\n")
    with Rechain(os.path.join(workdir, "state2"), config=config) as rechain:
        plan = valid(rechain.run("vol", "resize", chain.active, "+4M", "-n", json=True).expect(0).json)
        assert [q["execute"] for step in plan["steps"] for q in step["qmp"]] == ["block_resize"]
        document = vol(rechain, "resize", chain.active, "+4M")
        assert (document["state"], document["vm"]) == ("done", vm.qmp_path)
        (disk,) = rechain.run("chain", "web1", json=True).expect(0).json["disks"]
        assert disk["virtual-size"] == 12 * MiB
        vol(rechain, "resize", chain.active, "4M", "--shrink", rc=4)
        vol(rechain, "resize", chain.base, "+4M", rc=4)
        assert leftovers(workdir) == []
    vm.kill()
    images.check_image(chain.active)
    with images.raw_view(chain.active, dir=workdir) as raw:
        assert digest(raw) == digest(chain.reference, 12 * MiB)


@pytest.mark.parametrize("who, format", [("qemu", "qcow2"), ("both", "qcow2"), ("rechain", "qcow2"), ("both", "raw")])
@pytest.mark.parametrize("moment", ["command", "return"])
def test_the_size_of_the_file_tells_what_became_of_a_live_resize(make_chain, make_vm, workdir, who, moment, format):
    """Killed before QEMU hears of it, or after it did it; who was in the middle of it says what is."""
    chain = make_chain(["disk"], size=8 * MiB, formats=[format])
    vm = make_vm(chain)
    config = os.path.join(workdir, "vm.conf")
    with Proxy(vm.qmp_path) as proxy, Rechain(os.path.join(workdir, "state2"), config=config) as rechain:
        with open(config, "w") as file:
            file.write(f"[vm web1]\nqmp={proxy.path}\n")
        running = []

        def mishap(m):
            if (m.kind, m.name) != (moment, "block_resize"):
                return PASS
            if who != "qemu":
                running[0].process.kill()
            if who != "rechain":
                vm.sigkill()
            return CUT
        running.append(rechain.start("vol", "resize", chain.active, "12M", json=True))
        proxy.policy = mishap
        result = running[0].wait()
        grown = moment == "return"
        if who == "qemu":
            result.expect(0 if grown else 7)
            state = valid(result.json)["state"]
        else:
            back = ["--undo"] if grown else []
            (operation,) = valid(rechain.run("recover", *back, json=True).expect(0).json)["operations"]
            state = operation["state"]
        assert state == ("done" if grown else "undone")
        assert rechain.run("recover").expect(0).out == "nothing to recover\n"
        vm.kill()
        assert leftovers(workdir) == []
    size = os.stat(chain.active).st_size if format == "raw" else images.info(chain.active)["virtual-size"]
    assert size == (12 if grown else 8) * MiB


def test_only_what_is_allowed_is_touched(workdir):
    inside, outside = (os.path.join(workdir, name) for name in ("inside", "outside"))
    os.mkdir(inside)
    os.mkdir(outside)
    config = os.path.join(workdir, "rechain.conf")
    with open(config, "w") as file:
        file.write(f"[storage]\nallow={inside}\n")
    good, secret = (scatter(os.path.join(dir, "a.img"), MiB, 1) for dir in (inside, outside))
    os.symlink(outside, os.path.join(inside, "out"))
    os.symlink(secret, os.path.join(inside, "link.img"))
    before = digest(secret)
    with Rechain(os.path.join(workdir, "state"), config=config) as rechain:
        for bad in (secret, os.path.join(inside, "out", "a.img"), os.path.join(inside, "..", "outside", "a.img"),
                    os.path.join(inside, "link.img")):
            for words in (["clone", bad, os.path.join(inside, "n.img")], ["copy", bad, os.path.join(inside, "n.img")],
                          ["copy", good, bad, "--overwrite"], ["copy-contents", good, bad], ["resize", bad, "2M"],
                          ["delete", bad, "--force", "open"], ["compress", bad], ["decompress", bad], ["snapshot", bad, "s"],
                          ["snapshot", bad, "s", "--method", "external"], ["snapshot", bad, "s", "--method", "internal"],
                          ["growfs", bad], ["shrinkfs", bad, "1M"], ["copy", bad, os.path.join(inside, "n.img"), "--snapshot"],
                          ["clone", good, os.path.join(inside, "n.qcow2"), "--backing", bad, "--backing-format", "raw"],
                          ["create", os.path.join(inside, "n.qcow2"), "--backing", bad, "--backing-format", "raw"]):
                assert vol(rechain, *words, rc=5).error["code"] == "permission", words
        for new in (os.path.join(outside, "n.img"), os.path.join(inside, "out", "n.img")):
            vol(rechain, "create", new, "--capacity", "1M", rc=5)
            vol(rechain, "clone", good, new, rc=5)
            vol(rechain, "copy", good, new, rc=5)
        for bad in (os.path.join(outside, "n.img"), os.path.join(inside, "out", "n.img"),
                    os.path.join(inside, "..", "outside", "n.img")):
            for document in (f"<target><path>{bad}</path></target>",
                             f"<target><path>{inside}/n.qcow2</path><format type='qcow2'/></target><backingStore>"
                             f"<path>{os.path.dirname(bad)}/a.img</path><format type='raw'/></backingStore>"):
                path = os.path.join(workdir, "volume.xml")
                with open(path, "w") as file:
                    file.write(f"<volume><capacity>1048576</capacity>{document}</volume>")
                assert vol(rechain, "create", "--xml", path, rc=5).error["code"] == "permission", document
                if "backingStore" in document:
                    vol(rechain, "clone", good, os.path.join(inside, "n.qcow2"), "--xml", path, rc=5)
    assert digest(secret) == before and os.listdir(outside) == ["a.img"]
    assert sorted(os.listdir(inside)) == ["a.img", "link.img", "out"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_directory_that_becomes_a_symlink_meanwhile_leads_nobody_out(workdir, moment):
    """Put in between while the plan asks qemu-img, and while that fills the file."""
    inside, outside = (os.path.join(workdir, name) for name in ("inside", "outside"))
    os.makedirs(os.path.join(inside, "dir"))
    os.mkdir(outside)
    config = os.path.join(workdir, "rechain.conf")
    with open(config, "w") as file:
        file.write(f"[storage]\nallow={inside}\n")
    src = scatter(os.path.join(inside, "a.img"), MiB, 1)
    swap = f"mv {inside}/dir {inside}/moved; ln -s {outside} {inside}/dir"
    bin = program_around(workdir, "qemu-img", after=f'[ "$1" != {"measure" if moment == "before" else "convert"} ] || {{ {swap}; }}')
    with Rechain(os.path.join(workdir, "state"), config=config) as rechain:
        result = rechain.run("vol", "clone", src, os.path.join(inside, "dir", "n.qcow2"),
                             env={"PATH": f"{bin}:{os.environ['PATH']}"})
        assert result.rc in (7, 8) and (moment == "after" or "leads elsewhere" in result.err)
    assert os.listdir(outside) == []


def test_a_raw_disk_whose_guest_wrote_a_header_gives_no_file_of_the_host_away(rechain, workdir):
    secret, disk, dst = (os.path.join(workdir, name) for name in ("secret.img", "disk.img", "dst.img"))
    scatter(secret, MiB, 1)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", disk, "1M")
    for words in (["clone", disk, dst], ["copy", disk, dst], ["create", dst, "--backing", disk], ["resize", disk, "2M"]):
        assert "must be named" in vol(rechain, *words, rc=4).error["message"]
    vol(rechain, "clone", disk, dst, "--source-format", "raw")
    assert digest(dst) == digest(disk)
    os.unlink(disk)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={secret}.data", disk, "1M")
    for format in ([], ["--source-format", "qcow2"]):
        assert "another file" in vol(rechain, "clone", disk, dst + "2", *format, rc=4).error["message"]


# ---- mishaps ----

def test_what_fails_is_taken_back(rechain, workdir):
    src, dst = scatter(os.path.join(workdir, "src.img"), MiB, 1), os.path.join(workdir, "dst.qcow2")
    bin = program_around(workdir, "qemu-img", after='[ "$1" != convert ] || { echo no such luck >&2; exit 1; }')
    result = rechain.run("vol", "clone", src, dst, env={"PATH": f"{bin}:{os.environ['PATH']}"}).expect(7)
    assert "no such luck" in result.err
    assert not os.path.exists(dst) and leftovers(workdir) == []


def test_a_full_disk_is_known_before_and_survived_after(rechain, workdir):
    src = os.path.join(workdir, "src.img")
    with open(src, "wb") as file:
        file.write(os.urandom(12 * MiB))
    with images.small_fs(8, workdir) as dir:
        assert "not enough space" in vol(rechain, "clone", src, os.path.join(dir, "a.qcow2"), rc=4).error["message"]
        run("xz", "-k", "-0", src)
        result = rechain.run("vol", "copy", src + ".xz", os.path.join(dir, "a.img")).expect(7)
        assert "No space left" in result.err
        assert [name for name in os.listdir(dir) if name != "lost+found"] == []


def test_an_interrupted_clone_is_undone(rechain, workdir):
    src, dst = scatter(os.path.join(workdir, "src.img"), MiB, 1), os.path.join(workdir, "dst.qcow2")
    bin = program_around(workdir, "qemu-img", before='[ "$1" != convert ] || exec sleep 60')
    running = rechain.start("vol", "clone", src, dst, env={"PATH": f"{bin}:{os.environ['PATH']}"})
    while not leftovers(workdir) and running.is_running():
        pass
    running.sigint()
    running.wait().expect(7)
    assert not os.path.exists(dst) and leftovers(workdir) == []


KILLED = [("clone", ["clone", "SRC", "DST"], "qemu-img"), ("copy", ["copy", "SRC", "DST"], "cp"),
          ("archive", ["copy", "SRC", "DST.zst", "--archive"], "zstd"), ("contents", ["copy-contents", "SRC", "OLD"], "qemu-img"),
          ("create", ["create", "DST", "--capacity", "4M", "--allocation", "full"], "qemu-img"),
          ("resize", ["resize", "OLD", "16M"], "qemu-img"), ("compress", ["compress", "SRC", "--delete"], "zstd")]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("words, program", [case[1:] for case in KILLED], ids=[case[0] for case in KILLED])
def test_who_is_killed_leaves_no_half_volume(rechain, workdir, words, program, moment):
    """Killed with its program, before and after that did its work; recover then removes what was begun."""
    dir = os.path.join(workdir, "d")
    os.mkdir(dir)
    src, dst, old = (os.path.join(dir, name) for name in ("src.img", "dst.qcow2", "old.qcow2"))
    scatter(src, 3 * MiB + 5, 1)
    run("qemu-img", "create", "-q", "-f", "qcow2", old, "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 9 0 8M", old)
    was = {name: digest(os.path.join(dir, name)) for name in os.listdir(dir)}
    words = [w.replace("SRC", src).replace("DST", dst).replace("OLD", old) for w in words]
    bin = program_around(workdir, program, **{moment: f'case "$1" in measure|dd) ;; *) touch {workdir}/now; sleep 60;; esac'})
    running = rechain.start("vol", *words, env={"PATH": f"{bin}:{os.environ['PATH']}"})
    while not os.path.exists(f"{workdir}/now"):
        assert running.is_running(), running.wait()
    kill_with_programs(running)
    half = [name for name in os.listdir(dir) if name not in was and not name.startswith(".rc-")]
    assert half == []
    assert rechain.run("op", "list").expect(0).out.count("interrupted") == 1
    # Nobody else may work on it meanwhile.
    if "resize" in words:
        rechain.run("vol", "resize", old, "32M").expect(4)
    settled = valid(rechain.run("recover", json=True).expect(0).json)
    # Only a volume that was grown in full already stays as it is.
    grown = "resize" in words and moment == "after"
    assert [op["state"] for op in settled["operations"]] == ["done" if grown else "undone"]
    assert images.info(old)["virtual-size"] == (16 if grown else 8) * MiB
    if "resize" not in words:
        assert {name: digest(os.path.join(dir, name)) for name in os.listdir(dir)} == was
    assert rechain.run("recover").expect(0).out == "nothing to recover\n"


@pytest.mark.parametrize("words", [["clone", "SRC", "DST"], ["copy", "SRC", "OLD", "--overwrite"],
                                   ["compress", "SRC", "--delete"], ["delete", "OLD"], ["resize", "OLD", "16M"],
                                   ["create", "DST", "--capacity", "4M", "--allocation", "full"],
                                   ["copy-contents", "SRC", "OLD"]],
                         ids=lambda words: words[0])
def test_killed_at_any_time_it_is_old_or_new(rechain, workdir, words):
    dir = os.path.join(workdir, "d")
    rng = random.Random(words[0])
    seen = set()
    for round in range(12):
        os.mkdir(dir)
        src, dst, old = (os.path.join(dir, name) for name in ("src.img", "dst.qcow2", "old.qcow2"))
        scatter(src, 3 * MiB + 5, 1)
        run("qemu-img", "create", "-q", "-f", "qcow2", old, "8M")
        was = {name: digest(os.path.join(dir, name)) for name in os.listdir(dir)}
        running = rechain.start("vol", *[w.replace("SRC", src).replace("DST", dst).replace("OLD", old) for w in words])
        try:
            running.process.wait(rng.uniform(0.005, 0.15))
        except subprocess.TimeoutExpired:
            pass
        running.kill()
        rechain.run("recover").expect(0)
        now = {name: digest(os.path.join(dir, name)) for name in os.listdir(dir)}
        assert leftovers(dir) == []
        seen.add(now == was)
        if now != was:
            if words[0] == "clone":
                assert as_guest(dst, "qcow2", workdir) == digest(src, rounded(os.stat(src).st_size))
            elif words[0] == "copy":
                assert now["old.qcow2"] == was["src.img"]
            elif words[0] == "create":
                assert as_guest(dst, "qcow2", workdir) == hashlib.sha256(bytes(4 * MiB)).hexdigest()
            elif words[0] == "copy-contents":
                assert as_guest(old, "qcow2", workdir) == digest(src, 8 * MiB)
            elif words[0] == "compress":
                assert sorted(now) in (["old.qcow2", "src.img.zst"], ["old.qcow2", "src.img", "src.img.zst"])
            elif words[0] == "resize":
                assert images.info(old)["virtual-size"] in (8 * MiB, 16 * MiB)
                images.check_image(old)
            else:
                assert sorted(now) == ["src.img"]
        shutil.rmtree(dir)


@pytest.mark.parametrize("odd", [0, 512])
def test_a_clone_is_written_past_the_page_cache_but_keeps_an_odd_length(rechain, workdir, odd):
    source, target = os.path.join(workdir, "source.img"), os.path.join(workdir, "target.img")
    with open(source, "wb") as file:
        file.write(b"\7" * (1 << 20) + b"\5" * odd)
    words = ["vol", "clone", source, target, "--format", "raw"]
    plan = rechain.run(*words, "--dry-run", json=True).expect(0).json
    argv = next(argv for step in plan["steps"] for argv in step.get("argv", []) if "convert" in argv)
    assert (argv[argv.index("-t") + 1] == "none") if not odd else "-t" not in argv
    rechain.run(*words).expect(0)
    with open(source, "rb") as one, open(target, "rb") as two:
        assert one.read() == two.read()
