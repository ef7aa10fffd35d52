# SPDX-License-Identifier: Apache-2.0
#
# Images for several platforms: which one is meant, and that the others stay.

load helpers

# The host's platform comes second, so that nobody finds it by being the first.
setup() {
	sandbox
	host=$(go_arch)
	others=(s390x riscv64 mips64le)
	image layout one >/dev/null
	for arch in "${others[0]}" "$host" "${others[@]:1}"; do
		"$UMOCI" config --image layout:one --tag "$arch" --no-history --architecture "$arch" --author "author of $arch"
		echo "$arch" >arch
		tar --create --file=arch.tar --owner=0 --group=0 --numeric-owner --mtime=@1500000000 arch
		"$UMOCI" raw add-layer --image "layout:$arch" --no-history arch.tar 2>/dev/null
	done
	rm arch arch.tar
	inner=$(index_blob "${others[1]}" "${others[2]}")
	outer=$(index_blob "${others[0]}" "$host" "$inner")
	jq -c --argjson d "$outer" '.manifests = [$d + {"annotations": {"org.opencontainers.image.ref.name": "multi"}}]' layout/index.json >index
	mv index layout/index.json
}

go_arch() {
	case $(uname -m) in
	x86_64) echo amd64 ;;
	aarch64) echo arm64 ;;
	*) uname -m ;;
	esac
}

# index_blob ENTRY... writes an index of tags, with their platforms, and of descriptors,
# and prints its descriptor.
index_blob() {
	local entry entries=() file digest
	for entry; do
		[[ $entry == "{"* ]] || entry=$(jq -c --arg tag "$entry" '.manifests[] |
			select(.annotations["org.opencontainers.image.ref.name"] == $tag) | del(.annotations) + {"platform": {"os": "linux", "architecture": $tag}}' layout/index.json)
		entries+=("$entry")
	done
	file=$BATS_TEST_TMPDIR/index
	printf '%s\n' "${entries[@]}" | jq -cs '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": .,
		"annotations": {"kept": "yes"}, "com.example.unknown": [1]}' >"$file"
	digest=$(sha256sum <"$file" | cut -d' ' -f1)
	cp "$file" "layout/blobs/sha256/$digest"
	chmod 644 "layout/blobs/sha256/$digest"
	printf '{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:%s","size":%s}' "$digest" "$(stat -c %s "$file")"
}

# leaves DESCRIPTOR prints the descriptors of the images below it, one per line.
leaves() {
	local digest=${1#*\"digest\":\"} entry
	if [[ $1 != *image.index.v1+json* ]]; then
		echo "$1"
		return
	fi
	while read -r entry; do
		leaves "$entry"
	done < <(jq -c '.manifests[]' "layout/blobs/sha256/${digest:7:64}")
}

entry() { # TAG
	jq -ce --arg tag "$1" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $tag)' layout/index.json
}

# of TAG ARCH prints the digest of one of the images.
of() {
	leaves "$(entry "$1")" | jq -ers --arg arch "$2" '.[] | select(.platform.architecture == $arch) | .digest'
}

# configured TAG ARCH FILTER checks the config of one of the images.
configured() {
	local json
	json=$(blob layout "$(blob layout "$(of "$1" "$2")" | jq -r .config.digest)")
	jq -e "$3" <<<"$json" >/dev/null || fail "$2 is not so: $3: $json"
}

# images TAG prints the platforms and digests of the images below a tag, in order.
images() {
	leaves "$(entry "$1")" | jq -r '"\(.platform.architecture) \(.digest)"'
}

# remember keeps in mind which images multi has.
remember() {
	images multi >"$BATS_TEST_TMPDIR/images"
}

# only_changed TAG ARCH... checks that of the images that were remembered those for these
# platforms are others now below the tag, and that all is whole.
only_changed() {
	local tag=$1
	shift
	diff <(images "$tag" | cut -d' ' -f1) <(cut -d' ' -f1 "$BATS_TEST_TMPDIR/images") || fail "other platforms" || return
	diff <(images "$tag" | diff - "$BATS_TEST_TMPDIR/images" | sed -n 's/^< \([^ ]*\) .*/\1/p' | sort) \
		<(printf '%s\n' "$@" | grep . | sort) || fail "not those have changed, but others" || return
	whole layout history-too-short || return
	blob layout "$(entry "$tag" | jq -r .digest)" | jq -e '.annotations.kept == "yes" and ."com.example.unknown" == [1]' >/dev/null ||
		fail "the index has lost something"
	only_blobs layout
}

@test "reading commands take the host's image by default, and the one that is meant" {
	unpacked layout:multi bundle
	[ "$(cat bundle/rootfs/arch)" = "$host" ]
	works raw unpack "${ROOTLESS[@]}" --image layout:multi rootfs
	[ "$(cat rootfs/arch)" = "$host" ]
	for arch in "$host" "${others[@]}"; do
		works unpack "${ROOTLESS[@]}" --platform "linux/$arch" --image layout:multi "bundle-$arch"
		[ "$(cat "bundle-$arch/rootfs/arch")" = "$arch" ]
		[ -e "bundle-$arch/sha256_$(of multi "$arch" | cut -d: -f2).mtree" ]
		works raw unpack "${ROOTLESS[@]}" --image layout:multi --platform "linux/$arch" "rootfs-$arch"
		[ "$(cat "rootfs-$arch/arch")" = "$arch" ]
		works raw runtime-config --platform "linux/$arch" --image layout:multi config.json
		jq -e --arg arch "$arch" '.annotations["org.opencontainers.image.architecture"] == $arch' config.json
		works stat --platform "linux/$arch" --image layout:multi --json
		jq -e --arg arch "$arch" '.config.blob.author == "author of \($arch)"' <<<"$output"
	done
}

@test "stat of an index lists its platforms" {
	works stat --image layout:multi
	for arch in "$host" "${others[@]}"; do
		grep -Eq "^linux/$arch +$(of multi "$arch") +2 " <<<"$output"
	done
	[[ $output == "== INDEX =="* ]]
	works stat --json --image layout:multi
	[ "$(wc -l <<<"$output")" -eq 1 ]
	[ "$(jq -r '.platforms[] | "\(.platform.os)/\(.platform.architecture) \(.descriptor.digest)"' <<<"$output")" = \
		"$(leaves "$(entry multi)" | jq -r '"\(.platform.os)/\(.platform.architecture) \(.digest)"')" ]
	[ "$(jq -S .index.blob <<<"$output")" = "$(blob layout "$(entry multi | jq -r .digest)" | jq -S .)" ]
	# A single image is shown as one, by umoci too.
	works tag --image layout:multi --platform "linux/$host" plain
	[ "$("$SHALE" stat --json --image layout:plain)" = "$("$UMOCI" stat --json --image layout:plain)" ]
}

@test "a change of one platform leaves the others alone" {
	echo new >new
	tar --create --file=new.tar --owner=0 --group=0 --numeric-owner new
	for arch in "$host" "${others[2]}"; do
		for tag in copy multi; do
			remember
			works config --image layout:multi --tag "$tag" --platform "linux/$arch" --config.user "$tag"
			only_changed "$tag" "$arch"
			configured "$tag" "$arch" ".config.User == \"$tag\""
		done
		remember
		works insert "${ROOTLESS[@]}" --image layout:multi --platform "linux/$arch" new /new
		only_changed multi "$arch"
		remember
		works raw add-layer --image layout:multi --platform "linux/$arch" new.tar
		only_changed multi "$arch"
		works rm --image layout:copy
	done
	works ls --layout layout
	[ "$output" = multi ]
}

@test "a change without --platform is one of the host's image" {
	remember
	works config --image layout:multi --config.user me
	only_changed multi "$host"
	configured multi "$host" '.config.User == "me"'
}

@test "repack puts the image into its place, in a new index and an old one" {
	remember
	for arch in "$host" "${others[1]}"; do
		works unpack "${ROOTLESS[@]}" --platform "linux/$arch" --image layout:multi "bundle-$arch"
		echo "$arch" >"bundle-$arch/rootfs/new"
		find "bundle-$arch/rootfs" -newermt @1600000000 -exec touch --no-dereference --date=@1600000000 {} +
		works repack --image layout:copy "bundle-$arch"
		works repack --image layout:multi --refresh-bundle "bundle-$arch"
	done
	only_changed copy "$host" "${others[1]}"
	only_changed multi "$host" "${others[1]}"
	# The second time only what has changed since; garbage is no hindrance.
	works gc --layout layout
	for arch in "${others[1]}" "$host"; do
		echo more >"bundle-$arch/rootfs/more"
		find "bundle-$arch/rootfs" -newermt @1600000000 -exec touch --no-dereference --date=@1600000000 {} +
		works repack --image layout:multi --refresh-bundle "bundle-$arch"
		works gc --layout layout
		configured multi "$arch" '.rootfs.diff_ids | length == 4'
		rm -rf again
		works unpack "${ROOTLESS[@]}" --platform "linux/$arch" --image layout:multi again
		compare_trees "bundle-$arch/rootfs" again/rootfs
	done
	only_changed multi "$host" "${others[1]}"
	refuses "linux/${others[0]}" repack --image layout:multi --platform "linux/${others[0]}" "bundle-$host"
	only_changed multi "$host" "${others[1]}"
}

@test "changes of several platforms at once are all there in the end" {
	remember
	for arch in "$host" "${others[@]}"; do
		"$SHALE" config --image layout:multi --platform "linux/$arch" --config.user "for-$arch" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
	only_changed multi "$host" "${others[@]}"
	for arch in "$host" "${others[@]}"; do
		configured multi "$arch" ".config.User == \"for-$arch\""
	done
}

@test "config --all-platforms changes all of them" {
	remember
	works config --image layout:multi --all-platforms --config.user all --manifest.annotation a=b --index.annotation c=d
	only_changed multi "$host" "${others[@]}"
	for arch in "$host" "${others[@]}"; do
		configured multi "$arch" ".config.User == \"all\" and .author == \"author of $arch\" and .history[-1].author == \"author of $arch\""
		blob layout "$(of multi "$arch")" | jq -e '.annotations.a == "b"'
	done
	leaves "$(entry multi)" | jq -es 'all(.annotations.c == "d")'
	works tag --image layout:multi --platform "linux/$host" plain
	works config --image layout:plain --all-platforms --config.user plain
	config layout plain | jq -e '.config.User == "plain"'
	refuses 'together' config --image layout:multi --all-platforms --platform "linux/$host"
	refuses 'together' config --image layout:multi --all-platforms --architecture "$host"
}

@test "the index says what has changed about a platform" {
	works config --image layout:multi --platform "linux/${others[0]}" --architecture mips --platform.variant v9
	leaves "$(entry multi)" | jq -es '.[0].platform == {"os": "linux", "architecture": "mips", "variant": "v9"}'
	works stat --image layout:multi --platform linux/mips/v9
}

@test "new makes an image for another platform" {
	works new --image layout:new --platform linux/arm/v7
	config layout new | jq -e '.os == "linux" and .architecture == "arm" and .variant == "v7"'
	works new --image layout:new --platform linux/x86_64
	config layout new | jq -e '.architecture == "amd64" and (has("variant") | not)'
}

@test "tag and rm work on all images, or on one" {
	remember
	works tag --image layout:multi copy
	only_changed copy
	works tag --image layout:multi --platform "linux/${others[0]}" plain
	[ "$(ref layout plain)" = "$(of multi "${others[0]}")" ]
	whole layout history-too-short
	works rm --image layout:copy --platform "linux/${others[1]}"
	run of copy "${others[1]}"
	[ "$status" -ne 0 ]
	for arch in "$host" "${others[0]}" "${others[2]}"; do
		[ "$(of copy "$arch")" = "$(of multi "$arch")" ]
		works rm --image layout:copy --platform "linux/$arch"
		works rm --image layout:copy --platform "linux/$arch"
	done
	works ls --layout layout
	[ "$output" = $'multi\nplain' ]
	works rm --image layout:plain --platform "linux/${others[1]}"
	works ls --layout layout
	[ "$output" = $'multi\nplain' ]
	only_changed multi
}

@test "a platform that is not there is named, with those that are" {
	before=$(fingerprint layout)
	for command in "unpack bundle" "raw unpack rootfs" "stat" "raw config c.json" "insert arch /x" "tag x"; do
		# shellcheck disable=SC2086 # several words
		refuses "linux/arm/v6.*linux/$host" ${command} --image layout:multi --platform linux/arm/v6
	done
	refuses "linux/arm/v6.*linux/$host" config --image layout:multi --platform linux/arm/v6
	for bad in linux '' linux/ linux/arm/v7/x 'linux/a b'; do
		misuses 'platform' stat --image layout:multi --platform "$bad"
	done
	[ "$(fingerprint layout)" = "$before" ]
}

@test "skopeo and umoci read what was changed" {
	works config --image layout:multi --all-platforms --config.workingdir /srv
	works tag --image layout:multi --platform "linux/$host" plain
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:plain bundle
	[ "$(cat bundle/rootfs/arch)" = "$host" ]
	needs skopeo
	skopeo inspect --raw oci:layout:multi | jq -e '.manifests | length == 3'
	skopeo --override-arch "${others[0]}" inspect --config oci:layout:multi | jq -e '.config.WorkingDir == "/srv"'
	skopeo copy --all oci:layout:plain oci:copy:plain
}
