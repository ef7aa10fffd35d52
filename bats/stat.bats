# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base -config '{
		"User": "1000:100", "Env": ["A=1", "WITH=a space", "TAB=\t"], "Entrypoint": ["/bin/tool", "-x"], "Cmd": ["one, two", ""],
		"WorkingDir": "/srv", "Volumes": {"/data": {}, "/b a": {}}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
		"Labels": {"z": "last", "a": "first", "list": "1,2"}, "StopSignal": "SIGTERM"}' >/dev/null
}

@test "stat prints what umoci prints" {
	works stat --image layout:base
	diff <(printf '%s\n' "$output") <("$UMOCI" stat --image layout:base)
}

@test "stat --json prints what umoci prints, in one line" {
	works stat --json --image layout:base
	[ "${#lines[@]}" -eq 1 ]
	diff <(jq . <<<"$output") <("$UMOCI" stat --json --image layout:base | jq .)
}

@test "stat --json holds the descriptors, the documents and the history" {
	works stat --image layout:base --json
	stat=$output
	[ "$(jq -r .manifest.descriptor.digest <<<"$stat")" = "$(ref layout base)" ]
	diff <(jq -S .manifest.blob <<<"$stat") <(manifest layout base | jq -S .)
	diff <(jq -S .config.descriptor <<<"$stat") <(manifest layout base | jq -S .config)
	diff <(jq -S .config.blob <<<"$stat") <(config layout base | jq -S .)
	diff <(jq -S '.history[0].layer' <<<"$stat") <(manifest layout base | jq -S '.layers[0]')
	[ "$(jq -r '.history[0].diff_id' <<<"$stat")" = "$(config layout base | jq -r '.rootfs.diff_ids[0]')" ]
}

@test "stat shows empty layers in the history" {
	works new --image layout:empty
	run "$UMOCI" config --image layout:empty --config.user root --history.comment 'a comment'
	[ "$status" -eq 0 ]
	works stat --image layout:empty
	[[ $output == *"<none>"*"a comment"* ]]
	diff <(printf '%s\n' "$output") <("$UMOCI" stat --image layout:empty)
	works stat --json --image layout:empty
	jq -e '.history == [.history[0]] and .history[0].layer == null and .history[0].diff_id == "" and .history[0].empty_layer' <<<"$output"
}

@test "stat takes latest for a missing tag" {
	works tag --image layout:base latest
	works stat --image layout
	[[ $output == *"org.opencontainers.image.ref.name: latest"* ]]
}

@test "stat reads Docker's media types" {
	image layout docker -docker >/dev/null
	works stat --json --image layout:docker
	jq -e '.manifest.blob.mediaType == "application/vnd.docker.distribution.manifest.v2+json"' <<<"$output"
}

@test "stat escapes what an image says" {
	image layout evil -config '{"Labels": {"k": "\u001b[2J\nfake: line"}, "User": "\u001b]0;x\u0007"}' >/dev/null
	works stat --image layout:evil
	[[ $output != *$'\e'* ]]
	[[ $output != *$'\nfake: line'* ]]
}

@test "stat writes nothing, and needs no right to write" {
	before=$(fingerprint layout)
	chmod -R a-w layout
	works stat --image layout:base
	chmod -R u+w layout
	works stat --json --image layout:base
	[ "$(fingerprint layout)" = "$before" ]
}

@test "stat names a tag, a blob or a layout that is missing" {
	refuses 'nosuch' stat --image layout:nosuch
	misuses 'missing mandatory argument.*--image' stat
	misuses 'positional argument' stat --image layout:base extra
	refuses 'nowhere|oci-layout|no such|invalid image' stat --image nowhere:base
	digest=$(ref layout base)
	mv "layout/blobs/${digest/://}" manifest
	refuses "${digest#*:}" stat --image layout:base
}

@test "stat refuses a manifest that does not match its digest" {
	digest=$(ref layout base)
	sed -i 's/gzip/GZIP/' "layout/blobs/${digest/://}"
	refuses "${digest#*:}" stat --image layout:base
}
