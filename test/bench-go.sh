#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the Go benchmarks on what is here and on the last commit, in turn, and shows
# what has changed. If nothing has changed since the last commit, the one before it
# is compared with.
#
#	test/bench-go.sh BENCHSTAT COUNT [PACKAGE...]
set -euo pipefail

benchstat=$1 count=$2
shift 2
[ $# -gt 0 ] || set -- ./layer ./mtree ./layout ./mutate ./internal/inflate ./internal/sha256pair ./internal/tarstream

old=HEAD
[ -n "$(git status --porcelain --untracked-files=no)" ] || old=HEAD~1

work=$(mktemp -d)
# shellcheck disable=SC2317 # the trap calls it
clean() {
	git worktree remove --force "$work/old" 2>/dev/null || true
	rm -rf "$work"
}
trap clean EXIT
git worktree add --quiet --detach "$work/old" "$old"

echo "old: $(git log -1 --format='%h %s' "$old")"
build() { # DIRECTORY NAME PACKAGE...
	local dir=$1 name=$2 package
	shift 2
	for package; do
		(cd "$dir" && go test -c -o "$work/$name/$(basename "$package").test" "$package")
	done
}
build "$work/old" old-bin "$@"
build . new-bin "$@"
for _ in $(seq "$count"); do
	for package; do
		test=$(basename "$package").test
		for side in old new; do
			dir=$PWD
			[ "$side" = new ] || dir=$work/old
			(cd "$dir/$package" && "$work/$side-bin/$test" -test.run '^$' -test.bench . -test.benchmem -test.benchtime 0.3s) |
				tee -a "$work/$side.txt" | grep '^Benchmark' >&2 || true
		done
	done
done
"$benchstat" old="$work/old.txt" new="$work/new.txt"
