# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
	mkdir -p src/sub
	echo new >src/file
	echo deep >src/sub/file
	ln -s file src/link
	ln src/file src/second
	chmod 750 src/sub
	touch --no-dereference --date=@1600000000 src/file src/sub/file src/link src/sub src
}

# inserted ARGS... inserts into layout:base as whoever runs the tests may, and makes
# the bundle of the result, called bundle.
inserted() {
	works insert "${ROOTLESS[@]}" --image layout:base "$@"
	rm -rf bundle
	unpacked layout:base bundle
}

@test "insert adds a directory and all below it" {
	inserted src /opt/app
	compare_trees src bundle/rootfs/opt/app
	[ "$(cat bundle/rootfs/etc/name)" = base ]
	[ "$(layers layout base | wc -l)" -eq 2 ]
	whole layout
	only_blobs layout
}

@test "insert adds one file under another name" {
	inserted src/sub/file etc/name
	[ "$(cat bundle/rootfs/etc/name)" = deep ]
	[ -f bundle/rootfs/etc/passwd ]
	[ "$(layer_names layout base -1)" = etc/name ]
}

@test "insert merges with the directory that is there" {
	inserted src /var/lib/old
	[ "$(cat bundle/rootfs/var/lib/old/file)" = new ]
	inserted src/sub /var/lib
	[ "$(cat bundle/rootfs/var/lib/file)" = deep ]
	[ "$(cat bundle/rootfs/var/lib/old/file)" = new ]
}

@test "insert takes a symbolic link as one" {
	inserted src/link /here
	[ "$(readlink bundle/rootfs/here)" = file ]
}

@test "insert --opaque hides what was there" {
	inserted --opaque src /etc
	[ ! -e bundle/rootfs/etc/passwd ]
	compare_trees src bundle/rootfs/etc
	run layer_names layout base -1
	[[ $output == *etc/.wh..wh..opq* ]]
}

@test "insert --whiteout removes" {
	inserted --whiteout /etc/name
	[ ! -e bundle/rootfs/etc/name ]
	[ "$(layer_names layout base -1)" = etc/.wh.name ]
	inserted --whiteout var
	[ ! -e bundle/rootfs/var ]
	inserted --whiteout --opaque bin/
	[ ! -e bundle/rootfs/bin ]
	whole layout
}

@test "insert stays inside the root" {
	inserted src/file ../../../up
	[ "$(cat bundle/rootfs/up)" = new ]
	[ ! -e up ]
}

@test "insert makes the layer that umoci makes" {
	export SOURCE_DATE_EPOCH=1700000000
	for args in "src /opt" "src/file /etc/name" "--whiteout /etc/name" "--opaque src /etc"; do
		# shellcheck disable=SC2086 # several words
		works insert "${ROOTLESS[@]}" --image layout:base --tag ours $args
		# shellcheck disable=SC2086 # several words
		"$UMOCI" insert "${ROOTLESS[@]}" --image layout:base --tag theirs $args
		diff <(layer_tar layout ours -1 | tar --list --verbose --numeric-owner | sort) \
			<(layer_tar layout theirs -1 | tar --list --verbose --numeric-owner | sort)
	done
}

@test "insert overwrites the tag unless another is given" {
	before=$(ref layout base)
	works insert "${ROOTLESS[@]}" --image layout:base --tag other src /x
	[ "$(ref layout base)" = "$before" ]
	[ "$(layers layout other | wc -l)" -eq 2 ]
	works insert "${ROOTLESS[@]}" src /x --image layout:base
	[ "$(ref layout base)" != "$before" ]
}

@test "insert writes its history" {
	works insert "${ROOTLESS[@]}" --image layout:base src/file x
	config layout base | jq -e '.history[-1] | .created_by == "shale insert" and (has("author") | not) and (.empty_layer | not)'
	works insert "${ROOTLESS[@]}" --image layout:base --history.author me --history.comment why --history.created 2001-02-03T04:05:06Z \
		--history.created_by 'by hand' src/file x
	config layout base | jq -e '.history[-1] == {"author": "me", "comment": "why", "created": "2001-02-03T04:05:06Z", "created_by": "by hand"}'
	entries=$(config layout base | jq '.history | length')
	works insert "${ROOTLESS[@]}" --image layout:base --no-history src/file x
	[[ $stderr == *history* ]]
	[ "$(config layout base | jq '.history | length')" -eq "$entries" ]
	[ "$(layers layout base | wc -l)" -eq 4 ]
}

@test "insert takes times from SOURCE_DATE_EPOCH, for what is newer" {
	export SOURCE_DATE_EPOCH=1500000000
	touch --date=@1400000000 src/sub/file
	works insert "${ROOTLESS[@]}" --image layout:base src /x
	config layout base | jq -e '.history[-1].created == "2017-07-14T02:40:00Z"'
	unpacked layout:base bundle
	[ "$(stat -c %Y bundle/rootfs/x/file)" = 1500000000 ]
	[ "$(stat -c %Y bundle/rootfs/x/sub/file)" = 1400000000 ]
	works insert "${ROOTLESS[@]}" --image layout:base --history.created 2001-02-03T04:05:06Z src /x
	config layout base | jq -e '.history[-1].created == "2001-02-03T04:05:06Z"'
	SOURCE_DATE_EPOCH=x refuses 'SOURCE_DATE_EPOCH' insert --image layout:base src /x
}

@test "insert compresses as it is told" {
	needs zstd
	for how in gzip zstd none; do
		works insert "${ROOTLESS[@]}" --image layout:base --tag "$how" --compress "$how" src/file x
		[ "$(layer_names layout "$how" -1)" = x ]
	done
	manifest layout none | jq -e '.layers[-1].mediaType == "application/vnd.oci.image.layer.v1.tar"'
	works insert "${ROOTLESS[@]}" --image layout:zstd src/file y
	manifest layout zstd | jq -e '.layers[-1].mediaType == "application/vnd.oci.image.layer.v1.tar+zstd"'
	works insert "${ROOTLESS[@]}" --image layout:none src/file y
	manifest layout none | jq -e '.layers[-1].mediaType == "application/vnd.oci.image.layer.v1.tar+gzip"'
	whole layout
}

@test "insert maps owners" {
	works insert --uid-map "33:$(id -u):1" --gid-map "34:$(id -g)" --image layout:base src/file x
	layer_tar layout base -1 | tar --list --verbose --numeric-owner | grep -q ' 33/34 '
	works insert --rootless --image layout:base src/file x
	layer_tar layout base -1 | tar --list --verbose --numeric-owner | grep -q ' 0/0 '
	refuses 'map|owner|uid' insert --uid-map "0:$(($(id -u) + 1)):1" --image layout:base src/file x
}

@test "insert reads what its owner may not" {
	chmod 0 src/sub/file src/sub
	works insert --rootless --image layout:base src /x
	[ "$(stat -c %a src/sub)" = 0 ]
	layer_tar layout base -1 | tar --list --verbose | grep -q '^---------- .* x/sub/file'
}

@test "insert refuses what it cannot do, and changes nothing" {
	mkdir bad
	: >bad/.wh.x
	before=$(contents layout)
	refuses 'nosuch' insert --image layout:base nosuch /x
	refuses 'wh.x' insert "${ROOTLESS[@]}" --image layout:base bad /x
	refuses 'wh.x' insert "${ROOTLESS[@]}" --image layout:base src/file /.wh.x
	refuses 'wh.x' insert "${ROOTLESS[@]}" --image layout:base src/file /a/.wh.x/b
	refuses 'wh.x' insert --image layout:base --whiteout /.wh.x
	refuses 'root' insert --image layout:base --whiteout /
	refuses 'root' insert "${ROOTLESS[@]}" --image layout:base src/file /
	refuses 'nosuch' insert --image layout:nosuch src /x
	[ "$(contents layout)" = "$before" ]
	only_blobs layout
}

@test "insert refuses a wrong command line" {
	before=$(fingerprint layout)
	misuses 'missing mandatory argument.*--image' insert src /x
	misuses 'positional argument' insert --image layout:base
	misuses 'positional argument' insert --image layout:base src
	misuses 'positional argument' insert --image layout:base src /x /y
	misuses 'positional argument' insert --image layout:base --whiteout
	misuses 'positional argument' insert --image layout:base --whiteout src /x
	misuses 'empty' insert --image layout:base '' /x
	misuses 'empty' insert --image layout:base src ''
	misuses 'empty' insert --image layout:base --whiteout ''
	misuses 'invalid --compress' insert --image layout:base --compress xz src /x
	misuses 'invalid --tag' insert --image layout:base --tag . src /x
	misuses 'no-history.*together' insert --image layout:base --no-history --history.author me src /x
	misuses 'history.created' insert --image layout:base --history.created now src /x
	misuses 'uid-map' insert --image layout:base --uid-map 0 src /x
	misuses 'gid-map' insert --image layout:base --gid-map 0:x src /x
	[ "$(fingerprint layout)" = "$before" ]
}
