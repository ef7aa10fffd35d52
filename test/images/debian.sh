#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the Debian image of the real-image suite and prints the path of its
# layout, whose tag is "debian". Built once and kept in the cache.
#
#   layer 1  debootstrap, variant minbase
#   layer 2  packages installed into it with apt
#   layer 3  what layers can be awkward with: whiteouts, an opaque directory,
#            files that become directories and the reverse, hardlinks, a file
#            capability, setuid, xattrs, a FIFO and device nodes
#
# Needs root, debootstrap, setcap, setfattr and the network.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=rootfs.sh
. "$here/rootfs.sh"

layout=$(cache_dir)/debian-$(recipe_hash "${BASH_SOURCE[0]}").oci
if [ -e "$layout" ]; then
	echo "$layout"
	exit
fi
for tool in debootstrap setcap setfattr tar; do
	command -v "$tool" >/dev/null || {
		echo "debian image: $tool is missing" >&2
		exit 1
	}
done
[ "$(id -u)" = 0 ] || {
	echo "debian image: must be built as root" >&2
	exit 1
}
in_private_mounts "$@"

mkdir -p "$(cache_dir)"
work=$(mktemp -d "$(cache_dir)/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root

echo "debian image: minbase" >&2
mkdir "$root"
bootstrap "$root" --variant=minbase
rm -f "$root"/var/cache/apt/archives/*.deb
pack "$root" "$work/1.tar"

echo "debian image: packages" >&2
names "$root" >"$work/names"
touch "$work/stamp"
sleep 1
install_packages "$root" less netbase iputils-ping xz-utils python3-minimal
pack_since "$root" "$work/2.tar" "$work/stamp" "$work/names"

echo "debian image: awkward layer" >&2
top=$work/top
mkdir -p "$top"/{etc/apt,usr/share/doc,usr/bin,usr/share/man,opt/app/{bin,data},var/lib/odd,srv}
: >"$top/usr/bin/.wh.less"          # a file of layer 2
: >"$top/etc/.wh.issue.net"         # a file of layer 1
: >"$top/usr/share/.wh.bug"         # a whole directory
: >"$top/usr/share/doc/.wh..wh..opq" # all but what is here
echo 'what is left' >"$top/usr/share/doc/README"
mkdir "$top/etc/debian_version"     # a file becomes a directory
cp "$root/etc/debian_version" "$top/etc/debian_version/number"
echo 'no parts' >"$top/etc/apt/preferences.d" # a directory becomes a file
ln -s ../opt/app/data "$top/srv/data"
ln -s nowhere "$top/srv/dangling"
mkdir "$top/media"
ln -s /opt "$top/mnt"               # a directory becomes a symlink

echo 'one file, three names' >"$top/opt/app/data/first"
ln "$top/opt/app/data/first" "$top/opt/app/data/second"
ln "$top/opt/app/data/first" "$top/var/lib/odd/third"
ln -s first "$top/opt/app/data/link"
ln "$top/opt/app/data/link" "$top/opt/app/data/link2" # a hardlink of a symlink

cp "$root/usr/bin/true" "$top/opt/app/bin/capable"
cp "$root/usr/bin/true" "$top/opt/app/bin/setuid"
cp "$root/usr/bin/true" "$top/opt/app/bin/setgid"
chown 1000:2000 "$top/opt/app/bin/setuid" "$top/opt/app/data"
chmod 4755 "$top/opt/app/bin/setuid"
chmod 2711 "$top/opt/app/bin/setgid"
chmod 1777 "$top/opt/app/data"
setcap cap_net_raw+ep "$top/opt/app/bin/capable"

setfattr -n user.shale.text -v 'a value' "$top/opt/app/data/first"
setfattr -n user.shale.binary -v 0x00ff0a0d "$top/opt/app/data/first"
setfattr -n user.shale.dir -v dir "$top/opt/app"
setfattr -n trusted.shale -v root "$top/opt/app/bin/setgid"

mkfifo -m 640 "$top/var/lib/odd/fifo"
mknod -m 660 "$top/var/lib/odd/char" c 1 7
mknod -m 600 "$top/var/lib/odd/block" b 7 3
mkdir -m 000 "$top/var/lib/odd/closed"
echo 'cannot be read' >"$top/var/lib/odd/closed/file"
chmod 0 "$top/var/lib/odd/closed/file"
printf 'x' >"$top/var/lib/odd/"$'new\nline'
printf 'x' >"$top/var/lib/odd/"$'not\xffutf8'
printf 'x' >"$top/var/lib/odd/umlaut-ü"
: >"$top/var/lib/odd/empty"
truncate -s 3M "$top/var/lib/odd/sparse"
long=$top/var/lib/odd/$(printf 'n%.0s' {1..250})
mkdir "$long"
echo long >"$long/$(printf 'm%.0s' {1..250})"
find "$top" -exec touch --no-dereference --date=@1234567890 {} +
touch --date=@1234567890.123456789 "$top/var/lib/odd/empty"
touch --date=@-5 "$top/opt/app/data/second" # before the epoch
pack "$top" "$work/3.tar" --no-recursion --null --verbatim-files-from --files-from=<(cd "$top" && find . -mindepth 1 -print0)

echo "debian image: compressing" >&2
(cd "$here/../.." && go run ./test/mklayout -layout "$work/layout" -tag debian "$work"/[123].tar) >&2
mv "$work/layout" "$layout"
echo "$layout"
