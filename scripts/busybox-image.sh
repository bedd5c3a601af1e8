#!/bin/bash
# Makes an OCI archive with Debian's static busybox, by umoci and without any network:
# busybox-image.sh ARCHIVE. Needs root, because the image's files are root's.
set -euo pipefail
archive="${1:?usage: busybox-image.sh ARCHIVE}"

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
layout="$place/image" root="$place/bundle/rootfs"

umoci init --layout "$layout"
umoci new --image "$layout:busybox"
umoci unpack --image "$layout:busybox" "$place/bundle"
mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp}
cp "$(dpkg -L busybox-static | grep -m1 '/bin/busybox$')" "$root/bin/busybox"
for name in sh sleep true echo id ps hostname; do ln -s busybox "$root/bin/$name"; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
umoci repack --image "$layout:busybox" "$place/bundle"
umoci config --image "$layout:busybox" --config.cmd sh --config.env PATH=/bin
tar -C "$layout" -cf "$archive" .
