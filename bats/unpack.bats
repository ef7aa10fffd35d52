# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
	hex=$(ref layout base | cut -d: -f2)
}

@test "unpack makes a bundle" {
	unpacked layout:base bundle
	[ -z "$output" ]
	run find bundle -mindepth 1 -maxdepth 1 ! -name '*.stat*' -printf '%f %y\n'
	[ "$(sort <<<"$output")" = "$(printf '%s\n' 'config.json f' 'rootfs d' "sha256_$hex.mtree f" 'umoci.json f' | sort)" ]
	[ "$(stat -c %a bundle)" = 700 ]
	[ "$(stat -c %a "bundle/sha256_$hex.mtree")" = 644 ]
	[ "$(cat bundle/rootfs/etc/name)" = base ]
	[ "$(readlink bundle/rootfs/bin/link)" = tool ]
	[ -p bundle/rootfs/srv/fifo ]
	[ bundle/rootfs/bin/tool -ef bundle/rootfs/bin/tool2 ]
	[ "$(stat -c %Y bundle/rootfs/bin)" = 1500000000 ]
}

@test "unpack makes the tree, the mtree manifest and the metadata that umoci makes" {
	unpacked layout:base ours
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:base theirs
	compare_trees ours/rootfs theirs/rootfs
	diff <(mtree_lines "ours/sha256_$hex.mtree") <(mtree_lines "theirs/sha256_$hex.mtree")
	diff <(jq -S . ours/umoci.json) <(jq -S . theirs/umoci.json)
}

@test "unpack makes the runtime configuration that umoci makes" {
	image layout full -config '{"User": "1000:100", "Env": ["A=1", "HOME=/elsewhere"], "Entrypoint": ["/bin/tool"], "Cmd": ["-x"],
		"WorkingDir": "/srv", "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "first"}, "StopSignal": "SIGTERM"}' >/dev/null
	for tag in base full; do
		unpacked "layout:$tag" "ours-$tag"
		"$UMOCI" unpack "${ROOTLESS[@]}" --image "layout:$tag" "theirs-$tag"
		# umoci calls the host after itself, and names the version of the
		# runtime-spec that it was built with.
		diff <(jq -S 'del(.ociVersion, .hostname)' "ours-$tag/config.json") <(jq -S 'del(.ociVersion, .hostname)' "theirs-$tag/config.json")
	done
	jq -e '.process.args == ["/bin/tool", "-x"] and .process.cwd == "/srv" and .process.user.uid == 1000' ours-full/config.json
	jq -e '.ociVersion | startswith("1.")' ours-base/config.json
	grep -q $'^\t"ociVersion"' ours-base/config.json
}

@test "unpack writes umoci.json in one line" {
	unpacked layout:base bundle
	[ "$(wc -l <bundle/umoci.json)" -le 1 ]
	jq -e '.umoci_version == "2"' bundle/umoci.json
	diff <(jq -S '.from_descriptor_path.descriptor_walk' bundle/umoci.json) <(jq -S .manifests layout/index.json)
	if [ "$(id -u)" = 0 ]; then
		jq -e '.map_options == {uid_mappings: null, gid_mappings: null, rootless: false}' bundle/umoci.json
	else
		jq -e --argjson id "$(id -u)" '.map_options.rootless and .map_options.uid_mappings == [{containerID: 0, hostID: $id, size: 1}]' bundle/umoci.json
	fi
}

@test "unpack applies layers in their order" {
	mkdir -p two/{etc,var/lib/old,bin} three/etc
	echo second >two/etc/name
	: >two/var/lib/old/.wh.file
	: >two/bin/.wh..wh..opq
	echo new >two/bin/new
	: >three/etc/.wh.group
	ln -s ../bin three/etc/name
	for layer in two three; do
		tar --create --file=$layer.tar --directory=$layer --owner=0 --group=0 --numeric-owner .
		works raw add-layer --image layout:base $layer.tar
	done
	unpacked layout:base bundle
	[ "$(ls bundle/rootfs/bin)" = new ]
	[ ! -e bundle/rootfs/var/lib/old/file ]
	[ -d bundle/rootfs/var/lib/old ]
	[ ! -e bundle/rootfs/etc/group ]
	[ "$(readlink bundle/rootfs/etc/name)" = ../bin ]
	run find bundle/rootfs -name '.wh*'
	[ -z "$output" ]
}

@test "unpack reads every compression, and Docker's media types" {
	unpacked layout:base bundle
	for how in zstd none; do
		image layout "$how" -compress "$how" >/dev/null
		unpacked "layout:$how" "bundle-$how"
		compare_trees bundle/rootfs "bundle-$how/rootfs"
	done
	image layout docker -docker >/dev/null
	unpacked layout:docker bundle-docker
	compare_trees bundle/rootfs bundle-docker/rootfs
}

@test "unpack makes the directories above, and uses an empty one" {
	unpacked layout:base far/down/bundle
	[ "$(cat far/down/bundle/rootfs/etc/name)" = base ]
	mkdir empty
	unpacked layout:base empty
	[ "$(cat empty/rootfs/etc/name)" = base ]
}

@test "unpack takes latest for a missing tag, and flags after the bundle" {
	works tag --image layout:base latest
	works unpack bundle "${ROOTLESS[@]}" --image layout
	[ "$(cat bundle/rootfs/etc/name)" = base ]
}

@test "unpack never touches a bundle that is there" {
	unpacked layout:base bundle
	before=$(fingerprint bundle)
	refuses 'config.json|rootfs' unpack "${ROOTLESS[@]}" --image layout:base bundle
	[ "$(fingerprint bundle)" = "$before" ]
	for what in rootfs config.json; do
		mkdir -p "own/$what"
		echo mine >"own/$what/file"
		before=$(fingerprint own)
		refuses "$what" unpack "${ROOTLESS[@]}" --image layout:base own
		[ "$(fingerprint own)" = "$before" ]
		rm -r own
	done
}

@test "unpack keeps what else is in the directory" {
	mkdir bundle
	echo mine >bundle/notes
	unpacked layout:base bundle
	[ "$(cat bundle/notes)" = mine ]
}

@test "unpack needs no right to write to the layout, and writes nothing to it" {
	before=$(fingerprint layout)
	chmod -R a-w layout
	unpacked layout:base bundle
	chmod -R u+w layout
	unpacked layout:base bundle2
	[ "$(fingerprint layout)" = "$before" ]
}

@test "unpack of a broken layer names it and removes what it had made" {
	digest=$(layers layout base)
	size=$(stat -c %s "layout/blobs/${digest/://}")
	truncate -s $((size - 40)) "layout/blobs/${digest/://}"
	refuses "${digest#*:}" unpack "${ROOTLESS[@]}" --image layout:base bundle
	[ ! -e bundle ]
	# The same size, and other bytes.
	head -c 40 /dev/zero >>"layout/blobs/${digest/://}"
	mkdir bundle
	echo mine >bundle/notes
	refuses "${digest#*:}" unpack "${ROOTLESS[@]}" --image layout:base bundle
	[ "$(ls -A bundle)" = notes ]
	[ -z "$(ls -A tmp)" ]
}

@test "unpack checks the diffID" {
	config=$(manifest layout base | jq -r .config.digest)
	wrong=$(printf 'x' | sha256sum | cut -d' ' -f1)
	right=$(config layout base | jq -r '.rootfs.diff_ids[0]' | cut -d: -f2)
	blob layout "$config" | sed "s/$right/$wrong/" >changed-config
	newconfig=$(sha256sum <changed-config | cut -d' ' -f1)
	cp changed-config "layout/blobs/sha256/$newconfig"
	manifest layout base | sed "s/${config#*:}/$newconfig/" >changed-manifest
	newmanifest=$(sha256sum <changed-manifest | cut -d' ' -f1)
	cp changed-manifest "layout/blobs/sha256/$newmanifest"
	sed -i "s/$hex/$newmanifest/" layout/index.json
	refuses "$wrong|$right|$(layers layout base)" unpack "${ROOTLESS[@]}" --image layout:base bundle
	[ ! -e bundle ]
}

@test "unpack names a tag, a blob or a layout that is missing" {
	refuses 'nosuch' unpack "${ROOTLESS[@]}" --image layout:nosuch bundle
	refuses 'nowhere|oci-layout|no such|invalid image' unpack "${ROOTLESS[@]}" --image nowhere:base bundle
	digest=$(layers layout base)
	rm "layout/blobs/${digest/://}"
	refuses "${digest#*:}" unpack "${ROOTLESS[@]}" --image layout:base bundle
	[ ! -e bundle ]
}

@test "unpack refuses a wrong command line" {
	misuses 'missing mandatory argument.*--image' unpack bundle
	misuses 'positional argument' unpack --image layout:base
	misuses 'positional argument' unpack --image layout:base one two
	misuses 'empty' unpack --image layout:base ''
	misuses 'invalid --image' unpack --image 'layout:a b' bundle
	for map in x 0 0:x 0:0:0:0 -1:0:1 0:0:x; do
		misuses 'uid-map' unpack --uid-map "$map" --image layout:base bundle
		misuses 'gid-map' unpack --gid-map "$map" --image layout:base bundle
	done
	[ ! -e bundle ]
}

@test "unpack maps owners" {
	needs_root "give files away"
	works unpack --uid-map 0:100000:65536 --gid-map 0:200000:65536 --image layout:base bundle
	[ "$(stat -c %u:%g bundle/rootfs/etc/name)" = 100000:200000 ]
	[ "$(stat -c %u:%g bundle/rootfs)" = 100000:200000 ]
	jq -e '.map_options.uid_mappings == [{containerID: 0, hostID: 100000, size: 65536}]' bundle/umoci.json
	jq -e '.map_options.gid_mappings == [{containerID: 0, hostID: 200000, size: 65536}]' bundle/umoci.json
	jq -e '.linux.uidMappings == [{containerID: 0, hostID: 100000, size: 65536}] and any(.linux.namespaces[]; .type == "user")' bundle/config.json
	"$UMOCI" unpack --uid-map 0:100000:65536 --gid-map 0:200000:65536 --image layout:base theirs
	compare_trees bundle/rootfs theirs/rootfs
	diff <(mtree_lines "bundle/sha256_$hex.mtree") <(mtree_lines "theirs/sha256_$hex.mtree")
}

@test "unpack refuses an owner that has no mapping, and names it" {
	needs_root "give files away"
	mkdir own
	echo mine >own/file
	tar --create --file=own.tar --directory=own --owner=4711 --group=0 --numeric-owner .
	works raw add-layer --image layout:base own.tar
	refuses '4711' unpack --uid-map 0:100000:1000 --gid-map 0:200000:65536 --image layout:base bundle
	[ ! -e bundle ]
}

@test "unpack --rootless keeps owners and devices in mind" {
	needs_root "pack devices"
	needs getfattr
	mkdir own
	echo mine >own/file
	chown 1000:100 own/file
	mknod own/null c 1 3
	tar --create --file=own.tar --directory=own --numeric-owner file null
	works raw add-layer --image layout:base own.tar
	works unpack --rootless --image layout:base bundle
	[ "$(stat -c %u:%g bundle/rootfs/file)" = 0:0 ]
	# The protobuf of owner 1000 and group 100.
	[ "$(getfattr --only-values --absolute-names -n user.rootlesscontainers bundle/rootfs/file | od -An -tx1 | tr -d ' \n')" = 08e8071064 ]
	[ -f bundle/rootfs/null ]
	# Nothing has changed for a repack.
	works repack --image layout:again bundle
	[ "$(layers layout again)" = "$(layers layout base)" ]
}

@test "unpack without privileges hints at --rootless" {
	[ "$(id -u)" != 0 ] || skip "root has all privileges"
	mkdir own
	echo mine >own/file
	tar --create --file=own.tar --directory=own --owner=1 --group=1 --numeric-owner .
	works raw add-layer --image layout:base own.tar
	shale unpack --image layout:base bundle
	[ "$status" -eq 1 ]
	[[ $stderr == *--rootless* ]]
}

@test "unpack --keep-dirlinks writes through a symlink to a directory" {
	mkdir -p one/real two/link
	ln -s real one/link
	echo content >two/link/file
	for layer in one two; do
		tar --create --file=$layer.tar --directory=$layer --owner=0 --group=0 --numeric-owner .
		works raw add-layer --image layout:base $layer.tar
	done
	unpacked layout:base without
	[ ! -L without/rootfs/link ]
	[ "$(cat without/rootfs/link/file)" = content ]
	works unpack "${ROOTLESS[@]}" --keep-dirlinks --image layout:base with
	[ -L with/rootfs/link ]
	[ "$(cat with/rootfs/real/file)" = content ]
}

@test "unpack stays inside the rootfs" {
	mkdir -p evil/dir outside
	ln -s "$PWD/outside" evil/link
	echo canary >outside/canary
	tar --create --file=one.tar --directory=evil --owner=0 --group=0 --numeric-owner link
	echo gotcha >evil/dir/file
	tar --create --absolute-names --file=two.tar --directory=evil --owner=0 --group=0 --numeric-owner \
		--transform='flags=r;s|^dir/file$|link/file|' dir/file
	: >evil/dir/wh
	tar --create --file=three.tar --directory=evil --owner=0 --group=0 --numeric-owner --transform='flags=r;s|^dir/wh$|link/.wh.canary|' dir/wh
	for layer in one two three; do
		works raw add-layer --image layout:base $layer.tar
	done
	before=$(fingerprint outside)
	shale unpack "${ROOTLESS[@]}" --image layout:base bundle
	[ "$(fingerprint outside)" = "$before" ]
	[ "$(cat outside/canary)" = canary ]
}

@test "unpack needs few open files, however many processors there are" {
	mkdir tree
	for i in {1..600}; do
		mkdir "tree/$i"
		echo "$i" >"tree/$i/file"
	done
	tar -C tree -cf tree.tar .
	"$MKLAYOUT" -layout layout -tag dirs tree.tar >/dev/null
	ulimit -n 256
	GOMAXPROCS=16 unpacked layout:dirs bundle
	[ "$(cat bundle/rootfs/599/file)" = 599 ]
}
