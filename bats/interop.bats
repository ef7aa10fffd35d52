# SPDX-License-Identifier: Apache-2.0
#
# What other tools read of what shale wrote, and what umoci and shale do with
# each other's layouts and mapped bundles.

load helpers

setup() {
	sandbox
	image layout base >/dev/null
}

# put_json LAYOUT prints the descriptor, without a media type, of the document on
# standard input as a blob.
put_json() {
	local file=$BATS_TEST_TMPDIR/document digest
	cat >"$file"
	digest=$(sha256sum <"$file" | cut -d' ' -f1)
	cp "$file" "$1/blobs/sha256/$digest"
	printf '{"digest":"sha256:%s","size":%d}' "$digest" "$(stat -c %s "$file")"
}

# two_platforms LAYOUT BASE TAG makes an index of the image BASE for amd64 and
# the same for arm64.
two_platforms() {
	local layout=$1 base=$2 tag=$3 arch config manifest list=
	for arch in amd64 arm64; do
		config=$(config "$layout" "$base" | jq -c --arg a "$arch" '.architecture = $a' | put_json "$layout")
		manifest=$(manifest "$layout" "$base" | jq -c --argjson c "$config" '.config += $c' | put_json "$layout")
		list+=$(jq -c --arg a "$arch" '{mediaType: "application/vnd.oci.image.manifest.v1+json"} + . + {platform: {os: "linux", architecture: $a}}' <<<"$manifest")
	done
	index=$(jq -sc '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}' <<<"$list" | put_json "$layout")
	jq -c --argjson i "$index" --arg t "$tag" '.manifests += [{mediaType: "application/vnd.oci.image.index.v1+json"} + $i +
		{annotations: {"org.opencontainers.image.ref.name": $t}}]' "$layout/index.json" >"$layout/index.new"
	mv "$layout/index.new" "$layout/index.json"
}

@test "each tool keeps and cleans up what the other wrote" {
	works new --image layout:ours
	works config --image layout:ours --config.user me --config.env A=1
	"$UMOCI" new --image layout:theirs
	"$UMOCI" config --image layout:theirs --config.user you
	diff <("$SHALE" ls --layout layout) <("$UMOCI" ls --layout layout)
	"$UMOCI" config --image layout:ours --config.env B=2
	works config --image layout:theirs --config.env C=3
	[ "$(config layout ours | jq -c '[.config.User, .config.Env]')" = '["me",["A=1","B=2"]]' ]
	[ "$(config layout theirs | jq -c '[.config.User, .config.Env]')" = '["you",["C=3"]]' ]
	works gc --layout layout
	only_blobs layout
	"$UMOCI" gc --layout layout
	whole layout
	for tag in ours theirs base; do
		diff <("$SHALE" stat --json --image "layout:$tag") <("$UMOCI" stat --json --image "layout:$tag")
	done
}

@test "mapped bundles go from one tool to the other" {
	needs_root "give files away"
	maps=(--uid-map 0:100000:1000 --uid-map 1000:5000:10 --gid-map 0:200000:1000)
	works unpack "${maps[@]}" --image layout:base ours
	"$UMOCI" unpack "${maps[@]}" --image layout:base theirs
	compare_trees ours/rootfs theirs/rootfs
	diff ours/umoci.json theirs/umoci.json
	for bundle in ours theirs; do
		echo x >"$bundle/rootfs/owned"
		chown 5003:200042 "$bundle/rootfs/owned"
	done
	"$UMOCI" repack --image layout:ours ours
	works repack --image layout:theirs theirs
	for tag in ours theirs; do
		[[ "$(layer_tar layout "$tag" -1 | tar --list --verbose --numeric-owner)" == *" 1003/42 "*owned* ]]
	done
}

@test "skopeo reads and copies an index of two platforms that shale changed" {
	needs skopeo
	two_platforms layout base multi
	works config --image layout:multi --platform linux/arm64 --config.label changed=yes
	[ "$(jq -r '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "multi") | .mediaType' layout/index.json)" = \
		application/vnd.oci.image.index.v1+json ]
	[ "$(skopeo inspect --override-arch arm64 oci:layout:multi | jq -r .Labels.changed)" = yes ]
	[ "$(skopeo inspect --override-arch amd64 oci:layout:multi | jq -r .Labels.changed)" = null ]
	skopeo copy --all oci:layout:multi oci:copy:multi
	[ "$(ref copy multi)" = "$(ref layout multi)" ]
	works unpack "${ROOTLESS[@]}" --platform linux/arm64 --image copy:multi bundle
}

@test "buildah makes a container of what shale wrote" {
	needs buildah
	needs_root "use buildah without a user namespace"
	unpacked layout:base bundle
	echo hello >bundle/rootfs/etc/greeting
	works repack --image layout:new bundle
	two_platforms layout new multi
	storage=(buildah --storage-driver vfs --root "$PWD/storage" --runroot "$PWD/run")
	for tag in new multi; do
		container=$("${storage[@]}" from --quiet "oci:layout:$tag")
		root=$("${storage[@]}" mount "$container")
		[ "$(cat "$root/etc/greeting")" = hello ]
		[ "$(stat -c %h "$root/bin/tool")" -eq 2 ]
		"${storage[@]}" rm "$container" >/dev/null
	done
}
