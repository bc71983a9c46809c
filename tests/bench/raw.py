"""The same operations by a bare QMP script: what QEMU and qemu-img cost, and nothing else.

It knows every node's name beforehand, keeps no journal, checks nothing and syncs nothing of its
own: a lower bound, not an alternative."""

import os
import subprocess

from harness.qmp import QmpMonitor


def create_overlay(path, backing, size):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "qcow2", path, str(size)],
                   check=True)


def add_overlay(qmp, node, path):
    """The file and the format node, with the options that rechain gives them."""
    file = {"driver": "file", "node-name": f"{node}-file", "filename": path, "auto-read-only": True}
    qmp.execute("blockdev-add", driver="qcow2", node_name=node, file=file, backing=None, discard="unmap")


def snapshot(qmp, pairs):
    """One transaction; pairs of (node, overlay)."""
    qmp.execute("transaction", actions=[{"type": "blockdev-snapshot", "data": {"node": node, "overlay": overlay}}
                                        for node, overlay in pairs])


def move(qmp_path, disk, to, size, node, base, chain, old_nodes):
    """Moves the active layer `disk` (a node; chain = [active file, base file]) into `to`."""
    create_overlay(to, chain[0], size)
    with QmpMonitor(qmp_path) as qmp:
        add_overlay(qmp, node, to)
        snapshot(qmp, [(disk, node)])
        job = f"{node}-job"
        qmp.execute("block-stream", job_id=job, device=node, base_node=base, backing_file=chain[1],
                    auto_finalize=False, auto_dismiss=False)
        qmp.wait_event("JOB_STATUS_CHANGE", 600, id=job, status="pending")
        qmp.qemu_io(node, "flush")
        qmp.execute("job-finalize", id=job)
        qmp.wait_event("JOB_STATUS_CHANGE", 600, id=job, status="concluded")
        job_record = qmp.execute("query-jobs")
        assert not any("error" in j for j in job_record), job_record
        qmp.execute("job-dismiss", id=job)
        for old in old_nodes:
            qmp.execute("blockdev-del", node_name=old)


def commit(qmp_path, active, base):
    """Commits the active layer into the node under it, and pivots with the guest held."""
    with QmpMonitor(qmp_path) as qmp:
        qmp.execute("block-commit", job_id="raw", device=active, top_node=active, base_node=base,
                    auto_finalize=False, auto_dismiss=False)
        qmp.wait_event("JOB_STATUS_CHANGE", 600, id="raw", status="ready")
        qmp.execute("stop")
        qmp.execute("job-complete", id="raw")
        qmp.wait_event("JOB_STATUS_CHANGE", 600, id="raw", status="pending")
        qmp.execute("job-finalize", id="raw")
        qmp.wait_event("JOB_STATUS_CHANGE", 600, id="raw", status="concluded")
        qmp.execute("cont")
        assert not any("error" in j for j in qmp.execute("query-jobs"))
        qmp.execute("job-dismiss", id="raw")
        qmp.execute("blockdev-del", node_name=active)


def remove(path):
    """So that it does not come back."""
    os.unlink(path)
    dir = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(dir)
    os.close(dir)
