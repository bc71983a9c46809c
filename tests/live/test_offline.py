"""pull, commit and merge of image files: the outcome against an independent model of what each layer
must hold then, and mishaps at every place where a file is written."""

import itertools
import json
import os
import random
import shutil
import subprocess
import time

import pytest

from harness import images, model, qemu
from harness.images import MiB, run, small_fs
from harness.model import CLUSTER
from harness.scene import valid, wait_until
from harness.shim import Shim

LENGTHS = (2, 3, 4, 5)
FULL = os.environ.get("RECHAIN_SWEEP") == "full"


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """One chain of each length and kind, made once; a case works on a copy."""
    made = {}

    def get(length, dir, **options):
        key = (length, tuple(sorted(options.items())))
        if key not in made:
            made[key] = model.make(str(tmp_path_factory.mktemp("chain")), length, relative=True, **options)
        return model.copy(made[key], dir)

    return get


def offline(rechain, verb, layers, *options, json=False, **how):
    return rechain.run(verb, "--offline", layers.files[0], *options, json=json, **how)


def named(layers, **options):
    """base=2 -> --base l2.qcow2; None -> none."""
    words = []
    for option, layer in options.items():
        words += [f"--{option}", "none" if layer is None else layers.files[layer]]
    return words


def settled(rechain, layers):
    """Nothing of ours is left, and nothing is to be recovered."""
    assert [n for n in os.listdir(os.path.dirname(layers.files[0])) if "rc-" in n] == []
    assert rechain.run("recover", json=True).expect(0).json["operations"] == []
    assert os.listdir(os.path.join(rechain.state_dir, "run")) == []


# ---- every merge -------------------------------------------------------------------------------------

def pulls():
    for length in LENGTHS:
        for top, base in itertools.combinations(list(range(length)) + [None], 2):
            if (length if base is None else base) - top > 1:
                yield pytest.param(length, top, base, id=f"{length}-layers-into-{top}-down-to-{base}")


def commits():
    for length in LENGTHS:
        for top, base in itertools.combinations(range(length), 2):
            yield pytest.param(length, top, base, id=f"{length}-layers-{top}-into-{base}")


def merges():
    for length in LENGTHS:
        for source, dest in itertools.permutations(range(length), 2):
            yield pytest.param(length, source, dest, id=f"{length}-layers-{source}-into-{dest}")


@pytest.mark.parametrize("length, top, base", pulls())
def test_a_pull_leaves_in_each_layer_what_the_model_says(chains, rechain, workdir, length, top, base):
    layers = chains(length, workdir)
    verb = "rebase" if base is not None and base % 2 else "pull"
    result = offline(rechain, verb, layers, *named(layers, top=top, base=base), json=True).expect(0)
    layers.pull(top, base)
    assert valid(result.json)["disks"][0]["chain"] == layers.chain()
    layers.check(written=[top])
    settled(rechain, layers)


@pytest.mark.parametrize("length, top, base", commits())
def test_a_commit_leaves_in_each_layer_what_the_model_says(chains, rechain, workdir, length, top, base):
    layers = chains(length, workdir, base_format="raw" if length % 2 else "qcow2")
    result = offline(rechain, "commit", layers, *named(layers, top=top, base=base), json=True).expect(0)
    layers.commit(top, base)
    disk = valid(result.json)["disks"][0]
    assert disk["chain"] == layers.chain()
    assert disk["left"] == [layers.files[i] for i in range(top, base)]
    layers.check(written=[base] + ([top - 1] if top else []))
    settled(rechain, layers)


@pytest.mark.parametrize("length, source, dest", merges())
def test_a_merge_leaves_in_each_layer_what_the_model_says(chains, rechain, workdir, length, source, dest):
    layers = chains(length, workdir, base_format="raw" if length == 4 else "qcow2")
    result = offline(rechain, "merge", layers, *named(layers, source=source, dest=dest), json=True).expect(0)
    layers.merge(source, dest)
    assert valid(result.json)["disks"][0]["chain"] == layers.chain()
    layers.check(written=[dest] + ([source - 1] if 0 < source < dest else []))
    settled(rechain, layers)


@pytest.mark.parametrize("options", ["cluster_size=4096", "extended_l2=on,cluster_size=131072", "compat=0.10",
                                     "lazy_refcounts=on", "refcount_bits=1"])
def test_images_of_all_kinds_are_merged(rechain, workdir, options):
    for verb in ("pull", "commit"):
        layers = model.make(workdir, 3, options=options, suffix=verb)
        result = offline(rechain, verb, layers, *named(layers, base=2), json=True)
        if "extended_l2" in options and verb == "pull" and result.rc == 4:
            assert "aborts" in result.error["message"]          # QEMU before 8.2
            continue
        result.expect(0)
        getattr(layers, verb)(0, 2)
        layers.check(written=[0 if verb == "pull" else 2])


def test_forty_layers_are_merged(rechain, workdir):
    layers = model.make(workdir, 40, clusters=24)
    offline(rechain, "pull", layers, *named(layers, base=39), "--delete").expect(0)
    layers.pull(0, 39)
    layers.check(written=[0], dropped_stay=False)
    offline(rechain, "commit", layers).expect(0)
    layers.commit()
    layers.check(written=[0, 39], dropped_stay=False)


def test_a_tebibyte_with_little_data_takes_no_time(rechain, workdir):
    names = [os.path.join(workdir, f"{n}.qcow2") for n in ("top", "mid", "base")]
    for name, below in zip(reversed(names), [None] + list(reversed(names))):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", below, "-F", "qcow2"] if below else []), name, "1T")
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P {len(name)} 512G 30M", name)
    start = time.monotonic()
    rechain.run("pull", "--offline", names[0], "--base", names[2], "--delete").expect(0)
    rechain.run("commit", "--offline", names[0]).expect(0)
    assert time.monotonic() - start < 20
    run("qemu-io", "-f", "qcow2", "-c", f"read -q -P {len(names[0])} 512G 30M", names[2])


def test_layers_of_different_sizes_keep_what_they_show(rechain, workdir):
    """A short layer between: what lies beyond its end reads as zeros, and must go on doing so."""
    base, mid, top = [os.path.join(workdir, f"{n}.qcow2") for n in ("base", "mid", "top")]
    run("qemu-img", "create", "-q", "-f", "qcow2", base, "3M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 3M", base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", mid, "1M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", mid, "-F", "qcow2", top, "4M")
    before = model.read(top, "qcow2")
    for words in (["pull", "--offline", top, "--base", base], ["commit", "--offline", top, "--base", base]):
        assert "smaller" in rechain.run(*words, json=True).expect(4).error["message"]
    assert model.read(top, "qcow2") == before
    rechain.run("pull", "--offline", top).expect(0)
    assert model.read(top, "qcow2") == before


def test_a_base_that_is_smaller_grows(rechain, workdir):
    base, top = [os.path.join(workdir, f"{n}.qcow2") for n in ("base", "top")]
    run("qemu-img", "create", "-q", "-f", "qcow2", base, "1M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 1M", base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top, "3M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 2 2M 1M", top)
    before = model.read(top, "qcow2")
    plan = rechain.run("commit", "--offline", top, "--dry-run", json=True).expect(0).json
    assert any("grows" in n for n in plan["notes"])
    rechain.run("commit", "--offline", top).expect(0)
    assert model.read(base, "qcow2") == before


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_a_base_that_has_grown_gets_its_size_back(rechain, workdir, format):
    """What was copied beyond its old end is in the layer above, which stays."""
    base, top = os.path.join(workdir, f"base.{format}"), os.path.join(workdir, "top.qcow2")
    run("qemu-img", "create", "-q", "-f", format, base, "1M")
    run("qemu-io", "-f", format, "-c", "write -q -P 1 0 1M", base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", format, top, "9M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 2 512k 8M", top)
    before = model.read(top, "qcow2")
    started = rechain.start("commit", "--offline", top, "--bandwidth", "1M")
    wait_until(lambda: run("qemu-img", "info", "-U", "-f", format, base).find("9 MiB") > 0, "the base has not grown")
    started.kill()
    state = rechain.run("recover", "--undo", json=True).expect(0).json["operations"][0]["state"]
    assert state == "undone" and images.info(base, format)["virtual-size"] == MiB
    assert model.read(top, "qcow2") == before
    if format == "qcow2":
        images.check_image(base)
    rechain.run("commit", "--offline", top).expect(0)
    assert model.read(base, format) == before


def test_dropped_layers_are_removed_where_that_was_asked(chains, rechain, workdir):
    layers = chains(4, workdir)
    result = offline(rechain, "pull", layers, *named(layers, base=3), "--delete", json=True).expect(0)
    assert result.json["disks"][0]["removed"] == layers.files[1:3]
    assert not os.path.exists(layers.files[1]) and not os.path.exists(layers.files[2])
    layers.pull(0, 3)
    layers.check(written=[0], dropped_stay=False)


def test_odd_names_are_names(rechain, workdir):
    folder = os.path.join(workdir, "a:b,c%d'")
    os.makedirs(folder)
    layers = model.make(folder, 3, suffix="-x,:%'")
    image = layers.files[0].replace(",", ",,")
    rechain.run("pull", "--offline", image, "--base", layers.files[2]).expect(0)
    layers.pull(0, 2)
    layers.check(written=[0])


# ---- plan, refusals ----------------------------------------------------------------------------------

# ---- other versions of its programs ------------------------------------------------------------------

def programs(version):
    """That QEMU's programs in place of the host's."""
    found = qemu.offline_programs(version)
    if found is None:
        pytest.skip(f"QEMU {version} is not here: run tools/fetch-qemu")
    return found


@pytest.mark.parametrize("verb, top, base", [("pull", 0, None), ("pull", 1, 3), ("commit", 0, 2), ("commit", 1, 2)])
@pytest.mark.parametrize("other", ["5.2", "10.0", "11.1"])
def test_the_programs_of_another_version_do_the_same(chains, rechain, workdir, other, verb, top, base):
    layers = chains(4, workdir)
    result = offline(rechain, verb, layers, *named(layers, top=top, base=base), json=True, env=programs(other)).expect(0)
    getattr(layers, verb)(top, base)
    assert valid(result.json)["disks"][0]["chain"] == layers.chain()
    layers.check(written=[top if verb == "pull" else base] + ([0] if verb == "commit" and top else []))
    settled(rechain, layers)


@pytest.mark.parametrize("verb", ["pull", "commit"])
def test_the_daemon_of_5_2_closes_its_images(rechain, workdir, verb):
    """Refcounts that are written late, and a bitmap, which is written at the end."""
    layers = model.make(workdir, 3, options="lazy_refcounts=on")
    run("qemu-img", "bitmap", "--add", "-f", "qcow2", layers.files[0 if verb == "pull" else 2], "b")
    offline(rechain, verb, layers, *named(layers, base=2), json=True, env=programs("5.2")).expect(0)
    getattr(layers, verb)(0, 2)
    receiver = 0 if verb == "pull" else 2
    bitmap, = json.loads(run("qemu-img", "info", "--output=json", layers.files[receiver]))["format-specific"]["data"]["bitmaps"]
    assert bitmap["flags"] == ["auto"]
    layers.check(written=[receiver])
    settled(rechain, layers)


def test_without_a_storage_daemon_nothing_is_begun(chains, rechain, workdir):
    layers = chains(3, workdir)
    refused = offline(rechain, "commit", layers, json=True, env={"RECHAIN_QEMU_STORAGE_DAEMON": "/no/such/program"})
    assert "qemu-system-common" in refused.expect(1).error["hint"], str(refused)
    untouched(layers)


def test_an_interrupted_commit_says_which_file_the_guest_starts_from(chains, rechain, workdir):
    layers = chains(3, workdir)
    run = rechain.start("commit", "--offline", layers.files[0], "--bandwidth", "4K")
    wait_until(lambda: [o["state"] for o in rechain.run("op", "list", json=True).json["operations"]] == ["running"],
               "the copying")
    run.kill()
    operation, = rechain.run("op", "list", json=True).expect(0).json["operations"]
    shown = valid(rechain.run("op", "show", operation["operation"], json=True).expect(0).json)
    assert shown["authoritative"] == {layers.files[0]: layers.files[0]}
    assert layers.files[0] in rechain.run("op", "show", operation["operation"]).expect(0).out
    rechain.run("recover").expect(0)
    settled(rechain, layers)


def untouched(layers):
    for index, file in enumerate(layers.files):
        assert model._sum(file) == layers.sums[index], f"{file} was written to"


def test_a_pull_tells_what_it_copied_not_how_large_the_disk_is(rechain, workdir):
    base, mid, top = files = [os.path.join(workdir, f"{name}.qcow2") for name in ("base", "mid", "top")]
    for file, below in zip(files, (None, base, mid)):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", below, "-F", "qcow2"] if below else []), file, "1G")
    run("qemu-io", "-f", "qcow2", "-c", "write 0 3M", mid)
    result = rechain.run("pull", "--offline", top, "--base", base, json=True).expect(0).json
    assert 3 * MiB <= result["bytes"] < 4 * MiB


def test_a_dry_run_shows_the_steps_and_changes_nothing(chains, rechain, workdir):
    layers = chains(3, workdir)
    plan = valid(offline(rechain, "commit", layers, "--dry-run", json=True).expect(0).json)
    assert "vm" not in plan
    assert plan["disks"][0]["chain-after"] == layers.files[1:]
    words = json.dumps(plan["steps"])
    assert "qemu-storage-daemon" in words and "block-commit" in words
    assert any("changed from the beginning" in n for n in plan["notes"])
    untouched(layers)
    assert not os.path.exists(os.path.join(rechain.state_dir, "journal.db"))


def direct(plan):
    """The files that a plan has opened past the page cache."""
    options = [ask.get("arguments", {}) for step in plan["steps"] for ask in step.get("qmp", [])]
    return [o["filename"] for o in options if o.get("cache", {}).get("direct")]


@pytest.mark.parametrize("verb, receiver", [("pull", 0), ("commit", 2)])
def test_only_what_receives_is_written_past_the_page_cache(chains, rechain, workdir, verb, receiver):
    layers = chains(3, workdir)
    plan = offline(rechain, verb, layers, *named(layers, base=2), "--dry-run", json=True).expect(0).json
    assert direct(plan) == [layers.files[receiver]]


@pytest.mark.parametrize("odd", [0, 512])
def test_a_raw_file_keeps_its_length_whatever_that_is(rechain, workdir, odd):
    """Past the page cache its end could be rounded up."""
    base, top = [os.path.join(workdir, n) for n in ("base.img", "top.qcow2")]
    size = 3 * MiB + odd
    run("qemu-img", "create", "-q", "-f", "raw", base, str(size))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top)
    run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 7 {size - MiB} 1M", top)
    before = model.read(top, "qcow2")
    plan = rechain.run("commit", "--offline", top, "--dry-run", json=True).expect(0).json
    assert direct(plan) == ([] if odd else [base])
    rechain.run("commit", "--offline", top).expect(0)
    assert os.path.getsize(base) == size and model.read(base, "raw") == before


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("verb", ["pull", "commit"])
def test_images_that_are_open_elsewhere_are_refused(chains, rechain, workdir, verb, index):
    """But for a base that is only read, and that others only read as well."""
    layers = chains(4, workdir)
    base = 2
    reader = subprocess.Popen(["qemu-io", "-r", "-f", "qcow2", layers.files[index]], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        reader.stdin.write("read 0 512\n")
        reader.stdin.flush()
        reader.stdout.readline()
        result = offline(rechain, verb, layers, *named(layers, base=base), json=True)
        if verb == "pull" and index == base:
            result.expect(0)
        else:
            assert "open" in result.expect(4).error["message"]
            untouched(layers)
    finally:
        reader.stdin.close()
        reader.wait()


@pytest.mark.parametrize("backing", ["json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "nbd://127.0.0.1/x",
                                     "/etc/passwd", "l0.qcow2", "/dev/zero", "missing"])
def test_hostile_headers_are_refused_before_any_program_opens_them(rechain, workdir, backing):
    layers = model.make(workdir, 2)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", backing, "-F", "qcow2", layers.files[1])
    layers.remember()
    bad = rechain.run("pull", "--offline", layers.files[0], json=True,
                      env={"RECHAIN_QEMU_IMG": "/bin/false", "RECHAIN_QEMU_STORAGE_DAEMON": "/bin/false"})
    assert bad.rc in (1, 3, 4), bad
    untouched(layers)


def test_a_raw_layer_whose_format_nobody_names_is_refused(rechain, workdir):
    layers = model.make(workdir, 2, base_format="raw")
    header = bytearray(open(layers.files[0], "rb").read())
    at = header.find(b"\xe2\x79\x2a\xca")
    header[at + 3] ^= 1                                 # an extension that nobody knows
    open(layers.files[0], "wb").write(header)
    refused = rechain.run("commit", "--offline", layers.files[0], json=True).expect(4)
    assert "format" in refused.error["message"]


def test_external_data_files_and_encryption_are_refused(rechain, workdir):
    base, top = os.path.join(workdir, "base.qcow2"), os.path.join(workdir, "top.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={workdir}/data.raw", base, "1M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", "qcow2", top, "1M")
    assert "data file" in rechain.run("commit", "--offline", top, json=True).expect(4).error["message"]


def test_a_base_that_others_use_is_refused_unless_it_is_named(chains, rechain, workdir):
    layers = chains(3, workdir)
    other = os.path.join(workdir, "other.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", layers.files[2], "-F", "qcow2", other, "3M")
    refused = offline(rechain, "commit", layers, *named(layers, top=1, base=2), json=True).expect(4)
    assert "other.qcow2" in json.dumps(refused.error)
    untouched(layers)
    offline(rechain, "commit", layers, *named(layers, top=1, base=2), "--allow-shared", layers.files[2]).expect(0)
    layers.commit(1, 2)
    layers.check(written=[0, 2])
    refused = offline(rechain, "pull", layers, "--delete", json=True).expect(4)
    assert "other.qcow2" in json.dumps(refused.error)


def test_what_makes_no_sense_is_refused(chains, rechain, workdir):
    layers = chains(3, workdir)
    for words in (["pull", *named(layers, base=1)], ["pull", *named(layers, top=2)],
                  ["commit", *named(layers, top=2)], ["commit", *named(layers, top=2, base=1)],
                  ["merge", *named(layers, source=1, dest=1)]):
        offline(rechain, words[0], layers, *words[1:]).expect(4)
    offline(rechain, "pull", layers, "--base", "nobody").expect(3)
    offline(rechain, "rebase", layers).expect(2)
    rechain.run("pull", "--offline").expect(2)
    rechain.run("pull", "--offline", os.path.join(workdir, "nothing")).expect(3)
    untouched(layers)


def test_too_little_space_is_refused_before_anything_is_changed(rechain, workdir):
    with small_fs(8, workdir) as mount:
        base, mid = os.path.join(workdir, "base.qcow2"), os.path.join(workdir, "mid.qcow2")
        top = os.path.join(mount, "top.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", base, "64M")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", mid)
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 0 20M", mid)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", mid, "-F", "qcow2", top)
        refused = rechain.run("pull", "--offline", top, "--base", base, json=True).expect(4)
        assert "space" in refused.error["message"]


# ---- while it runs -----------------------------------------------------------------------------------

def big(workdir, mib=32):
    """top <- mid <- base; mid has `mib` MiB."""
    names = [os.path.join(workdir, f"{n}.qcow2") for n in ("top", "mid", "base")]
    for name, below in zip(reversed(names), [None] + list(reversed(names))):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-b", below, "-F", "qcow2"] if below else []), name, "256M")
    run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 7 1M {mib}M", names[1])
    return names


def wait_for_copy(rechain, running, step="copy"):
    end = time.monotonic() + 20
    while time.monotonic() < end and running.is_running():
        for line in running.err_so_far().splitlines():
            if line.startswith("{") and json.loads(line).get("step") == step and json.loads(line).get("current", 0) > 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"it never got to {step}: {running.wait()}")


def test_the_bandwidth_is_kept_and_progress_is_told(rechain, workdir):
    top, mid, base = big(workdir)
    start = time.monotonic()
    result = rechain.run("pull", "--offline", top, "--base", base, "--bandwidth", "16M", "--progress", "json").expect(0)
    seconds = time.monotonic() - start
    assert 1.5 < seconds < 4, seconds
    lines = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    assert any(0 < line["current"] < line["total"] for line in lines)


@pytest.mark.parametrize("verb", ["pull", "commit"])
def test_an_interrupt_takes_it_back(rechain, workdir, verb):
    top, mid, base = big(workdir, 64)
    words = [verb, "--offline", top, *(["--base", base] if verb == "pull" else ["--top", mid])]
    before = model.read(top, "qcow2")
    running = rechain.start("--progress", "json", *words, "--bandwidth", "8M", json=True)
    wait_for_copy(rechain, running)
    running.sigint()
    result = running.wait(10).expect(7)
    assert valid(result.json)["state"] == "undone"
    assert model.read(top, "qcow2") == before
    assert json.loads(run("qemu-img", "info", "-f", "qcow2", "--output=json", top))["full-backing-filename"] == mid
    for file in (top, mid, base):
        model.sound(file)
    assert rechain.run("recover", json=True).expect(0).json["operations"] == []


def test_op_cancel_reaches_an_offline_operation(rechain, workdir):
    top, mid, base = big(workdir, 64)
    running = rechain.start("--progress", "json", "pull", "--offline", top, "--base", base, "--bandwidth", "8M")
    wait_for_copy(rechain, running)
    (operation,) = rechain.run("op", "list", json=True).expect(0).json["operations"]
    assert (operation["state"], operation["owner"]) == ("running", "alive") and "vm" not in operation
    second = rechain.run("commit", "--offline", top, json=True).expect(4)
    assert operation["operation"] in second.error["message"]
    rechain.run("op", "cancel", operation["operation"]).expect(0)
    running.wait(10).expect(7)


@pytest.mark.parametrize("way", ["recover", "recover --undo", "recover --finish"])
def test_a_killed_controller_leaves_nothing_running_and_is_recovered(rechain, workdir, way):
    top, mid, base = big(workdir, 64)
    before = model.read(top, "qcow2")
    running = rechain.start("--progress", "json", "pull", "--offline", top, "--base", base, "--bandwidth", "8M")
    wait_for_copy(rechain, running)
    running.kill()
    refused = rechain.run("pull", "--offline", top, "--base", base, json=True).expect(4)
    assert "recover" in refused.error["hint"]
    (settled_one,) = rechain.run(*way.split(), json=True, timeout=30).expect(0).json["operations"]
    done = way.endswith("--finish")
    assert settled_one["state"] == ("done" if done else "undone")
    chain = [top, base] if done else [top, mid, base]
    assert settled_one["disks"][0]["chain"] == chain
    assert model.read(top, "qcow2") == before
    model.sound(top)
    assert rechain.run("recover", json=True).expect(0).json["operations"] == []


def test_a_full_filesystem_takes_it_back(rechain, workdir):
    with small_fs(64, workdir) as mount:
        _, mid, base = big(workdir, 48)
        top = os.path.join(mount, "top.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", mid, "-F", "qcow2", top)
        running = rechain.start("--progress", "json", "pull", "--offline", top, "--base", base, "--bandwidth", "16M",
                                json=True)
        wait_for_copy(rechain, running)
        subprocess.run(["dd", "if=/dev/zero", f"of={mount}/filler", "bs=1M"], stderr=subprocess.DEVNULL)
        result = running.wait(20).expect(7)
        assert "No space left" in json.dumps(result.json["error"])
        os.unlink(f"{mount}/filler")
        run("qemu-io", "-f", "qcow2", "-c", "read -q -P 7 1M 48M", top)
        model.sound(top)


def test_a_layer_that_somebody_writes_to_meanwhile_is_not_dropped(rechain, workdir):
    """Between the copy and the pivot the images are closed for a moment."""
    top, mid, base = big(workdir, 4)
    wrapper = os.path.join(workdir, "wrapper")
    with open(wrapper, "w") as file:
        file.write(f"#!/bin/sh\nqemu-storage-daemon \"$@\"\nrc=$?\ntouch '{mid}'\nexit $rc\n")
    os.chmod(wrapper, 0o755)
    result = rechain.run("pull", "--offline", top, "--base", base, json=True,
                         env={"RECHAIN_QEMU_STORAGE_DAEMON": wrapper}).expect(7)
    assert "changed by somebody else" in result.json["error"]["message"]


# ---- dirty bitmaps -----------------------------------------------------------------------------------

def bitmaps(file):
    found = json.loads(run("qemu-img", "info", "-f", "qcow2", "--output=json", file))["format-specific"]["data"]
    return {b["name"]: b["flags"] for b in found.get("bitmaps", [])}


def dirty(file, name):
    """Clusters that the bitmap marks."""
    node = json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": file}})
    out = run("nbdinfo", "--map=qemu:dirty-bitmap:" + name, "--json", "--", "[", "qemu-nbd", "-r", "-B", name,
              "json:" + node, "]")
    return {at // CLUSTER for e in json.loads(out) if e["type"]
            for at in range(e["offset"], e["offset"] + e["length"], CLUSTER)}


@pytest.fixture
def recorded(rechain, workdir):
    """top <- mid <- base, each written to where its number says while the bitmap "b" recorded."""
    names = [os.path.join(workdir, f"{n}.qcow2") for n in ("top", "mid", "base")]
    for number, below in ((2, None), (1, 2), (0, 1)):
        file = names[number]
        run("qemu-img", "create", "-q", "-f", "qcow2",
            *(["-b", names[below], "-F", "qcow2"] if below else []), file, "4M")
        run("qemu-img", "bitmap", "-f", "qcow2", "--add", file, "b")
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P {number + 1} {(number + 1) * CLUSTER} {CLUSTER}", file)
    return names


def test_bitmaps_are_merged_into_the_layer_that_receives(rechain, recorded):
    top, mid, base = recorded
    rechain.run("pull", "--offline", top, "--base", base).expect(0)
    assert bitmaps(top) == {"b": ["auto"]}
    assert dirty(top, "b") == {1, 2}
    rechain.run("commit", "--offline", top, "--allow-shared", base).expect(0)
    assert bitmaps(base) == {"b": ["auto"]}
    assert {1, 2, 3} <= dirty(base, "b")


def test_a_bitmap_that_the_receiver_lacks_is_added(rechain, recorded):
    top, mid, base = recorded
    run("qemu-img", "bitmap", "-f", "qcow2", "--remove", base, "b")
    rechain.run("commit", "--offline", top, "--top", mid).expect(0)
    assert bitmaps(base) == {"b": ["auto"]}
    assert 2 in dirty(base, "b")


def test_bitmaps_that_cannot_be_taken_along_are_told_of(rechain, recorded, workdir):
    top, mid, base = recorded
    raw = os.path.join(workdir, "base.raw")
    run("qemu-img", "convert", "-O", "raw", base, raw)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", raw, "-F", "raw", mid)
    refused = rechain.run("commit", "--offline", top, "--top", mid, json=True).expect(4)
    assert "bitmap 'b'" in refused.error["message"]
    run("qemu-img", "bitmap", "-f", "qcow2", "--remove", top, "b")
    plan = rechain.run("pull", "--offline", top, "--base", raw, "--dry-run", json=True).expect(0).json
    assert any("'b'" in note for note in plan["notes"])


# ---- mishaps at every write --------------------------------------------------------------------------

SCENES = {
    "pull": dict(verb="pull", words=dict(base=3), receiver=0),
    "inner-pull": dict(verb="pull", words=dict(top=1, base=None), receiver=1),
    "commit": dict(verb="commit", words=dict(base=2), receiver=2),
    "inner-commit": dict(verb="commit", words=dict(top=1, base=3), receiver=3),
}
PROGRAMS = ["rechain", "qemu-storage-daemon", "qemu-img"]


def sample(count, wanted, seed):
    if FULL or count <= wanted:
        return list(range(1, count + 1))
    middle = random.Random(seed).sample(range(2, count), wanted - 2)
    return sorted([1, count] + middle)


def operations(rechain):
    return rechain.run("op", "list", json=True).expect(0).json["operations"]


def attempt(rechain, chains, dir, scene, shim):
    layers = chains(4, dir)
    spec = SCENES[scene]
    result = offline(rechain, spec["verb"], layers, *named(layers, **spec["words"]), env=shim.env)
    return layers, result


def judge(rechain, layers, scene, result, what):
    """Old or new, all data there; then the operation is done (again) and everything is as it must be."""
    spec = SCENES[scene]
    views = {index: layers.view(index) for index in layers.alive}
    recovered = rechain.run("recover", json=True, timeout=30)
    assert recovered.rc == 0, f"{what}: {recovered}"
    again = rechain.run("recover", json=True).expect(0)
    assert again.json["operations"] == [], what
    now = [layers.files[0]]
    while True:
        info = json.loads(run("qemu-img", "info", "--output=json", "-f", "qcow2", now[-1]))
        if "full-backing-filename" not in info:
            break
        now.append(info["full-backing-filename"])
    new = model.Layers(layers.files, layers.formats, layers.clusters)
    new.own = [dict(own) for own in layers.own]
    getattr(new, spec["verb"])(**{k: v for k, v in spec["words"].items()})
    mine = [o["state"] for o in operations(rechain) if o["disks"][0]["disk"] == layers.files[0]]
    is_new = mine == ["done"]
    active_commit = spec["verb"] == "commit" and spec["words"].get("top", 0) == 0
    wanted = new.chain() if is_new and not active_commit else layers.chain()
    assert now == wanted, f"{what}: {mine} {now} {recovered.json} {result}"
    if result.rc == 0:
        assert is_new, what
    if is_new:
        new.check()
        return
    # A commit changes its base from the beginning: only what lies above all of it must read the same.
    last = len(layers.files) - 1 if spec["verb"] == "pull" else spec["words"].get("top", 0)
    for index, view in views.items():
        if index <= last:
            assert model.read(layers.files[index], layers.formats[index]) == view, f"{what}: layer {index}"
        model.sound(layers.files[index])
    offline(rechain, spec["verb"], layers, *named(layers, **spec["words"])).expect(0)
    new.check()


def sweep(rechain, chains, workdir, scene, program, act, wanted):
    count = Shim(workdir, program)
    _, result = attempt(rechain, chains, os.path.join(workdir, "count"), scene, count)
    result.expect(0)
    for at in sample(count.count, wanted, f"{scene} {program} {act}"):
        dir = os.path.join(workdir, f"at{at}")
        what = f"{scene}: {act} at call {at} of {count.count} of {program}"
        layers, result = attempt(rechain, chains, dir, scene, Shim(workdir, program, at, act))
        assert result.rc in (0, 1, 7, 8, -9), f"{what}: {result}"
        judge(rechain, layers, scene, result, what)
        shutil.rmtree(dir)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_at_any_write_leaves_the_old_or_the_new_chain(chains, rechain, workdir, scene, program):
    sweep(rechain, chains, workdir, scene, program, "kill", 5 if program == "rechain" else 3)


@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_of_both_at_any_write_leaves_the_old_or_the_new_chain(chains, rechain, workdir, scene):
    sweep(rechain, chains, workdir, scene, "qemu-storage-daemon", "both", 3)


@pytest.mark.parametrize("act", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("scene", SCENES)
def test_an_error_at_any_write_leaves_the_old_or_the_new_chain(chains, rechain, workdir, scene, act):
    sweep(rechain, chains, workdir, scene, "qemu-storage-daemon", act, 3)
    sweep(rechain, chains, workdir, scene, "qemu-img", act, 2)
