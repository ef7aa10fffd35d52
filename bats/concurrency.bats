# SPDX-License-Identifier: Apache-2.0
#
# Many processes at one layout, and processes that die at any moment.

load helpers

setup() {
	sandbox
	image layout base >/dev/null
}

# all PID... waits for the processes and fails if one of them failed.
all() {
	local pid failures=0
	for pid; do
		wait "$pid" || failures=$((failures + 1))
	done
	[ "$failures" -eq 0 ] || fail "$failures of $# processes failed"
}

@test "a hundred taggers at once leave a hundred tags" {
	pids=()
	for number in {1..100}; do
		"$SHALE" tag --image layout:base "tag$number" 3>&- &
		pids+=($!)
	done
	all "${pids[@]}"
	works ls --layout layout
	[ "$(sort <<<"$output")" = "$( (echo base && printf 'tag%d\n' {1..100}) | sort)" ]
	whole layout
	only_blobs layout
}

@test "writers of every kind at once lose nothing" {
	unpacked layout:base bundle
	echo new >bundle/rootfs/etc/new
	touch --date=@1600000000 bundle/rootfs/etc/new bundle/rootfs/etc
	tar --create --file=new.tar --directory=bundle/rootfs --owner=0 --group=0 --numeric-owner etc/new
	pids=()
	for number in {1..8}; do
		"$SHALE" tag --image layout:base "tag$number" 3>&- &
		pids+=($!)
		"$SHALE" new --image "layout:new$number" 3>&- &
		pids+=($!)
		"$SHALE" raw add-layer --image layout:base --tag "layer$number" new.tar 3>&- &
		pids+=($!)
		"$SHALE" repack --image "layout:repack$number" bundle 3>&- &
		pids+=($!)
		"$SHALE" gc --layout layout 3>&- &
		pids+=($!)
	done
	all "${pids[@]}"
	whole layout
	works ls --layout layout
	[ "${#lines[@]}" -eq 33 ]
	works gc --layout layout
	whole layout
	only_blobs layout
	unpacked layout:repack8 again
	compare_trees bundle/rootfs again/rootfs
}

@test "readers see a whole index while it is written" {
	(
		for number in {1..200}; do
			"$SHALE" tag --image layout:base "tag$((number % 20))" || exit
		done
	) 3>&- &
	writer=$!
	reads=0
	while kill -0 "$writer" 2>/dev/null; do
		run "$SHALE" ls --layout layout
		[ "$status" -eq 0 ] || fail "$output"
		grep -qx base <<<"$output" || fail "a tag is gone: $output"
		reads=$((reads + 1))
	done
	wait "$writer"
	[ "$reads" -ge 20 ]
	whole layout
}

# killed DELAY COMMAND... runs a command and kills it after the delay; it says
# whether the kill came in time.
killed() {
	local delay=$1 pid
	shift
	"$@" >/dev/null 2>&1 3>&- &
	pid=$!
	sleep "$delay"
	kill -KILL "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	[ $? -eq 137 ]
}

# delay MICROSECONDS prints a random time up to that, in seconds.
delay() {
	local us=$((RANDOM * 32768 + RANDOM))
	us=$((us % $1))
	printf '%d.%06d' $((us / 1000000)) $((us % 1000000))
}

# duration COMMAND... prints how long it takes, in microseconds.
duration() {
	local start=${EPOCHREALTIME/./}
	"$@" >/dev/null || return
	echo $((${EPOCHREALTIME/./} - start))
}

@test "kills at random moments of repack leave a layout that is whole" {
	unpacked layout:base bundle
	head -c 3000000 /dev/urandom >bundle/rootfs/etc/new
	before=$(ref layout base)
	took=$(duration "$SHALE" repack --image layout:first bundle)
	deaths=0
	for ((round = 1; round <= KILLS; round++)); do
		if killed "$(delay "$((took * 11 / 10))")" "$SHALE" repack --image "layout:tag$((round % 3))" bundle; then
			deaths=$((deaths + 1))
		fi
		whole layout || fail "round $round"
		[ "$(ref layout base)" = "$before" ] || fail "round $round: another tag has moved"
		if ((round % 20 == 0)); then
			echo "$round" >bundle/rootfs/etc/round # so that there is something new to write
		fi
	done
	echo "$deaths of $KILLS were killed in time; repack takes $took us"
	[ "$deaths" -ge $((KILLS / 4)) ] || fail "only $deaths of $KILLS were killed in time"
	whole layout
	# It goes on as if nothing had been, and gc removes what was left.
	works repack --image layout:last bundle
	works gc --layout layout
	only_blobs layout
	whole layout
	unpacked layout:last again
	cmp bundle/rootfs/etc/new again/rootfs/etc/new
}

@test "kills of tag and gc leave a layout that is whole" {
	before=$(ref layout base)
	took=$(duration "$SHALE" tag --image layout:base first)
	for ((round = 1; round <= KILLS / 4; round++)); do
		killed "$(delay "$((took * 11 / 10))")" "$SHALE" tag --image layout:base "tag$round" || true
		killed "$(delay "$((took * 11 / 10))")" "$SHALE" gc --layout layout || true
		[ "$(ref layout base)" = "$before" ] || fail "round $round: the tag is gone"
	done
	whole layout
	works gc --layout layout
	only_blobs layout
}

@test "a writer that was killed does not hold the others up" {
	unpacked layout:base bundle
	head -c 100000000 /dev/urandom >bundle/rootfs/etc/new
	"$SHALE" repack --image layout:never bundle 3>&- &
	pid=$!
	sleep 0.03
	kill -KILL "$pid" 2>/dev/null || true
	run wait "$pid"
	run timeout 5 "$SHALE" tag --image layout:base again
	[ "$status" -eq 0 ]
	[ "$(ref layout again)" = "$(ref layout base)" ]
}

@test "a killed unpack is told by the next one, which touches nothing" {
	unpacked layout:base whole
	took=$(duration "$SHALE" unpack "${ROOTLESS[@]}" --image layout:base other)
	for ((round = 1; round <= 20; round++)); do
		killed "$(delay "$took")" "$SHALE" unpack "${ROOTLESS[@]}" --image layout:base "bundle$round" || true
		[ ! -e "bundle$round/umoci.json" ] || compare_trees whole/rootfs "bundle$round/rootfs"
		[ -d "bundle$round/rootfs" ] || continue
		left=$(contents "bundle$round")
		refuses "bundle$round|rootfs|exist" unpack "${ROOTLESS[@]}" --image layout:base "bundle$round"
		[ "$(contents "bundle$round")" = "$left" ]
	done
	whole layout
}
