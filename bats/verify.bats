# SPDX-License-Identifier: Apache-2.0
#
# Every single damage is made in inspect/verify_test.go; here is what users see of it.

load helpers

setup() {
	sandbox
	image layout base >/dev/null
}

# finds CODES [ARGS...] fails unless verify exits 1 and its errors and warnings have
# these codes, which are sorted.
finds() {
	local want=$1
	shift
	shale verify --json "${@:---layout=layout}"
	[ "$status" -eq 1 ] || fail "exit status $status"
	[ "${#lines[@]}" -eq 1 ] || fail "not one line"
	[ "$(jq -r '[.findings[] | select(.severity != "info") | .code] | unique | join(" ")' <<<"$output")" = "$want" ] || fail "not $want"
	[[ $stderr == *"found in the layout"* ]] || fail "no message"
}

path() { # DIGEST
	echo "layout/blobs/${1/://}"
}

@test "verify finds nothing in a good layout" {
	works verify --layout layout
	[ "$output" = "0 errors, 0 warnings in 1 image, 3 blobs, $(du -bc layout/blobs/sha256/* | tail -n 1 | cut -f1 | awk '{printf "%.4gkB", $1 / 1000}')" ]
	works verify --image layout:base
	works verify --json --layout layout
	jq -e '.version == 1 and .findings == [] and .errors == 0 and .images == 1 and .blobs == 3' <<<"$output"
}

@test "verify finds what is wrong with blobs" {
	cp -r layout good
	for digest in "$(ref layout base)" "$(manifest layout base | jq -r .config.digest)" "$(layers layout base)"; do
		rm -rf layout && cp -r good layout
		flip "$(path "$digest")"
		finds wrong-digest
		jq -e --arg d "$digest" '[.findings[] | select(.severity == "error") | .object] == [{kind: "blob", name: $d}]' <<<"$output"
		truncate -s -1 "$(path "$digest")"
		finds wrong-size
		rm "$(path "$digest")"
		[ "$digest" = "$(ref good base)" ] || finds missing-blob
	done
	rm -rf layout && cp -r good layout
	rm "$(path "$(ref layout base)")"
	finds dangling-ref
}

@test "verify prints a line for each finding" {
	digest=$(layers layout base)
	flip "$(path "$digest")"
	mkdir layout/.shale-gone
	shale verify --layout layout
	[ "$status" -eq 1 ]
	[ "${#lines[@]}" -eq 3 ]
	[[ ${lines[0]} == "error    wrong-digest  blob $digest: "* ]]
	[[ ${lines[1]} == "info     temp-directory  file .shale-gone: "* ]]
	[[ ${lines[2]} == "1 error, 0 warnings, 1 note in 1 image, "* ]]
	[[ $stderr == "shale verify: 1 error found in the layout layout" ]]
}

@test "verify takes layouts that cannot be opened" {
	echo '{"imageLayoutVersion": "2.0.0"}' >layout/oci-layout
	refuses 'version' ls --layout layout
	finds layout-version
	mkfifo layout/fifo
	mv layout/fifo layout/oci-layout
	finds layout-file
	mv layout/index.json "$TMPDIR/index.json"
	ln -s "$TMPDIR/index.json" layout/index.json
	finds "index-file layout-file"
	mkdir empty
	finds "blobs-directory index-file layout-file" --layout empty
	refuses 'nosuch.*no such file' verify --layout nosuch
}

@test "verify follows nothing out of the layout, and waits for nobody" {
	digest=$(layers layout base)
	mv "$(path "$digest")" "$TMPDIR/layer"
	ln -s "$TMPDIR/layer" "$(path "$digest")"
	finds irregular-blob
	rm "$(path "$digest")"
	mkfifo "$(path "$digest")"
	finds irregular-blob
}

@test "verify escapes what a layout says" {
	jq -c '.manifests[0].annotations["org.opencontainers.image.ref.name"] = "a\u001b[2J\nfake"' layout/index.json >index
	mv index layout/index.json
	works verify --layout layout
	[[ $output == *"warning  invalid-ref  ref \"a\\x1b[2J\\nfake\""* ]]
	[[ $output != *$'\e'* ]]
	works verify --json --layout layout
	[ "${#lines[@]}" -eq 1 ]
	jq -e '.warnings == 1 and .findings[0].object.name == "a\u001b[2J\nfake"' <<<"$output"
}

@test "verify exits 0 if there are warnings alone" {
	"$UMOCI" raw add-layer --image layout:base --no-history "$BATS_TEST_TMPDIR/base.tar" 2>/dev/null
	works verify --layout layout
	[[ $output == *"warning  history-too-short  blob"* ]]
	run verified layout
	[ "$status" -ne 0 ]
	whole layout history-too-short
}

@test "verify looks at one tag or one platform alone" {
	works config --image layout:base --tag good --architecture arm64 --config.user x
	digest=$(ref layout base)
	flip "$(path "$(manifest layout base | jq -r .config.digest)")"
	works verify --image layout:good
	finds wrong-digest
	finds wrong-digest --image=layout:base
	refuses 'not found' verify --image layout:good --platform linux/s390x
	refuses 'nosuch.*no such ref' verify --image layout:nosuch
}

@test "verify writes nothing, and needs no right to write" {
	before=$(fingerprint layout)
	chmod -R a-w layout
	works verify --layout layout
	chmod -R u+w layout
	works verify --layout layout --json
	[ "$(fingerprint layout)" = "$before" ]
}

@test "verify finds nothing in what shale makes" {
	works new --image layout:new
	whole layout
	works config --image layout:new --config.user me --config.env A=1
	unpacked layout:base bundle
	ln bundle/rootfs/bin/tool bundle/rootfs/bin/tool3
	rm -r bundle/rootfs/var
	works repack --image layout:next bundle
	whole layout
	works tag --image layout:next again
	works rm --image layout:base
	works gc --layout layout
	whole layout
	works verify --layout layout --json
	jq -e '.findings == []' <<<"$output"
}

@test "verify finds nothing in what umoci, skopeo and buildah make" {
	"$UMOCI" init --layout umoci
	"$UMOCI" new --image umoci:a
	echo hello >file
	"$UMOCI" insert --rootless --image umoci:a file /file
	verified umoci
	needs skopeo
	skopeo --insecure-policy copy oci:layout:base oci:skopeo:a
	skopeo --insecure-policy copy oci:umoci:a oci:skopeo:b
	verified skopeo
	needs buildah
	needs_root "use buildah without a user namespace"
	storage=(buildah --storage-driver vfs --root "$PWD/storage" --runroot "$PWD/run")
	container=$("${storage[@]}" from --quiet oci:layout:base)
	"${storage[@]}" config --label a=b "$container"
	"${storage[@]}" copy "$container" file /file
	"${storage[@]}" commit --quiet "$container" oci:buildah:a
	verified buildah
}

@test "verify stops at its limits" {
	finds too-large --layout=layout --max-entries=3
	finds too-large --layout=layout --max-bytes=1KiB
}

@test "verify refuses a wrong command line" {
	misuses 'missing mandatory argument.*--layout or --image' verify
	misuses 'together' verify --layout layout --image layout:base
	misuses 'positional argument' verify --layout layout extra
	misuses 'platform' verify --layout layout --platform nonsense
	misuses 'colon|:' verify --layout layout:base
}
