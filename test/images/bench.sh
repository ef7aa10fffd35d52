#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the image that the benchmarks measure with: Debian with
# build-essential, python3 and git; the Go toolchain of this machine; and a
# large node_modules. Three gzip layers. Prints the path of the layout, whose
# tag is "bench". Built once and kept in the cache.
#
# Needs root, debootstrap, npm and the network.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=rootfs.sh
. "$here/rootfs.sh"

layout=$(cache_dir)/bench-$(recipe_hash "${BASH_SOURCE[0]}").oci
if [ -e "$layout" ]; then
	echo "$layout"
	exit
fi
for tool in debootstrap npm tar; do
	command -v "$tool" >/dev/null || {
		echo "bench image: $tool is missing" >&2
		exit 1
	}
done
[ "$(id -u)" = 0 ] || {
	echo "bench image: must be built as root" >&2
	exit 1
}
in_private_mounts "$@"

mkdir -p "$(cache_dir)"
work=$(mktemp -d "$(cache_dir)/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "bench image: Debian" >&2
mkdir "$work/debian"
bootstrap "$work/debian" --include=build-essential,python3,git
pack "$work/debian" "$work/1.tar"

echo "bench image: Go" >&2
mkdir -p "$work/go/usr/local"
tar --create --directory="$(go env GOROOT)" . | (mkdir "$work/go/usr/local/go" && tar --extract --directory="$work/go/usr/local/go" --no-same-owner)
pack "$work/go" "$work/2.tar" usr/local/go

echo "bench image: node_modules" >&2
mkdir -p "$work/node/srv/app"
(
	cd "$work/node/srv/app"
	npm install --silent --no-audit --no-fund --ignore-scripts --cache "$work/npm" next typescript webpack three
) </dev/null >&2
chown -R 0:0 "$work/node/srv"
pack "$work/node" "$work/3.tar" srv

echo "bench image: compressing" >&2
cat "$work"/[123].tar | tar --list --ignore-zeros 2>/dev/null | wc -l | sed 's/$/ entries/' >&2
du --apparent-size -cm "$work"/[123].tar >&2
(cd "$here/../.." && go run ./test/mklayout -layout "$work/layout" -tag bench "$work"/[123].tar) >&2
mv "$work/layout" "$layout"
echo "$layout"
