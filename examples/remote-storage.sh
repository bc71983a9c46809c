#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# One idea: the life of a guest's disk on the storage of two hosts. Storage is touched by rechain alone; ssh is for
# the rest, which is to start the guest and to end it.
#
#   examples/remote-storage.sh HOST_A HOST_B
#
# HOST_A has a volume group and runs the guest, HOST_B keeps the archive. Both have rechain, and are names that ssh
# knows; this is run on one of them or anywhere else. What differs from here at your place comes from the environment.
set -eu
a=${1:?HOST_A} b=${2:?HOST_B}
rechain=${RECHAIN:-rechain}
disk=/dev/${VG:-vg0}/web
base=${BASE:-/var/lib/images/base.img}            # on HOST_A: an image that boots, with a filesystem in it
archive=${ARCHIVE:-/var/backups/web.img.zst}      # on HOST_B
qemu=${QEMU:-qemu-system-x86_64 -machine q35,accel=kvm:tcg -m 512 -display none}
small=${SMALL:-4G} large=${LARGE:-8G}             # the volume at first, and later

boot_guest () {
  ssh "$a" "$qemu -nodefaults -daemonize -pidfile /run/web.pid \
    -blockdev driver=host_device,node-name=web,filename=$disk,cache.direct=on -device virtio-blk-pci,drive=web,id=vda"
}
power_off () { ssh "$a" 'kill $(cat /run/web.pid); while [ -e /run/web.pid ]; do sleep 0.2; done'; }

echo "--- a logical volume, a base image in it, its filesystem as large as the volume"
"$rechain" -H "$a" vol create "$disk" --capacity "$small"
"$rechain" -H "$a" vol copy-contents "$base" "$disk"
"$rechain" -H "$a" vol growfs "$disk"
boot_guest

echo "--- while the guest runs: a snapshot of it, compressed, to $b"
"$rechain" vol copy --snapshot --archive "$a:$disk" "$b:$archive"
"$rechain" -H "$b" vol info "$archive"

echo "--- power off; what the guest wrote since is given up for the archive"
power_off
"$rechain" vol copy --overwrite "$b:$archive" "$a:$disk"

echo "--- a larger volume, and its filesystem with it"
"$rechain" -H "$a" vol resize "$disk" "$large"
"$rechain" -H "$a" vol growfs "$disk"
boot_guest
"$rechain" -H "$a" vol info "$disk"
