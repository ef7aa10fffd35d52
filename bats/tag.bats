# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
}

@test "tag gives an image a further name" {
	works tag --image layout:base release/1.0
	[ -z "$output" ]
	works ls --layout layout
	[ "$output" = $'base\nrelease/1.0' ]
	[ "$(ref layout base)" = "$(ref layout release/1.0)" ]
	whole layout
	only_blobs layout
}

@test "tag takes a name over and touches no other" {
	works new --image layout:other
	works new --image layout:third
	third=$(ref layout third)
	works tag --image layout:base other
	[ "$(ref layout other)" = "$(ref layout base)" ]
	[ "$(ref layout third)" = "$third" ]
	[ "$(jq '.manifests | length' layout/index.json)" -eq 3 ]
}

@test "tag with the name that the image has changes nothing" {
	before=$(ref layout base)
	works tag --image layout:base base
	[ "$(ref layout base)" = "$before" ]
	[ "$(jq '.manifests | length' layout/index.json)" -eq 1 ]
}

@test "tag writes no blob" {
	before=$(fingerprint layout/blobs)
	works tag --image layout:base again
	[ "$(fingerprint layout/blobs)" = "$before" ]
}

@test "tag keeps what it does not know in the index" {
	jq '.annotations = {"org.example": "kept"} | .manifests[0].annotations["org.example.entry"] = "too"' layout/index.json >index
	mv index layout/index.json
	works tag --image layout:base again
	jq -e '.annotations["org.example"] == "kept"' layout/index.json
	jq -e '[.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "base")][0].annotations["org.example.entry"] == "too"' layout/index.json
}

@test "tag takes its flags after the name too" {
	works tag again --image layout:base
	[ "$(ref layout again)" = "$(ref layout base)" ]
}

@test "tag names a tag that is not there" {
	before=$(fingerprint layout)
	refuses 'nosuch' tag --image layout:nosuch again
	[ "$(fingerprint layout)" = "$before" ]
}

@test "tag refuses a name that is none" {
	before=$(fingerprint layout)
	for tag in '' 'a b' a- ../../x $'a\eb'; do
		misuses 'tag|reference' tag --image layout:base "$tag"
		[[ $stderr != *$'\e'* ]]
	done
	misuses 'positional argument' tag --image layout:base
	misuses 'positional argument' tag --image layout:base one two
	misuses 'missing mandatory argument.*--image' tag one
	[ "$(fingerprint layout)" = "$before" ]
}

@test "tag refuses a tag that is there twice" {
	works new --image layout:other
	jq '.manifests[1].annotations["org.opencontainers.image.ref.name"] = "base"' layout/index.json >index
	mv index layout/index.json
	before=$(fingerprint layout)
	refuses 'ambiguous|more than one|twice|base' tag --image layout:base again
	[ "$(fingerprint layout)" = "$before" ]
}

@test "tag on a layout that may not be written leaves it as it is" {
	[ "$(id -u)" != 0 ] || skip "root may write anywhere"
	chmod -R a-w layout
	before=$(fingerprint layout)
	refuses 'permission denied' tag --image layout:base again
	[ "$(fingerprint layout)" = "$before" ]
	chmod -R u+w layout
}

@test "tag as root keeps the owner and mode of the layout's files" {
	needs_root "give files away"
	chown -R 1000:1000 layout
	chmod 600 layout/index.json
	works tag --image layout:base again
	[ "$(stat -c %u:%g:%a layout/index.json)" = 1000:1000:600 ]
	run find layout ! -user 1000
	[ -z "$output" ]
}
