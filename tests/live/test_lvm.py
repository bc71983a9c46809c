"""Volume groups, in a guest with a device-mapper: what is told of them is what LVM says."""

import json

import pytest

from harness import lvm
from harness.scene import valid

pytestmark = pytest.mark.skipif(lvm.missing() is not None, reason=str(lvm.missing()))

SCRIPT = r"""
set -e
mkdir -p /etc/lvm /run/lock/lvm
R="rechain --state-dir /tmp/state --config /tmp/conf"
printf '[storage]\nallow-vg=vg0\n' > /tmp/conf
dd if=/dev/zero of=/dev/vda bs=1M count=1 2>/dev/null
lvm vgcreate -y vg0 /dev/vda >&2
lvm lvcreate -y -Zn -Wn -L 16M -n my-lv vg0 >&2
lvm lvcreate -y -Zn -Wn -L 8M -n small vg0 >&2
lvm lvcreate -y -s -L 8M -n snap vg0/my-lv >&2
lvm lvcreate -y -Wn --thinpool pool -L 32M vg0 >&2
lvm lvcreate -y -Wn -V 64M -n thin vg0/pool >&2
qemu-img create -q -f qcow2 /dev/vg0/small 4M >&2
$R -o json vol list vg0
$R -o json vol info /dev/vg0/my-lv
$R -o json vol info /dev/mapper/vg0-thin
$R -o json storage info
exec 9>/dev/vg0/thin
$R -o json vol info /dev/vg0/thin
exec 9>&-
printf '[storage]\nallow-vg=other\n' > /tmp/conf
for words in "vol info /dev/vg0/my-lv" "vol list vg0" "vol info /dev/mapper/vg0-thin"; do
  set +e; $R $words >&2; echo "{\"rc\":$?}"; set -e
done
$R -o json vol list
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    decoder, documents = json.JSONDecoder(), []
    text = lvm.run(SCRIPT, str(tmp_path_factory.mktemp("lvm"))).strip().replace("\r", "")
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].lstrip()
    return documents


def test_a_volume_group_lists_its_volumes(told):
    volumes = {v["path"]: v for v in valid(told[0])["volumes"]}
    assert sorted(volumes) == [f"/dev/vg0/{name}" for name in ("my-lv", "small", "snap", "thin")]
    assert {path: v["type"] for path, v in volumes.items()}["/dev/vg0/thin"] == "thin-lv"
    assert volumes["/dev/vg0/my-lv"]["size"] == 16 << 20 and volumes["/dev/vg0/thin"]["lv"]["pool"] == "pool"
    assert volumes["/dev/vg0/snap"]["lv"]["snapshot-of"] == "my-lv"
    assert (volumes["/dev/vg0/small"]["format"], volumes["/dev/vg0/small"]["virtual-size"]) == ("qcow2", 4 << 20)


def test_a_logical_volume_is_known_by_each_of_its_names(told):
    assert (valid(told[1])["path"], told[1]["type"], told[1]["size"]) == ("/dev/vg0/my-lv", "lv", 16 << 20)
    assert (valid(told[2])["path"], told[2]["type"]) == ("/dev/vg0/thin", "thin-lv")
    assert told[2]["open"] == [] and [by["writes"] for by in valid(told[4])["open"]] == [True]


def test_pools_tell_their_space(told):
    pools = {pool.get("name"): pool for pool in valid(told[3])["pools"]}
    assert pools["vg0"]["type"] == "vg" and pools["vg0"]["total"] > pools["vg0"]["free"] > 0
    assert pools["pool"]["type"] == "thin-pool" and pools["pool"]["data-percent"] == 0
    assert told[3]["lvm"] == {"usable": True}


def test_a_volume_group_that_is_not_allowed_is_not_touched(told):
    assert [entry["rc"] for entry in told[5:8]] == [5, 5, 5]
    assert valid(told[8])["volumes"] == []
