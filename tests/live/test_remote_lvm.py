"""vol copy between hosts where a side is a logical volume, in the guest with a device-mapper: the life of an image
from the proposal, without a network. The other host is a session with the same rechain, with a journal of its own;
what passes between the two is what passes through ssh."""

import pytest

from harness import lvm
from test_lvm_volumes import HEAD, MODULES, PROGRAMS

pytestmark = pytest.mark.skipif(lvm.missing() is not None, reason=str(lvm.missing()))

SCRIPT = HEAD + r"""
printf '#!/bin/sh\nexec rechain --state-dir /tmp/state-b --config /tmp/conf --stdio\n' > /bin/ssh
chmod +x /bin/ssh
mkdir /tmp/b
dirty
# the base image, with a filesystem in it
truncate -s 12M base.img; mkfs.ext4 -q -L base base.img
data 300000 1 > payload; say payload $(sum < payload)

vol copy base.img b:/dev/vg0/web; say push_to_lv "$? $(head -c 12582912 /dev/vg0/web | cmp - base.img && echo same)"
vol resize /dev/vg0/web 24M; say grow $?
vol growfs /dev/vg0/web; say growfs $?
mkdir m; mount /dev/vg0/web m; cp payload m/; sync
vol snapshot /dev/vg0/web snap --capacity 8M; say snapshot $?
snap=$(ls /dev/vg0 | grep snap); rm m/payload; sync; umount m
vol copy /dev/vg0/$snap b:/tmp/b/web.img.zst --archive; say archive "$? $(zstd -dc b/web.img.zst | cmp - /dev/vg0/$snap && echo same)"
vol delete /dev/vg0/$snap; say drop_snapshot $?
vol copy b:/tmp/b/web.img.zst /dev/vg0/again; say restore_without_size $?
vol copy b:/tmp/b/web.img.zst /dev/vg0/again --capacity 24M; say restore $?
mount -o ro /dev/vg0/again m; say restored $(sum < m/payload); umount m
vol copy b:/dev/vg0/again /tmp/pulled.img; say pull_from_lv "$? $(cmp /dev/vg0/again pulled.img && echo same)"
vol copy b:/tmp/b/web.img.zst /dev/vg0/web --overwrite; say replace "$? $(cmp /dev/vg0/web /dev/vg0/again && echo same)"
vol copy a:/dev/vg0/again b:/dev/vg0/third; say through "$? $(cmp /dev/vg0/third /dev/vg0/again && echo same)"
vol copy base.img b:/dev/vg0/x --archive; say archive_is_a_file $?
vol copy base.img b:/dev/vg1/x; say other_group $?
say here "$($R op list | grep -c vol-copy)"
say there "$(rechain --state-dir /tmp/state-b op list | grep -c vol-copy)"
say left "$(lvs_of)"
"""


def test_an_image_lives_on_two_hosts_with_volume_groups(tmp_path):
    told = dict(line.split("=", 1) for line in lvm.run(SCRIPT, str(tmp_path), programs=PROGRAMS, modules=MODULES,
                                                       disk_mib=320, timeout=550).replace("\r", "").splitlines() if "=" in line)
    assert told["push_to_lv"] == "0 same"
    assert (told["grow"], told["growfs"], told["snapshot"], told["drop_snapshot"]) == ("0", "0", "0", "0")
    assert told["archive"] == "0 same"
    assert (told["restore_without_size"], told["restore"]) == ("2", "0")
    assert told["restored"] == told["payload"]
    assert told["pull_from_lv"] == told["replace"] == told["through"] == "0 same"
    assert told["archive_is_a_file"] == "4" and told["other_group"] in ("3", "5")
    assert told["left"] == "again;third;web;"
    assert (told["here"], told["there"]) == ("3", "3")
