# SPDX-License-Identifier: Apache-2.0

load helpers

@test "init makes a layout that is empty and valid" {
	works init --layout layout
	[ -z "$output" ]
	[ "$(cat layout/oci-layout)" = '{"imageLayoutVersion":"1.0.0"}' ]
	jq -e '. == {schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: []}' layout/index.json
	[ -d layout/blobs/sha256 ]
	whole layout
	only_blobs layout
}

@test "init makes the directories above" {
	works init --layout far/down/layout
	whole far/down/layout
}

@test "init leaves a layout that exists as it is" {
	image layout base
	before=$(fingerprint layout)
	refuses 'exist.*layout|layout.*exist' init --layout layout
	[ "$(fingerprint layout)" = "$before" ]
}

@test "init does not take over an empty directory, a file or a dangling symlink" {
	mkdir empty
	refuses 'exist' init --layout empty
	[ -z "$(ls -A empty)" ]
	echo content >file
	refuses 'exist' init --layout file
	[ "$(cat file)" = content ]
	ln -s nowhere dangling
	shale init --layout dangling
	[ "$status" -eq 1 ]
	[ -L dangling ]
	[ ! -e nowhere ]
}

@test "init refuses a path that --image could not name" {
	misuses "'?:|colon" init --layout a:b
	[ ! -e a:b ]
	[ ! -e a ]
	misuses 'empty' init --layout ''
	misuses 'missing mandatory argument.*--layout' init
	misuses 'positional argument' init --layout layout extra
	[ ! -e layout ]
}

@test "init in a directory that may not be written says so and leaves nothing" {
	[ "$(id -u)" != 0 ] || skip "root may write anywhere"
	mkdir closed
	chmod 555 closed
	refuses 'permission denied' init --layout closed/layout
	[ ! -e closed/layout ]
	chmod 755 closed
}

@test "init is read by skopeo and umoci" {
	works init --layout layout
	run "$UMOCI" ls --layout layout
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	run "$UMOCI" new --image layout:theirs
	[ "$status" -eq 0 ]
	if command -v skopeo >/dev/null; then
		skopeo inspect --raw oci:layout:theirs | jq -e '.schemaVersion == 2'
	fi
	works ls --layout layout
	[ "$output" = theirs ]
}
