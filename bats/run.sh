#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the command line's tests: as root and as an ordinary user, both at the same
# time, if root runs it, and otherwise as the user that does.
#
#   bats/run.sh              all suites
#   bats/run.sh repack tag   only these
#
# SHALE names another binary to test, KILLS how many times the crash tests kill:
# by default 120 times as root and 60 times as the ordinary user.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"

export PATH=$PATH:/usr/sbin:/sbin
for tool in bats jq; do
	command -v "$tool" >/dev/null || {
		echo "SKIPPED: all tests of the command line, since $tool is missing"
		exit 0
	}
done

user=shaletest

# Everything is in one directory that any user can read: a checkout may be
# below a home that only its owner may enter. A tmpfs makes it fast.
base=/tmp
if [ -w /dev/shm ] && [ "$(df --output=avail -k /dev/shm | tail -n 1)" -gt 3000000 ]; then
	base=/dev/shm
fi
work=$(mktemp -d "$base/shale-bats.XXXXXX")
ordinary= # the process group of the tests as an ordinary user, while they run
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	[ -z "$ordinary" ] || kill -- "-$ordinary" 2>/dev/null || true
	chmod -R u+rwx "$work" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$work"

mkdir "$work/bin" "$work/bats"
cp "${SHALE:-bin/shale}" "$work/bin/shale"
cp "${UMOCI:-bin/peers/umoci}" "$work/bin/umoci"
CGO_ENABLED=0 go build -o "$work/bin/" ./test/mklayout ./test/checklayout ./test/treefacts
cp bats/*.bats bats/*.bash "$work/bats/"

debian=
if [ "$(id -u)" = 0 ]; then
	if image=$(test/images/debian.sh); then
		debian=$work/debian.oci
		cp -r "$image" "$debian"
		chmod -R a+rX "$debian"
	else
		echo "SKIPPED: the real image, which could not be built"
	fi
fi

suites=()
for suite in "${@:-}"; do
	[ -z "$suite" ] || suites+=("$work/bats/$(basename "$suite" .bats).bats")
done
[ ${#suites[@]} -gt 0 ] || suites=("$work/bats")

# suite WHO KILLS COMMAND... runs bats by means of the command.
suite() {
	local who=$1 kills=$2
	shift 2
	echo "== as $who"
	"$@" env \
		SHALE="$work/bin/shale" UMOCI="$work/bin/umoci" MKLAYOUT="$work/bin/mklayout" \
		CHECKLAYOUT="$work/bin/checklayout" TREEFACTS="$work/bin/treefacts" DEBIAN="$debian" KILLS="${KILLS:-$kills}" TMPDIR="$work/tmp-$who" HOME="$work/tmp-$who" LC_ALL=C.UTF-8 \
		bats --timing "${suites[@]}" </dev/null | tee "$work/$who.tap" || true
}

# count WHO adds to the summary and to the result.
count() {
	local who=$1 log=$work/$1.tap plan passed failed skipped
	plan=$(sed -n 's/^1\.\.//p' "$log" | head -n 1)
	skipped=$(grep -c '^ok .* # skip' "$log" || true)
	passed=$(($(grep -c '^ok ' "$log" || true) - skipped))
	failed=$(grep -c '^not ok ' "$log" || true)
	summary+="as $who: $passed passed, $failed failed, $skipped skipped"$'\n'
	# A run that ended before its time has fewer results than its plan says, or no plan.
	[ "$failed" -eq 0 ] && [ "${plan:-0}" -gt 0 ] && [ "$((passed + failed + skipped))" -eq "$plan" ] || result=1
}

# start_ordinary runs the tests as an ordinary user aside, and keeps what they say.
# Most tests keep one processor busy, or none.
start_ordinary() {
	install -d -o "$user" "$work/tmp-user"
	set -m # a process group of its own, which can be stopped as a whole
	suite user 60 setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups >"$work/user.out" 2>&1 &
	ordinary=$!
	set +m
}

summary=
result=0
if [ "$(id -u)" = 0 ]; then
	if ! command -v setpriv >/dev/null; then
		echo "SKIPPED: the tests as an ordinary user, since setpriv is missing"
	elif id "$user" >/dev/null 2>&1 || useradd --system --no-create-home --shell /bin/sh "$user"; then
		start_ordinary
	else
		echo "SKIPPED: the tests as an ordinary user, since $user could not be created"
	fi
	mkdir "$work/tmp-root"
	suite root 120 env
	count root
	if [ -n "$ordinary" ]; then
		wait "$ordinary" || result=1
		ordinary=
		cat "$work/user.out"
		count user
	fi
else
	mkdir "$work/tmp-user"
	suite user 120 env
	count user
fi

printf '== summary\n%s' "$summary"
exit "$result"
