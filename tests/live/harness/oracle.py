"""The data oracle: judges an image by what the verifying writer said.

Per 4 KiB block: last flushed version <= version read <= last issued version, no torn and no
misplaced block; blocks that were never written show what the chain showed at its making, bit for
bit. After a graceful end (guest or QEMU quit) what was acknowledged counts as flushed.

Versions count a disk's writes and grow over restarts. A new boot (line B) forgets what was
acknowledged but not flushed before it: nobody promised that it is there.

QEMU takes the writer's announcement and the writes after it from two queues, so what is killed in
between can have written a last batch that nobody heard of. Such a block is right when it is whole, in its
place, and of that batch."""

import contextlib
import os
import struct
import zlib

from .images import BLOCK, check_image, raw_view

_HEADER = struct.Struct("<8s8sQQQ")
_CHUNK = 256 * BLOCK
_MAX_BATCH = 64                 # of tests/guest/writer.c


class History:
    """What the records say of one disk."""

    def __init__(self, records, disk):
        self.disk = disk
        self.issued = {}        # block -> versions, in order
        self.floor = {}         # block -> last flushed version
        self.acked = {}         # block -> last version acknowledged since the last boot
        self.writes = self.acknowledged = self.flushed = self.failed = 0
        self._in_flight = {}    # version -> block, not yet answered
        self._unflushed = []    # (version, block), acknowledged
        self._last = 0          # version issued last
        self._ends = []         # that, at the end of each boot
        with open(records) as file:
            for line in file:
                self._take(line.split())
        self._ends.append(self._last)

    def may_be_unheard(self, version):
        return any(last < version <= last + _MAX_BATCH for last in self._ends)

    def _take(self, words):
        kind = words[0]
        if kind == "B":
            self._in_flight, self._unflushed, self.acked = {}, [], {}
            self._ends.append(self._last)
        elif len(words) < 2 or words[1] != self.disk:
            return
        elif kind == "I":
            for version, block in enumerate(map(int, words[3:]), int(words[2])):
                self.issued.setdefault(block, []).append(version)
                self._in_flight[version] = block
                self._last = version
                self.writes += 1
        elif kind == "E":
            del self._in_flight[int(words[3])]
            self.failed += 1
        elif kind == "A":
            first, count = int(words[2]), int(words[3])
            for version in range(first, first + count):
                block = self._in_flight.pop(version, None)
                if block is not None:
                    self.acked[block] = version
                    self._unflushed.append((version, block))
                    self.acknowledged += 1
        elif kind == "F":
            self.flushed += len(self._unflushed)
            for version, block in self._unflushed:
                self.floor[block] = version
            self._unflushed = []


class Instant(History):
    """The same, up to the record in line @end: what was acknowledged until then was so before anything was
    issued that the records tell of later."""

    def __init__(self, records, disk, end):
        self._lines_left = end
        super().__init__(records, disk)

    def _take(self, words):
        self._lines_left -= 1
        if self._lines_left >= 0 or words[0] not in "AF":
            super()._take(words)


def _newest(records, disk, raw):
    """The line of the records that announces the newest write that is in the raw image; 0: there is none."""
    issued, newest, line_of = History(records, disk).issued, 0, {}
    with open(raw, "rb") as file:
        for block in issued:
            data = os.pread(file.fileno(), BLOCK, block * BLOCK)
            if data.startswith(b"rcBLOCK1"):
                newest = max(newest, _HEADER.unpack_from(data)[3])
    with open(records) as file:
        for number, line in enumerate(file):
            words = line.split()
            if words[0] == "I" and words[1] == disk:
                line_of.update(dict.fromkeys(range(int(words[2]), int(words[2]) + len(words) - 3), number))
    return line_of.get(newest, 0)


def check_copies(records, copies):
    """Copies of disks, of one instant: when the newest write that is in any of them was issued, whatever had been
    acknowledged is in it. @copies: disk -> (image, reference, format). Returns the number of blocks compared."""
    with contextlib.ExitStack() as stack:
        ends = [_newest(records, disk, stack.enter_context(raw_view(image, format, os.path.dirname(reference))))
                for disk, (image, reference, format) in copies.items()]
    count = 0
    for disk, (image, reference, format) in copies.items():
        history = Instant(records, disk, max(ends))
        report = judge(history, image, reference, format, graceful=True)
        assert not report.bad, str(report)
        count += report.blocks
    return count


class Report:
    """What the oracle found. `bad` are sentences, empty when all is right."""

    def __init__(self, history, image):
        self.history, self.image, self.bad = history, image, []
        self.blocks = self.untouched = 0

    def __str__(self):
        h = self.history
        head = (f"{h.disk}: {self.image}: {h.writes} writes issued, {h.acknowledged} acknowledged, "
                f"{h.flushed} flushed, {h.failed} failed; {self.blocks} written blocks and "
                f"{self.untouched} others compared, {len(self.bad)} wrong")
        more = [f"... and {len(self.bad) - 10} more"] if len(self.bad) > 10 else []
        return "\n  ".join([head] + self.bad[:10] + more)


def _is_unheard(history, block, data):
    """Whether a killed QEMU can have written this without the writer's announcement being heard."""
    magic, disk, number, version, checksum = _HEADER.unpack_from(data)
    return (magic == b"rcBLOCK1" and disk.rstrip(b"\0").decode(errors="replace") == history.disk
            and number == block and zlib.adler32(data[:32] + bytes(8) + data[40:]) == checksum
            and history.may_be_unheard(version))


def _judge(history, block, data, original, graceful):
    """What is wrong with a block that was written at some time, or None."""
    floor = history.floor.get(block, 0)
    if graceful:
        floor = max(floor, history.acked.get(block, 0))
    where = f"block {block} (byte {block * BLOCK})"
    magic, disk, number, version, checksum = _HEADER.unpack_from(data)
    if data == original:
        if floor == 0:
            return None
        return f"{where}: shows the contents from before version {floor}, which was flushed: lost"
    if magic != b"rcBLOCK1":
        return f"{where}: neither a record nor the original contents"
    disk = disk.rstrip(b"\0").decode(errors="replace")
    if disk != history.disk or number != block:
        return f"{where}: misplaced, it is block {number} of {disk}"
    if zlib.adler32(data[:32] + bytes(8) + data[40:]) != checksum:
        return f"{where}: torn, its checksum is wrong (version {version}, flushed {floor})"
    if version not in history.issued[block] and (graceful or not _is_unheard(history, block, data)):
        return f"{where}: version {version} was never written there"
    if version < floor:
        return f"{where}: version {version}, but version {floor} was flushed: lost"
    return None


def judge(history, image, reference, format="qcow2", graceful=False):
    """Compares; returns a Report, without raising."""
    report = Report(history, image)
    # The image may lie on a filesystem that is full on purpose; the reference does not.
    with raw_view(image, format, os.path.dirname(reference)) as raw, open(raw, "rb") as now, open(reference, "rb") as then:
        size, expected = os.path.getsize(raw), os.path.getsize(reference)
        if size != expected:
            report.bad.append(f"size {size}, expected {expected}")
        written = set(history.issued)
        for start in range(0, expected, _CHUNK):
            data, original = now.read(_CHUNK), then.read(_CHUNK)
            first, count = start // BLOCK, len(original) // BLOCK
            inside = [b for b in range(first, first + count) if b in written]
            report.untouched += count - len(inside)
            report.blocks += len(inside)
            if data == original and not inside:
                continue
            for block in range(first, first + count):
                at = (block - first) * BLOCK
                one, old = data[at:at + BLOCK], original[at:at + BLOCK]
                if len(one) < BLOCK:
                    report.bad.append(f"block {block}: beyond the end of the image")
                elif block in written:
                    wrong = _judge(history, block, one, old, graceful)
                    if wrong:
                        report.bad.append(wrong)
                elif one != old and (graceful or not _is_unheard(history, block, one)):
                    report.bad.append(f"block {block} (byte {block * BLOCK}): never written by the "
                                      f"guest, but changed")
    return report


def check(records, disk, image, reference, format="qcow2", graceful=False):
    """Judges `image` (its chain, by its headers) and returns the Report; an AssertionError with
    precise words when a single block is wrong. `reference`: Chain.reference."""
    if format == "qcow2":
        check_image(image, format)
    report = judge(History(records, disk), image, reference, format, graceful)
    assert not report.bad, str(report)
    return report


def check_instant(records, disk, image, reference, flushed, issued, format="qcow2"):
    """Judges an image of one instant in the past: all that was flushed when `flushed` was the last flushed
    version is in it, and nothing that was issued after version `issued`."""
    history = History(records, disk)
    history.issued = {block: early for block, versions in history.issued.items()
                      if (early := [v for v in versions if v <= issued])}
    history.floor = {block: max(early) for block, versions in history.issued.items()
                     if (early := [v for v in versions if v <= flushed])}
    history.may_be_unheard = lambda version: False
    report = judge(history, image, reference, format)
    assert not report.bad, str(report)
    return report


def check_unwritten(image, reference, format="qcow2"):
    """For tests without a guest: the image shows the reference, bit for bit."""
    return check(os.devnull, "", image, reference, format)
