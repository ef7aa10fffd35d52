# SPDX-License-Identifier: Apache-2.0

load helpers

# two makes the layout L with the images v1 and v2, which share a layer.
setup() {
	sandbox
	base_tar base.tar
	mkdir -p top
	head -c 300000 /dev/urandom >top/data
	tar --create --file=top.tar --directory=top .
	"$MKLAYOUT" -layout L -tag v1 base.tar
	"$MKLAYOUT" -layout L -tag v2 base.tar top.tar
}

# platforms LAYOUT TAG makes an index of images for two platforms.
platforms() {
	"$MKLAYOUT" -layout "$1" -tag amd64 base.tar
	"$MKLAYOUT" -layout "$1" -tag arm64 base.tar top.tar
	works config --image "$1:arm64" --architecture arm64
	local a b index digest
	a=$(jq -c '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "amd64") | del(.annotations) | .platform = {os: "linux", architecture: "amd64"}' "$1/index.json")
	b=$(jq -c '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "arm64") | del(.annotations) | .platform = {os: "linux", architecture: "arm64"}' "$1/index.json")
	index=$(jq -nc '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [$a, $b]}' --argjson a "$a" --argjson b "$b")
	digest=$(printf '%s' "$index" | sha256sum | cut -d' ' -f1)
	printf '%s' "$index" >"$1/blobs/sha256/$digest"
	jq -c --arg d "sha256:$digest" --argjson n "${#index}" --arg tag "$2" \
		'.manifests += [{mediaType: "application/vnd.oci.image.index.v1+json", digest: $d, size: $n, annotations: {"org.opencontainers.image.ref.name": $tag}}]' \
		"$1/index.json" >index.new
	mv index.new "$1/index.json"
}

@test "from layout to layout, byte by byte" {
	works copy L:v2 M:new
	[ -z "$output" ]
	[ -z "$stderr" ]
	[ "$(ref M new)" = "$(ref L v2)" ]
	whole M
	only_blobs M
	works copy oci:L:v1 oci:M:v1
	[ "$(ref M v1)" = "$(ref L v1)" ]
	[ "$(ref M new)" = "$(ref L v2)" ]
	works copy --json L:v2 M:again
	[ "$(jq -r '.images[0].digest' <<<"$output")" = "$(ref L v2)" ]
	[ "$(jq -r '.blobs | keys | join(" ")' <<<"$output")" = kept ]
}

@test "a tag that is there moves" {
	works copy L:v1 M:tag
	works copy L:v2 M:tag
	[ "$(ref M tag)" = "$(ref L v2)" ]
	[ "$(jq '.manifests | length' M/index.json)" -eq 1 ]
	whole M
}

@test "a digest says which image is meant" {
	digest=$(ref L v1)
	works copy "L@$digest" M:v1
	[ "$(ref M v1)" = "$digest" ]
	refuses 'no image with this digest' copy "L@sha256:$(printf '%064d' 0)" M:v2
	[ "$(jq '.manifests | length' M/index.json)" -eq 1 ]
}

@test "all tags, through archives" {
	works copy --all-tags L oci-archive:all.tar
	works tags oci-archive:all.tar
	[ "$(sort <<<"$output" | xargs)" = "v1 v2" ]
	works copy --all-tags oci-archive:all.tar M
	for tag in v1 v2; do
		[ "$(ref M "$tag")" = "$(ref L "$tag")" ]
	done
	whole M
	misuses 'neither side may name one' copy --all-tags L:v1 M
}

@test "platforms" {
	platforms L multi
	works copy L:multi M:all
	[ "$(ref M all)" = "$(ref L multi)" ]
	whole M
	works copy --platform linux/arm64 L:multi M:one
	[ "$(ref M one)" = "$(ref L arm64)" ]
	[[ "$stderr" == *"of the 2 images"* ]]
	works copy --platform linux/arm64 --platform linux/amd64 L:multi M:both
	[ "$(manifest M both | jq '.manifests | length')" -eq 2 ]
	whole M
	refuses 'no image for linux/s390x, only for linux/amd64, linux/arm64' copy --platform linux/s390x L:multi N
	[ ! -e N ]
	misuses 'may not be given together' copy --all --platform linux/arm64 L:multi N
	misuses 'invalid --platform' copy --platform arm64 L:multi N
}

@test "conversions say what they change" {
	works copy --format docker L:v2 M:docker
	[[ "$stderr" == *"format docker"* ]]
	[ "$(manifest M docker | jq -r .mediaType)" = application/vnd.docker.distribution.manifest.v2+json ]
	works copy --format oci M:docker M:oci
	[ "$(config M oci | sha256sum)" = "$(config L v2 | sha256sum)" ]
	works copy --compress zstd L:v2 M:zstd
	[[ "$stderr" == *"compressed by zstd"* ]]
	[[ "$(manifest M zstd | jq -r '.layers[].mediaType' | sort -u)" == *zstd ]]
	whole M
	works copy --compress zstd M:zstd M:again
	[ -z "$stderr" ]
	[ "$(ref M again)" = "$(ref M zstd)" ]
	unpacked L:v2 one
	unpacked M:zstd two
	compare_trees one/rootfs two/rootfs
	misuses 'invalid --format' copy --format v1 L:v2 M
	misuses 'invalid --compress' copy --compress xz L:v2 M
	refuses 'zstd' copy --compress zstd --format docker L:v2 M
}

@test "nothing stays of a copy that fails" {
	refuses 'none' copy L:none N:new
	[ ! -e N ]
	refuses 'no such file' copy none:v1 N:new
	[ ! -e N ]
	layer=$(layers L v2 | tail -n 1)
	works copy L:v1 N:v1
	flip "L/blobs/${layer/://}" 100
	refuses "wrong digest.*sha256:" copy L:v2 N:v2
	[ "$(jq '.manifests | length' N/index.json)" -eq 1 ]
	[ ! -e "N/blobs/${layer/://}" ]
	whole N
	only_blobs N
}

@test "--link keeps one copy on the disk" {
	works copy --link L:v2 M:v2
	layer=$(layers L v2 | tail -n 1)
	a=$(stat -c %i "L/blobs/${layer/://}")
	b=$(stat -c %i "M/blobs/${layer/://}")
	# Where files can be cloned they are, and then share their data.
	[ "$a" = "$b" ] || cp --reflink=always base.tar cloned
	whole M
}

@test "exists answers by its exit status" {
	works exists L:v1
	[ -z "$output$stderr" ]
	for absent in L:none none:v1 oci-archive:none.tar "L@sha256:$(printf '%064d' 0)"; do
		shale exists "$absent"
		[ "$status" -eq 1 ]
		[ -z "$output$stderr" ]
	done
	shale exists L:none --json
	[ "$status" -eq 1 ]
	[ "$output" = '{"exists":false}' ]
	works exists L:v1 --json
	[ "$(jq -r .digest <<<"$output")" = "$(ref L v1)" ]
	mkdir empty
	shale exists empty:v1
	[ "$status" -eq 2 ]
	[ -n "$stderr" ]
}

@test "places that are none" {
	misuses 'docker://HOST/REPO' copy L:v1 docker:host/repo
	misuses 'docker://HOST/REPO' copy L:v1 https://host/repo
	misuses 'not a valid repository' copy L:v1 docker://host.example/REPO
	misuses 'not a valid repository' copy L:v1 docker://host.example/../repo
	misuses 'not supported' copy docker-daemon:a/b:c M
	misuses 'positional' copy L:v1
	misuses 'image' push docker://host.example/repo
	misuses 'docker://HOST/REPO' push --image L:v1 M:v1
	misuses 'docker://HOST/REPO' pull L:v1 --image M:v1
	refuses 'removed from a registry' rm docker://host.example/repo:v1
	misuses 'neither --image' rm --image L:v1 docker://host.example/repo:v1
	[ ! -e M ]
}

@test "progress of each blob, and of all" {
	works --progress=json copy L:v2 M:v2
	total=$(jq -s 'map(select(.name == null)) | last | .total' <<<"$stderr")
	[ "$(jq -s 'map(select(.name != null and .end) | .done) | add' <<<"$stderr")" -eq "$total" ]
	jq -se 'map(select(.name == null)) | last | .end and .done == .total' <<<"$stderr"
}
