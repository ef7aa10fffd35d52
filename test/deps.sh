#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what the tests need from Debian if it may, and otherwise names each
# thing that is missing and what is skipped for it. Always ends well: what is
# missing makes the tests do less, not fail.
set -euo pipefail

# command, package, what is skipped without it
needs="
gcc          gcc           the race detector
gcc          libc6-dev     the race detector
bats         bats          all tests of the command line
jq           jq            all tests of the command line
zstd         zstd          command line tests of zstd layers
git          git           versions in the binary, and the linter
shellcheck   shellcheck    the linter's checks of shell scripts
skopeo       skopeo        reading repacked layouts with skopeo
runc         runc          running a command in a bundle with runc
crun         crun          running a command in a bundle with crun
setfattr     attr          command line tests of xattrs
setfacl      acl           command line tests of ACLs
newuidmap    uidmap        command line tests with subordinate IDs
docker-registry docker-registry exchanging images with a registry
htpasswd     apache2-utils command line tests of registries with a password
openssl      openssl       command line tests of registries with TLS
buildah      buildah       making containers with buildah of what shale wrote
setcap       libcap2-bin   the real image, and tests of file capabilities
strace       strace        killing at chosen system calls
debootstrap  debootstrap   the real image
setpriv      util-linux    the command line tests as an ordinary user
xz           xz-utils      the real image
"

PATH=$PATH:/usr/sbin:/sbin

missing() {
	local command package purpose
	while read -r command package purpose; do
		if [ -n "$command" ] && ! command -v "$command" >/dev/null; then
			printf '%s\t%s\n' "$package" "$purpose"
		fi
	done <<<"$needs"
}

packages=$(missing | cut -f1 | sort -u)
[ -n "$packages" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	# shellcheck disable=SC2086 # one word per package
	echo "installing" $packages
	export DEBIAN_FRONTEND=noninteractive
	log=$(mktemp)
	# shellcheck disable=SC2086 # one word per package
	if ! { apt-get -q update && apt-get -q -y --no-install-recommends install $packages; } >"$log" 2>&1 </dev/null; then
		tail -n 5 "$log"
	fi
	rm -f "$log"
fi

missing | while IFS=$'\t' read -r package purpose; do
	echo "MISSING: Debian package $package; skipped for it: $purpose"
done
