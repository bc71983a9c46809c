"""chain and info: what is shown is what QEMU and the headers have."""

import os
import re
import shutil
import subprocess

import pytest

from harness import images
from harness.images import MiB
from harness.qemu import Disk
from harness.scene import graph, tree, valid


def chain_of(rechain, *arguments):
    return valid(rechain.run("chain", *arguments, json=True).expect(0).json)


@pytest.mark.parametrize("count", [1, 2, 60, 200])
def test_chains_of_any_length_are_shown_in_full(make_chain, make_vm, rechain, style, count):
    chain = make_chain([f"layer{i}" for i in range(count)], size=MiB, share=0)
    vm = make_vm(chain, style=style)
    before = graph(vm)
    document = chain_of(rechain, vm.qmp_path)
    assert document["vm"] == vm.qmp_path
    (disk,) = document["disks"]
    assert (disk["disk"], disk["virtual-size"], disk["jobs"]) == ("vda", MiB, [])
    assert [layer["file"] for layer in disk["chain"]] == chain.layers
    assert [layer["depth"] for layer in disk["chain"]] == list(range(count))
    assert [layer.get("backing") for layer in disk["chain"]] == chain.layers[1:] + [None]
    assert [layer["read-only"] for layer in disk["chain"]] == [False] + [True] * (count - 1)
    assert disk["chain"][0]["role"] == "active" and (count == 1 or disk["chain"][-1]["role"] == "base")
    text = rechain.run("chain", vm.qmp_path).expect(0)
    assert [line for line in chain.layers if line not in text.out] == [] and text.err == ""
    offline = chain_of(rechain, "--offline", chain.active)
    assert [layer["file"] for layer in offline["disks"][0]["chain"]] == chain.layers
    assert graph(vm) == before


def test_several_disks_are_shown_and_one_can_be_asked_for(make_vm, rechain, workdir, style):
    chains = {id: images.make_chain(os.path.join(workdir, id), size=MiB) for id in ("vda", "vdb", "vdc")}
    vm = make_vm(list(chains.values()), style=style)
    document = chain_of(rechain, vm.qmp_path)
    assert {d["disk"]: [layer["file"] for layer in d["chain"]] for d in document["disks"]} == \
        {id: chain.layers for id, chain in chains.items()}
    (one,) = chain_of(rechain, vm.qmp_path, "vdb")["disks"]
    assert one["disk"] == "vdb"


def test_filters_are_no_layers(make_chain, make_vm, rechain, style):
    chain = make_chain(size=MiB)
    vm = make_vm(Disk(chain, filters=("throttle", "copy-on-read")), style=style)
    (disk,) = chain_of(rechain, vm.qmp_path)["disks"]
    assert [layer["file"] for layer in disk["chain"]] == chain.layers


def test_a_layer_tells_its_header_verbatim(make_chain, make_vm, rechain):
    chain = make_chain(["template", "current1"], formats=["raw", "qcow2"], relative=True, size=MiB)
    vm = make_vm(chain)
    top, base = chain_of(rechain, vm.qmp_path)["disks"][0]["chain"]
    assert (top["backing"], top["backing-format"], top["format"]) == ("template.img", "raw", "qcow2")
    assert base["format"] == "raw" and "backing" not in base
    assert top["allocated"] == images.info(chain.active)["actual-size"]


def test_the_tree_is_one_line_per_layer_deeper_by_one(make_chain, make_vm, rechain):
    chain = make_chain(["template", "middle", "current1"], size=MiB)
    vm = make_vm(chain)
    lines = [line for line in rechain.run("chain", vm.qmp_path, "vda").expect(0).out.splitlines()
             if any(layer in line for layer in chain.layers)]
    depths = [line.index("/") for line in lines]
    assert len(lines) == 3 and depths == sorted(set(depths))


@pytest.mark.parametrize("offline", [False, True], ids=["live", "offline"])
def test_the_picture_is_a_graph(make_vm, rechain, workdir, offline):
    chain = images.make_chain(workdir, ['tem"pl\\ate', "mid dle", "current1"], size=MiB)
    vm = make_vm(chain)
    where = ["--offline", chain.active] if offline else [vm.qmp_path]
    text = rechain.run("-o", "dot", "chain", *where).expect(0).out
    assert text.startswith("digraph") and text.rstrip().endswith("}") and text.count("{") == text.count("}")
    assert len(re.findall(r"->", text)) == 2 and len(re.findall(r"\[label=", text)) == 3
    strings = re.findall(r'"(?:[^"\\]|\\.)*"', text)
    assert len(strings) >= 3 and '"' not in re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg", "-o", "/dev/null"], input=text, text=True, check=True)


def test_an_offline_chain_needs_no_vm_and_has_no_vm(make_chain, rechain):
    chain = make_chain(["template", "middle", "current1"], relative=True, size=MiB)
    before = tree(chain.dir, skip=(".out", ".err"))
    document = chain_of(rechain, "--offline", chain.active)
    (disk,) = document["disks"]
    assert not {"vm", "disk", "node"} & (set(document) | set(disk))
    assert [layer["file"] for layer in disk["chain"]] == chain.layers
    assert [layer.get("backing") for layer in disk["chain"]] == ["middle.qcow2", "template.qcow2", None]
    assert tree(chain.dir, skip=(".out", ".err")) == before


def test_a_raw_image_is_never_guessed(make_chain, rechain):
    chain = make_chain(["alone"], formats=["raw"], size=MiB)
    error = valid(rechain.run("chain", "--offline", chain.active, json=True).expect(4).error)
    assert "--format" in error["hint"] + error["message"] or "format" in error["message"]
    (disk,) = chain_of(rechain, "--offline", chain.active, "--format", "raw")["disks"]
    assert [layer["format"] for layer in disk["chain"]] == ["raw"]


def test_a_loop_or_a_missing_layer_is_told_by_name(make_chain, rechain, workdir):
    chain = make_chain(["template", "middle", "current1"], size=MiB)
    images.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", chain.active, "-F", "qcow2", chain.base)
    assert chain.active in valid(rechain.run("chain", "--offline", chain.active, json=True).expect(4).error)["message"]
    os.unlink(chain.base)
    result = rechain.run("chain", "--offline", chain.active, json=True)
    assert result.rc in (3, 4) and chain.base in valid(result.error)["message"], str(result)


def test_info_tells_what_qemu_is(make_chain, make_vm, rechain, style):
    chain = make_chain(["template", "middle", "current1"], size=MiB)
    vm = make_vm(chain, style=style)
    document = valid(rechain.run("info", vm.qmp_path, json=True).expect(0).json)
    assert document["qemu"].startswith(vm.version) and document["pid"] == vm.pid
    assert document["run-state"] == vm.run_state()
    (disk,) = document["disks"]
    assert (disk["disk"], disk["file"], disk["layers"], disk["read-only"]) == ("vda", chain.active, 3, False)
    assert document["features"] and document["jobs"] == []
    text = rechain.run("info", vm.qmp_path).expect(0).out
    assert vm.version in text and chain.active in text and "vda" in text


def test_an_empty_tray_is_shown_empty(make_chain, make_vm, rechain):
    vm = make_vm(make_chain(size=MiB), args=["-device", "ide-cd,id=cd0"])
    document = chain_of(rechain, vm.qmp_path)
    assert {d["disk"]: len(d["chain"]) for d in document["disks"]} == {"vda": 2, "cd0": 0}
