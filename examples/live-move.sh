#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# One idea: the whole life of a live move, on a QEMU of its own that needs no guest and no root.
set -eu
rechain=${RECHAIN:-$(dirname "$0")/../build/src/cli/rechain}
dir=$(mktemp -d)
export RECHAIN_STATE_DIR="$dir/state"
trap 'kill "$qemu" 2>/dev/null || :; rm -rf "$dir"' EXIT
qemu=

qemu-img create -q -f qcow2 "$dir/template.qcow2" 64M
qemu-img create -q -f qcow2 -b "$dir/template.qcow2" -F qcow2 "$dir/disk.qcow2"
qemu-system-x86_64 -S -display none -nodefaults -machine q35,accel=tcg \
  -qmp "unix:$dir/qmp.sock,server=on,wait=off" \
  -blockdev "driver=file,node-name=t-f,filename=$dir/template.qcow2" \
  -blockdev "driver=qcow2,node-name=t,file=t-f,read-only=on" \
  -blockdev "driver=file,node-name=d-f,filename=$dir/disk.qcow2" \
  -blockdev "driver=qcow2,node-name=d,file=d-f,backing=t" \
  -device virtio-blk-pci,drive=d,id=vda &
qemu=$!
while [ ! -S "$dir/qmp.sock" ]; do sleep 0.1; done

echo "--- before";  "$rechain" chain "$dir/qmp.sock" vda
echo "--- what a move would do"; "$rechain" move "$dir/qmp.sock" "vda,to=$dir/moved.qcow2" --dry-run
echo "--- the move"; "$rechain" move "$dir/qmp.sock" "vda,to=$dir/moved.qcow2"
echo "--- after";   "$rechain" chain "$dir/qmp.sock" vda
