# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
	works new --image layout:other
}

@test "rm removes the tag and nothing else" {
	blobs=$(fingerprint layout/blobs)
	other=$(ref layout other)
	works rm --image layout:base
	[ -z "$output" ]
	works ls --layout layout
	[ "$output" = other ]
	[ "$(ref layout other)" = "$other" ]
	[ "$(fingerprint layout/blobs)" = "$blobs" ]
	only_blobs layout
}

@test "rm has the name remove too" {
	works remove --image layout:base
	works ls --layout layout
	[ "$output" = other ]
}

@test "rm of a tag that is not there is no error" {
	before=$(jq -S . layout/index.json)
	works rm --image layout:nosuch
	[ "$(jq -S . layout/index.json)" = "$before" ]
}

@test "rm of the last tag leaves an empty list, not null" {
	works rm --image layout:base
	works rm --image layout:other
	jq -e '.manifests == []' layout/index.json
	whole layout
}

@test "rm takes latest for a missing tag" {
	works tag --image layout:base latest
	works rm --image layout
	works ls --layout layout
	[ "$output" = $'base\nother' ]
}

@test "rm removes every entry of a tag that is there twice" {
	jq '.manifests[1].annotations["org.opencontainers.image.ref.name"] = "base"' layout/index.json >index
	mv index layout/index.json
	works rm --image layout:base
	works ls --layout layout
	[ -z "$output" ]
}

@test "rm keeps entries without a tag" {
	image layout "" >/dev/null
	works rm --image layout:base
	[ "$(jq '.manifests | length' layout/index.json)" -eq 2 ]
}

@test "rm refuses a wrong command line" {
	before=$(fingerprint layout)
	misuses 'missing mandatory argument.*--image' rm
	misuses 'positional argument' rm --image layout:base extra
	misuses 'invalid --image' rm --image 'layout:a b'
	refuses 'nowhere|oci-layout|no such|invalid image' rm --image nowhere:base
	[ "$(fingerprint layout)" = "$before" ]
}
