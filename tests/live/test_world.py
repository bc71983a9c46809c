"""The test world itself: what the other live tests rely on, and that the oracle can fail."""

import os
import struct
import zlib

import pytest

from harness import images, oracle, qemu
from harness.images import BLOCK, MiB
from harness.proxy import CUT, Proxy, at, on, refuse
from harness.qmp import QmpError, QmpMonitor


def test_a_chain_shows_its_reference(workdir):
    for names in (["alone"], ["template", "middle", "current1"]):
        chain = images.make_chain(os.path.join(workdir, names[0]), names)
        assert images.header_chain(chain.active) == chain.layers
        oracle.check_unwritten(chain.active, chain.reference)


def test_a_layer_that_is_missing_is_noticed(make_chain):
    chain = make_chain(["template", "middle", "current1"])
    images.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", chain.base, "-F", "qcow2", chain.active)
    with pytest.raises(AssertionError, match="never written by the guest, but changed"):
        oracle.check_unwritten(chain.active, chain.reference)


def test_the_oracle_refuses_an_image_in_use(make_chain, make_vm):
    vm = make_vm(make_chain())
    with pytest.raises(AssertionError, match="lock"):
        vm.check()


@pytest.mark.parametrize("filters", [(), ("throttle",), ("copy-on-read",), ("throttle", "copy-on-read")])
def test_qemu_has_the_chain_that_was_asked_for(make_chain, make_vm, style, filters):
    chain = make_chain(["template", "middle", "current1"])
    vm = make_vm(qemu.Disk(chain, filters=filters, iothread=True), style=style)
    assert vm.chain() == chain.layers
    vm.guest_write(0, 65536, 0x55)
    vm.flush()
    qemu.leftovers(vm, dirs=[chain.dir])
    vm.stop()
    with pytest.raises(AssertionError, match="never written by the guest, but changed"):
        vm.check()


def test_odd_file_names_and_raw_bases_work(make_vm, workdir, style):
    chain = images.make_chain(os.path.join(workdir, 'a, "b" c=%d'), ["t", "-c,1"], formats=["raw", "qcow2"])
    vm = make_vm(chain, style=style, guest=True)
    assert vm.chain() == chain.layers
    vm.stop()
    vm.check(graceful=True)


def test_a_machine_without_devices_has_the_nodes(make_chain, make_vm):
    vm = make_vm(make_chain(), machine="none")
    assert {"vda-0", "vda-1"} <= set(vm.nodes())


def test_a_machine_without_a_guest_can_run(make_chain, make_vm):
    vm = make_vm(make_chain())
    vm.cont()
    assert vm.run_state() == "running"
    qemu.leftovers(vm)
    vm.qmp.execute("stop")
    with pytest.raises(AssertionError, match="run state paused, was running"):
        qemu.leftovers(vm)


def test_leftovers_are_noticed(make_chain, make_vm, workdir):
    vm = make_vm(make_chain())
    vm.qmp.execute("blockdev-add", driver="null-co", node_name="rc-1-vda-overlay")
    with pytest.raises(AssertionError, match="node rc-1-vda-overlay"):
        qemu.leftovers(vm)
    vm.qmp.execute("blockdev-del", node_name="rc-1-vda-overlay")
    open(os.path.join(workdir, ".rc-half"), "w").close()
    with pytest.raises(AssertionError, match=r"\.rc-half"):
        qemu.leftovers(vm, dirs=[workdir])


def test_the_guest_writes_and_powers_off(make_chain, make_vm, workdir, style):
    chains = [images.make_chain(os.path.join(workdir, d)) for d in ("a", "b")]
    vm = make_vm(chains, style=style, guest=True)
    vm.guest.wait_flushed(500)
    assert vm.guest.verify() > 500
    vm.guest.pause()
    assert not vm.guest.is_writing(0.5)
    vm.guest.resume()
    assert vm.guest.is_writing()
    assert not vm.guest.problems
    assert vm.stop() == 0
    for disk in ("vda", "vdb"):
        assert vm.check(disk, graceful=True).history.acknowledged > 500


def test_the_guest_is_killed_and_boots_again(make_chain, make_vm):
    vm = make_vm(make_chain(), guest=True, writer={"sync": 64, "batch": 16})
    vm.guest.wait_flushed(1000)
    vm.kill()
    first = vm.check().history.writes
    vm.restart()
    vm.guest.wait_flushed(500)
    vm.kill()
    assert vm.check().history.writes > first + 500


def test_an_io_error_does_not_stop_the_writer(make_chain, make_vm):
    chain = make_chain()
    blkdebug = {"driver": "blkdebug", "image": "FILE",
                "inject-error": [{"event": "pwritev", "errno": 5, "once": True, "state": 1}]}
    disk = qemu.Disk(chain, top_file=blkdebug, werror="report")
    vm = make_vm(disk, guest=True)
    vm.guest.wait_flushed(200)
    assert vm.guest.errors > 0
    vm.guest.verify()
    vm.kill()
    assert vm.check().history.failed > 0


# --- the oracle can fail ---

@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A raw copy of a disk after a graceful end, its records and its chain."""
    dir = tmp_path_factory.mktemp("written")
    version = qemu.versions()[0]
    chain = images.make_chain(str(dir), size=16 * MiB)
    with qemu.Vm(version, chain, guest=True) as vm:
        vm.guest.wait_flushed(3000)
        vm.stop()
    with images.raw_view(chain.active) as raw:
        with open(raw, "rb") as file:
            data = file.read()
    return vm.records, chain, data


@pytest.fixture
def judged(written, workdir):
    """judged(change) -> the oracle's report on a copy of the disk that change(data, history) spoiled."""
    records, chain, data = written

    def judge(change, graceful=True):
        spoiled, history = bytearray(data), oracle.History(records, "vda")
        change(spoiled, history)
        path = os.path.join(workdir, "spoiled.img")
        with open(path, "wb") as file:
            file.write(spoiled)
        return oracle.judge(history, path, chain.reference, "raw", graceful).bad

    return judge


def _twice_flushed(history):
    return next(b for b, versions in history.issued.items() if len(versions) > 1 and b in history.floor)


def _put(data, block, contents):
    data[block * BLOCK:(block + 1) * BLOCK] = contents


def test_the_oracle_passes_what_is_right(judged):
    assert judged(lambda data, history: None) == []


def test_the_oracle_notices_a_flipped_bit(judged):
    def change(data, history):
        data[_twice_flushed(history) * BLOCK + 2000] ^= 1
    (bad,) = judged(change)
    assert "torn" in bad


def test_the_oracle_notices_a_torn_block(judged):
    def change(data, history):
        blocks = sorted(history.floor)
        data[blocks[0] * BLOCK + 512:blocks[0] * BLOCK + 1024] = bytes(512)
    (bad,) = judged(change)
    assert "torn" in bad


def test_the_oracle_notices_a_misplaced_block(judged):
    def change(data, history):
        one, other = sorted(history.floor)[:2]
        _put(data, one, data[other * BLOCK:(other + 1) * BLOCK])
    (bad,) = judged(change)
    assert "misplaced" in bad


def test_the_oracle_notices_a_block_rolled_back_to_an_older_version(judged):
    def change(data, history):
        block = _twice_flushed(history)
        record = bytearray(data[block * BLOCK:(block + 1) * BLOCK])
        record[24:40] = struct.pack("<QQ", history.issued[block][0], 0)
        record[32:40] = struct.pack("<Q", zlib.adler32(record))
        _put(data, block, record)
    (bad,) = judged(change)
    assert "was flushed: lost" in bad


def test_the_oracle_notices_a_block_rolled_back_to_the_template(judged, written):
    with open(written[1].reference, "rb") as file:
        reference = file.read()

    def change(data, history):
        block = sorted(history.floor)[7]
        _put(data, block, reference[block * BLOCK:(block + 1) * BLOCK])
    (bad,) = judged(change)
    assert "contents from before" in bad


def test_the_oracle_notices_an_overwritten_block_and_a_changed_stranger(judged):
    def change(data, history):
        _put(data, sorted(history.floor)[0], b"\x11" * BLOCK)
        stranger = next(b for b in range(len(data) // BLOCK) if b not in history.issued)
        data[stranger * BLOCK + 4095] ^= 0x80
    bad = judged(change)
    assert len(bad) == 2
    assert any("neither a record nor the original" in b for b in bad)
    assert any("never written by the guest, but changed" in b for b in bad)


def test_after_a_kill_only_flushed_writes_must_be_there(workdir):
    records = os.path.join(workdir, "records")
    with open(records, "w") as file:
        file.write("B\nS vda 4\nI vda 1 0 1\nA vda 1 2\nF vda 2\nI vda 3 0 1\nE vda 1 4 5\nA vda 3 2\nI vda 5 0\n")
    history = oracle.History(records, "vda")
    assert history.floor == {0: 1, 1: 2}
    assert history.acked == {0: 3, 1: 2}
    assert history.issued == {0: [1, 3, 5], 1: [2, 4]}


def test_the_oracle_notices_what_a_stream_without_flush_loses(make_chain, make_vm):
    """QEMU's own hazard: the header is rewritten before the tables that it makes important are."""
    chain = make_chain()
    vm = make_vm(chain)
    vm.qmp.execute("block-stream", device="vda-1", job_id="j", auto_dismiss=False)
    vm.qmp.wait_event("JOB_STATUS_CHANGE", id="j", status="concluded")
    vm.kill()
    with pytest.raises(AssertionError, match="never written by the guest, but changed"):
        vm.check()


# --- the proxy ---

def test_the_proxy_counts_and_refuses(make_chain, make_vm):
    vm = make_vm(make_chain())
    with Proxy(vm.qmp_path, refuse("query-status", "no such thing today", nth=2)) as proxy:
        with QmpMonitor(proxy.path) as monitor:
            monitor.execute("query-status")
            with pytest.raises(QmpError, match="no such thing today"):
                monitor.execute("query-status")
            monitor.execute("query-status")
        assert proxy.commands() == ["qmp_capabilities"] + ["query-status"] * 3
        assert proxy.count == 8             # the greeting, four commands, three replies of QEMU's


def test_the_proxy_cuts_and_takes_the_next_connection(make_chain, make_vm):
    vm = make_vm(make_chain())
    with Proxy(vm.qmp_path, on("command", "query-status", CUT)) as proxy:
        with QmpMonitor(proxy.path) as monitor:
            with pytest.raises(ConnectionError):
                monitor.execute("query-status")
        with QmpMonitor(proxy.path) as monitor:
            assert monitor.execute("query-status")["running"] is False
        assert proxy.connections == 2


def test_qemu_can_be_killed_at_a_message(make_chain, make_vm):
    vm = make_vm(make_chain())

    def kill(message):
        vm.sigkill()
        return CUT

    with Proxy(vm.qmp_path, at(3, kill)) as proxy:
        with pytest.raises((ConnectionError, OSError)):
            QmpMonitor(proxy.path)
        assert [m.kind for m in proxy.seen] == ["greeting", "command", "return"]
    assert not vm.is_alive()


def test_a_small_filesystem_fills_up(workdir):
    with images.small_fs(4, workdir) as mount:
        with pytest.raises(OSError, match="No space left"):
            with open(os.path.join(mount, "big"), "wb") as file:
                file.write(bytes(8 * MiB))
    assert not os.path.exists(mount)


def test_the_oracle_passes_the_last_batch_of_a_killed_guest_and_nothing_beyond_it(judged):
    """Written, whole, in its place, but its announcement died with QEMU; two batches cannot."""
    def put(version):
        def change(data, history):
            block = next(b for b in range(len(data) // BLOCK) if b not in history.issued)
            record = bytearray(struct.pack("<8s8sQQQ", b"rcBLOCK1", b"vda", block, history._ends[-1] + version, 0))
            record += bytes(BLOCK - len(record))
            record[32:40] = struct.pack("<Q", zlib.adler32(record))
            _put(data, block, record)
        return change
    assert judged(put(1), graceful=False) == [] and judged(put(64), graceful=False) == []
    (bad,) = judged(put(65), graceful=False)
    assert "never written by the guest" in bad
    assert judged(put(1), graceful=True)
