# SPDX-License-Identifier: Apache-2.0
#
# What long work shows, and what is left when it is stopped.

load helpers

# One image for all tests, large enough that there is time to stop the work.
setup_file() {
	mkdir -p "$BATS_FILE_TMPDIR/tree"
	(
		cd "$BATS_FILE_TMPDIR/tree" || exit
		head -c 150000000 /dev/urandom >large
		mkdir many
		head -c 30000000 /dev/urandom | split --bytes=2000 --suffix-length=5 - many/
		tar --create --file=../large.tar --owner=0 --group=0 --numeric-owner .
	)
	"$MKLAYOUT" -layout "$BATS_FILE_TMPDIR/layout" -tag large -compress none "$BATS_FILE_TMPDIR/large.tar"
	rm -r "$BATS_FILE_TMPDIR/tree" "$BATS_FILE_TMPDIR/large.tar"
}

setup() {
	sandbox
	image layout base >/dev/null
	large=$BATS_FILE_TMPDIR/layout:large
}

@test "without a terminal there is no progress" {
	works unpack "${ROOTLESS[@]}" --image "$large" bundle
	[ -z "$output$stderr" ]
	echo new >bundle/rootfs/new
	works repack --image "$BATS_FILE_TMPDIR/layout:quiet" bundle
	[ -z "$output$stderr" ]
}

@test "--progress=none shows nothing" {
	works --progress=none unpack "${ROOTLESS[@]}" --image "$large" bundle
	[ -z "$output$stderr" ]
}

@test "--progress=plain writes lines" {
	works --progress=plain unpack "${ROOTLESS[@]}" --image "$large" bundle
	[ -z "$output" ]
	[[ $stderr == *100%* || $stderr == *done* ]]
	[[ $stderr != *$'\r'* ]]
	[[ $stderr != *$'\e'* ]]
	head -c 20000000 /dev/urandom >bundle/rootfs/new
	works --progress=plain repack --image "$BATS_FILE_TMPDIR/layout:plain" bundle
	[ -z "$output" ]
	[[ $stderr == *compressing* ]]
	[[ $stderr == *files* ]]
}

@test "--progress=json writes an object per line, which only grow" {
	works --progress=json unpack "${ROOTLESS[@]}" --image "$large" bundle
	[ -z "$output" ]
	jq -es 'length > 0 and all(.[]; (.stage | type) == "string" and (.done | type) == "number" and (.unit == "bytes" or .unit == "files"))' <<<"$stderr"
	jq -es 'group_by([.stage, .name]) | all(.[]; ([.[].done] | . == sort) and (map(.end) | index(true)) == length - 1)' <<<"$stderr"
	echo new >bundle/rootfs/new
	works --progress=json repack --image "$BATS_FILE_TMPDIR/layout:json" bundle
	jq -es '[.[].stage] | unique | index("checking") != null and index("compressing") != null' <<<"$stderr"
}

@test "--progress refuses what it does not know" {
	misuses 'progress' --progress=loud ls --layout layout
}

@test "on a terminal there is a bar" {
	needs script
	export TERM=xterm
	run script --quiet --return --command "'$SHALE' unpack ${ROOTLESS[*]} --image '$large' bundle" /dev/null
	[ "$status" -eq 0 ]
	[[ $output == *%* ]]
	[ -f bundle/umoci.json ]
	run script --quiet --return --command "'$SHALE' --progress=none unpack ${ROOTLESS[*]} --image '$large' bundle2" /dev/null
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

# When unpack and what writes to the layout are at work.
unpacking() { [ -e bundle/rootfs ]; }
writing() { [ "$(find layout | wc -l)" -gt 8 ]; }

# stopped SIGNAL WHEN COMMAND... runs shale, sends the signal as soon as the
# function WHEN succeeds, and sets status, stderr and how long it took to
# end after that, in milliseconds.
stopped() {
	local signal=$1 when=$2 pid start
	shift 2
	# A background process of a shell ignores SIGINT unless told otherwise.
	env --default-signal=INT "$SHALE" "$@" 2>"$TMPDIR/../stderr" 3>&- &
	pid=$!
	until "$when"; do
		kill -0 "$pid" 2>/dev/null || fail "it was over too soon: $(cat stderr)" || return
		sleep 0.002
	done
	start=${EPOCHREALTIME/./}
	kill "-$signal" "$pid" || fail "it was over too soon" || return
	status=0
	wait "$pid" || status=$?
	took=$(((${EPOCHREALTIME/./} - start) / 1000))
	stderr=$(cat stderr)
	rm stderr
	output=
	show "$@"
	echo "ended $took ms after the signal"
}

@test "SIGINT ends unpack with 130 and SIGTERM with 143, and nothing is left" {
	for signal in INT:130 TERM:143; do
		stopped "${signal%:*}" unpacking unpack "${ROOTLESS[@]}" --image "$large" bundle
		[ "$status" -eq "${signal#*:}" ]
		[ "$took" -lt 3000 ]
		[ "$(grep -c . <<<"$stderr")" -le 1 ]
		[ ! -e bundle ]
	done
	[ -z "$(ls -A tmp)" ]
	works unpack "${ROOTLESS[@]}" --image "$large" bundle
}

@test "a stopped unpack keeps what was there before" {
	mkdir bundle
	echo mine >bundle/notes
	stopped TERM unpacking unpack "${ROOTLESS[@]}" --image "$large" bundle
	[ "$status" -eq 143 ]
	[ "$(ls -A bundle)" = notes ]
	[ "$(cat bundle/notes)" = mine ]
}

@test "SIGINT ends repack with 130 and SIGTERM with 143, and the layout stays as it was" {
	unpacked layout:base bundle
	head -c 400000000 /dev/urandom >bundle/rootfs/new
	before=$(contents layout)
	meta=$(cat bundle/umoci.json bundle/*.mtree | sha256sum)
	for signal in INT:130 TERM:143; do
		stopped "${signal%:*}" writing repack --image layout:new bundle
		[ "$status" -eq "${signal#*:}" ]
		[ "$took" -lt 3000 ]
		[ "$(contents layout)" = "$before" ]
		only_blobs layout
	done
	[ "$(cat bundle/umoci.json bundle/*.mtree | sha256sum)" = "$meta" ]
	[ -z "$(ls -A tmp)" ]
	works tag --image layout:base again
}

@test "SIGINT ends raw add-layer with 130, and the layout stays as it was" {
	head -c 400000000 /dev/urandom >file
	tar --create --file=large.tar --owner=0 --group=0 --numeric-owner file
	before=$(contents layout)
	stopped INT writing raw add-layer --image layout:base large.tar
	[ "$status" -eq 130 ]
	[ "$(contents layout)" = "$before" ]
	only_blobs layout
}
