# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
	unpacked layout:base bundle
}

@test "repack of an unchanged bundle adds no layer and keeps the digest" {
	works repack --image layout:same bundle
	[ -z "$output" ]
	[ "$(ref layout same)" = "$(ref layout base)" ]
	whole layout
	only_blobs layout
}

@test "repack adds one layer with what has changed, on top of the old ones" {
	before=$(ref layout base)
	echo new >bundle/rootfs/etc/new
	works repack --image layout:changed bundle
	whole layout
	only_blobs layout
	[ "$(ref layout base)" = "$before" ]
	[ "$(layer_names layout changed -1 | grep -vx etc)" = etc/new ]
	[ "$(manifest layout changed | jq '.layers | length')" -eq 2 ]
	[ "$(layers layout changed | head -n 1)" = "$(layers layout base)" ]
	[ "$(manifest layout changed | jq -r '.layers[1].annotations["ci.umo.uncompressed_blob_size"]')" -eq "$(layer_tar layout changed -1 | wc -c)" ]
}

@test "repack takes a tag over" {
	echo new >bundle/rootfs/etc/new
	before=$(ref layout base)
	works repack --image layout:base bundle
	[ "$(ref layout base)" != "$before" ]
	[ "$(jq '.manifests | length' layout/index.json)" -eq 1 ]
}

# repacked makes the edits that it reads as a script in the rootfs, repacks,
# unpacks the result and compares it with the tree that was edited. Times are
# set, since layers hold whole seconds.
repacked() {
	(cd bundle/rootfs && bash -euxo pipefail) || return
	find bundle/rootfs -newermt @1600000000 -exec touch --no-dereference --date=@1600000000 {} + || return
	works repack --image layout:changed bundle
	whole layout
	unpacked layout:changed again
	compare_trees bundle/rootfs again/rootfs
	# Nothing is left to do.
	works repack --image layout:still again
	[ "$(layers layout still)" = "$(layers layout changed)" ]
}

@test "repack sees new names of every type" {
	repacked <<-'END'
		echo content >etc/file
		: >etc/empty
		mkdir -p a/deep/tree
		echo x >a/deep/tree/file
		ln -s /nowhere link
		ln -s ../.. a/up
		mkfifo pipe
		printf x >$'new\nline'
		printf x >$'not\xffutf8'
	END
}

@test "repack sees what is gone" {
	repacked <<-'END'
		rm etc/name bin/link
		rm -r var/lib/old
	END
	[ "$(layer_names layout changed -1 | grep wh)" = $'bin/.wh.link\netc/.wh.name\nvar/lib/.wh.old' ]
}

@test "repack sees changes of type" {
	repacked <<-'END'
		rm etc/name && mkdir etc/name && echo x >etc/name/inside
		rm -r var/lib/old && echo 'was a directory' >var/lib/old
		rm bin/link && echo 'was a symlink' >bin/link
		rm srv/fifo && ln -s /etc srv/fifo
		rm -r etc/group && ln -s passwd etc/group
	END
}

@test "repack of a directory that became a symlink deletes nothing behind it" {
	mkdir outside
	echo canary >outside/canary
	before=$(fingerprint outside)
	OUTSIDE=$PWD/outside repacked <<-'END'
		rm -r var/lib/old
		ln -s "$OUTSIDE" var/lib/old
	END
	[ "$(fingerprint outside)" = "$before" ]
}

@test "repack sees changes of content" {
	repacked <<-'END'
		echo more >>etc/name
		head -c 300000 /dev/urandom >etc/passwd
	END
	run layer_names layout changed -1
	[[ $output != *tool* ]]
}

@test "repack sees a change that leaves size and time as they were" {
	touch --reference=bundle/rootfs/etc/name stamp
	echo BASE >bundle/rootfs/etc/name
	touch --reference=stamp bundle/rootfs/etc/name
	works repack --image layout:changed bundle
	[ "$(layer_tar layout changed -1 | tar --extract --to-stdout --wildcards '*etc/name')" = BASE ]
}

@test "repack sees changes of mode and time" {
	repacked <<-'END'
		chmod 600 etc/name
		chmod 4755 bin/tool
		chmod 1777 srv
		touch --date=@1000000000 etc/passwd
		touch --date=@1000000001 var
		touch --no-dereference --date=@1000000002 bin/link
		touch --date=@-5 etc/group
	END
}

@test "repack sees changes of owner" {
	needs_root "give files away"
	repacked <<-'END'
		chown 1000:100 etc/name
		chown -h 1:2 bin/link
		chown 3:4 var
	END
}

@test "repack sees changes of xattrs" {
	needs setfattr
	repacked <<-'END'
		setfattr -n user.file -v value etc/name
		setfattr -n user.binary -v 0x00ff0a etc/name
		setfattr -n user.dir -v value srv
	END
	unpacked layout:changed third
	setfattr -x user.binary third/rootfs/etc/name
	works repack --image layout:less third
	unpacked layout:less fourth
	[ "$(getfattr -d --absolute-names fourth/rootfs/etc/name | grep -c '^user')" -eq 1 ]
}

@test "repack keeps file capabilities and ACLs" {
	needs_root "set capabilities"
	needs setcap setfacl
	repacked <<-'END'
		setcap cap_net_raw+ep bin/tool
		setfacl -m u:1000:r etc/name
	END
	[[ $(getcap again/rootfs/bin/tool) == *cap_net_raw* ]]
	[[ $(getfacl --absolute-names again/rootfs/etc/name) == *user:1000:r* ]] ||
		[[ $(getfacl --absolute-names --numeric again/rootfs/etc/name) == *user:1000:r* ]]
}

@test "repack keeps hardlinks together" {
	repacked <<-'END'
		echo changed >bin/tool
		ln etc/name etc/second
		echo one >srv/one
		ln srv/one srv/two
		ln srv/one var/three
	END
	[ again/rootfs/bin/tool -ef again/rootfs/bin/tool2 ]
	[ again/rootfs/etc/name -ef again/rootfs/etc/second ]
	[ again/rootfs/srv/one -ef again/rootfs/var/three ]
}

@test "repack sees a hardlink that was broken" {
	repacked <<-'END'
		cp -p bin/tool2 copy
		mv copy bin/tool2
	END
	[ "$(stat -c %h again/rootfs/bin/tool)" -eq 1 ]
}

@test "repack keeps devices" {
	needs_root "make devices"
	repacked <<-'END'
		mknod -m 666 null c 1 3
		mknod -m 660 disk b 7 9
	END
}

@test "repack writes canonical layers: sorted, parents first, no names, whole seconds" {
	mkdir -p bundle/rootfs/z/y bundle/rootfs/a
	echo 1 >bundle/rootfs/z/y/file
	echo 2 >bundle/rootfs/a/file
	works repack --image layout:changed bundle
	layer_tar layout changed -1 >layer.tar
	tar --list --file=layer.tar | sed 's|^\./||' | grep -v '^$' >names
	LC_ALL=C sort -c names
	run tar --list --verbose --file=layer.tar
	[[ $output == *" 0/0 "* ]]
	[[ $output != *root/* ]]
	run tar --list --verbose --full-time --file=layer.tar
	[[ $output != *:??.* ]]
}

@test "repack of the same change gives the same digests" {
	export SOURCE_DATE_EPOCH=1700000000
	unpacked layout:base second
	for tree in bundle second; do
		echo new >"$tree/rootfs/etc/new"
		rm "$tree/rootfs/etc/group"
		sleep 0.01
	done
	works repack --image layout:one bundle
	works repack --image layout:two second
	[ "$(ref layout one)" = "$(ref layout two)" ]
	[ "$(ref layout one)" != "$(ref layout base)" ]
	[ "$(config layout one | jq -r '.history[-1].created')" = 2023-11-14T22:13:20Z ]
	# Newer times are clamped, and older ones stay.
	run bash -c "$(declare -f layer_tar manifest blob ref); layer_tar layout one -1 | TZ=UTC tar --list --verbose --full-time"
	[[ $output == *"2023-11-14 22:13:20"*etc/new* ]]
	SOURCE_DATE_EPOCH=x refuses 'SOURCE_DATE_EPOCH' repack --image layout:three bundle
}

@test "repack records its history" {
	echo 1 >bundle/rootfs/1
	works repack --image layout:a bundle
	config layout a | jq -e '.history | length == 2 and (.[1].created_by | endswith(" repack")) and (.[1].empty_layer | not)'
	works repack --image layout:b --no-history bundle
	config layout b | jq -e '(.history | length == 1) and (.rootfs.diff_ids | length == 2)'
	works repack --image layout:c --history.author 'A <a@example.org>' --history.comment why \
		--history.created 2001-02-03T04:05:06Z --history.created_by 'make, layer' bundle
	config layout c | jq -e '.history[-1] == {author: "A <a@example.org>", comment: "why", created: "2001-02-03T04:05:06Z", created_by: "make, layer"}'
}

@test "repack leaves masked paths out" {
	echo 1 >bundle/rootfs/etc/in
	echo 2 >bundle/rootfs/srv/out
	mkdir bundle/rootfs/etc/sub
	echo 3 >bundle/rootfs/etc/sub/out
	works repack --image layout:masked --mask-path /srv --mask-path=/etc/sub bundle
	run layer_names layout masked -1
	[[ $output == *etc/in* ]]
	[[ $output != *out* ]]
	# Not a list: a comma is part of the name.
	works repack --image layout:comma --mask-path /srv,/etc bundle
	run layer_names layout comma -1
	[[ $output == *srv/out* ]]
	[[ $output == *etc/in* ]]
}

@test "repack masks the image's volumes unless told otherwise" {
	image layout volumes -config '{"Volumes": {"/srv": {}}}' >/dev/null
	unpacked layout:volumes volumes
	echo 1 >volumes/rootfs/srv/out
	echo 2 >volumes/rootfs/etc/in
	works repack --image layout:masked volumes
	run layer_names layout masked -1
	[[ $output == *etc/in* ]]
	[[ $output != *srv/out* ]]
	works repack --image layout:all --no-mask-volumes volumes
	run layer_names layout all -1
	[[ $output == *srv/out* ]]
}

@test "repack compresses as it is told" {
	needs zstd
	echo new >bundle/rootfs/etc/new
	for how in gzip zstd none; do
		works repack --image "layout:$how" --compress "$how" bundle
		run layer_names layout "$how" -1
		[[ $output == *etc/new* ]]
	done
	[ "$(manifest layout gzip | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar+gzip ]
	[ "$(manifest layout zstd | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar+zstd ]
	[ "$(manifest layout none | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar ]
	whole layout
	# Automatic: like the last compressed layer, and never plain.
	for how in zstd none; do
		image layout "base-$how" -compress "$how" >/dev/null
		unpacked "layout:base-$how" "bundle-$how"
		echo new >"bundle-$how/rootfs/etc/new"
		works repack --image "layout:auto-$how" --compress=auto "bundle-$how"
	done
	[ "$(manifest layout auto-zstd | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar+zstd ]
	[ "$(manifest layout auto-none | jq -r '.layers[-1].mediaType')" = application/vnd.oci.image.layer.v1.tar+gzip ]
}

@test "repack --refresh-bundle makes it a bundle of the new image" {
	old=$(ref layout base | cut -d: -f2)
	echo 1 >bundle/rootfs/etc/one
	works repack --refresh-bundle --image layout:one bundle
	new=$(ref layout one | cut -d: -f2)
	[ -f "bundle/sha256_$new.mtree" ]
	[ ! -e "bundle/sha256_$old.mtree" ]
	[ "$(jq -r '.from_descriptor_path.descriptor_walk[-1].digest' bundle/umoci.json)" = "sha256:$new" ]
	[ "$(jq -r '.from_descriptor_path.descriptor_walk[0].annotations["org.opencontainers.image.ref.name"]' bundle/umoci.json)" = one ]
	echo 2 >bundle/rootfs/etc/two
	works repack --image layout:two bundle
	[ "$(manifest layout two | jq '.layers | length')" -eq 3 ]
	run layer_names layout two -1
	[[ $output == *etc/two* ]]
	[[ $output != *etc/one* ]]
	unpacked layout:two again
	[ "$(cat again/rootfs/etc/one again/rootfs/etc/two)" = $'1\n2' ]
}

@test "repack without --refresh-bundle does not change the bundle" {
	echo 1 >bundle/rootfs/etc/one
	stat_caches bundle | xargs -r rm
	before=$(fingerprint bundle/rootfs)
	meta=$(cat bundle/umoci.json bundle/*.mtree bundle/config.json | sha256sum)
	works repack --image layout:one bundle
	[ "$(fingerprint bundle/rootfs)" = "$before" ]
	[ "$(cat bundle/umoci.json bundle/*.mtree bundle/config.json | sha256sum)" = "$meta" ]
}

@test "repack takes its flags after the bundle too, and latest for a missing tag" {
	echo 1 >bundle/rootfs/etc/one
	works repack bundle --image layout
	run layer_names layout latest -1
	[[ $output == *etc/one* ]]
}

@test "repack refuses a name that would be a whiteout, and commits nothing" {
	echo x >bundle/rootfs/etc/.wh.name
	before=$(contents layout)
	refuses '\.wh\.name' repack --image layout:bad bundle
	[ "$(contents layout)" = "$before" ]
}

@test "repack passes over sockets" {
	perl -e 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("bundle/rootfs/srv/socket")) or die'
	echo x >bundle/rootfs/etc/new
	works repack --image layout:changed bundle
	[[ $stderr == *socket* ]]
	run layer_names layout changed -1
	[[ $output == *etc/new* ]]
	[[ $output != *srv/socket* ]]
}

@test "repack refuses a rootfs that is a symlink" {
	mkdir elsewhere
	mv bundle/rootfs elsewhere/
	ln -s ../elsewhere/rootfs bundle/rootfs
	echo x >elsewhere/rootfs/etc/new
	before=$(fingerprint layout)
	refuses 'rootfs' repack --image layout:bad bundle
	[ "$(fingerprint layout)" = "$before" ]
}

@test "repack refuses a bundle whose metadata it cannot use" {
	before=$(fingerprint layout)
	cp bundle/umoci.json good
	for edit in '.umoci_version = "1"' '.umoci_version = "3"' 'del(.umoci_version)' '.whiteout_mode = 1' \
		'.from_descriptor_path.descriptor_walk = []' 'del(.from_descriptor_path)'; do
		jq -c "$edit" good >bundle/umoci.json
		refuses 'umoci.json|version|whiteout|descriptor|bundle' repack --image layout:bad bundle
	done
	: >bundle/umoci.json
	refuses 'umoci.json' repack --image layout:bad bundle
	rm bundle/umoci.json
	refuses 'umoci.json' repack --image layout:bad bundle
	cp good bundle/umoci.json
	rm bundle/*.mtree
	refuses 'mtree' repack --image layout:bad bundle
	refuses 'nosuch' repack --image layout:bad nosuch
	[ "$(fingerprint layout)" = "$before" ]
}

@test "repack refuses a layout without the bundle's image" {
	works init --layout other
	echo x >bundle/rootfs/etc/new
	before=$(fingerprint other)
	refuses "$(ref layout base | cut -d: -f2)" repack --image other:new bundle
	[ "$(fingerprint other)" = "$before" ]
}

@test "repack refuses a wrong command line" {
	before=$(fingerprint layout)
	misuses 'missing mandatory argument.*--image' repack bundle
	misuses 'positional argument' repack --image layout:new
	misuses 'positional argument' repack --image layout:new bundle bundle
	misuses 'empty' repack --image layout:new ''
	misuses 'invalid --image' repack --image 'layout:a b' bundle
	misuses 'invalid --compress' repack --image layout:new --compress xz bundle
	misuses 'no-history.*together' repack --image layout:new --no-history --history.comment x bundle
	misuses 'history.created' repack --image layout:new --history.created yesterday bundle
	[ "$(fingerprint layout)" = "$before" ]
}

@test "repack needs no stat cache, and believes no broken one" {
	echo new >bundle/rootfs/etc/new
	works repack --image layout:with bundle --history.created 2001-02-03T04:05:06Z
	for cache in $(stat_caches bundle); do
		echo garbage >"$cache"
	done
	works repack --image layout:broken bundle --history.created 2001-02-03T04:05:06Z
	stat_caches bundle | xargs -r rm
	works repack --image layout:without bundle --history.created 2001-02-03T04:05:06Z
	[ "$(ref layout with)" = "$(ref layout broken)" ]
	[ "$(ref layout with)" = "$(ref layout without)" ]
}

@test "repack as root keeps the owner of the layout's files" {
	needs_root "give files away"
	chown -R 1000:1000 layout
	echo new >bundle/rootfs/etc/new
	works repack --image layout:new bundle
	run find layout ! -user 1000
	[ -z "$output" ]
}
