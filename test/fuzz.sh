#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every native fuzz target of the module for the time given: go test takes
# only one at a time.
#
#   test/fuzz.sh 10s              all of them
#   test/fuzz.sh 5m FuzzApply     only those
#   FUZZJOBS=2 test/fuzz.sh 10s   two at once, which share the processors
#
# A test binary is built once for all targets of a package. What a target says is not
# mixed with what others do: if there are several at once, it comes when one is over.
# Making a finding smaller is cut short: by default that takes a minute for each.
set -euo pipefail
cd "$(dirname "$0")/.."

export fuzztime=${1:-10s}
shift || true
export jobs=${FUZZJOBS:-1}
workers=$(($(nproc) / jobs))
export workers=${FUZZWORKERS:-$((workers > 0 ? workers : 1))}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$(go env GOCACHE)/fuzz
# Most targets write files: a tmpfs makes them fast.
temp=${TMPDIR:-/tmp}
[ ! -w /dev/shm ] || temp=/dev/shm
export work cache temp

# wanted TARGET [NAME...] says whether the target is among those that were asked for.
wanted() {
	local target=$1
	shift
	[ $# -eq 0 ] || [[ " $* " == *" $target "* ]]
}

# binary IMPORT prints where the test binary of a package is.
binary() {
	echo "$work/${1//\//-}.test"
}

# fuzz DIR IMPORT TARGET runs one target.
fuzz() {
	set -euo pipefail
	local dir=$1 import=$2 target=$3 log=$work/$3.log status=0
	{
		echo "== $target in ${dir#"$PWD"/} for $fuzztime"
		(cd "$dir" && TMPDIR=$temp "$(binary "$import")" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$fuzztime" \
			-test.fuzzminimizetime 5x -test.fuzzcachedir "$cache/$import" -test.parallel "$workers") 2>&1
	} | show "$log" || ended "$log" | show "$log" || status=1
	[ "$jobs" = 1 ] || flock "$work" cat "$log"
	return "$status"
}

# show LOG adds what comes to the log, and shows it at once if nothing else is to be seen.
show() {
	if [ "$jobs" = 1 ]; then tee -a "$1"; else cat >>"$1"; fi
}

# ended LOG succeeds if a target has found nothing, and failed because its time was over
# while a worker was busy: go test takes that for a failure now and then.
ended() {
	if grep -q 'context deadline exceeded' "$1" && ! grep -q 'Failing input' "$1"; then
		echo "(the time was over: no finding)"
	else
		return 1
	fi
}
export -f binary fuzz show ended

targets=$work/targets
while read -r dir import; do
	while read -r target; do
		wanted "$target" "$@" || continue
		echo "$dir $import $target"
	done < <(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(f \*testing\.F).*/\1/p' "$dir"/*_test.go 2>/dev/null)
done < <(go list -f '{{.Dir}} {{.ImportPath}}' ./...) >"$targets"
[ -s "$targets" ] || {
	echo "no such fuzz target: $*" >&2
	exit 1
}

# All are built first. Linking one keeps one processor busy.
# shellcheck disable=SC2016 # expanded by the inner shell
cut -d ' ' -f 2 "$targets" | sort -u |
	xargs -P "$(nproc)" -I IMPORT bash -c 'go test -c -fuzz=Fuzz -o "$(binary "$1")" "$1"' bash IMPORT

# shellcheck disable=SC2016 # expanded by the inner shell
xargs -P "$jobs" -n 3 bash -c 'fuzz "$@"' bash <"$targets"
echo "$(wc -l <"$targets") fuzz targets ran for $fuzztime each"
