#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every native fuzz target of the module for the time given: go test takes
# only one at a time.
#
#   test/fuzz.sh 10s            all of them
#   test/fuzz.sh 5m FuzzApply   only those
#
# A test binary is built once for all targets of a package. Making a finding smaller
# is cut short: by default that takes a minute for each.
set -euo pipefail
cd "$(dirname "$0")/.."

fuzztime=${1:-10s}
shift || true
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=$(go env GOCACHE)/fuzz
# Most targets write files: a tmpfs makes them fast.
temp=${TMPDIR:-/tmp}
[ ! -w /dev/shm ] || temp=/dev/shm

# wanted TARGET says whether the target was asked for.
wanted() {
	local target=$1
	shift
	[ $# -eq 0 ] && return
	[[ " $* " == *" $target "* ]]
}

# ended succeeds if a target has found nothing, and failed because its time was over
# while a worker was busy: go test takes that for a failure now and then.
ended() {
	if grep -q 'context deadline exceeded' "$work/output" && ! grep -q 'Failing input' "$work/output"; then
		echo "(the time was over: no finding)"
	else
		return 1
	fi
}

count=0
while read -r dir import; do
	while read -r target; do
		wanted "$target" "$@" || continue
		echo "== $target in ${dir#"$PWD"/} for $fuzztime"
		binary=$work/$(tr / - <<<"$import").test
		[ -x "$binary" ] || go test -c -fuzz=Fuzz -o "$binary" "$import"
		(cd "$dir" && TMPDIR=$temp "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$fuzztime" \
			-test.fuzzminimizetime 5x -test.fuzzcachedir "$cache/$import" ${FUZZWORKERS:+-test.parallel "$FUZZWORKERS"}) 2>&1 |
			tee "$work/output" || ended
		count=$((count + 1))
	done < <(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(f \*testing\.F).*/\1/p' "$dir"/*_test.go 2>/dev/null)
done < <(go list -f '{{.Dir}} {{.ImportPath}}' ./...)
echo "$count fuzz targets ran for $fuzztime each"
