#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every native fuzz target of the module for the time given: go test takes
# only one at a time.
set -euo pipefail
cd "$(dirname "$0")/.."

fuzztime=${1:-10s}
count=0
while read -r dir; do
	while read -r target; do
		echo "== $target in ${dir#"$PWD"/} for $fuzztime"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$dir"
		count=$((count + 1))
	done < <(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(f \*testing\.F).*/\1/p' "$dir"/*_test.go 2>/dev/null)
done < <(go list -f '{{.Dir}}' ./...)
echo "$count fuzz targets ran for $fuzztime each"
