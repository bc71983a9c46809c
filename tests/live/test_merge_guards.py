"""What pull, commit and merge refuse, and the odd chains that they must cope with."""

import os

import pytest

from harness import images
from harness.images import MiB, run
from harness.qemu import Disk, leftovers
from harness.scene import assert_chain, change, change_of, graph, tree, valid, wait_until

NAMES = ("base", "one", "two", "current")


def images_of(vm):
    return {path: seen for path, seen in tree(vm.dir, skip=(".log", ".reference", "small-fs.img")).items()
            if "/state" not in path}


@pytest.fixture
def refused(rechain):
    """refused(vm, words..., code=4) -> the error; nothing has changed in QEMU or on disk."""
    def refuse(vm, *words, code=4):
        before = graph(vm), images_of(vm)
        result = rechain.run(words[0], vm.qmp_path, *words[1:], json=True).expect(code)
        assert (graph(vm), images_of(vm)) == before, str(result)
        leftovers(vm, rechain.state_dir, [vm.dir])
        return valid(result.error)
    return refuse


# ---- who else uses a layer ----

@pytest.mark.parametrize("words", [["commit", "vda"], ["commit", "vda", "--base", "base.qcow2"],
                                   ["commit", "vda", "--top", "one.qcow2"],
                                   ["pull", "vda", "--top", "one.qcow2"]])
@pytest.mark.parametrize("version", ["7.2"])
def test_a_layer_that_another_image_is_backed_by_is_not_changed(make_chain, make_vm, refused, words):
    chain = make_chain(NAMES, size=4 * MiB)
    vm = make_vm(chain)
    for layer in chain.layers[1:]:
        name = os.path.join(chain.dir, f"other-{os.path.basename(layer)}")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", layer, "-F", "qcow2", name, 4 * MiB)
    error = refused(vm, *words)
    assert "other-" in error["message"] and "--allow-shared" in error["hint"], error


def test_a_layer_that_is_named_may_be_changed_although_others_use_it(make_chain, make_vm, rechain):
    chain = make_chain(NAMES[:2] + ("current",), size=4 * MiB)
    vm = make_vm(chain)
    other = os.path.join(chain.dir, "other.qcow2")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", chain.layers[1], "-F", "qcow2", other, 4 * MiB)
    change(rechain, vm, "commit", "vda", "--allow-shared", chain.layers[1])
    assert_chain(vm, chain.layers[1:])


def test_a_base_that_another_disk_has_is_not_committed_into(make_vm, refused, workdir):
    one = images.make_chain(os.path.join(workdir, "a"), ["template", "one"], size=4 * MiB)
    two = images.Chain([os.path.join(workdir, "a", "two.qcow2"), one.base], ["qcow2", "qcow2"], one.reference, 4 * MiB)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", one.base, "-F", "qcow2", two.active, 4 * MiB)
    vm = make_vm([Disk(one, id="vda"), Disk(two, id="vdb")], dir=os.path.join(workdir, "a"))
    assert "vdb" in refused(vm, "commit", "vda")["message"]


def test_a_base_that_another_process_has_open_is_not_committed_into(make_chain, make_vm, refused, workdir):
    chain = make_chain(size=4 * MiB)
    vm = make_vm(chain)
    with open(chain.base, "rb"):
        assert f"process {os.getpid()}" in refused(vm, "commit", "vda")["message"]


def test_a_base_that_another_vm_runs_on_is_not_committed_into(make_chain, make_vm, refused, workdir):
    """Its overlay lies in another folder, where nobody would look for it."""
    chain = make_chain(size=4 * MiB)
    os.mkdir(f"{workdir}/elsewhere")
    overlay = f"{workdir}/elsewhere/overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", chain.base, "-F", "qcow2", overlay, chain.size)
    other = make_vm(images.Chain([overlay, chain.base], ["qcow2", "qcow2"], chain.reference, chain.size))
    vm = make_vm(chain)
    assert f"process {other.pid}" in refused(vm, "commit", "vda")["message"]
    other.close()


NAMED = {"symlink": "{dir}/link", "relative": "../{folder}/base.qcow2",
         "json": 'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{dir}/base.qcow2"}}}}'}


def named(chain, how):
    """base.qcow2 by another name."""
    link = os.path.join(chain.dir, "link")
    if how == "symlink" and not os.path.islink(link):
        os.symlink("base.qcow2", link)
    return NAMED[how].format(dir=chain.dir, folder=os.path.basename(chain.dir))


@pytest.mark.parametrize("how", NAMED)
def test_who_uses_a_layer_by_another_name_uses_it(make_chain, make_vm, refused, how):
    chain = make_chain(("base", "current"), size=4 * MiB)
    vm = make_vm(chain)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", named(chain, how), "-F", "qcow2",
        os.path.join(chain.dir, "other.qcow2"), chain.size)
    error = refused(vm, "commit", "vda")
    assert "other.qcow2" in error["message"] and "--allow-shared" in error["hint"], error


@pytest.mark.parametrize("how", NAMED)
@pytest.mark.parametrize("words, left", [(["pull", "vda", "--base", "{base}"], [0, 2]), (["commit", "vda,top=one.qcow2"], [0, 2]),
                                         (["commit", "vda", "--base", "{base}"], [2])], ids=["pull", "inner", "commit"])
def test_a_layer_that_a_header_calls_by_another_name_is_merged(make_chain, make_vm, rechain, how, words, left):
    chain = make_chain(("base", "one", "current"), size=4 * MiB)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", named(chain, how), "-F", "qcow2", chain.layers[1])
    vm = make_vm(chain, style="drive")
    document = change(rechain, vm, *[word.format(base=chain.base) for word in words])
    left = [chain.layers[i] for i in left]
    assert [os.path.realpath(path) for path in change_of(document)["chain"]] == left
    assert [os.path.realpath(path) for path in vm.chain()] == left
    leftovers(vm, rechain.state_dir, [vm.dir])
    shows_the_same(vm, chain, left[0])


@pytest.mark.parametrize("words", [["pull", "vda,base=base.img"], ["commit", "vda"], ["commit", "vda,top=one.qcow2"]],
                         ids=["pull", "commit", "inner"])
def test_a_raw_layer_whose_format_nobody_names_is_refused(make_chain, make_vm, refused, words):
    chain = make_chain(("base", "one", "current"), formats=("raw", "qcow2", "qcow2"), size=4 * MiB)
    with open(chain.layers[1], "r+b") as file:
        at = file.read(4096).find(b"\xe2\x79\x2a\xca")
        file.seek(at + 3)
        file.write(b"\xcb")                             # an extension that nobody knows
    vm = make_vm(chain, style="drive")
    assert "probed" in refused(vm, *words)["message"]


def test_a_base_that_cannot_be_written_is_not_committed_into(make_vm, refused, workdir):
    with images.small_fs(12, workdir) as dir:
        below = images.make_chain(dir, ["base"], size=4 * MiB)
        chain = images.add_overlay(below, f"{workdir}/current.qcow2")
        run("mount", "-o", "remount,ro", dir)
        vm = make_vm(chain, dir=workdir)
        assert "base.qcow2" in refused(vm, "commit", "vda", code=5)["message"]
        vm.close()


# ---- requests without sense ----

@pytest.mark.parametrize("words,code,says", [
    (["pull", "vda", "--base", "one.qcow2", "--top", "base.qcow2"], 4, "does not lie under"),
    (["pull", "vda", "--base", "two.qcow2"], 4, "nothing lies between"),
    (["pull", "vda", "--top", "base.qcow2"], 4, "nothing lies between"),
    (["commit", "vda", "--top", "base.qcow2"], 4, "no layer lies under"),
    (["commit", "vda", "--base", "current.qcow2"], 4, "does not lie under"),
    (["merge", "vda,source=one.qcow2,dest=one.qcow2"], 4, "the same layer"),
    (["merge", "vda", "--source", "one.qcow2"], 2, "the layer that receives"),
    (["rebase", "vda"], 2, "the layer that is to back it"),
    (["pull", "vda", "--base", "nothing.qcow2"], 3, "nothing.qcow2"),
    (["pull", "vdx"], 3, "vdx"),
    (["pull", "vda,to=/tmp/x"], 2, "to"),
])
@pytest.mark.parametrize("version", ["10.0"])
def test_a_request_without_sense_is_refused(make_chain, make_vm, refused, words, code, says):
    vm = make_vm(make_chain(NAMES, size=4 * MiB))
    assert says in refused(vm, *words, code=code)["message"]


# ---- sizes and space ----

def test_internal_snapshots_are_not_lost(make_chain, make_vm, refused, rechain):
    """They go with their file, and what they do not hold themselves is read from the layers below."""
    chain = make_chain(("base", "one", "current"), size=4 * MiB)
    run("qemu-img", "snapshot", "-c", "inside", chain.layers[1])
    vm = make_vm(chain)
    for words in (("pull", "vda", "--delete"), ("commit", "vda", "--top", "one.qcow2", "--delete"),
                  ("pull", "vda", "--top", "one.qcow2")):
        assert "one.qcow2' " in refused(vm, *words)["message"] and "internal snapshot" in refused(vm, *words)["message"]
    change(rechain, vm, "commit", "vda", "--top", "one.qcow2")


def test_a_layer_is_not_committed_into_a_larger_one(make_chain, make_vm, refused):
    chain = make_chain(size=4 * MiB)
    run("qemu-img", "resize", "-q", "-f", "qcow2", chain.base, 8 * MiB)
    assert "smaller" in refused(make_vm(chain), "commit", "vda")["message"]


@pytest.mark.parametrize("words", [("pull", "vda", "--base", "base.qcow2"), ("commit", "vda", "--top", "one.qcow2"),
                                   ("commit", "vda", "--base", "base.qcow2"), ("merge", "vda,source=one.qcow2,dest=base.qcow2")])
def test_a_short_layer_does_not_let_through_what_it_hid(make_chain, make_vm, refused, rechain, words):
    """Beyond its end its overlay reads zeros, and the base has data there."""
    chain = make_chain(("base", "one", "current"), size=4 * MiB, share=[0.9, 0, 0])
    run("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", chain.layers[1], 2 * MiB)
    vm = make_vm(chain)
    assert "smaller" in refused(vm, *words)["message"]
    assert_chain(vm, chain.layers)
    if words[0] != "pull":
        return
    change(rechain, vm, "pull", "vda")          # nothing is left below that could be seen
    vm.stop()
    with images.raw_view(chain.active) as raw, open(raw, "rb") as now, open(chain.reference, "rb") as base:
        assert now.read(2 * MiB) == base.read(2 * MiB) and now.read() == bytes(2 * MiB)


def test_a_base_that_is_smaller_grows(make_chain, make_vm, rechain, style):
    chain = make_chain(size=4 * MiB)
    run("qemu-img", "resize", "-q", "-f", "qcow2", chain.active, 8 * MiB)
    vm = make_vm(chain, style=style)
    vm.guest_write(7 * MiB, MiB, 0x55)
    plan = valid(rechain.run("commit", vm.qmp_path, "vda", "--dry-run", json=True).expect(0).json)
    assert any("grows" in note for note in plan["notes"]) and any("is changed" in note for note in plan["notes"])
    change(rechain, vm, "commit", "vda")
    vm.stop()
    with images.raw_view(chain.base) as raw, open(raw, "rb") as now, open(chain.reference, "rb") as before:
        assert now.read(4 * MiB) == before.read() and now.read() == bytes(3 * MiB) + b"\x55" * MiB


@pytest.mark.parametrize("verb", [("commit", "vda"), ("commit", "vda", "--top", "one.qcow2")], ids=["active", "inner"])
def test_a_base_that_has_grown_gets_its_size_back_when_qemu_is_dead(make_chain, make_vm, rechain, verb):
    chain = make_chain(("base", "one", "current"), size=4 * MiB)
    for layer in chain.layers[:2]:
        run("qemu-img", "resize", "-q", "-f", "qcow2", layer, 12 * MiB)
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 2 3M 9M", chain.layers[1])
    with images.raw_view(chain.active) as raw, open(raw, "rb") as file:
        before = file.read()
    vm = make_vm(chain)
    started = rechain.start(verb[0], vm.qmp_path, *verb[1:], *(["--base", "base.qcow2"] if len(verb) == 2 else []),
                            "--bandwidth", "1M")
    wait_until(lambda: images.info(chain.base, "qcow2")["virtual-size"] > 4 * MiB, "the base has not grown")
    started.kill()
    vm.sigkill()
    settled = rechain.run("recover", json=True).expect(0).json["operations"][0]
    assert settled["state"] == "undone" and images.info(chain.base, "qcow2")["virtual-size"] == 4 * MiB
    for layer in chain.layers:
        images.check_image(layer)
    with images.raw_view(chain.active) as raw, open(raw, "rb") as file:
        assert file.read() == before


def test_a_pull_that_would_not_fit_is_refused_beforehand(make_vm, refused, workdir):
    with images.small_fs(12, os.path.join(workdir, "fs")) as dir:
        below = images.make_chain(os.path.join(workdir, "b"), ["base"], size=32 * MiB, share=0.9)
        chain = images.Chain([os.path.join(dir, "current.qcow2")] + below.layers, ["qcow2"] + below.formats,
                             below.reference, below.size)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", below.active, "-F", "qcow2", chain.active, below.size)
        vm = make_vm(chain, dir=workdir)
        assert "not enough space" in refused(vm, "pull", "vda")["message"]
        vm.close()


def test_a_commit_that_would_not_fit_is_refused_beforehand(make_vm, refused, workdir):
    """The base grows, and has no room for that."""
    with images.small_fs(12, workdir) as dir:
        base, current = f"{dir}/base.qcow2", f"{workdir}/current.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", base, "4M")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", "qcow2", current, "64M")
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 20M 30M", current)
        vm = make_vm(images.Chain([current, base], ["qcow2", "qcow2"], None, 64 * MiB), dir=workdir)
        assert "not enough space" in refused(vm, "commit", "vda")["message"]
        vm.close()


# ---- odd chains ----

def shows_the_same(vm, chain, path):
    vm.stop()
    images.check_image(path)
    with images.raw_view(path) as raw:
        run("cmp", raw, chain.reference)


def test_forty_layers_become_one(make_chain, make_vm, rechain, style):
    chain = make_chain([f"l{i}" for i in range(40)], size=4 * MiB, share=0.1, cluster_size=4096)
    vm = make_vm(chain, style=style)
    change(rechain, vm, "commit", "vda,top=l38.qcow2,base=l1.qcow2")
    assert_chain(vm, [chain.layers[0]] + chain.layers[38:])
    change(rechain, vm, "pull", "vda")
    assert_chain(vm, [chain.layers[0]])
    shows_the_same(vm, chain, chain.active)


def test_eight_disks_are_committed_in_one_pause(make_vm, rechain, workdir, style):
    chains = [images.make_chain(os.path.join(workdir, f"d{i}"), ["base", "current"], size=4 * MiB, seed=i) for i in range(8)]
    vm = make_vm(chains, style=style, dir=workdir)
    vm.cont()
    document = change(rechain, vm, "commit", *[f"vd{c}" for c in "abcdefgh"])
    assert document["pause-ms"] > 0
    for c, chain in zip("abcdefgh", chains):
        assert_chain(vm, [chain.base], f"vd{c}")
    vm.stop()
    for chain in chains:
        with images.raw_view(chain.base) as raw:
            run("cmp", raw, chain.reference)


@pytest.mark.parametrize("verb, layer", [("pull", "base=base.qcow2"), ("commit", "top=two.qcow2,base=base.qcow2")],
                         ids=["pull", "inner"])
def test_eight_disks_are_merged_at_once(make_vm, rechain, workdir, verb, layer):
    chains = [images.make_chain(os.path.join(workdir, f"d{i}"), NAMES, size=4 * MiB, seed=i) for i in range(8)]
    vm = make_vm(chains, dir=workdir)
    vm.cont()
    document = change(rechain, vm, verb, *[f"vd{c},{layer}" for c in "abcdefgh"])
    assert document["pause-ms"] == 0
    for c, chain in zip("abcdefgh", chains):
        assert_chain(vm, [chain.active, chain.base], f"vd{c}")
    vm.stop()
    for chain in chains:
        images.check_image(chain.active)
        with images.raw_view(chain.active) as raw:
            run("cmp", raw, chain.reference)


def test_disks_go_different_ways_in_one_operation(make_vm, rechain, workdir, style):
    one = images.make_chain(os.path.join(workdir, "a"), NAMES, size=4 * MiB)
    two = images.make_chain(os.path.join(workdir, "b"), NAMES, size=4 * MiB, seed=1)
    vm = make_vm([one, two], style=style, dir=workdir)
    change(rechain, vm, "merge", "vda,source=base.qcow2,dest=current.qcow2", "vdb,source=current.qcow2,dest=base.qcow2")
    assert_chain(vm, [one.active])
    assert_chain(vm, [two.base], "vdb")
    vm.stop()
    for chain, path in ((one, one.active), (two, two.base)):
        with images.raw_view(path) as raw:
            run("cmp", raw, chain.reference)


@pytest.mark.parametrize("words", [["pull", "vda", "--base", "base.qcow2"],
                                   ["commit", "vda", "--top", "two.qcow2", "--base", "base.qcow2"]], ids=["pull", "inner"])
def test_relative_names_stay_relative_on_wish(make_chain, make_vm, rechain, style, words):
    chain = make_chain(NAMES, size=4 * MiB, relative=True)
    vm = make_vm(chain, style=style)
    change(rechain, vm, *words, "--relative")
    assert images.info(chain.active)["backing-filename"] == "base.qcow2"
    assert_chain(vm, [chain.active, chain.base])
    shows_the_same(vm, chain, chain.active)


@pytest.mark.parametrize("words,left", [(["pull", "vda,base=base.img"], [0, 2]), (["commit", "vda,base=base.img"], [2]),
                                        (["commit", "vda,top=one.qcow2"], [0, 2])])
def test_a_raw_base(make_chain, make_vm, rechain, style, words, left):
    chain = make_chain(("base", "one", "current"), formats=("raw", "qcow2", "qcow2"), size=4 * MiB)
    vm = make_vm(chain, style=style)
    change(rechain, vm, *words)
    left = [chain.layers[i] for i in left]
    assert_chain(vm, left)
    vm.stop()
    with images.raw_view(left[0], "raw" if left[0].endswith("img") else "qcow2") as raw:
        run("cmp", raw, chain.reference)


ODD = pytest.mark.parametrize("option", ["extended_l2=on,cluster_size=128k", "data_file={dir}/data.raw,data_file_raw=off"],
                              ids=["subclusters", "data-file"])


@ODD
@pytest.mark.parametrize("words,left", [(["pull", "vda"], [0]), (["commit", "vda"], [1])])
def test_extended_l2_and_external_data_files(make_vm, rechain, refused, version, workdir, option, words, left):
    """QEMU before 8.2 can abort when it streams into subclusters (docs/qemu-findings.md)."""
    base = images.make_chain(workdir, ["base"], size=4 * MiB)
    chain = images.Chain([os.path.join(workdir, "current.qcow2")] + base.layers, ["qcow2", "qcow2"], base.reference, base.size)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", option.format(dir=workdir), "-u", "-b", base.active,
        "-F", "qcow2", chain.active, base.size)
    vm = make_vm(chain)
    if words[0] == "pull" and "extended" in option and version in ("5.2", "7.2"):
        assert "subclusters" in refused(vm, *words)["message"]
        return
    change(rechain, vm, *words)
    left = [chain.layers[i] for i in left]
    assert_chain(vm, left)
    shows_the_same(vm, chain, left[0])


@ODD
@pytest.mark.parametrize("odd", [1, 2, 3])
def test_extended_l2_and_external_data_files_below(make_vm, make_chain, rechain, workdir, option, odd):
    """Committed into, and from, inner and lowest layers of such a kind."""
    plain = make_chain(("base", "one", "two", "current"), size=4 * MiB)
    path = plain.layers[odd]
    below = ["-B", plain.layers[odd + 1], "-F", "qcow2"] if odd < 3 else []
    run("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", *below, "-o", option.format(dir=workdir), path, path + ".odd")
    os.rename(path + ".odd", path)
    vm = make_vm(plain)
    change(rechain, vm, "commit", "vda,top=two.qcow2", "--delete")
    change(rechain, vm, "merge", "vda", "--source", "one.qcow2", "--dest", "base.qcow2", "--delete")
    assert_chain(vm, [plain.active, plain.base])
    change(rechain, vm, "commit", "vda")
    assert_chain(vm, [plain.base])
    shows_the_same(vm, plain, plain.base)


def test_a_terabyte_with_little_in_it(make_chain, make_vm, rechain, style):
    size = 1 << 40
    dir = make_chain(["unused"], size=MiB).dir
    paths = [os.path.join(dir, f"{name}.qcow2") for name in ("base", "one", "current")]
    for i, path in enumerate(paths):
        run("qemu-img", "create", "-q", "-f", "qcow2", *(["-u", "-b", paths[i - 1], "-F", "qcow2"] if i else []), path, size)
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P {i + 1} {i * (300 << 30)} 34M", path)
    chain = images.Chain(paths[::-1], ["qcow2"] * 3, None, size)
    vm = make_vm(chain, style=style)
    change(rechain, vm, *(["pull", "vda,base=base.qcow2"] if style == "drive" else ["commit", "vda,top=one.qcow2"]))
    change(rechain, vm, "commit", "vda", "--allow-shared", paths[0])    # one.qcow2 was kept
    assert_chain(vm, [paths[0]])
    vm.stop()
    for i in range(3):
        out = run("qemu-io", "-r", "-f", "qcow2", "-c", f"read -P {i + 1} {i * (300 << 30)} 34M", paths[0])
        assert "verification failed" not in out
