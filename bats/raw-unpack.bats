# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
}

@test "raw unpack writes the root filesystem that unpack writes, and nothing else" {
	unpacked layout:base bundle
	works raw unpack "${ROOTLESS[@]}" --image layout:base rootfs
	[ -z "$output" ]
	compare_trees bundle/rootfs rootfs
	[ "$(ls -A tmp)" = "" ]
}

@test "raw unpack writes what umoci writes" {
	works raw unpack "${ROOTLESS[@]}" --image layout:base ours
	"$UMOCI" raw unpack "${ROOTLESS[@]}" --image layout:base theirs
	compare_trees ours theirs
}

@test "raw unpack makes the directories above, and uses an empty one" {
	works raw unpack "${ROOTLESS[@]}" --image layout:base far/down/rootfs
	[ "$(cat far/down/rootfs/etc/name)" = base ]
	mkdir empty
	works raw unpack empty "${ROOTLESS[@]}" --image layout:base
	compare_trees far/down/rootfs empty
}

@test "raw unpack takes latest for a missing tag" {
	works tag --image layout:base latest
	works raw unpack "${ROOTLESS[@]}" --image layout rootfs
	[ "$(cat rootfs/etc/name)" = base ]
}

@test "raw unpack never touches what is there" {
	mkdir rootfs
	echo mine >rootfs/file
	before=$(fingerprint rootfs)
	refuses 'not empty' raw unpack "${ROOTLESS[@]}" --image layout:base rootfs
	[ "$(fingerprint rootfs)" = "$before" ]
	echo file >other
	refuses 'other' raw unpack "${ROOTLESS[@]}" --image layout:base other
	[ "$(cat other)" = file ]
}

@test "raw unpack maps owners" {
	needs_root "give files away"
	works raw unpack --uid-map 0:100000:65536 --gid-map 0:200000:65536 --image layout:base rootfs
	[ "$(stat -c %u:%g rootfs rootfs/etc/name | sort -u)" = 100000:200000 ]
	"$UMOCI" raw unpack --uid-map 0:100000:65536 --gid-map 0:200000:65536 --image layout:base theirs
	compare_trees rootfs theirs
	refuses '0' raw unpack --uid-map 1:100000:65536 --gid-map 0:200000:65536 --image layout:base other
	[ ! -e other ]
}

@test "raw unpack --rootless keeps owners in mind" {
	needs getfattr
	mkdir own
	echo mine >own/file
	tar --create --file=own.tar --directory=own --owner=1000 --group=100 --numeric-owner file
	works raw add-layer --image layout:base own.tar
	works raw unpack --rootless --image layout:base rootfs
	[ "$(stat -c %u:%g rootfs/file)" = "$(id -u):$(id -g)" ]
	[ "$(getfattr --only-values --absolute-names -n user.rootlesscontainers rootfs/file | od -An -tx1 | tr -d ' \n')" = 08e8071064 ]
}

@test "raw unpack --keep-dirlinks writes through a symlink to a directory" {
	mkdir -p one/real two/link
	ln -s real one/link
	echo content >two/link/file
	for layer in one two; do
		tar --create --file=$layer.tar --directory=$layer --owner=0 --group=0 --numeric-owner .
		works raw add-layer --image layout:base $layer.tar
	done
	works raw unpack "${ROOTLESS[@]}" --image layout:base without
	[ ! -L without/link ]
	works raw unpack "${ROOTLESS[@]}" --keep-dirlinks --image layout:base with
	[ -L with/link ]
	[ "$(cat with/real/file)" = content ]
}

@test "raw unpack of a broken layer names it and removes what it had made" {
	digest=$(layers layout base)
	truncate -s -40 "layout/blobs/${digest/://}"
	refuses "${digest#*:}" raw unpack "${ROOTLESS[@]}" --image layout:base rootfs
	[ ! -e rootfs ]
	head -c 40 /dev/zero >>"layout/blobs/${digest/://}"
	mkdir rootfs
	chmod 711 rootfs
	refuses "${digest#*:}" raw unpack "${ROOTLESS[@]}" --image layout:base rootfs
	[ "$(ls -A rootfs)" = "" ]
	[ "$(stat -c %a rootfs)" = 711 ]
}

@test "raw unpack refuses a wrong command line" {
	misuses 'missing mandatory argument.*--image' raw unpack rootfs
	misuses 'positional argument' raw unpack --image layout:base
	misuses 'positional argument' raw unpack --image layout:base one two
	misuses 'empty' raw unpack --image layout:base ''
	misuses 'invalid --image' raw unpack --image 'layout:a b' rootfs
	misuses 'uid-map' raw unpack --uid-map 0:x --image layout:base rootfs
	misuses 'gid-map' raw unpack --gid-map 0 --image layout:base rootfs
	refuses 'nosuch' raw unpack --image layout:nosuch rootfs
	refuses 'nowhere' raw unpack --image nowhere:base rootfs
	[ ! -e rootfs ]
}
