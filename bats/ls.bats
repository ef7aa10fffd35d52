# SPDX-License-Identifier: Apache-2.0

load helpers

@test "ls prints the tags, one per line, in the order of the index" {
	for tag in zebra apple mango/x:1; do
		image layout "$tag" >/dev/null
	done
	works ls --layout layout
	[ "$output" = $'zebra\napple\nmango/x:1' ]
	[ -z "$stderr" ]
	works list --layout layout
	[ "$output" = $'zebra\napple\nmango/x:1' ]
}

@test "ls prints nothing for an empty layout" {
	works init --layout layout
	works ls --layout layout
	[ -z "$output" ]
}

@test "ls passes over entries without a tag" {
	image layout kept >/dev/null
	image layout "" >/dev/null
	works ls --layout layout
	[ "$output" = kept ]
}

@test "ls writes nothing, and needs no right to write" {
	image layout base >/dev/null
	before=$(fingerprint layout)
	chmod -R a-w layout
	works ls --layout layout
	[ "$output" = base ]
	chmod -R u+w layout
	works ls --layout layout
	[ "$(fingerprint layout)" = "$before" ]
}

@test "ls reads an index without media type and with null for manifests" {
	works init --layout layout
	echo '{"schemaVersion":2,"manifests":null}' >layout/index.json
	works ls --layout layout
	[ -z "$output" ]
}

@test "ls escapes control characters" {
	image layout base >/dev/null
	jq '.manifests[0].annotations["org.opencontainers.image.ref.name"] = "a\u001b[31mb"' layout/index.json >index
	mv index layout/index.json
	works ls --layout layout
	[[ $output != *$'\e'* ]]
	[[ $output == *a*31mb* ]]
}

@test "ls refuses what is no layout" {
	refuses 'nowhere|oci-layout|no such|invalid image' ls --layout nowhere
	[ ! -e nowhere ]
	echo x >file
	refuses 'file|oci-layout|invalid image' ls --layout file
	misuses 'missing mandatory argument.*--layout' ls
	misuses 'colon|:' ls --layout a:b
	misuses 'empty' ls --layout ''
	image layout base >/dev/null
	misuses 'positional argument' ls --layout layout extra
}

@test "ls refuses a broken index" {
	image layout base >/dev/null
	echo '{"schemaVersion":2,"manifests":[' >layout/index.json
	refuses 'index' ls --layout layout
	rm layout/index.json
	refuses 'index' ls --layout layout
}
