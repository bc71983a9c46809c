"""doctor: what does not fit is named with its evidence and its cure, what fits is not, and --repair takes away what is
provably rechain's own and nothing else."""

import json
import os
import shlex
import shutil
import sqlite3

import pytest

from harness import images
from harness.agent import FakeAgent
from harness.images import MiB, run
from harness.proxy import CUT, PASS, Proxy
from harness.qemu import leftovers
from harness.rechain import Rechain, binary
from harness.scene import change, tree, valid, wait_until


class Patient:
    """A VM whose guest has no OS, its chain, and the program."""

    def __init__(self, vm, chain, rechain, dir):
        self.vm, self.chain, self.rechain, self.dir = vm, chain, rechain, dir
        self.name = vm.qmp_path

    def restart(self, disks=None):
        self.vm.restart(disks)
        self.name = self.vm.qmp_path

    def path(self, name):
        return os.path.join(self.chain.dir, name)

    def look(self, *words, name=True, rc=None, **options):
        """The document; exit 10 if and only if something is found."""
        words = ([self.name] if name else []) + list(words)
        result = self.rechain.run("doctor", *words, json=True, **options)
        document = valid(result.json)
        assert result.rc == (rc if rc is not None else 10 if document["findings"] else 0), str(result)
        assert result.err == "", result.err
        return document

    def find(self, kind, *words, **options):
        """The one finding there is, which is of that kind."""
        findings = self.look(*words, **options)["findings"]
        assert [f["kind"] for f in findings] == [kind], json.dumps(findings, indent=1)
        return findings[0]

    def well(self, *words, **options):
        findings = self.look(*words, **options)["findings"]
        assert findings == [], json.dumps(findings, indent=1)

    def paste(self, command):
        """Runs a cure as a user would type it."""
        words = shlex.split(command)
        assert words[0] == "rechain", command
        return self.rechain.run(*words[1:])

    def undone(self):
        """The id of an operation that was taken back."""
        slow = self.rechain.start("move", self.name, "vda", "--to", self.path("slow.qcow2"), "--bandwidth", "1M", json=True)
        wait_until(lambda: self.vm.jobs(), "the job")
        slow.sigint()
        return slow.wait().expect(7).json["operation"]

    def interrupt(self, *words):
        """Kills rechain while its job copies; returns the operation's id."""
        running = self.rechain.start(*words, "--bandwidth", "1M")
        wait_until(lambda: self.vm.jobs(), "the job")
        running.kill()
        return self.rechain.run("op", "list", json=True).json["operations"][0]["operation"]


@pytest.fixture
def patient(make_chain, make_vm, rechain, workdir):
    chain = make_chain(["template", "middle", "current1"], size=16 * MiB)
    vm = make_vm(chain)
    vm.cont()
    return Patient(vm, chain, rechain, workdir)


def write_header(path, backing, format="qcow2"):
    """Behind QEMU's back."""
    spec = f"driver=qcow2,file.driver=file,file.locking=off,file.filename={path}"
    run("qemu-img", "rebase", "-u", "-b", backing, *(["-F", format] if backing else []), "--image-opts", spec)


# --- what fits ---

def test_a_sound_vm_has_no_findings_whatever_was_done_to_it(patient):
    document = patient.look()
    (disk,) = document["vms"][0]["disks"]
    assert disk["graph"] == disk["headers"] == patient.chain.layers and "journal" not in disk
    change(patient.rechain, patient.vm, "move", "vda", "--to", patient.path("new.qcow2"), "--delete")
    change(patient.rechain, patient.vm, "snapshot create", "vda", "--name", "s")
    change(patient.rechain, patient.vm, "pull", "vda", "--top", "new.qcow2", "--base", "template.qcow2", "--delete")
    last = change(patient.rechain, patient.vm, "snapshot delete", "s", "--delete")
    (disk,) = patient.look()["vms"][0]["disks"]
    assert disk["graph"] == disk["headers"] == disk["journal"] == patient.vm.chain()
    assert disk["operation"] == last["operation"]
    assert "nothing is wrong" in patient.rechain.run("doctor", patient.name).expect(0).out


def test_a_running_operation_is_no_finding(patient):
    slow = patient.rechain.start("move", patient.name, "vda", "--to", patient.path("slow.qcow2"), "--bandwidth", "1M")
    wait_until(lambda: patient.vm.jobs(), "the job")
    document = patient.look()
    assert document["vms"][0]["borrowed-from"] and document["findings"] == []
    patient.look("--repair")
    slow.sigint()
    slow.wait().expect(7)
    patient.well()


# --- headers ---

def test_a_header_that_lies_is_put_right_where_the_journal_knows_better(patient):
    overlay, other = patient.path("over.qcow2"), patient.path("template.qcow2")
    change(patient.rechain, patient.vm, "snapshot create", f"vda,to={overlay}", "--name", "s")
    write_header(overlay, other)
    finding = patient.find("header")
    assert (finding["severity"], finding["disk"], finding["repairable"]) == ("error", "vda", True)
    assert other in finding["what"] and patient.chain.active in finding["what"]
    (plan,) = patient.look("--repair", "-n")["plans"]
    assert [s["step"] for s in valid(plan)["steps"]] == ["header", "jobs"]
    assert images.header_chain(overlay)[1] == other
    assert patient.paste(finding["cure"]["command"]).expect(0).out
    assert images.header_chain(overlay) == [overlay] + patient.chain.layers
    assert patient.vm.chain() == [overlay] + patient.chain.layers
    patient.well()
    assert [o["kind"] for o in patient.rechain.run("op", "list", json=True).json["operations"]] == ["repair", "snapshot"]


def test_a_header_without_a_format_is_a_finding(patient):
    run("qemu-img", "info", "-U", patient.chain.active)
    with open(patient.chain.active, "r+b") as file:     # the extension of the backing format: 0xE2792ACA
        data = file.read(4096)
        at = data.index(b"\xe2\x79\x2a\xca")
        file.seek(at)
        file.write(b"\x12\x34\x56\x78")                 # one that nobody knows
    assert "format none" in " ".join(patient.find("header")["evidence"])


def test_a_header_that_the_journal_does_not_know_is_only_named(patient):
    write_header(patient.chain.active, patient.chain.base)
    finding = patient.find("header")
    assert not finding["repairable"] and "change-backing-file" in finding["cure"]["says"]
    before = images.header_chain(patient.chain.active)
    assert patient.find("header", "--repair") == finding
    assert images.header_chain(patient.chain.active) == before


def test_a_layer_that_was_removed_under_qemu_is_told_while_it_can_be_saved(patient):
    os.unlink(patient.chain.base)
    shutil.copy(patient.chain.layers[1], patient.path("m2"))
    os.rename(patient.path("m2"), patient.chain.layers[1])
    findings = patient.look()["findings"]
    assert [f["kind"] for f in findings if f["kind"] == "file-replaced"] == ["file-replaced"] * 2
    assert "was removed" in str(findings) and "is another file" in str(findings)


def test_what_was_removed_under_qemu_is_saved_by_the_cure_that_is_named(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=16 * images.MiB)
    vm = make_vm(chain)
    for path in chain.layers:
        os.unlink(path)
    document = rechain.run("doctor", vm.qmp_path, json=True).expect(10).json
    assert all("rechain copy" in f["cure"] for f in document["findings"] if f["kind"] == "file-replaced")
    for words in ["snapshot", "create", vm.qmp_path], ["copy", vm.qmp_path, "vda", "--shallow", "--to", f"{workdir}/c"]:
        error = rechain.run(*words, json=True).expect(4).error          # it would name a file that is no more
        assert "was removed" in error["message"] and "rechain copy" in error["hint"]
    rechain.run("copy", vm.qmp_path, "vda", "--to", f"{workdir}/saved.qcow2").expect(0)
    vm.stop()
    with images.raw_view(f"{workdir}/saved.qcow2") as raw:
        images.run("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, chain.reference)


# --- what is left in QEMU ---

def test_what_an_ended_operation_left_in_qemu_is_taken_away_and_nothing_else(patient):
    qmp, id = patient.vm.qmp, patient.undone()
    os.mkdir(f"/run/rc-{id}-0", 0o700)
    try:
        extra = {name: patient.path(f"{name}.raw") for name in ("ours", "unknown", "foreign", "copy")}
        for path in extra.values():
            images.run("qemu-img", "create", "-q", "-f", "raw", path, "16M")
        nodes = {"ours": f"rc-{id}-vda-ov", "unknown": "rc-01234567-vda-ov", "foreign": "backup", "copy": "target"}
        for name, node in nodes.items():
            qmp.execute("blockdev-add", driver="raw", node_name=node, file={"driver": "file", "filename": extra[name]})
        qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": f"/run/rc-{id}-0/nbd"}})
        active = patient.vm.disk().node()
        for export in (f"rc-{id}-vda-nbd", "theirs"):
            qmp.execute("block-export-add", type="nbd", id=export, node_name=active, name=export)
        qmp.execute("blockdev-mirror", job_id=f"rc-{id}-vda-stream", device=active, target="target", sync="full",
                    auto_dismiss=False)
        qmp.wait_event("BLOCK_JOB_READY")
        findings = patient.look()["findings"]
        assert sorted((f["kind"], f["repairable"]) for f in findings) == [
            ("export", True), ("job", True), ("nbd-server", True), ("node", False), ("node", True)]
        assert all(id in f["what"] + str(f["evidence"]) for f in findings if f["repairable"])
        (plan,) = patient.look("--repair", "-n", rc=10)["plans"]
        asked = [q["execute"] for s in valid(plan)["steps"] for q in s.get("qmp", [])]
        assert asked == ["job-cancel", "job-dismiss", "block-export-del", "nbd-server-stop", "blockdev-del"]
        assert patient.vm.jobs()
        document = patient.look("--repair", rc=10)
        (repair,) = document["repairs"]
        assert (valid(repair)["kind"], repair["state"]) == ("repair", "done")
        assert [(f["kind"], f.get("file")) for f in document["findings"]] == [("node", None), ("unused-image", extra["ours"])]
        assert not os.path.exists(f"/run/rc-{id}-0") and not patient.vm.jobs()
        assert {"rc-01234567-vda-ov", "backup", "target"} <= set(patient.vm.nodes())
        assert f"rc-{id}-vda-ov" not in patient.vm.nodes()
        qmp.execute("blockdev-del", node_name="rc-01234567-vda-ov")
        leftovers(patient.vm, patient.rechain.state_dir, [patient.chain.dir])
        assert patient.vm.chain() == patient.chain.layers
    finally:
        shutil.rmtree(f"/run/rc-{id}-0", ignore_errors=True)


# --- dirty bitmaps ---

def leave_an_inconsistent_bitmap(patient):
    """Its QEMU dies while the bitmap is in use."""
    patient.vm.qmp.execute("block-dirty-bitmap-add", node=patient.vm.disk().node(), name="since-backup", persistent=True)
    patient.vm.stop()
    patient.restart()
    patient.vm.guest_write(0, MiB, 0x11)
    patient.vm.kill()
    patient.restart()


def test_an_inconsistent_bitmap_is_removed_and_a_good_one_stays(patient):
    leave_an_inconsistent_bitmap(patient)
    patient.vm.qmp.execute("block-dirty-bitmap-add", node=patient.vm.disk().node(), name="good", persistent=True)
    finding = patient.find("bitmap")
    assert (finding["severity"], finding["disk"], finding["repairable"]) == ("warning", "vda", True)
    assert "'since-backup'" in finding["what"] and "inconsistent" in finding["what"]
    (plan,) = patient.look("--repair", "-n")["plans"]
    (asked,) = [q for s in valid(plan)["steps"] for q in s.get("qmp", [])]
    assert (asked["execute"], asked["arguments"]["name"]) == ("block-dirty-bitmap-remove", "since-backup")
    patient.find("bitmap")
    patient.paste(finding["cure"]["command"]).expect(0)
    patient.well()
    assert [b["name"] for b in patient.vm.block()["inserted"]["dirty-bitmaps"]] == ["good"]


def test_an_inconsistent_bitmap_below_the_active_layer_is_named_with_what_removes_it(patient):
    leave_an_inconsistent_bitmap(patient)
    patient.vm.stop()
    patient.restart([images.add_overlay(patient.chain, patient.path("over.qcow2"))])
    finding = patient.find("bitmap")
    assert not finding["repairable"] and patient.find("bitmap", "--repair") == finding
    patient.vm.stop()
    run(*shlex.split(finding["cure"]["command"]))
    patient.restart()
    patient.well()


# --- a repair ---

@pytest.mark.parametrize("who", ["rechain", "both", "connection"])
def test_a_repair_that_is_interrupted_is_finished(patient, who):
    """By recover; one that only lost its connection, by itself."""
    node = f"rc-{patient.undone()}-vda-ov"
    patient.vm.qmp.execute("blockdev-add", node_name=node, driver="null-co")
    started = []

    def mishap(m):
        if (m.kind, m.name, m.nth) != ("command", "blockdev-del", 1):
            return PASS
        if who != "connection":
            started[0].process.kill()
        if who == "both":
            patient.vm.sigkill()
        return CUT
    with Proxy(patient.vm.qmp_path, mishap) as proxy:
        started.append(patient.rechain.start("doctor", proxy.path, "--repair", json=True))
        result = started[0].wait()
        if who == "connection":
            assert [o["state"] for o in valid(result.expect(0).json)["repairs"]] == ["done"]
        else:
            (operation,) = valid(patient.rechain.run("recover", json=True).expect(0).json)["operations"]
            assert (operation["kind"], operation["state"]) == ("repair", "done")
    if who != "both":
        assert node not in patient.vm.nodes()
        patient.well()


def leave_a_job_an_export_its_server_and_a_node(patient):
    """Of an operation that has ended; all of it is provably ours, or of no use to anybody."""
    qmp, id, active = patient.vm.qmp, patient.undone(), patient.vm.disk().node()
    target = patient.path("target.raw")
    images.run("qemu-img", "create", "-q", "-f", "raw", target, "16M")
    os.mkdir(f"/run/rc-{id}-0", 0o700)
    for node in (f"rc-{id}-vda-ov", "target"):
        qmp.execute("blockdev-add", driver="raw", node_name=node, file={"driver": "file", "filename": target, "locking": "off"})
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": f"/run/rc-{id}-0/nbd"}})
    qmp.execute("block-export-add", type="nbd", id=f"rc-{id}-vda-nbd", node_name=active, name="x")
    qmp.execute("blockdev-mirror", job_id=f"rc-{id}-vda-stream", device=active, target="target", sync="full", auto_dismiss=False)
    qmp.wait_event("BLOCK_JOB_READY")
    return f"/run/rc-{id}-0"


def let_a_header_lie(patient):
    overlay = patient.path("over.qcow2")
    patient.rechain.run("snapshot", "create", patient.name, f"vda,to={overlay}", "--name", "s").expect(0)
    write_header(overlay, patient.chain.base)


@pytest.mark.parametrize("kind", ["command", "return"])
@pytest.mark.parametrize("damage, name", [
    (let_a_header_lie, "change-backing-file"),
    *((leave_a_job_an_export_its_server_and_a_node, name) for name in (
        "job-cancel", "job-dismiss", "block-export-del", "nbd-server-stop", "blockdev-del", "block-dirty-bitmap-remove"))],
    ids=lambda x: x if isinstance(x, str) else "")
def test_a_repair_that_is_killed_at_any_of_its_steps_is_settled_and_then_all_is_well(patient, damage, name, kind):
    if name != "change-backing-file":
        leave_an_inconsistent_bitmap(patient)
    started, left = [], None

    def kill(m):
        if (m.kind, m.name) != (kind, name) or not started:
            return PASS
        started.pop().process.kill()
        return CUT
    try:
        with Proxy(patient.vm.qmp_path) as proxy:
            patient.name = proxy.path
            left = damage(patient)
            proxy.policy = kill
            run_ = patient.rechain.start("doctor", proxy.path, "--repair")
            started.append(run_)
            run_.wait().expect(-9)
            assert "operation" in [f["kind"] for f in patient.look()["findings"]]
            (settled,) = valid(patient.rechain.run("recover", json=True).expect(0).json)["operations"]
            assert settled["kind"] == "repair" and settled["state"] in ("done", "undone")
            assert valid(patient.rechain.run("recover", json=True).expect(0).json)["operations"] == []
            patient.look("--repair")
            assert {f["kind"] for f in patient.look()["findings"]} <= {"unused-image"}
        assert patient.vm.jobs() == {} and not (left and os.path.exists(left))
    finally:
        if left:
            shutil.rmtree(left, ignore_errors=True)


# --- operations ---

def test_an_interrupted_operation_is_named_with_where_it_stands_and_its_cure_works(patient):
    id = patient.interrupt("move", patient.name, "vda", "--to", patient.path("slow.qcow2"))
    finding = patient.find("operation")
    assert (finding["severity"], finding["operation"]) == ("error", id)
    assert finding["cure"]["command"] == f"rechain recover --op {id}"
    assert "step 'stream' of vda" in str(finding["evidence"])
    text = patient.rechain.run("doctor", patient.name).expect(10).out
    assert f"$ rechain recover --op {id}" in text
    patient.paste(finding["cure"]["command"]).expect(0)
    patient.well()


def test_repair_settles_what_was_interrupted_and_says_what_became_of_it(patient):
    id = patient.interrupt("pull", patient.name, "vda")
    (settled,) = patient.look("--repair")["repairs"]
    assert (settled["operation"], settled["state"]) == (id, "undone")
    patient.well()
    leftovers(patient.vm, patient.rechain.state_dir, [patient.chain.dir])


def test_a_guest_that_was_left_stopped_is_an_error_of_its_own(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=16 * MiB)
    vm = make_vm(chain)
    vm.cont()
    with Proxy(vm.qmp_path) as proxy:
        started = []

        def kill(m):
            if (m.kind, m.name) == ("return", "stop"):
                started[0].process.kill()
                return CUT
            return PASS
        proxy.policy = kill
        patient = Patient(vm, chain, rechain, workdir)
        patient.name = proxy.path
        started.append(rechain.start("commit", proxy.path, "vda"))
        started[0].wait()
        assert vm.run_state() == "paused"
        findings = {f["kind"]: f for f in patient.look()["findings"]}
        assert set(findings) == {"operation", "guest-stopped"}
        assert "run state of QEMU: paused" in findings["guest-stopped"]["evidence"]
        patient.well("--repair")
        assert vm.run_state() == "running"


def test_a_frozen_guest_is_told_with_how_to_thaw_it(patient):
    with FakeAgent(os.path.join(patient.dir, "agent")) as agent:
        patient.well("--agent", agent.path)
        agent.frozen = True
        finding = patient.find("guest-frozen", "--agent", agent.path)
        assert finding["cure"]["command"] == f"rechain thaw {patient.name}"
        patient.find("guest-frozen", "--agent", agent.path, "--repair")
        assert agent.frozen                         # somebody may be taking a backup
        patient.rechain.run(*shlex.split(finding["cure"]["command"])[1:], "--agent", agent.path).expect(0)
        patient.well("--agent", agent.path)


# --- the VM is off ---

def test_with_the_vm_off_headers_and_journal_are_compared_and_the_cure_works(patient):
    """Both died in a move: the doctor tells the file to start from, and settles it."""
    new = patient.path("new.qcow2")
    id = patient.interrupt("move", patient.name, "vda", "--to", new)
    patient.vm.kill()
    finding = patient.find("operation")
    assert f"from '{new}'" in str(finding["evidence"]) and "its QEMU is gone" in finding["evidence"]
    document = patient.look("--repair")
    assert [o["operation"] for o in document["repairs"]] == [id]
    (vm,) = document["vms"]
    (disk,) = vm["disks"]
    assert vm["state"] == "off" and disk["headers"] == disk["journal"] == patient.chain.layers
    assert "graph" not in disk


def test_a_chain_that_lost_a_layer_is_told_with_the_vm_off(patient):
    change(patient.rechain, patient.vm, "snapshot create", "vda", "--name", "s")
    patient.vm.kill()
    os.rename(patient.chain.layers[1], patient.path("hidden.qcow2"))
    findings = {f["kind"]: f for f in patient.look()["findings"]}
    assert patient.chain.layers[1] in str(findings["chain"]["evidence"])


def test_a_vm_that_nobody_heard_of_is_no_finding_but_an_error(rechain, workdir):
    assert rechain.run("doctor", f"{workdir}/none.qmp", json=True).expect(6).error["code"] == "unreachable"
    assert rechain.run("doctor", "none", json=True).expect(3).error["code"] == "not-found"


# --- records ---

def test_a_record_that_matches_no_chain_is_named_and_stays(patient):
    change(patient.rechain, patient.vm, "snapshot create", f"vda,to={patient.path('s.qcow2')}", "--name", "s")
    qmp, top = patient.vm.qmp, patient.vm.block()["inserted"]["node-name"]
    qmp.execute("block-stream", job_id="mine", device=top, base_node=patient.vm.disk().node(1),
                backing_file=patient.chain.layers[1])
    qmp.wait_event("BLOCK_JOB_COMPLETED")
    findings = {f["kind"]: f for f in patient.look()["findings"]}
    assert set(findings) == {"snapshot-record"}     # what it refers to is not unused
    assert not findings["snapshot-record"]["repairable"]
    patient.find("snapshot-record", "--repair")
    patient.paste(findings["snapshot-record"]["cure"]["command"]).expect(0)
    patient.well()                                  # the old layer is not unused: QEMU has it open


def test_a_record_whose_files_are_gone_is_dropped(make_chain, make_vm, rechain, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    change(rechain, vm, "snapshot create", f"vda,to={workdir}/s.qcow2", "--name", "s 'x'")
    vm.stop()
    for path in (f"{workdir}/s.qcow2", *chain.layers):
        os.unlink(path)
    name = rechain.run("op", "list", json=True).json["operations"][0]["vm"]
    patient = Patient(vm, chain, rechain, workdir)
    findings = {f["kind"]: f for f in patient.look(name=False)["findings"]}
    assert findings["snapshot-record"]["repairable"]
    (repair,) = patient.look("--repair", name=False)["repairs"]
    assert [s["detail"] for s in rechain.run("op", "show", repair["operation"], json=True).json["journal"] if s["phase"] == "intent"]
    assert rechain.run("snapshot", "list", name, json=True).json["snapshots"] == []
    patient.well(name=False)


# --- files ---

def test_files_that_nobody_refers_to_are_named_and_kept(patient):
    """Only an unfinished file of an operation that has ended goes."""
    id = patient.undone()
    part, strange = (patient.path(f".rc-{i}-0.part") for i in (id, "01234567"))
    orphan, alone, raw = (patient.path(n) for n in ("orphan.qcow2", "alone.qcow2", "it's.img"))
    for path in (part, strange):
        open(path, "w").write("x")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", patient.chain.base, "-F", "qcow2", orphan, "16M")
    run("qemu-img", "create", "-q", "-f", "qcow2", alone, "16M")
    run("qemu-img", "create", "-q", "-f", "raw", raw, "1M")
    open(patient.path("notes.txt"), "w").write("x")
    findings = patient.look()["findings"]
    assert sorted((f["kind"], f["severity"], f["repairable"]) for f in findings) == [
        ("orphan-overlay", "warning", False), ("temporary-file", "warning", False), ("temporary-file", "warning", True),
        ("unused-image", "note", False), ("unused-image", "note", False)]
    cures = {f["file"]: f["cure"]["command"] for f in findings if "file" in f}
    assert shlex.split(cures[raw]) == ["rechain", "vol", "delete", raw]
    before = tree(patient.chain.dir)
    (repair,) = patient.look("--repair", rc=10)["repairs"]
    del before[part]
    after = tree(patient.chain.dir)
    assert {p: s for p, s in after.items() if not p.startswith(patient.rechain.state_dir)} == {
        p: s for p, s in before.items() if not p.startswith(patient.rechain.state_dir)}
    for path in (orphan, alone, raw):
        patient.paste(cures[path]).expect(0)
    os.unlink(strange)
    patient.well()


def test_an_empty_overlay_that_an_undone_operation_made_is_taken_away(patient):
    """With data in it, it is only named."""
    overlay, kept = patient.path("s.qcow2"), os.path.join(patient.rechain.state_dir, "kept")
    with FakeAgent(os.path.join(patient.dir, "agent"), {"guest-fsfreeze-freeze": [b'{"error":{"class":"x","desc":"no"}}\n']}) as agent:
        agent.on_command = lambda command: command.endswith("-freeze") and os.link(overlay, kept)
        patient.rechain.run("snapshot", "create", patient.name, f"vda,to={overlay}", "--quiesce",
                            "--agent", agent.path).expect(7)
    os.rename(kept, overlay)
    shutil.copy(overlay, kept)
    alone = {"driver": "qcow2", "file": {"driver": "file", "filename": overlay}, "backing": None}
    run("qemu-io", "-c", "write -q -P 7 0 64k", "json:" + json.dumps(alone))
    assert not patient.find("orphan-overlay", "--repair")["repairable"] and os.path.exists(overlay)
    with open(kept, "rb") as empty, open(overlay, "wb") as file:
        file.write(empty.read())
    os.unlink(kept)
    assert patient.find("orphan-overlay")["repairable"]
    patient.well("--repair")
    assert not os.path.exists(overlay)


def test_an_image_that_is_open_or_backs_another_one_is_used(patient):
    run("qemu-img", "create", "-q", "-f", "qcow2", patient.path("b.qcow2"), "1M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", patient.path("b.qcow2"), "-F", "qcow2", patient.path("t.qcow2"))
    with open(patient.path("t.qcow2"), "rb"):
        patient.well()
    assert patient.find("unused-image")["file"] == patient.path("t.qcow2")


# --- without VM ---

def test_without_a_vm_all_of_them_and_the_journal_and_the_host_are_examined(make_chain, make_vm, workdir, version):
    chains = [images.make_chain(os.path.join(workdir, n), size=4 * MiB) for n in ("one", "two")]
    one = make_vm(chains[0])
    two = make_vm(chains[1])
    shared, pool = os.path.join(workdir, "one", "extra.qcow2"), os.path.join(workdir, "pool")
    os.mkdir(pool)
    run("qemu-img", "create", "-q", "-f", "qcow2", shared, "4M")
    two.qmp.execute("blockdev-add", driver="qcow2", node_name="plain", file={"driver": "file", "filename": shared})
    run("qemu-img", "create", "-q", "-f", "qcow2", f"{pool}/unused.qcow2", "1M")
    config = os.path.join(workdir, "conf")
    with open(config, "w") as file:
        file.write(f"[storage]\nallow={workdir};{pool};{workdir}/missing\n[vm one]\nqmp={one.qmp_path}\n"
                   f"[vm two]\nqmp={two.qmp_path}\n[vm off]\nqmp={workdir}/off.qmp\n")
    with Rechain(os.path.join(workdir, "state2"), config=config) as rechain:
        patient = Patient(one, chains[0], rechain, workdir)
        patient.name = "one"
        patient.well()
        document = patient.look(name=False)
        assert [(v["vm"], v["state"]) for v in document["vms"]] == [("one", "running"), ("two", "running"), ("off", "off")]
        assert [f["kind"] for f in document["findings"]] == ["configuration", "unused-image"]
        assert document["findings"][1]["file"] == f"{pool}/unused.qcow2"
        two.stop()
        assert patient.find("unused-image")["file"] == shared


def test_what_is_missing_on_the_host_is_told(workdir):
    state, bin = os.path.join(workdir, "state"), os.path.join(workdir, "bin")
    os.mkdir(bin)
    os.symlink(binary(), os.path.join(bin, "rechain"))
    with Rechain(state) as rechain:
        document = valid(rechain.run("doctor", json=True, env={"PATH": bin}).expect(10).json)
        assert [(f["kind"], f["severity"]) for f in document["findings"]] == [("program", "error"), ("program", "warning")]
        assert document["findings"][0]["cure"]["command"] == "apt install qemu-utils"
        os.chmod(state, 0o770)
        (finding,) = valid(rechain.run("doctor", json=True).expect(10).json)["findings"]
        assert finding["kind"] == "state-directory"
        run(*shlex.split(finding["cure"]["command"]))
        rechain.run("doctor").expect(0)


def test_a_damaged_journal_is_told(patient):
    change(patient.rechain, patient.vm, "snapshot create", "vda", "--name", "s")
    path = os.path.join(patient.rechain.state_dir, "journal.db")
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint (TRUNCATE)")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 3 * 4096)
    findings = valid(patient.rechain.run("doctor", patient.name, json=True).expect(10).json)["findings"]
    assert [f["kind"] for f in findings if f["severity"] == "error"] == ["journal"]


def test_files_of_the_journals_own_that_are_left_are_removed(patient):
    id = patient.undone()
    run_dir = os.path.join(patient.rechain.state_dir, "run")
    for name in (f"{id}.lock", "01234567.sock"):
        open(os.path.join(run_dir, name), "w")
    findings = patient.look(name=False)["findings"]
    assert [(f["kind"], f["repairable"]) for f in findings] == [("temporary-file", True)] * 2
    patient.well("--repair", name=False)
    assert os.listdir(run_dir) == []
