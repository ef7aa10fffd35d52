#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Shows the main job on a real image with nothing to download: the base layer is
# the Go toolchain of this machine. Prints each command, what comes out, and how
# long it takes. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

shale=$PWD/bin/shale
goroot=$(go env GOROOT)
base=${TMPDIR:-/tmp}
if [ -w /dev/shm ] && [ "$(df --output=avail -k /dev/shm | tail -n 1)" -gt 1500000 ]; then
	base=/dev/shm
fi
work=$(mktemp -d "$base/shale-demo.XXXXXX")
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$work"

rootless=()
[ "$(id -u)" = 0 ] || rootless=(--rootless)

# say prints a command as a person would type it.
say() {
	local line=''
	printf -v line ' %q' "$@"
	printf '\n$%s\n' "${line//"$shale"/shale}"
}

run() {
	local start end
	say "$@"
	start=$(date +%s%N)
	"$@"
	end=$(date +%s%N)
	printf '(%d.%03d s)\n' $(((end - start) / 1000000000)) $(((end - start) / 1000000 % 1000))
}

echo "An image whose base layer is the Go toolchain in $goroot:"
run tar --create --file=go.tar --sort=name --owner=0 --group=0 --numeric-owner \
	--directory="$goroot" --transform='s,^\.,usr/local/go,' .
run "$shale" init --layout images
run "$shale" new --image images:go
run "$shale" raw add-layer --image images:go go.tar
rm go.tar
printf '%d files, %s as a layer\n' "$(find "$goroot" -type f | wc -l)" "$(du -sh images | cut -f1)"

printf '\nUnpack it, edit a file, and make the edit a new layer:\n'
run "$shale" unpack "${rootless[@]}" --image images:go bundle
edited=bundle/rootfs/usr/local/go/VERSION
printf "\n\$ echo 'edited for the demo' >>%s\n" "$edited"
echo 'edited for the demo' >>"$edited"
run "$shale" repack --image images:edited bundle

printf '\nWhat is there now:\n'
run "$shale" ls --layout images
run "$shale" stat --image images:edited

printf '\nUnpack the new image, and look for the edit:\n'
run "$shale" unpack "${rootless[@]}" --image images:edited again
run tail -n 1 again/rootfs/usr/local/go/VERSION
run cmp "$edited" again/rootfs/usr/local/go/VERSION

# layers TAG prints the digests of an image's layers.
layers() {
	"$shale" stat --json --image "images:$1" | grep -o '"layer":{[^}]*' | grep -o 'sha256:[0-9a-f]*'
}
[ "$(layers edited | head -n 1)" = "$(layers go)" ]
printf '\nThe edit is there. The image has %d layers; the first is still the old one.\n' "$(layers edited | wc -l)"
