# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
}

blobs() {
	find layout/blobs/sha256 -type f -printf '%f\n' | sort
}

@test "gc removes what no tag leads to, and keeps all else" {
	kept=$(blobs)
	works new --image layout:gone
	works rm --image layout:gone
	[ "$(blobs)" != "$kept" ]
	works gc --layout layout
	[ "$(blobs)" = "$kept" ]
	whole layout
	only_blobs layout
}

@test "gc keeps blobs that several tags share" {
	works tag --image layout:base again
	works rm --image layout:base
	before=$(blobs)
	works gc --layout layout
	[ "$(blobs)" = "$before" ]
	whole layout
}

@test "gc empties a layout without tags" {
	works rm --image layout:base
	works gc --layout layout
	[ -z "$(blobs)" ]
	whole layout
	works new --image layout:new
	whole layout
}

@test "gc keeps an image that has no tag but an entry" {
	image layout "" >/dev/null
	works rm --image layout:base
	before=$(blobs)
	works gc --layout layout
	[ "$(blobs)" = "$before" ]
}

@test "gc follows image indexes" {
	digest=$(ref layout base)
	jq -c '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [.manifests[0] | del(.annotations)]}' layout/index.json >nested
	sum=$(sha256sum <nested | cut -d' ' -f1)
	jq -n --arg sum "$sum" --argjson size "$(stat -c %s nested)" '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
		manifests: [{mediaType: "application/vnd.oci.image.index.v1+json", digest: "sha256:\($sum)", size: $size,
			annotations: {"org.opencontainers.image.ref.name": "multi"}}]}' >layout/index.json
	mv nested "layout/blobs/sha256/$sum"
	before=$(blobs)
	works gc --layout layout
	[ "$(blobs)" = "$before" ]
	[ -f "layout/blobs/${digest/://}" ]
}

@test "gc keeps the files of others" {
	echo note >layout/README
	echo junk >layout/blobs/sha256/not-a-digest
	mkdir -p layout/blobs/other
	echo junk >layout/blobs/other/file
	works gc --layout layout
	[ "$(cat layout/README)" = note ]
	[ "$(cat layout/blobs/sha256/not-a-digest)" = junk ]
	[ "$(cat layout/blobs/other/file)" = junk ]
	whole layout
}

@test "gc does not touch the index" {
	sum=$(sha256sum <layout/index.json)
	works gc --layout layout
	[ "$(sha256sum <layout/index.json)" = "$sum" ]
}

@test "gc removes nothing when it cannot see all that is needed" {
	works new --image layout:gone
	works rm --image layout:gone
	digest=$(ref layout base)
	sed -i 's/gzip/GZIP/' "layout/blobs/${digest/://}"
	before=$(blobs)
	refuses "${digest#*:}" gc --layout layout
	[ "$(blobs)" = "$before" ]
	echo '{' >layout/index.json
	refuses 'index' gc --layout layout
	[ "$(blobs)" = "$before" ]
}

@test "gc refuses a wrong command line" {
	misuses 'missing mandatory argument.*--layout' gc
	misuses 'positional argument' gc --layout layout extra
	misuses 'colon|:' gc --layout layout:base
	refuses 'nowhere|oci-layout|no such|invalid image' gc --layout nowhere
}
