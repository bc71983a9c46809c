#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The library through gi.repository.Rechain: a move on a real QEMU (-S: no guest is needed).

GI_TYPELIB_PATH and LD_LIBRARY_PATH name the folder of librechain; meson sets both."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

try:
    import gi
    gi.require_version("Rechain", "1")
    from gi.repository import GLib, Rechain
    MISSING = None
except (ImportError, ValueError) as error:
    MISSING = str(error)
QEMU = shutil.which("qemu-system-x86_64")
SKIP = MISSING or (None if QEMU else "qemu-system-x86_64 is not installed")


@unittest.skipIf(SKIP, SKIP)
class Move(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="rechain-gi-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.base, self.top, self.new = (f"{self.dir}/{n}.qcow2" for n in ("base", "top", "new"))
        img = ["qemu-img", "create", "-q", "-f", "qcow2"]
        subprocess.run([*img, self.base, "4M"], check=True)
        subprocess.run([*img, "-b", self.base, "-F", "qcow2", self.top], check=True)
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", self.top], check=True,
                       stdout=subprocess.DEVNULL)
        self.socket = f"{self.dir}/qmp.sock"
        self.qemu = subprocess.Popen(
            [QEMU, "-S", "-display", "none", "-nodefaults", "-machine", "q35,accel=tcg",
             "-qmp", f"unix:{self.socket},server=on,wait=off",
             "-blockdev", f"driver=file,node-name=base-f,filename={self.base}",
             "-blockdev", "driver=qcow2,node-name=base,file=base-f,read-only=on",
             "-blockdev", f"driver=file,node-name=top-f,filename={self.top}",
             "-blockdev", "driver=qcow2,node-name=top,file=top-f,backing=base",
             "-device", "virtio-blk-pci,drive=top,id=vda"])
        self.addCleanup(self.qemu.wait)
        self.addCleanup(self.qemu.kill)
        deadline = time.monotonic() + 20
        while not self.listens():
            self.assertLess(time.monotonic(), deadline, "QEMU opens no monitor")
            self.assertIsNone(self.qemu.poll(), "QEMU ended")
            time.sleep(0.02)
        self.controller = Rechain.Controller.new(f"{self.dir}/state")
        self.vm = Rechain.Vm.new(self.controller, self.socket)

    def listens(self):
        """The file is there a moment before anybody listens."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socket) == 0

    def request(self):
        request = Rechain.Request.new(Rechain.Kind.MOVE)
        request.add_disk("vda")
        request.set_disk_option("vda", "to", self.new)
        return request

    def chain(self):
        self.vm.look(None)
        disks = {disk.name: [layer.file for layer in disk.layers] for disk in self.vm.get_disks()}
        return disks["vda"]

    def test_a_plan_changes_nothing(self):
        operation = Rechain.Operation.plan(self.vm, self.request(), None)
        plan = json.loads(operation.plan_to_json())
        self.assertEqual([s["step"] for s in plan["steps"]][:3], ["overlay", "attach", "snapshot"])
        self.assertEqual(operation.get_state(), Rechain.State.PLANNED)
        self.assertFalse(os.path.exists(self.new))
        self.assertFalse(os.path.exists(f"{self.dir}/state"))

    def test_a_move_ends_on_the_new_file(self):
        self.assertEqual(self.chain(), [self.top, self.base])
        operation = Rechain.Operation.plan(self.vm, self.request(), None)
        seen = []
        operation.connect("notify::step", lambda o, spec: seen.append(o.props.step))
        self.assertTrue(operation.run(None))
        self.assertEqual(operation.get_state(), Rechain.State.DONE)
        self.assertEqual(operation.props.kind, "move")
        self.assertIn("stream", seen)
        self.assertEqual(self.chain(), [self.new, self.base])
        shown = json.loads(self.controller.show_operation(operation.get_id()))
        self.assertEqual(shown["state"], "done")
        self.qemu.kill()
        self.qemu.wait()
        subprocess.run(["qemu-io", "-r", "-f", "qcow2", "-c", "read -P 7 0 1M", self.new], check=True,
                       stdout=subprocess.DEVNULL)

    def test_a_map_and_an_allocation(self):
        shown = self.vm.map("vda", 0, 0, None)
        extents = [shown.get_extent(i) for i in range(shown.get_n_extents())]
        self.assertEqual([(e.start, e.length, e.depth) for e in extents], [(0, 1 << 20, 0), (1 << 20, 3 << 20, -1)])
        self.assertEqual(shown.get_layers(), [self.top, self.base])
        self.assertEqual(json.loads(shown.to_json())["virtual-size"], shown.get_virtual_size())
        request = Rechain.Request.new(Rechain.Kind.ALLOCATE)
        request.add_disk("vda")
        request.set_disk_option("vda", "fill", "full")
        request.add_region("vda", 2 << 20, 1 << 20)
        self.assertTrue(Rechain.Operation.plan(self.vm, request, None).run(None))
        self.qemu.kill()
        self.qemu.wait()
        offline = Rechain.Map.read_offline(self.top, None, 2 << 20, 1 << 20, None)
        self.assertEqual((offline.get_n_extents(), offline.get_extent(0).data), (1, True))

    def test_an_async_move_ends_in_its_callback(self):
        loop, ended = GLib.MainLoop(), []
        operation = Rechain.Operation.plan(self.vm, self.request(), None)

        def on_ended(source, result):
            ended.append(source.run_finish(result))
            loop.quit()

        operation.run_async(None, on_ended)
        GLib.timeout_add_seconds(30, loop.quit)
        loop.run()
        self.assertEqual(ended, [True])

    def test_a_snapshot_is_taken_from_xml_recorded_and_deleted(self):
        xml = f"<domainsnapshot><name>one</name><disks><disk name='vda'><source file='{self.new}'/>" \
              "<on_delete merge='forward'/></disk></disks></domainsnapshot>"
        request = Rechain.Request.new_from_xml(xml.encode(), "one.xml")
        self.assertTrue(Rechain.Operation.plan(self.vm, request, None).run(None))
        self.vm.look(None)
        shown, matches = self.vm.show_snapshot("one")
        self.assertTrue(matches)
        self.assertEqual(json.loads(shown)["disks"][0]["read-only-source"], self.top)
        exported = self.vm.export_snapshot("one")
        self.assertTrue(self.vm.forget_snapshot("one"))
        self.assertEqual(json.loads(self.vm.list_snapshots())["snapshots"], [])
        again = self.vm.import_snapshot(exported.encode(), "exported")
        self.assertEqual(json.loads(again)["disks"][0]["on-delete"], "forward")
        self.assertTrue(self.vm.edit_snapshot("one", "vda", "forward", "why"))
        request = Rechain.Request.new(Rechain.Kind.SNAPSHOT_DELETE)
        request.set_name("one")
        request.set_direction("backward")
        self.assertTrue(Rechain.Operation.plan(self.vm, request, None).run(None))
        self.assertEqual(self.chain(), [self.top, self.base])
        self.assertEqual(json.loads(self.vm.list_snapshots())["snapshots"], [])
        with self.assertRaises(GLib.Error) as caught:
            Rechain.Request.new_from_xml(b"<!DOCTYPE x><domainsnapshot/>", "bad.xml")
        self.assertTrue(caught.exception.matches(Rechain.error_quark(), Rechain.Error.USAGE))
        self.assertIn("bad.xml:1: a document type", caught.exception.message)

    def doctor(self):
        doctor = Rechain.Doctor.new(self.controller)
        self.assertTrue(doctor.add_vm("web", self.socket, None))
        doctor.set_directories([self.dir])
        return doctor

    def lie_in_the_header(self):
        """Of an overlay that the journal knows, behind QEMU's back."""
        request = self.request_snapshot()
        self.assertTrue(Rechain.Operation.plan(self.vm, request, None).run(None))
        self.vm = None                              # lets go of the monitor
        spec = f"driver=qcow2,file.driver=file,file.locking=off,file.filename={self.new}"
        subprocess.run(["qemu-img", "rebase", "-u", "-b", self.base, "-F", "qcow2", "--image-opts", spec], check=True)

    def request_snapshot(self):
        request = Rechain.Request.new(Rechain.Kind.SNAPSHOT)
        request.set_name("one")
        request.add_disk("vda")
        request.set_disk_option("vda", "to", self.new)
        return request

    def backing(self):
        shown = subprocess.run(["qemu-img", "info", "-U", "--output=json", self.new], check=True, capture_output=True)
        return json.loads(shown.stdout)["backing-filename"]

    def test_a_doctor_finds_nothing_then_a_header_that_lies_and_repairs_it(self):
        doctor = self.doctor()
        text, findings = doctor.examine("web", None)
        self.assertEqual((json.loads(text)["schema"], findings), ("rechain.doctor/1", 0))
        self.assertEqual(len(doctor.plan_repairs()), 0)
        del doctor                                  # which keeps the monitor
        self.lie_in_the_header()
        doctor = self.doctor()
        text, findings = doctor.examine("web", None)
        (finding,) = json.loads(text)["findings"]
        self.assertEqual((findings, finding["kind"], finding["repairable"]), (1, "header", True))
        (operation,) = doctor.plan_repairs()
        self.assertEqual((operation.props.kind, operation.get_state()), ("repair", Rechain.State.PLANNED))
        self.assertEqual(json.loads(operation.plan_to_json())["steps"][0]["qmp"][0]["execute"], "change-backing-file")
        self.assertEqual(self.backing(), self.base)
        self.assertTrue(operation.run(None))
        self.assertEqual(self.backing(), self.top)
        del operation
        self.assertEqual(doctor.examine("web", None)[1], 0)

    def test_a_doctor_answers_in_its_callback_and_knows_no_strangers(self):
        loop, answers = GLib.MainLoop(), []

        def on_examined(source, result):
            answers.append(source.examine_finish(result))
            loop.quit()
        self.doctor().examine_async("web", None, on_examined)
        GLib.timeout_add_seconds(30, loop.quit)
        loop.run()
        self.assertEqual(answers[0][1], 0)
        with self.assertRaises(GLib.Error) as caught:
            self.doctor().examine("nobody", None)
        self.assertTrue(caught.exception.matches(Rechain.error_quark(), Rechain.Error.NOT_FOUND))
        with self.assertRaises(GLib.Error) as caught:
            Rechain.Doctor.new(self.controller).add_vm("bad", "nowhere", None)
        self.assertTrue(caught.exception.matches(Rechain.error_quark(), Rechain.Error.USAGE))

    def test_a_guest_agent_is_asked_through_its_own_socket(self):
        for ask in (lambda: self.vm.thaw(f"{self.dir}/none", None),
                    lambda: self.vm.quiesce(f"{self.dir}/none", 0, None)):
            with self.assertRaises(GLib.Error) as caught:
                ask()
            self.assertIn("filesystems", caught.exception.message)

    def test_an_error_is_a_gerror_of_the_one_domain(self):
        request = Rechain.Request.new(Rechain.Kind.MOVE)
        request.add_disk("vdz")
        request.set_disk_option("vdz", "to", self.new)
        with self.assertRaises(GLib.Error) as caught:
            Rechain.Operation.plan(self.vm, request, None)
        self.assertTrue(caught.exception.matches(Rechain.error_quark(), Rechain.Error.NOT_FOUND))
        self.assertIn("vdz", caught.exception.message)


if __name__ == "__main__":
    if SKIP:
        print("skipped:", SKIP)
        raise SystemExit(77)
    unittest.main(verbosity=2)
