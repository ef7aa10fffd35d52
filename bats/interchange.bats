# SPDX-License-Identifier: Apache-2.0
#
# What umoci made, shale goes on with, and the reverse.

load helpers

setup() {
	sandbox
	image layout base >/dev/null
}

edit() { # ROOTFS
	echo new >"$1/etc/new"
	rm "$1/etc/group"
	rm -r "$1/var/lib/old"
	echo file >"$1/var/lib/old"
	ln "$1/etc/name" "$1/etc/second"
	chmod 700 "$1/srv"
	find "$1" -newermt @1600000000 -exec touch --no-dereference --date=@1600000000 {} +
}

@test "shale repacks a bundle that umoci made" {
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:base bundle
	works repack --image layout:same bundle
	[ "$(layers layout same)" = "$(layers layout base)" ]
	edit bundle/rootfs
	works repack --refresh-bundle --image layout:edited bundle
	whole layout
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:edited again
	compare_trees bundle/rootfs again/rootfs
	echo more >bundle/rootfs/etc/more
	"$UMOCI" repack --image layout:more bundle
	run layer_names layout more -1
	[[ $output == *etc/more* ]]
	[[ $output != *etc/new* ]]
}

@test "umoci repacks a bundle that shale made" {
	unpacked layout:base bundle
	edit bundle/rootfs
	"$UMOCI" repack --refresh-bundle --image layout:edited bundle
	unpacked layout:edited again
	compare_trees bundle/rootfs again/rootfs
	echo more >bundle/rootfs/etc/more
	works repack --image layout:more bundle
	whole layout
	run layer_names layout more -1
	[[ $output == *etc/more* ]]
	[[ $output != *etc/new* ]]
}

@test "shale and umoci put the same names with the same contents into a layer" {
	unpacked layout:base ours
	cp -a ours theirs
	edit ours/rootfs
	edit theirs/rootfs
	works repack --image layout:ours ours
	"$UMOCI" repack --image layout:theirs theirs
	# umoci also removes what was in a directory that is a file now.
	diff <(layer_names layout ours -1) <(layer_names layout theirs -1 | grep -vx 'var/lib/old/.wh.file')
	unpacked layout:ours from-ours
	unpacked layout:theirs from-theirs
	compare_trees from-ours/rootfs from-theirs/rootfs
}

@test "umoci validates mtree manifests that shale wrote" {
	unpacked layout:base bundle
	run "$UMOCI" raw mtree-validate "${ROOTLESS[@]}" --manifest bundle/*.mtree --path bundle/rootfs
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	echo changed >bundle/rootfs/etc/name
	run "$UMOCI" raw mtree-validate "${ROOTLESS[@]}" --manifest bundle/*.mtree --path bundle/rootfs
	[ "$status" -ne 0 ]
	[[ $output == *name* ]]
}

@test "umoci and skopeo read what shale wrote" {
	unpacked layout:base bundle
	edit bundle/rootfs
	works repack --image layout:edited bundle
	works stat --json --image layout:edited
	diff <(jq -S . <<<"$output") <("$UMOCI" stat --json --image layout:edited | jq -S .)
	needs skopeo
	skopeo inspect oci:layout:edited | jq -e '.Layers | length == 2'
	skopeo copy oci:layout:edited oci:copy:edited
	diff <(layers layout edited) <(layers copy edited)
	whole copy
}
