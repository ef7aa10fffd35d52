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

# two_layers makes the image layout:two, whose second layer replaces a file, deletes
# another and adds a third.
two_layers() {
	unpacked layout:base bundle
	echo longer than base >bundle/rootfs/etc/name
	rm -r bundle/rootfs/var/lib/old
	printf 'x' >$'bundle/rootfs/new\e[2J\nfile'
	works repack --image layout:two bundle
}

@test "stat --files lists the merged tree with layers and waste" {
	two_layers
	works stat --files --image layout:two
	[[ $output == *"-rwxr-xr-x         0:0            5 "*"     1            - /bin/tool"$'\n'* ]]
	[[ $output == *" /bin/tool2 = /bin/tool"$'\n'* ]]
	[[ $output == *" /bin/link -> tool"$'\n'* ]]
	[[ $output == *"           17 "*"     2            5 /etc/name"$'\n'* ]]
	[[ $output == *" \"/new\\x1b[2J\\nfile\""$'\n'* ]]
	[[ $output != *$'\e'* && $output != *"/var/lib/old"* ]]
	# 30 + 10 + 5 + 5 + 4 bytes and 17 + 1; the 5 and 4 of "base" and "old" are hidden.
	[[ $output == *$'\n72B in files, 9B of it wasted: efficiency 87.5%' ]]
}

@test "stat --files --layer lists one layer with what it deletes" {
	two_layers
	works stat --files --image layout:two --layer 2
	plain=$output
	[[ $plain == *"deleted "*"     2            4 /var/lib/old"$'\n'* ]]
	[[ $plain == *" /etc/name"* && $plain != *"/bin/tool"* ]]
	for layer in $(layers layout two | tail -n 1) $(config layout two | jq -r '.rootfs.diff_ids[1]'); do
		works stat --files --image layout:two --layer "$layer"
		[ "$output" = "$plain" ]
	done
	works stat --files --image layout:two --layer 1
	[[ $output == *"/var/lib/old/file"* && $output != *deleted* ]]
	refuses 'no layer|has 2 layers' stat --files --image layout:two --layer 3
	refuses 'has 2 layers, counted from 1' stat --files --image layout:two --layer 0
	misuses '--layer is for --files' stat --image layout:two --layer 1
}

@test "stat --files --json agrees with what unpack makes" {
	two_layers
	works stat --files --json --image layout:two
	[ "${#lines[@]}" -eq 1 ]
	json=$output
	jq -e '.version == 1 and .bytes == 72 and .wasted == 9 and .efficiency == 0.875 and (.layers | length == 2)
		and .layers[0].wasted == 9 and .layers[1].shadows == 9 and ([.files[].shadows] | add) == 5' <<<"$json"
	[ "$(jq -r .manifest <<<"$json")" = "$(ref layout two)" ]
	unpacked layout:two again
	# JSON keeps the newline in a name, and so does NUL-separated text.
	diff <(jq -j '.files[] | (.path, "\u0000", .type[0:1], " ", .size, "\u0000")' <<<"$json" | tr '\0\n' '\n?' | paste - - | sort) \
		<(cd again/rootfs && find . -printf '/%P\0%y %s\0' | tr '\0\n' '\n?' | paste - - |
			sed -e 's/\td [0-9]*$/\td 0/' -e 's/\tl [0-9]*$/\ts 0/' -e 's/\tp 0$/\tf 0/' | sort)
	works stat --files --json --image layout:two --layer 2
	jq -e '[.files[] | select(.type == "whiteout") | .path] == ["/var/lib/old"]' <<<"$output"
	jq -e '([.files[].shadows] | add) == .layers[1].shadows' <<<"$output"
}
