# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
	mkdir tree
	echo added >tree/added
	tar --create --file=new.tar --directory=tree --owner=0 --group=0 --numeric-owner .
	diffid=sha256:$(sha256sum <new.tar | cut -d' ' -f1)
}

@test "raw add-layer puts the archive on top as it is" {
	works raw add-layer --image layout:base --tag added new.tar
	[ -z "$output" ]
	whole layout
	only_blobs layout
	[ "$(manifest layout added | jq '.layers | length')" -eq 2 ]
	[ "$(layers layout added | head -n 1)" = "$(layers layout base)" ]
	[ "$(config layout added | jq -r '.rootfs.diff_ids[1]')" = "$diffid" ]
	cmp <(layer_tar layout added -1) new.tar
	[ "$(manifest layout added | jq -r '.layers[1].annotations["ci.umo.uncompressed_blob_size"]')" = "$(stat -c %s new.tar)" ]
}

@test "raw add-layer overwrites the tag unless another is given" {
	before=$(ref layout base)
	works raw add-layer --image layout:base --tag added new.tar
	[ "$(ref layout base)" = "$before" ]
	works raw add-layer --image layout:base new.tar
	[ "$(ref layout base)" != "$before" ]
	[ "$(jq '.manifests | length' layout/index.json)" -eq 2 ]
}

@test "raw add-layer records its history" {
	works raw add-layer --image layout:base new.tar
	config layout base | jq -e '.history | length == 2 and (.[1].created_by | endswith(" raw add-layer")) and (.[1].empty_layer | not)'
	works raw add-layer --image layout:base --no-history new.tar
	config layout base | jq -e '(.history | length == 2) and (.rootfs.diff_ids | length == 3)'
	works raw add-layer --image layout:base --history.author 'A <a@example.org>' --history.comment 'why' \
		--history.created 2001-02-03T04:05:06Z --history.created_by 'make, layer' new.tar
	config layout base | jq -e '.history[-1] == {author: "A <a@example.org>", comment: "why", created: "2001-02-03T04:05:06Z", created_by: "make, layer"}'
}

@test "raw add-layer takes the time from SOURCE_DATE_EPOCH, and rather from the flag" {
	export SOURCE_DATE_EPOCH=1000000000
	works raw add-layer --image layout:base --tag a new.tar
	works raw add-layer --image layout:base --tag b new.tar
	[ "$(ref layout a)" = "$(ref layout b)" ]
	[ "$(config layout a | jq -r '.history[-1].created')" = 2001-09-09T01:46:40Z ]
	works raw add-layer --image layout:base --tag c --history.created 2001-02-03T04:05:06Z new.tar
	[ "$(config layout c | jq -r '.history[-1].created')" = 2001-02-03T04:05:06Z ]
}

@test "raw add-layer compresses as it is told" {
	needs zstd
	for how in gzip zstd none; do
		works raw add-layer --image layout:base --tag "$how" --compress "$how" new.tar
		cmp <(layer_tar layout "$how" -1) new.tar
	done
	[ "$(manifest layout gzip | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar+gzip ]
	[ "$(manifest layout zstd | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar+zstd ]
	[ "$(manifest layout none | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar ]
	whole layout
}

@test "raw add-layer follows the last compressed layer" {
	works raw add-layer --image layout:base --tag zstd --compress zstd new.tar
	works raw add-layer --image layout:zstd --compress none new.tar
	works raw add-layer --image layout:zstd new.tar
	manifest layout zstd | jq -e '[.layers[].mediaType | split("tar")[1]] == ["+gzip", "+zstd", "", "+zstd"]'
	# In an image of plain layers only, the default is gzip: never plain.
	image layout plain -compress none >/dev/null
	works raw add-layer --image layout:plain --compress auto new.tar
	[ "$(manifest layout plain | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar+gzip ]
}

@test "raw add-layer works on an image without layers" {
	works new --image layout:empty
	works raw add-layer new.tar --image layout:empty
	whole layout
	[ "$(config layout empty | jq -r '.rootfs.diff_ids[0]')" = "$diffid" ]
	unpacked layout:empty bundle
	[ "$(cat bundle/rootfs/added)" = added ]
}

@test "raw add-layer refuses archives that are none, and changes nothing" {
	before=$(fingerprint layout)
	refuses 'nosuch.tar' raw add-layer --image layout:base nosuch.tar
	refuses 'directory' raw add-layer --image layout:base tree
	[ "$(fingerprint layout)" = "$before" ]
}

@test "raw add-layer refuses a wrong command line" {
	before=$(fingerprint layout)
	misuses 'missing mandatory argument.*--image' raw add-layer new.tar
	misuses 'positional argument' raw add-layer --image layout:base
	misuses 'positional argument' raw add-layer --image layout:base new.tar new.tar
	misuses 'empty' raw add-layer --image layout:base ''
	misuses 'invalid --compress' raw add-layer --image layout:base --compress xz new.tar
	misuses 'invalid --tag' raw add-layer --image layout:base --tag 'a b' new.tar
	misuses 'no-history.*together' raw add-layer --image layout:base --no-history --history.author me new.tar
	misuses 'history.created' raw add-layer --image layout:base --history.created yesterday new.tar
	refuses 'nosuch' raw add-layer --image layout:nosuch new.tar
	[ "$(jq '.manifests | length' layout/index.json)" -eq 1 ]
	[ "$(fingerprint layout)" = "$before" ]
}
