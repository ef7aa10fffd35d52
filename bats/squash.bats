# SPDX-License-Identifier: Apache-2.0

load helpers

# layer NAME [TAR-OPTION...] makes NAME.tar out of the directory NAME.
layer() {
	local name=$1
	shift
	tar --create --file="$name.tar" --directory="$name" --sort=name --format=posix --numeric-owner --owner=0 --group=0 \
		--pax-option=delete=atime,delete=ctime "$@" .
}

# app has four layers on a base of one, which show all that merging has to get right.
setup() {
	sandbox
	mkdir -p base/dir/sub base/opaque/deep base/kept two/dir two/opaque three/dir three/odd four/dir/sub
	for f in base/dir/{a,b,c} base/dir/sub/x base/opaque/old base/opaque/deep/old base/kept/file; do echo "$f" >"$f"; done
	ln base/dir/c base/kept/c
	chmod 2711 base/kept
	echo second >two/dir/b
	: >two/dir/.wh.a
	: >two/opaque/.wh..wh..opq
	echo new >two/opaque/new
	printf odd >three/odd/$'not\xffutf8'
	printf odd >three/odd/$'line\nbreak'
	echo "only for a while" >three/dir/temporary
	truncate --size=20M three/holes
	printf end >>three/holes
	ln -s dir/b two/link
	: >four/dir/.wh.temporary
	echo fourth >four/dir/sub/y
	# A new name for a file of the base: the entry of the file itself is not in the layer.
	mkdir -p link/kept link/dir
	cp base/kept/c link/kept/c
	ln link/kept/c link/dir/c2
	find base two three four link -exec touch --no-dereference --date=@1400000000.125 {} +
	layer base
	layer two
	layer three --sparse --pax-option=SCHILY.xattr.user.mark:=value
	layer four
	tar --create --file=link.tar --format=posix --numeric-owner --owner=0 --group=0 --directory=link kept/c dir/c2
	tar --delete --file=link.tar kept/c
	"$MKLAYOUT" -layout L -tag base base.tar
	"$MKLAYOUT" -layout L -tag app base.tar two.tar three.tar four.tar link.tar
	unpacked L:app before
	export SOURCE_DATE_EPOCH=1600000000
}

# same TAG... fails unless the images unpack to what app was, also with umoci.
same() {
	local tag
	for tag; do
		unpacked "L:$tag" "after-$tag"
		compare_trees before/rootfs "after-$tag/rootfs"
		"$UMOCI" unpack "${ROOTLESS[@]}" --image "L:$tag" "umoci-$tag"
		# umoci fills holes, and does not touch roots and parents that no entry is for.
		diff -r --no-dereference before/rootfs "umoci-$tag/rootfs"
	done
	whole L
	only_blobs L
	works verify --layout L
}

@test "squash makes one layer of all" {
	works squash --image L:app --tag small
	[ "$(layers L small | wc -l)" -eq 1 ]
	same small
	[ "$(layer_tar L small 0 | tar --list --quoting-style=escape | grep -c temporary)" -eq 0 ]
	[ "$(stat -c %Y before/rootfs/dir/b)" = 1400000000 ]
	config L small | jq -e '.history == [{"created": "2020-09-13T12:26:40Z", "created_by": "shale squash",
		"comment": "merged 5 layers: layer 1; layer 2; layer 3; layer 4; layer 5"}]'
	manifest L small | jq -e --arg size "$(layer_tar L small 0 | wc -c)" '.layers[0].annotations == {"ci.umo.uncompressed_blob_size": $size}'
}

@test "squash leaves the base as it is, also one in another layout" {
	"$MKLAYOUT" -layout other -tag debian -compress zstd base.tar
	for base in L:base other:debian; do
		works squash --image L:app --tag small --keep-base "$base"
		[ "$(layers L small | wc -l)" -eq 2 ]
		[ "$(layers L small | head -n 1)" = "$(layers L base)" ]
	done
	same small
	config L small | jq -e '[.history[] | .created_by] == ["layer 1", "shale squash"] and .history[1].comment == "merged 4 layers: layer 2; layer 3; layer 4; layer 5"'
	names=$(layer_names L small 1)
	# Whoever unpacks the layer into a directory of its own needs what is above, and all
	# names of a file that got one more.
	for name in dir dir/.wh.a kept kept/c dir/c dir/c2 opaque opaque/.wh.old; do
		grep -qx "$name" <<<"$names" || fail "$name is not in the layer"
	done
	for name in kept/file dir/sub/x; do
		[ "$(grep -cx "$name" <<<"$names" || true)" -eq 0 ] || fail "$name is in the layer"
	done
	"$MKLAYOUT" -layout L -tag wrong two.tar
	refuses 'L:wrong: not a base of the image: layer 1 is sha256:.* there, and sha256:.* here' squash --image L:app --keep-base L:wrong
	refuses 'it has 5 layers, and the image only 1' squash --image L:base --keep-base L:app
	refuses 'there is no such ref' squash --image L:app --keep-base L:none
}

@test "squash merges a range of layers" {
	works squash --image L:app --tag range --from 2 --to 4
	[ "$(layers L range | wc -l)" -eq 3 ]
	[ "$(layers L range | sed -n '1p;3p')" = "$(layers L app | sed -n '1p;5p')" ]
	works squash --image L:app --tag from --from 3
	[ "$(layers L from | wc -l)" -eq 3 ]
	works squash --image L:app --tag to --to 2
	[ "$(layers L to | wc -l)" -eq 4 ]
	works squash --image L:app --tag base-to --keep-base L:base --to 3
	[ "$(layers L base-to | wc -l)" -eq 4 ]
	works squash --image L:app --tag by-digest --from "$(layers L app | sed -n 2p)" --to "$(config L app | jq -r '.rootfs.diff_ids[3]')"
	[ "$(ref L by-digest)" = "$(ref L range)" ]
	works squash --image L:app --tag one --from 3 --to 3
	[ "$(ref L one)" = "$(ref L app)" ]
	same range from to base-to
	refuses 'from 6: the image has 5 layers' squash --image L:app --from 6
	refuses 'to 6: the image has 5 layers' squash --image L:app --to 6
	refuses 'no such layer' squash --image L:app --to sha256:0
}

@test "squash gives the same bytes each time, however layers are compressed" {
	works squash --image L:app --tag one
	works squash --image L:app --tag two
	[ "$(ref L one)" = "$(ref L two)" ]
	"$MKLAYOUT" -layout L -tag plain -compress none base.tar two.tar three.tar four.tar link.tar
	works squash --image L:plain --tag three
	[ "$(layers L three)" = "$(layers L one)" ]
	works squash --image L:one --tag four
	[ "$(ref L one)" = "$(ref L four)" ]
}

@test "squash compresses as it is told" {
	works squash --image L:app --tag z --compress zstd
	manifest L z | jq -e '.layers[0].mediaType == "application/vnd.oci.image.layer.v1.tar+zstd"'
	works squash --image L:app --tag n --compress none
	manifest L n | jq -e '.layers[0] | .mediaType == "application/vnd.oci.image.layer.v1.tar" and (has("annotations") | not)'
	[ "$(layer_tar L z 0 | sha256sum)" = "$(layer_tar L n 0 | sha256sum)" ]
	"$MKLAYOUT" -layout L -tag docker -docker base.tar two.tar
	works squash --image L:docker
	manifest L docker | jq -e '.layers == [.layers[0]] and .layers[0].mediaType == "application/vnd.docker.image.rootfs.diff.tar.gzip"'
}

@test "squash overwrites the tag, and gc removes what was merged" {
	before=$(ref L app)
	works squash --image L:app --tag other
	[ "$(ref L app)" = "$before" ]
	works squash --image L:app
	[ "$(ref L app)" = "$(ref L other)" ]
	works gc --layout L
	# Manifest, config and layer of two images, one of which is the base.
	[ "$(find L/blobs -type f | wc -l)" -eq 6 ]
	whole L
	works squash --image L:base
	works --verbose squash --image L:base
	[[ "$stderr" == *"merged 0 layers"* ]]
}

@test "squash writes the history that it is told" {
	works squash --image L:app --tag a --history.author me --history.comment why --history.created 2001-02-03T04:05:06Z --history.created_by 'by hand'
	config L a | jq -e '.history == [{"author": "me", "comment": "why", "created": "2001-02-03T04:05:06Z", "created_by": "by hand"}]'
	works config --image L:app --tag b --author somebody
	works squash --image L:b
	# The entry of config is about no layer, and stays.
	config L b | jq -e '[.history[].created_by] == ["shale squash", "shale config"] and .history[0].author == "somebody" and .history[1].empty_layer'
	misuses 'no-history' squash --image L:app --no-history
	[ "$(layers L app | wc -l)" -eq 5 ]
}

@test "skopeo reads what squash has made" {
	needs skopeo
	works squash --image L:app --tag small
	skopeo --insecure-policy copy --quiet oci:L:small dir:copied
	[ "$(jq -r .config.digest copied/manifest.json)" = "$(manifest L small | jq -r .config.digest)" ]
	skopeo inspect --config oci:L:small | jq -e '.rootfs.diff_ids | length == 1'
}

@test "squash refuses a damaged layer, and leaves the layout as it was" {
	blob=L/blobs/sha256/$(layers L app | sed -n 3p | cut -d: -f2)
	chmod 644 "$blob"
	flip "$blob" 100
	before=$(contents L)
	refuses "$(layers L app | sed -n 3p)" squash --image L:app
	[ "$(contents L)" = "$before" ]
}

@test "squash honours limits" {
	refuses 'max-entries' squash --image L:app --max-entries 5
	refuses 'max-bytes' squash --image L:app --max-bytes 1M
}

@test "wrong command lines of squash" {
	misuses '\-\-image' squash
	misuses 'positional' squash --image L:app x
	misuses 'keep-base and --from' squash --image L:app --keep-base L:base --from 2
	misuses 'counted from 1' squash --image L:app --from 0
	misuses 'counted from 1' squash --image L:app --to 0
	misuses 'invalid --from: it is empty' squash --image L:app --from ''
	misuses 'above --to' squash --image L:app --from 3 --to 2
	misuses 'all-platforms and --platform' squash --image L:app --all-platforms --platform linux/arm64
	misuses 'compress' squash --image L:app --compress xz
	misuses 'no such|not exist' squash --image nowhere:app
}
