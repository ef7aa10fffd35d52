# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What all suites share. bats/run.sh sets these and runs the suites:
#
#   SHALE        the binary under test; umoci's can be put in its place
#   UMOCI        umoci v0.6.0, to compare with
#   MKLAYOUT     writes layouts without shale's code: see test/mklayout
#   CHECKLAYOUT  checks layouts without shale's code: see test/checklayout
#   TREEFACTS    prints all that two trees are compared by: see test/treefacts
#   DEBIAN       the layout of the Debian image, or empty
#   KILLS        how many times the crash tests kill
#
# A command that must fail is run with `run` or `refuses`, never with `!`,
# which cannot fail a test unless it is in the last line.

bats_require_minimum_version 1.5.0
set -o pipefail

setup() {
	sandbox
}

# sandbox makes a test start in a directory of its own, which is empty but for
# tmp, where temporary files go.
sandbox() {
	mkdir -p "$BATS_TEST_TMPDIR/here/tmp"
	cd "$BATS_TEST_TMPDIR/here" || return
	export TMPDIR=$PWD/tmp
	unset SOURCE_DATE_EPOCH
	if [ "$(id -u)" = 0 ]; then ROOTLESS=(); else ROOTLESS=(--rootless); fi
}

# teardown lets bats remove what tests have closed.
teardown() {
	chmod -R u+rwX "$BATS_TEST_TMPDIR" 2>/dev/null || true
}

# shale ARGS... runs the binary under test and shows what it did; $status,
# $output (standard output only) and $stderr are set.
shale() {
	run --separate-stderr timeout --kill-after=5 300 "$SHALE" "$@"
	show "$@"
}

# show prints the last run, for the log of a test that fails.
show() {
	echo "\$ shale $* (exit status $status)"
	[ -z "$output" ] || printf '%s\n' "$output"
	[ -z "${stderr:-}" ] || printf '%s\n' "$stderr" | sed 's/^/2> /'
}

# works ARGS... is shale for what must succeed.
works() {
	shale "$@"
	[ "$status" -eq 0 ]
}

# refuses PATTERN ARGS... is shale for what must fail with exit status 1, one
# message that matches the extended regular expression, and no output.
refuses() {
	local pattern=$1
	shift
	shale "$@"
	[ "$status" -eq 1 ] || fail "exit status $status, not 1"
	[ -z "$output" ] || fail "there is output"
	[ "$(grep -c . <<<"$stderr")" -eq 1 ] || fail "the message is not one line"
	grep -Eiq -- "$pattern" <<<"$stderr" || fail "the message does not match: $pattern"
}

# misuses PATTERN ARGS... is shale for a wrong command line: exit status 1 and
# a message; usage may be shown besides.
misuses() {
	local pattern=$1
	shift
	shale "$@"
	[ "$status" -eq 1 ] || fail "exit status $status, not 1"
	grep -Eiq -- "$pattern" <<<"$stderr" || fail "the message does not match: $pattern"
}

fail() {
	echo "$*"
	return 1
}

# needs COMMAND... skips the test if one is not there.
needs() {
	local command
	for command; do
		command -v "$command" >/dev/null || skip "$command is not installed"
	done
}

needs_root() {
	[ "$(id -u)" = 0 ] || skip "only root may do this: $*"
}

# one_hierarchy COMMAND... runs a container runtime. crun refuses a machine with
# both versions of cgroups; root can hide one of them from it.
one_hierarchy() {
	if [ "$(id -u)" = 0 ] && mountpoint -q /sys/fs/cgroup/unified; then
		# shellcheck disable=SC2016 # expanded by the inner shell
		unshare --mount sh -c 'umount /sys/fs/cgroup/unified && exec "$@"' sh "$@"
	else
		"$@"
	fi
}

# --- layouts and images ---

# base_tar FILE makes a small layer with one of most things.
base_tar() {
	local made=$BATS_RUN_TMPDIR/base.tar tree=$BATS_TEST_TMPDIR/base-tree
	if [ -e "$made" ]; then
		cp "$made" "$1"
		return
	fi
	mkdir -p "$tree"/{etc,bin,var/lib/old,srv}
	echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
	echo 'root:x:0:' >"$tree/etc/group"
	echo base >"$tree/etc/name"
	echo tool >"$tree/bin/tool"
	chmod 755 "$tree/bin/tool"
	ln "$tree/bin/tool" "$tree/bin/tool2"
	ln -s tool "$tree/bin/link"
	echo old >"$tree/var/lib/old/file"
	mkfifo "$tree/srv/fifo"
	tar --create --file="$made" --directory="$tree" --sort=name --format=posix --numeric-owner --owner=0 --group=0 \
		--mtime=@1500000000 --pax-option=delete=atime,delete=ctime .
	rm -rf "$tree"
	cp "$made" "$1"
}

# image LAYOUT TAG [OPTION...] writes the image of one such layer, with an
# independent writer.
image() {
	local layout=$1 tag=$2
	shift 2
	base_tar "$BATS_TEST_TMPDIR/base.tar"
	"$MKLAYOUT" -layout "$layout" -tag "$tag" "$@" "$BATS_TEST_TMPDIR/base.tar"
}

# unpacked LAYOUT:TAG BUNDLE unpacks as whoever runs the tests may.
unpacked() {
	works unpack "${ROOTLESS[@]}" --image "$1" "$2"
}

blob() { # LAYOUT DIGEST
	cat "$1/blobs/${2/://}"
}

# ref LAYOUT TAG prints the digest that the tag stands for.
ref() {
	jq -er --arg tag "$2" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $tag) | .digest' "$1/index.json"
}

manifest() { # LAYOUT TAG
	blob "$1" "$(ref "$1" "$2")"
}

config() { # LAYOUT TAG
	blob "$1" "$(manifest "$1" "$2" | jq -r .config.digest)"
}

layers() { # LAYOUT TAG
	manifest "$1" "$2" | jq -r '.layers[].digest'
}

# layer_tar LAYOUT TAG INDEX prints a layer, uncompressed; -1 is the last.
layer_tar() {
	local type digest desc
	desc=$(manifest "$1" "$2" | jq -r ".layers[$3] | .mediaType + \" \" + .digest")
	read -r type digest <<<"$desc"
	case $type in
	*gzip) blob "$1" "$digest" | gzip -dc ;;
	*zstd) blob "$1" "$digest" | zstd -dc ;;
	*) blob "$1" "$digest" ;;
	esac
}

# flip FILE [OFFSET] changes a byte, in the middle or there, whatever it was.
flip() {
	local at=${2:-$(($(stat -c %s "$1") / 2))} old
	old=$(od -An -tu1 -j "$at" -N 1 "$1")
	# shellcheck disable=SC2059 # the format is an octal escape
	printf "\\$(printf %o $((old ^ 32)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}

# layer_names LAYOUT TAG INDEX lists the names in a layer, sorted, without the
# spellings that differ between tools.
layer_names() {
	layer_tar "$@" | tar --list | sed -e 's|^\./||' -e 's|/$||' | grep -vx '' | LC_ALL=C sort
}

# whole LAYOUT [CODE...] checks a layout from outside: that all that index.json leads
# to is there, with the right sizes, digests and diffIDs. The binary under test must
# find nothing in it, either, besides what has one of the codes; umoci's has nothing to
# find it with.
whole() {
	"$CHECKLAYOUT" "$1" || return
	if [ "${VERIFIES:-}" = "" ]; then
		VERIFIES=no
		if "$SHALE" verify --help >/dev/null 2>&1; then VERIFIES=yes; fi
		export VERIFIES
	fi
	if [ "$VERIFIES" = yes ]; then verified "$@"; fi
}

# verified LAYOUT [CODE...] fails unless verify finds nothing but notes, and what has
# one of the codes.
verified() {
	local layout=$1 report bad
	shift
	report=$("$SHALE" verify --json --layout "$layout") || true
	# Starting jq takes longer than verify does, and mostly there is nothing to look at.
	[[ $report != *'"findings":[],'* ]] || return 0
	bad=$(jq -c '.findings[] | select(.severity != "info" and (.code | IN($ARGS.positional[]) | not))' --args "$@" <<<"$report") ||
		fail "verify prints no JSON about $layout" || return
	[ -z "$bad" ] || fail "verify finds in $layout: $bad"
}

# only_blobs LAYOUT fails if there is anything in the layout besides what
# belongs there: temporary files, for example.
only_blobs() {
	local extra
	extra=$(find "$1" -mindepth 1 -printf '%P\n' |
		grep -Evx 'oci-layout|index\.json|blobs|blobs/sha256|blobs/sha256/[0-9a-f]{64}' || true)
	[ -z "$extra" ] || fail "left in the layout: $extra"
}

# stat_caches BUNDLE lists the shortcuts that a bundle may have and may lose.
stat_caches() {
	find "$1" -maxdepth 1 -name '*.stat*'
}

# --- trees ---

# compare_trees A B fails with a diff unless both trees are the same in path,
# type, mode, owner, size, content, link target, device, mtime, xattrs, link
# count and hardlinks.
compare_trees() {
	"$TREEFACTS" "$1" >"$BATS_TEST_TMPDIR/facts.1" || return
	"$TREEFACTS" "$2" >"$BATS_TEST_TMPDIR/facts.2" || return
	[ -s "$BATS_TEST_TMPDIR/facts.1" ] || fail "$1 is empty" || return
	diff -U0 "$BATS_TEST_TMPDIR/facts.1" "$BATS_TEST_TMPDIR/facts.2" >"$BATS_TEST_TMPDIR/facts.diff" || {
		head -n 60 "$BATS_TEST_TMPDIR/facts.diff"
		fail "$1 and $2 differ"
	}
}

# mtree_lines FILE prints an mtree manifest without its comments.
mtree_lines() {
	grep -v '^#' "$1"
}

# fingerprint PATH... identifies all that is in a tree, times included, to see
# whether a command has changed anything there.
fingerprint() {
	local path
	for path; do
		"$TREEFACTS" "$path" || exit
	done | sha256sum
}

# contents DIR is fingerprint without times and the like: which names there are
# and what is in the files. Working in a layout may touch its directories.
contents() {
	(cd "$1" && find . -printf '%p %y %l\n' | sort && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}
