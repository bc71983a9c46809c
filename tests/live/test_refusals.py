"""Refusals: the right exit code, a message that says what, why and what to do, and nothing changed."""

import json
import os
import signal
import socket
import subprocess

import pytest

from harness import images, qemu
from harness.images import MiB
from harness.proxy import PASS, Proxy, Reply, on, refuse
from harness.qmp import QmpMonitor
from harness.scene import graph, tree, valid, wait_until

CODES = {1: "failed", 2: "usage", 3: "not-found", 4: "refused", 5: "permission", 6: "unreachable"}


@pytest.fixture
def new(workdir):
    return os.path.join(workdir, "new.qcow2")


def world(vm, *dirs):
    """All that could have changed: QEMU's graph, and every file. The harness's own files do not count."""
    return (graph(vm) if vm else None), tree(*dirs, skip=(".log", ".reference", ".out", ".err"))


@pytest.fixture
def refused(rechain, workdir):
    """refused(vm, rc, [words], *arguments) -> the error document; everything is as it was before."""
    def check(vm, rc, words, *arguments):
        before = world(vm, workdir)
        text = rechain.run(*arguments).expect(rc)
        result = rechain.run(*arguments, json=True).expect(rc)
        after = world(vm, workdir)
        assert after == before, str(result)
        assert result.out == "" and text.out == ""
        error = valid(result.error)
        assert error["code"] == CODES[rc], str(result)
        said = " ".join([error["message"], error.get("cause", ""), error.get("hint", "")])
        for word in words:
            assert word in said, f"{word!r} is not said: {said}"
        assert error.get("hint") or error.get("cause"), f"neither why nor what to do: {error}"
        assert 1 <= len(text.err.strip().splitlines()) <= 3, text.err
        return error
    return check


def move(vm, *arguments):
    return ["move", vm.qmp_path, *arguments]


# --- naming ---

def test_an_unknown_disk_is_not_found_and_the_disks_are_listed(make_vm, refused, workdir, new, style):
    chains = [images.make_chain(os.path.join(workdir, d), size=4 * MiB) for d in ("a", "b")]
    vm = make_vm(chains, style=style)
    refused(vm, 3, ["'sda'", "vda", "vdb"], *move(vm, "sda", "--to", new))
    refused(vm, 3, ["'sda'", "vda", "vdb"], "snapshot", "create", vm.qmp_path, "vda", "sda")
    refused(vm, 3, ["'sda'", "vda", "vdb"], "chain", vm.qmp_path, "sda")
    refused(vm, 3, ["/img/x.qcow2"], *move(vm, "/img/x.qcow2", "--to", new))


def test_an_ambiguous_disk_is_refused(make_chain, make_vm, refused, workdir, new):
    """The path names two disks: both have the same read-only image open, or the same node's file."""
    chain = make_chain(["alone"], formats=["raw"], size=4 * MiB)
    drive = f"if=none,file={chain.active},format=raw,file.locking=off"
    vm = make_vm(chain, style="drive", start=False, args=[
        "-drive", f"{drive},id=second", "-device", "virtio-blk-pci,drive=second,id=vdb"])
    vm._storage_args = lambda disk: (["-drive", f"{drive},id=drive0"], "drive0")
    vm.start()
    refused(vm, 4, ["means 2 disks", "vda", "vdb"], *move(vm, chain.active, "--to", new))


def test_a_base_outside_the_chain_is_not_found_and_the_layers_are_listed(make_chain, make_vm, refused, workdir, new):
    chain = make_chain(size=4 * MiB)
    stranger = os.path.join(workdir, "stranger.qcow2")
    images.run("qemu-img", "create", "-q", "-f", "qcow2", stranger, "4M")
    vm = make_vm(chain)
    for base in (stranger, "stranger.qcow2", "no-such-node"):
        refused(vm, 3, [base, chain.base], *move(vm, "vda", "--to", new, "--base", base))


def test_the_active_layer_is_no_base(make_chain, make_vm, refused, new):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    refused(vm, 4, ["active layer", "none"], *move(vm, "vda", "--to", new, "--base", chain.active))


def test_an_ambiguous_base_is_refused(make_vm, refused, workdir, new):
    low = images.make_chain(os.path.join(workdir, "low"), ["same", "same2"], size=4 * MiB)
    os.makedirs(os.path.join(workdir, "high"))
    middle = images.add_overlay(low, os.path.join(workdir, "high", "same.qcow2"))
    chain = images.add_overlay(middle, os.path.join(workdir, "high", "top.qcow2"))
    vm = make_vm(chain, dir=workdir)
    refused(vm, 4, ["same.qcow2", chain.layers[1], chain.layers[3]],
            *move(vm, "vda", "--to", new, "--base", "same.qcow2"))


def test_a_disk_named_twice_is_a_usage_error(make_chain, make_vm, rechain, new):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    before = graph(vm)
    result = rechain.run(*move(vm, f"vda,to={new}", f"{chain.active},to={new}2"), json=True).expect(2)
    assert "twice" in valid(result.error)["message"] and graph(vm) == before and not os.path.exists(new)


def test_two_disks_with_one_target_are_refused(make_vm, rechain, refused, workdir, new):
    chains = [images.make_chain(os.path.join(workdir, d), size=4 * MiB) for d in ("a", "b")]
    vm = make_vm(chains)
    os.symlink(workdir, os.path.join(workdir, "a", "link"))
    before = graph(vm), tree(chains[0].dir, chains[1].dir)
    for other in (new, f"{workdir}/./new.qcow2", f"{workdir}/a/link/new.qcow2"):
        result = rechain.run(*move(vm, f"vda,to={new}", f"vdb,to={other}"), json=True).expect(4)
        assert "same target" in valid(result.error)["message"], str(result)
        assert (graph(vm), tree(chains[0].dir, chains[1].dir)) == before and not os.path.exists(new)


# --- the target ---

def test_a_target_that_exists_is_refused(make_chain, make_vm, refused, workdir, new):
    chain = make_chain(size=4 * MiB)
    open(new, "w").close()
    os.symlink("/nonexistent/x", os.path.join(workdir, "dangling"))
    vm = make_vm(chain)
    refused(vm, 4, [new, "exists", "--reuse"], *move(vm, "vda", "--to", new))
    refused(vm, 4, [new, "exists"], "snapshot", "create", vm.qmp_path, "vda", "--to", new)
    refused(vm, 4, ["exists"], *move(vm, "vda", "--to", chain.active))
    refused(vm, 4, ["dangling"], *move(vm, "vda", "--to", os.path.join(workdir, "dangling")))
    refused(vm, 4, ["exists"], *move(vm, "vda", "--to", workdir))


def test_a_target_in_a_missing_folder_is_not_found(make_chain, make_vm, refused, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    refused(vm, 3, [f"{workdir}/missing"], *move(vm, "vda", "--to", f"{workdir}/missing/new.qcow2"))
    open(f"{workdir}/plain", "w").close()


@pytest.mark.parametrize("below", ["", "/deeper", "/deeper/still"])
def test_a_target_folder_that_is_a_file_is_refused(make_chain, make_vm, refused, workdir, below):
    vm = make_vm(make_chain(size=4 * MiB))
    open(f"{workdir}/plain", "w").close()
    to = f"{workdir}/plain{below}/new.qcow2"
    for command in (move(vm, "vda", "--to", to), move(vm, "vda", "--to", to, "--reuse"), move(vm, f"vda,to={to}", "-n"),
                    ["snapshot", "create", vm.qmp_path, "vda", "--to", to]):
        refused(vm, 4, [f"{workdir}/plain{below}", "Not a directory"], *command)


def test_a_target_with_too_little_space_is_refused_by_measure(make_chain, make_vm, refused, workdir, style):
    """16 MiB of 64 are above the base: 12 MiB are not enough, and the figures are told."""
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, style=style)
    with images.tmpfs(12, workdir) as small:
        target = os.path.join(small, "new.qcow2")
        error = refused(vm, 4, [small, "not enough space", "needed", "free"], *move(vm, "vda", "--to", target))
        assert "12.0 MiB free" in error["message"], error


def test_space_is_measured_and_not_guessed_from_the_size_of_the_disk(make_chain, make_vm, rechain, workdir):
    chain = make_chain(["template", "current1"], share=[0.25, 0.05])
    vm = make_vm(chain)
    with images.tmpfs(8, workdir) as small:
        rechain.run(*move(vm, "vda", "--to", os.path.join(small, "new.qcow2"))).expect(0)
        vm.kill()


def test_disks_that_fit_alone_but_not_together_are_refused(make_vm, rechain, refused, workdir):
    chains = [images.make_chain(os.path.join(workdir, d), share=[0.25, 0.1]) for d in ("a", "b")]
    vm = make_vm(chains)
    with images.tmpfs(10, workdir) as small:
        targets = [os.path.join(small, f"{i}.qcow2") for i in (0, 1)]
        refused(vm, 4, ["not enough space"], *move(vm, f"vda,to={targets[0]}", f"vdb,to={targets[1]}"))
        rechain.run(*move(vm, f"vda,to={targets[0]}", "--dry-run")).expect(0)


def test_a_read_only_filesystem_is_no_target(make_chain, make_vm, refused, workdir):
    vm = make_vm(make_chain(size=4 * MiB))
    with images.tmpfs(4, workdir) as mount:
        images.run("mount", "-o", "remount,ro", mount)
        refused(vm, 5, [mount, "Read-only"], *move(vm, "vda", "--to", f"{mount}/new.qcow2"))


# --- the disk ---

def test_a_foreign_job_on_the_disk_is_refused_and_left_alone(make_chain, make_vm, refused, new, style):
    chain = make_chain(["template", "middle", "current1"], size=16 * MiB)
    vm = make_vm(chain, style=style)
    node = vm.block()["inserted"]["node-name"]
    vm.qmp.execute("block-stream", job_id="foreign", device=node, speed=1, auto_dismiss=False)
    # One piece, and then the files stand still.
    wait_until(lambda: vm.jobs()["foreign"]["current-progress"] > 0, "the first piece of the job")
    vm.flush()
    error = refused(vm, 4, ["foreign", "busy", "--foreign"], *move(vm, "vda", "--to", new))
    assert "stream" in error["message"]
    refused(vm, 4, ["foreign"], "snapshot", "create", vm.qmp_path, "vda")
    assert vm.jobs()["foreign"]["status"] == "running"


def test_a_foreign_job_on_another_disk_does_not_matter(make_vm, rechain, workdir, new):
    chains = [images.make_chain(os.path.join(workdir, d), size=16 * MiB) for d in ("a", "b")]
    vm = make_vm(chains)
    vm.qmp.execute("block-stream", job_id="foreign", device="vdb-1", speed=65536)
    rechain.run(*move(vm, "vda", "--to", new)).expect(0)
    assert vm.jobs()["foreign"]["status"] == "running" and vm.chain("vdb") == chains[1].layers


def test_a_job_that_nobody_dismissed_is_refused(make_chain, make_vm, rechain, new):
    """QEMU 7.2 cannot even be asked for its nodes then: whatever is said, QEMU lives and nothing is done."""
    chain = make_chain(["template", "middle", "current1"], size=4 * MiB)
    vm = make_vm(chain)
    vm.qmp.execute("block-stream", job_id="old", device="vda-2", base_node="vda-0", auto_dismiss=False)
    vm.qmp.wait_event("JOB_STATUS_CHANGE", id="old", status="concluded")
    result = rechain.run(*move(vm, "vda", "--to", new), json=True)
    vm.assert_alive()
    assert result.rc in (0, 4), str(result)
    assert "old" in vm.jobs()
    if result.rc == 4:
        assert "old" in valid(result.error)["message"] and not os.path.exists(new)


@pytest.mark.parametrize("writable", [True, False], ids=["writable", "read-only"])
def test_only_a_writable_export_of_the_disk_is_refused(make_chain, make_vm, rechain, refused, workdir, new, style,
                                                       writable):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain, style=style, start=False)
    attach = vm._device_args
    vm._device_args = lambda disk, drive: [a.replace("virtio-blk-pci", "virtio-blk-pci,share-rw=on")
                                           for a in attach(disk, drive)]
    vm.start()
    node = vm.block()["inserted"]["node-name"]
    vm.qmp.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": f"{vm.run_dir}/nbd"}}})
    vm.qmp.execute("block-export-add", {"type": "nbd", "id": "spy", "node-name": node, "name": "d",
                                        "writable": writable})
    if writable:
        error = refused(vm, 4, ["spy", "writable export", "block-export-del"], *move(vm, "vda", "--to", new))
        assert "vda" in error["message"]
    else:
        rechain.run(*move(vm, "vda", "--to", new, "--dry-run")).expect(0)


def test_a_read_only_disk_is_refused(make_chain, make_vm, refused, workdir, new):
    chain = make_chain(["alone"], formats=["raw"], size=4 * MiB)
    vm = make_vm(chain, start=False)
    vm._storage_args = lambda disk: (["-drive", f"if=none,id=d,file={chain.active},format=raw,read-only=on"], "d")
    vm.start()
    refused(vm, 4, ["vda", "read-only"], *move(vm, "vda", "--to", new))
    refused(vm, 4, ["vda", "read-only"], "snapshot", "create", vm.qmp_path, "vda")
    refused(vm, 3, ["no writable disk"], "snapshot", "create", vm.qmp_path)


def test_an_empty_tray_is_refused(make_chain, make_vm, refused, new):
    vm = make_vm(make_chain(size=4 * MiB), args=["-device", "ide-cd,id=cd0"])
    refused(vm, 4, ["cd0", "no medium"], *move(vm, "cd0", "--to", new))


def test_an_encrypted_layer_is_refused(make_chain, make_vm, refused, workdir, new):
    chain = make_chain(["alone"], size=4 * MiB)
    secret = os.path.join(workdir, "secret")
    with open(secret, "w") as file:
        file.write("pass")
    image = os.path.join(workdir, "encrypted.qcow2")
    for attempt in range(20):
        try:
            images.run("qemu-img", "create", "-q", "-f", "qcow2", "--object", f"secret,id=s,file={secret}",
                       "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", image, "4M")
            break
        except AssertionError as error:     # its own benchmark of the CPU, which a busy machine disturbs
            if "CPU usage" not in str(error) or attempt == 19:
                raise
    node = {"driver": "qcow2", "node-name": "enc", "encrypt": {"format": "luks", "key-secret": "s"},
            "file": {"driver": "file", "filename": image}}
    vm = make_vm(chain, args=["-object", f"secret,id=s,file={secret}", "-blockdev", json.dumps(node),
                              "-device", "virtio-blk-pci,id=vdb,drive=enc"])
    refused(vm, 4, ["vdb", "encrypted"], *move(vm, "vdb", "--to", new))


def test_a_layer_that_others_build_on_is_not_deleted(make_chain, make_vm, refused, workdir, new):
    chain = make_chain(size=4 * MiB)
    images.run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", chain.active, "-F", "qcow2",
               f"{workdir}/clone.qcow2", "4M")
    vm = make_vm(chain)
    refused(vm, 4, [chain.active, "clone.qcow2", "--delete"], *move(vm, "vda", "--to", new, "--delete"))


def test_a_vm_that_is_migrated_is_refused(make_chain, make_vm, rechain, workdir, new):
    vm = make_vm(make_chain(size=4 * MiB))
    vm.cont()
    vm.qmp.execute("migrate-set-parameters", {"max-bandwidth": 4096})      # below 10 it is none
    vm.qmp.execute("migrate", {"uri": "exec:cat >/dev/null"})
    before = tree(workdir, skip=(".log", ".out", ".err"))       # QEMU itself changes its graph now
    result = rechain.run(*move(vm, "vda", "--to", new), json=True).expect(4)
    error = valid(result.error)
    assert "being migrated" in error["message"] and error["hint"] and tree(workdir, skip=(".log", ".out", ".err")) == before


def test_a_vm_that_was_migrated_away_is_refused(make_chain, make_vm, rechain, workdir, new):
    vm = make_vm(make_chain(size=4 * MiB))
    vm.cont()
    vm.qmp.execute("migrate", {"uri": "exec:cat >/dev/null"})
    wait_until(lambda: vm.run_state() == "postmigrate", "the migration has ended")
    before = tree(workdir, skip=(".log", ".out", ".err"))
    result = rechain.run(*move(vm, "vda", "--to", new), json=True).expect(4)
    error = valid(result.error)
    assert "was migrated away" in error["message"] and "inactive" in error["message"] and error["hint"]
    assert tree(workdir, skip=(".log", ".out", ".err")) == before


def test_a_migration_that_ends_while_it_is_looked_for_is_seen(make_chain, make_vm, rechain, workdir, new):
    """Neither asked before it began nor after it ended is QEMU migrating."""
    vm = make_vm(make_chain(size=4 * MiB))
    vm.cont()

    def migrate(message):
        vm.qmp.execute("migrate", {"uri": "exec:cat >/dev/null"})
        wait_until(lambda: vm.run_state() == "postmigrate", "the migration has ended")
        return PASS
    with Proxy(vm.qmp_path, on("command", "query-migrate", migrate)) as proxy:
        error = valid(rechain.run("move", proxy.path, "vda", "--to", new, json=True).expect(4).error)
    assert "was migrated away" in error["message"] and not os.path.exists(new)


# --- reuse ---

def reusable(chain, path, size=None, backing=None, format="qcow2"):
    images.run("qemu-img", "create", "-q", "-f", format, *(["-u", "-b", backing or chain.active, "-F", "qcow2"]
               if format == "qcow2" and backing != "" else []), path, size or chain.size)


def test_reuse_takes_an_empty_overlay_of_the_active_layer(make_chain, make_vm, rechain, new, style):
    chain = make_chain(size=16 * MiB)
    reusable(chain, new)
    vm = make_vm(chain, style=style)
    inode = os.stat(new).st_ino
    rechain.run(*move(vm, "vda", "--to", new, "--reuse")).expect(0)
    assert vm.chain() == [new, chain.base] and os.stat(new).st_ino == inode
    vm.stop()
    vm.check(image=new)


def test_reuse_of_a_missing_file_is_not_found(make_chain, make_vm, refused, new):
    vm = make_vm(make_chain(size=4 * MiB))
    refused(vm, 3, [new, "does not exist"], *move(vm, "vda", "--to", new, "--reuse"))


@pytest.mark.parametrize("what", ["raw", "size", "backing", "no backing", "data", "zeroes", "open", "garbage"])
def test_reuse_of_another_file_is_refused(make_chain, make_vm, refused, workdir, new, what):
    chain = make_chain(size=4 * MiB)
    words = {"raw": ["qcow2"], "size": ["size"], "backing": ["backing"], "no backing": ["backing"],
             "data": ["not empty"], "zeroes": ["not empty"], "open": ["open"], "garbage": [new]}[what]
    reusable(chain, new, size=8 * MiB if what == "size" else None, format="raw" if what == "raw" else "qcow2",
             backing={"backing": chain.base, "no backing": ""}.get(what))
    vm = make_vm(chain)
    if what in ("data", "zeroes"):
        images.run("qemu-io", "-f", "qcow2", "-c", f"write {'-z' if what == 'zeroes' else '-P 7'} 1M 64k",
                   "json:" + json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": new},
                                         "backing": None}))
    if what == "garbage":
        with open(new, "r+b") as file:
            file.seek(8)
            file.write(b"\xff" * 96)
    holder = Holder(new) if what == "open" else None
    refused(vm, 1 if what == "garbage" else 4, words, *move(vm, "vda", "--to", new, "--reuse"))
    if holder:
        holder.close()


class Holder:
    """Somebody else who has the file open for writing."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [qemu.binary("7.2", "qemu-io"), "-f", "raw", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdin.write(b"length\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


# --- the monitor ---

def test_a_missing_socket_is_unreachable(refused, workdir, new, version):
    for command in (["move", f"{workdir}/no.qmp", "vda", "--to", new], ["info", f"{workdir}/no.qmp"],
                    ["chain", f"{workdir}/no.qmp"], ["job", "list", f"{workdir}/no.qmp"],
                    ["snapshot", "create", f"unix:{workdir}/no.qmp", "vda"]):
        refused(None, 6, [f"{workdir}/no.qmp"], *command)


def test_a_socket_that_nobody_serves_is_unreachable(refused, workdir, new):
    path = os.path.join(workdir, "dead")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    refused(None, 6, [path], "move", path, "vda", "--to", new)


def test_a_plain_file_is_no_monitor(refused, workdir, new):
    path = os.path.join(workdir, "plain")
    with open(path, "w") as file:
        file.write("{}\n")
    refused(None, 6, [path, "not a socket"], "move", path, "vda", "--to", new)
    refused(None, 6, [workdir, "not a socket"], "info", workdir)


def test_a_tcp_port_that_nobody_serves_is_unreachable(refused, new):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused(None, 6, [str(port)], "move", f"tcp:127.0.0.1:{port}", "vda", "--to", new)


def test_a_name_that_no_configuration_has_is_not_found(refused, new):
    refused(None, 3, ["web1"], "move", "web1", "vda", "--to", new)


def test_a_monitor_that_somebody_holds_is_unreachable_and_says_who(make_chain, make_vm, refused, new):
    vm = make_vm(make_chain(size=4 * MiB))
    with QmpMonitor(vm.qmp_path):
        error = refused(vm, 6, [vm.qmp_path], *move(vm, "vda", "--to", new))
    assert "somebody else" in error["message"] + error.get("cause", ""), error
    assert "client" in error["hint"]


def test_a_socket_without_permission_is_refused(make_chain, make_vm, refused, workdir, new, rechain):
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    vm = make_vm(make_chain(size=4 * MiB))
    os.chmod(vm.run_dir, 0o700)
    os.chmod(workdir, 0o755)
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           *rechain._argv(["info", vm.qmp_path], True)[:1], "--state-dir", "/tmp/rc-nobody-state",
                           "--config", "/dev/null", "-o", "json", "info", vm.qmp_path],
                          capture_output=True, text=True)
    assert done.returncode == 5, done
    assert valid(json.loads(done.stderr.strip().splitlines()[-1]))["code"] == "permission"


# --- QEMU's own limits ---

@pytest.mark.parametrize("command", ["transaction", "blockdev-add", "blockdev-snapshot", "job-finalize", "query-jobs",
                                     "block-stream"])
def test_a_qemu_without_a_needed_command_is_refused_before_anything(make_chain, make_vm, rechain, workdir, new,
                                                                     command):
    vm = make_vm(make_chain(size=4 * MiB))
    schema = [e for e in vm.qmp.execute("query-qmp-schema") if not (e["meta-type"] == "command"
                                                                     and e["name"] == command)]
    before = world(vm, workdir)
    with Proxy(vm.qmp_path, on("command", "query-qmp-schema", Reply(value=schema))) as proxy:
        result = rechain.run("move", proxy.path, "vda", "--to", new, json=True).expect(4)
        asked = [name for name in proxy.commands() if not name.startswith(("query-", "x-debug-query", "qmp_cap"))]
    error = valid(result.error)
    assert command in error["message"] + error.get("cause", "") and error["hint"], error
    assert not asked, asked
    assert world(vm, workdir) == before


def test_a_qemu_that_refuses_a_question_is_not_touched(make_chain, make_vm, rechain, workdir, new):
    vm = make_vm(make_chain(size=4 * MiB))
    before = world(vm, workdir)
    for question in ("query-block", "query-named-block-nodes", "query-status"):
        with Proxy(vm.qmp_path, refuse(question, "not today")) as proxy:
            result = rechain.run("move", proxy.path, "vda", "--to", new, json=True)
            assert result.rc in (1, 4, 6), str(result)
            assert "not today" in valid(result.error).get("cause", ""), str(result)
        assert world(vm, workdir) == before


def test_an_operation_on_the_disk_stands_in_the_way_of_another(make_vm, rechain, workdir, new):
    """The second monitor is free, but the journal knows the first operation."""
    chain = images.make_chain(workdir)
    vm = make_vm(chain, args=["-chardev", "socket,id=m2,path=/tmp/rcm2-%d,server=on,wait=off" % os.getpid(),
                              "-mon", "chardev=m2,mode=control"])
    second = "/tmp/rcm2-%d" % os.getpid()
    running = rechain.start("move", vm.qmp_path, "vda", "--to", new, "--bandwidth", "1M")
    while not any(job["type"] == "stream" for job in vm.jobs().values()):
        assert running.is_running(), str(running.wait())
    result = rechain.run("move", second, "vda", "--to", f"{new}2", json=True).expect(4)
    assert "busy" in valid(result.error)["message"] or "running" in result.error["message"], str(result)
    running.signal(signal.SIGTERM)
    running.wait().expect(7)
    assert vm.chain() == chain.layers
    os.unlink(second)
