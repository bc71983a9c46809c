"""allocate: what backing layers hold gets into the active layer, and the guest never sees a difference."""

import hashlib
import json
import os
import random
import subprocess
import time

import pytest

from harness import images
from harness.images import MiB
from harness.proxy import PASS, Proxy, on
from harness.qemu import Disk, leftovers
from harness.scene import assert_no_exports, valid

SLOTS = 16                                      # of a picture, 1 MiB each
SIZE = SLOTS * MiB


def paint(path, picture, pattern):
    """D: data, z: zeros that the layer knows of, .: nothing."""
    commands = [f"write -q -P {pattern} {n}M 1M" if c == "D" else f"write -q -z {n}M 1M"
                for n, c in enumerate(picture) if c != "."]
    if commands:
        images.run("qemu-io", "-f", "qcow2" if path.endswith("qcow2") else "raw", path, input="\n".join(commands) + "\n")


def build(dir, *pictures, base="qcow2", options=()):
    """A chain from its pictures, base first, with a raw file of what the guest sees."""
    os.makedirs(dir, exist_ok=True)
    layers, below = [], []
    for n, picture in enumerate(pictures):
        fmt = base if n == 0 else "qcow2"
        path = os.path.join(dir, f"layer{n}.{fmt}")
        images.run("qemu-img", "create", "-q", "-f", fmt, *(options if n else ()), *below, path, SIZE)
        paint(path, picture, n + 1)
        below = ["-b", path, "-F", fmt]
        layers.insert(0, path)
    chain = images.Chain(layers, ["qcow2"] * (len(pictures) - 1) + [base], os.path.join(dir, "reference"), SIZE)
    images.run("qemu-img", "convert", "-f", chain.formats[0], "-O", "raw", chain.active, chain.reference)
    return chain


def picture(document):
    """A letter per MiB: A, B ... the layer with the data, small: with zeros, .: nobody."""
    out = ["?"] * SLOTS
    for extent in document["extents"]:
        sign = "." if not extent["allocated"] else chr(ord("A" if extent["data"] else "a") + extent["depth"])
        for slot in range(extent["start"] // MiB, -(-(extent["start"] + extent["length"]) // MiB)):
            out[slot] = sign if out[slot] in ("?", sign) else "*"
    return "".join(out)


def mapped(rechain, where):
    return picture(valid(rechain.run("map", *where, json=True).expect(0).json))


def assert_same_view(chain, reference=None):
    result = subprocess.run(["qemu-img", "compare", "-f", chain.formats[0], "-F", "raw", chain.active,
                             reference or chain.reference], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    if chain.formats[0] == "qcow2":
        images.check_image(chain.active)


def assert_independent(chain, of=None):
    """Without anything under it the active layer shows the same."""
    alone = "json:" + json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": chain.active},
                                  "backing": None})
    images.run("qemu-img", "compare", "-F", "qcow2" if of else "raw", alone, of or chain.reference)


# The scenarios: pictures from the base up, what is asked, the picture afterwards, does it need no backing then.
HALF = ["--offset", "0", "--length", "8M"]
FULL = ["--fill", "full"]
THIN = ".D..DD.z....D..z"
BACKING, OVER = "DD..DDz....D...D", ".D.Dz........z.D"
TWO = ["DDDD............", "..DDDDzz........", "....DD..DD......"]
SCENARIOS = {
    "new disk without backing, fully allocated": (["................"], FULL, "A" * 16, True),
    "new disk without backing, half allocated": (["................"], [*FULL, *HALF], "A" * 8 + "." * 8, True),
    "existing thin disk without backing, fully allocated": ([THIN], FULL, "A" * 16, True),
    "existing thin disk without backing, half allocated": ([THIN], [*FULL, *HALF], "AAAAAAAA....A..a", True),
    "new disk with backing, independent but thin": ([BACKING, "................"], [], "AA..AAb....A...A", True),
    "existing disk with backing, independent but thin": ([BACKING, OVER], [], "AA.AaAb....A.a.A", True),
    "new disk with backing, fully allocated": ([BACKING, "................"], FULL, "A" * 16, True),
    "existing disk with backing, fully allocated": ([BACKING, OVER], FULL, "A" * 16, True),
    "two backing layers, fully allocated": (TWO, FULL, "A" * 16, True),
    "two backing layers, half independent": (["D" * 16, *TWO[1:]], HALF, "AAAAAAbbAACCCCCC", False),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_in_its_picture(make_vm, rechain, workdir, name):
    pictures, asked, wanted, independent = SCENARIOS[name]
    chain = build(workdir, *pictures)
    vm = make_vm(chain)
    vm.cont()
    document = valid(rechain.run("allocate", vm.qmp_path, "vda", *asked, json=True).expect(0).json)
    assert (document["kind"], document["state"]) == ("allocate", "done")
    assert mapped(rechain, [vm.qmp_path, "vda"]) == wanted
    assert vm.chain() == chain.layers
    leftovers(vm, rechain.state_dir, [workdir])
    assert_no_exports(rechain, vm)
    vm.kill()                                   # what was allocated is durable
    assert mapped(rechain, ["--offline", chain.active]) == wanted
    assert_same_view(chain)
    if independent:
        assert_independent(chain)


WRITTEN = 4                                     # slots that a guest writes to, at the beginning of its disk


def test_the_scenarios_under_a_guest_that_writes_into_the_regions(make_vm, rechain, workdir):
    """One guest with a disk for each scenario; it writes to all of them all the time. What it wrote is there,
    what it did not write to is as in the picture, and nothing is needed from below."""
    chains = {name: build(os.path.join(workdir, f"disk{n}"), *scenario[0])
              for n, (name, scenario) in enumerate(SCENARIOS.items())}
    vm = make_vm(list(chains.values()), guest=True, writer={"region": WRITTEN * MiB, "rate": 60})
    ids = dict(zip(SCENARIOS, [disk.id for disk in vm.disks]))
    for name, (_, asked, wanted, _) in SCENARIOS.items():
        rechain.run("allocate", vm.qmp_path, ids[name], *asked).expect(0)
        got = mapped(rechain, [vm.qmp_path, ids[name]])
        assert got[WRITTEN:] == wanted[WRITTEN:], name
        assert all(g == "A" for g, w in zip(got, wanted) if w == "A"), (name, got)
    vm.guest.wait_flushed(5)
    leftovers(vm, rechain.state_dir, [workdir])
    vm.kill()
    for name, chain in chains.items():
        vm.check(ids[name])
        if SCENARIOS[name][3]:
            assert_independent(chain, of=chain.active)


def test_what_is_written_meanwhile_wins(make_vm, rechain, workdir):
    """Patterns into the regions while backing data is copied there, slowly. QEMU's own writes do not stop with
    the guest, so zeros, which are filled while it is held, are left to the guest that writes (below)."""
    chain = build(workdir, "DDDDDDDD........", "................")
    vm = make_vm(chain)
    vm.cont()
    run = rechain.start("allocate", vm.qmp_path, "vda", "--bandwidth", "8M", json=True)
    rng, wrote = random.Random(1), 0
    with open(chain.reference, "r+b") as reference:
        while run.is_running():
            offset, pattern = rng.randrange(0, SIZE // 2 // 4096) * 4096, rng.randint(1, 255)
            vm.guest_write(offset, 4096, pattern)
            os.pwrite(reference.fileno(), bytes([pattern]) * 4096, offset)
            wrote += 1
    document = valid(run.wait().expect(0).json)
    assert wrote > 10 and document["pause-ms"] == 0
    assert mapped(rechain, [vm.qmp_path, "vda"]) == "A" * 8 + "." * 8
    leftovers(vm, rechain.state_dir, [workdir])
    vm.quit_qemu()
    assert_same_view(chain)
    assert_independent(chain)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_in_its_picture_offline_too(rechain, workdir, name):
    pictures, asked, wanted, independent = SCENARIOS[name]
    chain = build(workdir, *pictures)
    below = [sha(layer) for layer in chain.layers[1:]]
    document = valid(rechain.run("allocate", "--offline", chain.active, *asked, json=True).expect(0).json)
    assert (document["kind"], document["state"]) == ("allocate", "done") and "vm" not in document
    assert mapped(rechain, ["--offline", chain.active]) == wanted
    assert [sha(layer) for layer in chain.layers[1:]] == below
    assert_no_exports(rechain)
    assert_same_view(chain)
    if independent:
        assert_independent(chain)


def sha(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def test_offline_a_raw_image_gets_its_space_and_an_open_one_is_refused(make_vm, rechain, workdir):
    chain = build(workdir, "DD..............", base="raw")
    rechain.run("allocate", "--offline", chain.active, "--fill", "full").expect(4)
    rechain.run("allocate", "--offline", chain.active, "--format", "raw", "--fill", "full").expect(0)
    assert os.stat(chain.active).st_blocks * 512 >= SIZE
    assert_same_view(chain)
    other = build(os.path.join(workdir, "other"), "DD..............", "................")
    vm = make_vm(other)
    error = valid(rechain.run("allocate", "--offline", other.active, json=True).expect(4).error)
    assert other.active in error["message"] and vm.is_alive()


@pytest.mark.parametrize("fill", ["backing", "full"])
def test_offline_killed_or_cancelled_it_leaves_a_valid_image(rechain, workdir, fill):
    chain = build(workdir, "DDDDDDDD........", "................")
    for how in ("sigint", "kill"):
        enough = os.stat(chain.active).st_blocks * 512 + MiB // 2
        run = rechain.start("allocate", "--offline", chain.active, "--fill", fill, "--bandwidth", "2M", json=True)
        deadline = time.monotonic() + 30
        while os.stat(chain.active).st_blocks * 512 < enough and time.monotonic() < deadline:
            time.sleep(0.05)
        if how == "sigint":
            run.sigint()
            assert valid(run.wait().expect(7).json)["state"] == "undone"
        else:
            run.kill()
            document = valid(rechain.run("recover", json=True).expect(0).json)
            assert [o["state"] for o in document["operations"]] == ["undone"]
        assert_no_exports(rechain)
        assert_same_view(chain)
    rechain.run("allocate", "--offline", chain.active, "--fill", fill).expect(0)
    assert_same_view(chain)
    assert_independent(chain)


def extents(rechain, image):
    return valid(rechain.run("map", "--offline", image, json=True).expect(0).json)["extents"]


def without_file(extents):
    return [{k: v for k, v in e.items() if k != "file"} for e in extents]


CHAINS = {"qcow2": ["DD..DDz....D...D", ".D.Dz........z.D", "................"],
          "raw": ["DDDDDDz.........", ".D.Dz........z.D", "................"]}


@pytest.mark.parametrize("base", CHAINS)
@pytest.mark.parametrize("fill", ["backing", "full"])
def test_offline_detached_it_is_what_pull_makes_of_it(rechain, workdir, fill, base):
    chain = build(workdir, *CHAINS[base], base=base)
    below = [sha(layer) for layer in chain.layers[1:]]
    document = valid(rechain.run("allocate", "--offline", chain.active, "--fill", fill, "--detach-backing",
                                 json=True).expect(0).json)
    assert document["disks"][0]["chain"] == [chain.active] == images.header_chain(chain.active)
    assert document["disks"][0]["left"] == chain.layers[1:] and below == [sha(layer) for layer in chain.layers[1:]]
    assert_no_exports(rechain)
    assert_same_view(chain)
    other = build(os.path.join(workdir, "other"), *CHAINS[base], base=base)
    rechain.run("pull", "--offline", other.active).expect(0)
    assert_same_view(other, chain.reference)
    if fill == "full":
        assert mapped(rechain, ["--offline", chain.active]) == "A" * 16
    else:
        assert without_file(extents(rechain, chain.active)) == without_file(extents(rechain, other.active))
    rechain.run("allocate", "--offline", chain.active, "--detach-backing").expect(4)
    other = build(os.path.join(workdir, "third"), *CHAINS[base], base=base)
    rechain.run("allocate", "--offline", other.active, "--detach-backing", "--offset", 0, "--length", "1M").expect(2)


def test_offline_detaching_that_is_killed_is_settled(rechain, workdir):
    """Before each program that it starts: two daemons, the new header, the check."""
    for n in range(5):
        chain = build(os.path.join(workdir, str(n)), "DDDD............", "................")
        marker = os.path.join(workdir, f"marker{n}")
        fake = {}
        for name, program in (("RECHAIN_QEMU_STORAGE_DAEMON", "qemu-storage-daemon"), ("RECHAIN_QEMU_IMG", "qemu-img")):
            fake[name] = os.path.join(workdir, f"{program}-{n}")
            with open(fake[name], "w") as file:
                # Counts what changes something, and kills rechain before the nth of it.
                file.write(f'''#!/bin/sh
case "$1" in --version|map|info|measure) exec {program} "$@";; esac
echo x >> {marker}
[ $(wc -l < {marker}) = {n + 1} ] && kill -9 $PPID
exec {program} "$@"
''')
            os.chmod(fake[name], 0o755)
        run = rechain.run("allocate", "--offline", chain.active, "--detach-backing", json=True, env=fake)
        document = valid(rechain.run("recover", json=True).expect(0).json)
        states = [o["state"] for o in document["operations"]]
        if run.rc == 0:
            assert n == 4 and states == []
        else:
            assert run.rc == -9 and states == ["done" if n >= 2 else "undone"], (n, str(run))
        assert images.header_chain(chain.active) == (chain.layers if n < 2 else [chain.active])
        assert_no_exports(rechain)
        assert_same_view(chain)


@pytest.mark.parametrize("base", CHAINS)
@pytest.mark.parametrize("fill", ["backing", "full"])
def test_detached_it_is_what_pull_makes_of_it(make_vm, rechain, workdir, fill, base):
    pictures = CHAINS[base]
    chain = build(workdir, *pictures, base=base)
    vm = make_vm(chain)
    vm.cont()
    document = valid(rechain.run("allocate", vm.qmp_path, "vda", "--fill", fill, "--detach-backing",
                                 json=True).expect(0).json)
    assert document["disks"][0]["chain"] == vm.chain() == [chain.active] == images.header_chain(chain.active)
    assert document["disks"][0]["left"] == chain.layers[1:]
    leftovers(vm, rechain.state_dir, [workdir])
    assert_no_exports(rechain, vm)
    vm.kill()
    assert_same_view(chain)
    other = build(os.path.join(workdir, "other"), *pictures, base=base)
    vm = make_vm(other)
    rechain.run("pull", vm.qmp_path, "vda").expect(0)
    pulled = valid(rechain.run("map", vm.qmp_path, "vda", json=True).expect(0).json)["extents"]
    if fill == "full":
        assert mapped(rechain, ["--offline", chain.active]) == "A" * 16
    else:
        assert without_file(extents(rechain, chain.active)) == without_file(pulled)
    rechain.run("allocate", vm.qmp_path, "vda", "--detach-backing").expect(4)
    rechain.run("allocate", vm.qmp_path, "vda", "--detach-backing", "--offset", 0, "--length", "1M").expect(2)


def test_subclusters_are_refused_where_copy_on_read_does_not_know_them(make_vm, rechain, workdir, version):
    chain = build(workdir, "DDDD............", "................", options=["-o", "extended_l2=on"])
    vm = make_vm(chain)
    vm.cont()
    result = rechain.run("allocate", vm.qmp_path, "vda", "--fill", "full", json=True)
    if version.startswith(("5.", "7.")):
        assert "subclusters" in valid(result.expect(4).error)["message"]
    else:
        result.expect(0)
        assert mapped(rechain, [vm.qmp_path, "vda"]) == "A" * 16
    assert vm.is_alive()
    vm.quit_qemu()
    assert_same_view(chain)


def test_raw_gets_its_space(make_vm, rechain, workdir):
    chain = build(workdir, "DD..............", base="raw")
    vm = make_vm(Disk(chain, iothread=True))    # no export is needed for it
    before = os.stat(chain.active).st_blocks * 512
    nothing = rechain.run("allocate", vm.qmp_path, "vda", "--offset", "4M", "--length", "4M").expect(0)
    assert "--fill full" in nothing.err and os.stat(chain.active).st_blocks * 512 == before
    rechain.run("allocate", vm.qmp_path, "vda", "--offset", "4M", "--length", "4M", "--fill", "full").expect(0)
    assert os.stat(chain.active).st_blocks * 512 - before == 4 * MiB
    rechain.run("allocate", vm.qmp_path, "vda", "--fill", "full").expect(0)
    assert os.stat(chain.active).st_blocks * 512 >= SIZE
    vm.quit_qemu()
    assert_same_view(chain)


def test_many_regions_and_those_of_a_map(make_vm, rechain, workdir):
    chain = build(workdir, "DDDDDDDDDDDDDDDD", "................")
    vm = make_vm(chain)
    where = [vm.qmp_path, "vda"]
    rechain.run("allocate", *where, "--offset", "2M", "--length", "1M", "--offset", "12M", "--length", "2M",
                "--offset", "13M", "--length", "2M").expect(0)
    assert mapped(rechain, where) == "BBABBBBBBBBBAAAB"
    regions = os.path.join(workdir, "regions.json")
    with open(regions, "w") as file:
        json.dump([{"start": 0, "length": 4096}, {"start": 5 * MiB, "length": 2 * MiB}], file)
    rechain.run("allocate", *where, "--regions", regions).expect(0)
    assert mapped(rechain, where) == "*BABBAABBBBBAAAB"
    whole = rechain.run("map", *where, json=True).expect(0).out
    with open(regions, "w") as file:
        file.write(whole)
    rechain.run("allocate", *where, "--regions", regions).expect(0)
    assert mapped(rechain, where) == "A" * 16
    vm.quit_qemu()
    assert_same_view(chain)
    for bad in ("[]", "{}", "[1]", '[{"start": -1, "length": 1}]', '[{"start": 0}]'):
        with open(regions, "w") as file:
            file.write(bad)
        rechain.run("allocate", *where, "--regions", regions).expect(2)


NO_REGIONS = {
    "nothing": b"", "no JSON": b"[", "no list": b'{"a": 1}', "a number": b"1e999",
    "an extent of a map that is no object": b'{"extents": [7]}', "a text for a number": b'[{"start": "0", "length": 1}]',
    "a length of nothing": b'[{"start": 0, "length": 0}]', "a negative length": b'[{"start": 0, "length": -1}]',
    "no length": b'[{"start": 0}]', "no start": b'[{"length": 1}]', "something behind it": b'[{"start": 0, "length": 1}] x',
    "too deep": b"[" * 100000, "a NUL": b'[{"start": 0, "length": 1}\0]', "bytes": bytes(range(128, 256)),
}
ELSEWHERE = {
    "beyond the end": b'[{"start": 16777216, "length": 1}]', "over the end": b'[{"start": 0, "length": 16777217}]',
    "far beyond": b'[{"start": 9223372036854775807, "length": 9223372036854775807}]',
    "further than 64 bits": b'[{"start": 99999999999999999999999, "length": 1}]',
}


@pytest.mark.parametrize("hostile,rc", [(NO_REGIONS, 2), (ELSEWHERE, 4)], ids=["no-regions", "elsewhere"])
def test_a_hostile_list_of_regions_is_refused(rechain, workdir, hostile, rc):
    chain = build(workdir, "D" * 16, "." * 16)
    regions, before = os.path.join(workdir, "regions.json"), sha(chain.active)
    for what, text in hostile.items():
        with open(regions, "wb") as file:
            file.write(text)
        result = rechain.run("allocate", "--offline", chain.active, "--regions", regions, json=True)
        assert result.rc == rc, f"{what}: {result}"
        valid(result.error)
    assert sha(chain.active) == before


def test_a_list_of_regions_without_end_is_not_read_to_its_end(rechain, workdir):
    chain = build(workdir, "D" * 16, "." * 16)
    error = valid(rechain.run("allocate", "--offline", chain.active, "--regions", "/dev/zero", json=True).expect(2).error)
    assert "64 MiB" in error["message"]
    assert rechain.run("allocate", "--offline", chain.active, "--regions", workdir).rc == 1
    assert rechain.run("allocate", "--offline", chain.active, "--regions", workdir + "/none").rc == 3


def test_cancelled_halfway_leaves_a_valid_disk(make_vm, rechain, workdir):
    chain = build(workdir, "DDDDDDDDDDDDDDDD", "................")
    vm = make_vm(chain)
    vm.cont()
    for arguments in ([], ["--fill", "full"]):
        enough = os.stat(chain.active).st_blocks * 512 + MiB
        run = rechain.start("allocate", vm.qmp_path, "vda", *arguments, "--bandwidth", "2M", json=True)
        deadline = time.monotonic() + 20
        while os.stat(chain.active).st_blocks * 512 < enough and time.monotonic() < deadline:
            time.sleep(0.05)
        run.sigint()
        assert valid(run.wait().expect(7).json)["state"] == "undone"
        leftovers(vm, rechain.state_dir, [workdir], result=False)
    assert "B" in mapped(rechain, [vm.qmp_path, "vda"])
    vm.quit_qemu()
    assert_same_view(chain)


KILLS = ["blockdev-add", "block-export-add", "stop", "human-monitor-command", "cont", "block-export-del",
         "blockdev-del", "block-stream", "job-finalize"]


@pytest.mark.parametrize("command", KILLS)
def test_a_killed_allocation_is_recovered(make_vm, rechain, workdir, command):
    chain = build(workdir, "DDDD............", "................")
    detach = ["--detach-backing"] if command in ("block-stream", "job-finalize") else []
    vm = make_vm(chain)
    vm.cont()
    running = []

    def kill(_):
        running[0].process.kill()
        return PASS

    with Proxy(vm.qmp_path, on("command", command, kill)) as proxy:
        running.append(rechain.start("allocate", proxy.path, "vda", "--fill", "full", *detach, json=True))
        assert running[0].wait().rc == -9
        document = valid(rechain.run("recover", json=True).expect(0).json)
    done = command == "job-finalize"
    assert [o["state"] for o in document["operations"]] == ["done" if done else "undone"]
    assert vm.chain() == (chain.layers[:1] if done else chain.layers)
    leftovers(vm, rechain.state_dir, [workdir], result=False)
    assert_no_exports(rechain, vm)
    rechain.run("allocate", vm.qmp_path, "vda", "--fill", "full").expect(0)
    vm.quit_qemu()
    assert_same_view(chain)


def test_what_does_not_fit_is_refused_before_it_begins(make_vm, rechain, workdir):
    with images.small_fs(24, workdir) as small:
        base = build(workdir, "D" * 16)
        active = os.path.join(small, "active.qcow2")
        images.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.active, "-F", "qcow2", active, SIZE)
        with open(os.path.join(small, "ballast"), "wb") as file:
            file.write(bytes(14 * MiB))
        chain = images.Chain([active, base.active], ["qcow2", "qcow2"], base.reference, SIZE)
        vm = make_vm(chain, dir=workdir)
        result = rechain.run("allocate", vm.qmp_path, "vda", json=True)
        assert result.rc in (4, 7) and "not enough space" in str(result)
        assert mapped(rechain, [vm.qmp_path, "vda"]) == "B" * 16
        vm.quit_qemu()
        plan = valid(rechain.run("allocate", "--offline", active, "--length", "2M", "--offset", "0", "-n", json=True)
                     .expect(0).json)
        assert 2 * MiB <= plan["space"][0]["needed"] <= 2 * MiB + 4 * 65536        # with its tables
        assert "not enough space" in str(rechain.run("allocate", "--offline", active).expect(4))
        assert_same_view(chain)


def test_somebody_elses_cont_ends_it(make_vm, rechain, workdir):
    """Zeros are only written while the guest is held; where that fails nothing more is written."""
    chain = build(workdir, "................")
    vm = make_vm(chain)
    vm.cont()

    def resume(_):
        vm.qmp.execute("cont")
        return PASS

    with Proxy(vm.qmp_path, on("command", "human-monitor-command", resume)) as proxy:
        result = rechain.run("allocate", proxy.path, "vda", "--fill", "full", json=True).expect(7)
    assert "somebody else continued" in str(result)
    assert vm.run_state() == "running"
    leftovers(vm, rechain.state_dir, [workdir], result=False)


@pytest.mark.parametrize("fill", ["backing", "full"])
def test_no_acknowledged_write_is_lost(make_chain, make_vm, rechain, workdir, fill):
    """Random allocations under a guest that writes as it can; RECHAIN_SWEEP=full: 1000 of them."""
    count = 1000 if os.environ.get("RECHAIN_SWEEP") == "full" else 12
    chain = make_chain(["template", "middle", "current1"], size=64 * MiB)
    vm = make_vm(chain, guest=True)
    rng = random.Random(fill)
    for _ in range(count):
        regions = []
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(0, chain.size - 512) // 512 * 512
            regions += ["--offset", start, "--length", rng.randint(1, min(2 * MiB, chain.size - start))]
        rechain.run("allocate", vm.qmp_path, "vda", "--fill", fill, *regions).expect(0)
    vm.guest.wait_flushed(20)
    leftovers(vm, rechain.state_dir, [workdir])
    vm.kill()
    vm.check()
