# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Making Debian trees and packing them as layers. Sourced by the scripts that
# build test images; they need root, debootstrap and GNU tar.

# cache_dir prints the directory that keeps images between runs.
cache_dir() {
	echo "${SHALE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shale-test}"
}

# recipe_hash FILE... prints a short hash of the files: the key in the cache.
recipe_hash() {
	cat "$@" | sha256sum | cut -c1-12
}

# in_private_mounts re-runs the calling script in a mount namespace of its own,
# where that is possible, so that no mount of debootstrap's can outlive it.
in_private_mounts() {
	if [ -z "${SHALE_PRIVATE_MOUNTS:-}" ] && unshare --mount true 2>/dev/null; then
		SHALE_PRIVATE_MOUNTS=1 exec unshare --mount --propagation private "$0" "$@"
	fi
}

# debian_suite and debian_mirror print what this machine's own packages come
# from. The mirror is empty if apt does not say, and then debootstrap knows one.
debian_suite() {
	# shellcheck source=/dev/null
	(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
}

debian_mirror() {
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format '$(COMPONENT) $(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		awk -v suite="$(debian_suite)" '$1 == "main" && $2 == suite { print $3; exit }'
}

# bootstrap DIR [OPTION...] makes a Debian with the given options of debootstrap.
bootstrap() {
	local dir=$1 debs proxy=
	shift
	debs=$(cache_dir)/debs
	mkdir -p "$debs"
	eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null)"
	if [ -n "$proxy" ]; then
		export http_proxy=$proxy
	fi
	# shellcheck disable=SC2046 # no mirror, no argument
	debootstrap "$@" --cache-dir="$debs" \
		"$(debian_suite)" "$dir" $(debian_mirror) >"$dir.log" 2>&1 || {
		tail -n 20 "$dir.log" >&2
		return 1
	}
}

# install_packages DIR NAME... installs packages with the tree's own apt, which
# gets this machine's name resolution and proxy settings for as long as it runs.
install_packages() {
	local dir=$1 file
	shift
	for file in resolv.conf hosts; do
		if [ -e "$dir/etc/$file" ]; then mv "$dir/etc/$file" "$dir/etc/$file.kept"; fi
		cp -L "/etc/$file" "$dir/etc/$file"
	done
	apt-config dump Acquire::http::Proxy Acquire::https::Proxy >"$dir/etc/apt/apt.conf.d/00host" 2>/dev/null || true
	{
		chroot "$dir" apt-get -q update &&
			DEBIAN_FRONTEND=noninteractive chroot "$dir" apt-get -q -y --no-install-recommends install "$@" &&
			chroot "$dir" apt-get clean
	} >"$dir.log" 2>&1 </dev/null || {
		tail -n 20 "$dir.log" >&2
		return 1
	}
	rm -rf "$dir/etc/apt/apt.conf.d/00host" "$dir/etc/resolv.conf" "$dir/etc/hosts" "$dir"/var/lib/apt/lists/*
	for file in resolv.conf hosts; do
		if [ -e "$dir/etc/$file.kept" ]; then mv "$dir/etc/$file.kept" "$dir/etc/$file"; fi
	done
}

# pack DIR TAR [OPTION...] packs DIR, or what the options name, as a layer.
pack() {
	local dir=$1 tar=$2
	shift 2
	tar --create --file="$tar" --directory="$dir" --format=posix --pax-option=delete=atime,delete=ctime \
		--numeric-owner --one-file-system --xattrs --xattrs-include='*' --sort=name "${@:-.}"
}

# names DIR lists what is in DIR, sorted.
names() {
	(cd "$1" && find . -xdev -mindepth 1 | LC_ALL=C sort)
}

# pack_since DIR TAR STAMP NAMES packs what changed in DIR after the file STAMP
# was written, with a whiteout for each name of the list NAMES that is gone.
pack_since() {
	local dir=$1 tar=$2 stamp=$3 before=$4 list whiteouts name parent
	list=$(mktemp)
	whiteouts=$(mktemp -d)
	(cd "$dir" && find . -xdev -mindepth 1 -cnewer "$stamp") >"$list"
	names "$dir" | LC_ALL=C comm -23 "$before" - | while read -r name; do
		parent=${name%/*}
		# Below a directory that is gone as a whole nothing needs saying.
		if [ -d "$dir/$parent" ]; then
			mkdir -p "$whiteouts/$parent"
			: >"$whiteouts/$parent/.wh.${name##*/}"
		fi
	done
	pack "$dir" "$tar" --no-recursion --verbatim-files-from --files-from="$list"
	# Only the whiteouts themselves: their directories here are made up.
	(cd "$whiteouts" && find . -type f) >"$list"
	if [ -s "$list" ]; then
		tar --append --file="$tar" --directory="$whiteouts" --format=posix --numeric-owner \
			--owner=0 --group=0 --verbatim-files-from --files-from="$list"
	fi
	rm -rf "$list" "$whiteouts"
}
