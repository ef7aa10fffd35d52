# SPDX-License-Identifier: Apache-2.0

load helpers

# tree DIR makes a small root filesystem.
tree() {
	mkdir -p "$1"/{bin,etc,usr/lib}
	echo "root:x:0:0:root:/root:/bin/sh" >"$1/etc/passwd"
	echo one >"$1/etc/one"
	echo lib >"$1/usr/lib/lib"
	echo tool >"$1/bin/tool"
	chmod 755 "$1/bin/tool"
	ln "$1/bin/tool" "$1/bin/tool2"
	ln -s tool "$1/bin/link"
	find "$1" -exec touch --no-dereference --date=@1500000000 {} +
}

# changed FROM TO copies a tree and changes the copy.
changed() {
	cp -a "$1" "$2"
	rm "$2/etc/one" "$2/bin/tool2"
	rm -r "$2/usr/lib"
	echo "now a file" >"$2/usr/lib"
	echo two >"$2/etc/two"
	chmod 700 "$2/bin/tool"
	touch --date=@1600000000 "$2/usr/lib" "$2/etc/two" "$2/usr" "$2/etc" "$2/bin"
}

# OWN are the flags by which the tests pack their own trees.
setup() {
	sandbox
	OWN=(--userns off)
	[ "$(id -u)" = 0 ] || OWN+=(--rootless)
	tree a
	changed a b
}

# gives LAYOUT:TAG DIR fails unless umoci unpacks the image as the tree.
gives() {
	rm -rf bundle
	"$UMOCI" unpack "${ROOTLESS[@]}" --image "$1" bundle 2>/dev/null
	compare_trees "$2" bundle/rootfs
}

@test "a directory becomes an image" {
	works pack "${OWN[@]}" --image L:v1 a
	whole L
	only_blobs L
	[ "$(layers L v1 | wc -l)" -eq 1 ]
	gives L:v1 a
}

@test "directories become layers, each the difference to the one before" {
	works pack "${OWN[@]}" --image L:v1 a b
	whole L
	[ "$(layers L v1 | wc -l)" -eq 2 ]
	gives L:v1 b
	[ "$(layer_names L v1 1 | xargs)" = "bin bin/.wh.tool2 bin/tool etc etc/.wh.one etc/two usr usr/lib" ]
	works pack "${OWN[@]}" --image L:v2 a b a
	gives L:v2 a
	[ "$(layers L v2 | wc -l)" -eq 3 ]
}

@test "a directory becomes the difference to an image" {
	works pack "${OWN[@]}" --image L:base --compress zstd a
	works pack "${OWN[@]}" --image L:v1 --from L:base b
	whole L
	[ "$(layers L v1 | head -n 1)" = "$(layers L base)" ]
	[ "$(manifest L v1 | jq -r '.layers[1].mediaType')" = application/vnd.oci.image.layer.v1.tar+zstd ]
	[ "$(layer_names L v1 1 | xargs)" = "bin bin/.wh.tool2 bin/tool etc etc/.wh.one etc/two usr usr/lib" ]
	gives L:v1 b
	works pack "${OWN[@]}" --image L:same --from L:base a
	[ "$(layers L same)" = "$(layers L base)" ]
	works pack "${OWN[@]}" --image other:v1 --from L:base b
	whole other
	[ "$(layers other v1 | head -n 1)" = "$(layers L base)" ]
}

@test "an upper directory with the files of fuse-overlayfs" {
	works pack "${OWN[@]}" --image L:base a
	mkdir -p u1/etc u1/usr u2/bin
	echo two >u1/etc/two
	: >u1/etc/.wh.one
	: >u1/usr/.wh..wh..opq
	echo last >u2/bin/last
	: >u2/bin/.wh.tool
	works pack "${OWN[@]}" --image L:v1 --from L:base --upper u1 --upper u2
	whole L
	[ "$(layers L v1 | wc -l)" -eq 3 ]
	rm -rf bundle
	"$UMOCI" unpack "${ROOTLESS[@]}" --image L:v1 bundle 2>/dev/null
	[ "$(cd bundle/rootfs && find . -not -type d -printf '%P\n' | sort | xargs)" = "bin/last bin/link bin/tool2 etc/passwd etc/two" ]
	: >u2/.wh.
	refuses 'snapshot u2: .*\.wh\.' pack "${OWN[@]}" --image L:v2 --from L:base --upper u1 --upper u2
}

@test "an upper directory of a real overlay" {
	needs unshare
	mkdir low up work merged
	cp -a a/. low
	unshare -rm sh -ec '
		mount -t overlay overlay -o userxattr,lowerdir=low,upperdir=up,workdir=work merged
		rm merged/etc/one
		rm -r merged/usr && mkdir merged/usr && echo new >merged/usr/new
		mv merged/bin/link merged/bin/moved
		echo more >>merged/bin/tool
		cp -a merged shown
		umount merged' || skip "no overlay in a user namespace here"
	works pack "${OWN[@]}" --image L:base low
	works pack "${OWN[@]}" --image L:v1 --from L:base --upper up
	whole L
	[ "$(layer_tar L v1 1 | grep -c overlay || true)" -eq 0 ]
	rm -rf bundle
	"$UMOCI" unpack "${ROOTLESS[@]}" --image L:v1 bundle 2>/dev/null
	(cd shown && find . -printf '%p %y %m %l\n' | sort) >facts.1
	(cd bundle/rootfs && find . -printf '%p %y %m %l\n' | sort) >facts.2
	diff facts.1 facts.2
	diff -r shown bundle/rootfs
	needs setfattr
	mkdir up/renamed
	setfattr -n user.overlay.redirect -v /bin up/renamed 2>/dev/null || skip "no xattrs here"
	refuses 'snapshot up: entry renamed: .*redirect' pack "${OWN[@]}" --image L:v2 --from L:base --upper up
}

@test "a tar archive, compressed or not, from a file or standard input" {
	tar --create --file=a.tar --directory=a --sort=name --numeric-owner .
	want=sha256:$(sha256sum <a.tar | cut -d' ' -f1)
	gzip --keep a.tar
	works pack --image L:plain a.tar
	works pack --image L:gz a.tar.gz
	run --separate-stderr "$SHALE" pack --image L:stdin - <a.tar.gz
	[ "$status" -eq 0 ]
	for tag in plain gz stdin; do
		[ "$(config L "$tag" | jq -r '.rootfs.diff_ids[0]')" = "$want" ]
	done
	whole L
	if command -v zstd >/dev/null; then
		zstd --quiet a.tar
		works pack --image L:zst a.tar.zst
		[ "$(config L zst | jq -r '.rootfs.diff_ids[0]')" = "$want" ]
	fi
	echo "no archive" >text
	refuses 'snapshot text: .*not a tar archive' pack --image L:bad text
	head -c 2000 a.tar >cut.tar
	refuses 'not a tar archive|unexpected EOF' pack --image new:bad cut.tar
	refuses 'as it is' pack --image new:bad --owner 0:0 a.tar
	[ ! -e new ]
}

@test "the config, its flags, and the history" {
	cat >config.json <<-EOF
		{"architecture": "s390x", "os": "linux", "author": "file", "config": {"Cmd": ["from", "file"], "Healthcheck": {}}}
	EOF
	works pack "${OWN[@]}" --image L:v1 --config config.json --config.env A=B --config.cmd sh --config.label l=1 \
		--author me --history.comment why --history.created_by me --history.created 2001-02-03T04:05:06Z a
	config L v1 | jq -e '.architecture == "s390x" and .author == "me" and .config.Cmd == ["sh"] and .config.Env == ["A=B"]
		and .config.Labels.l == "1" and .config.Healthcheck == {} and (.history | length) == 1
		and .history[0] == {created: "2001-02-03T04:05:06Z", created_by: "me", comment: "why"}'
	works pack "${OWN[@]}" --image L:v2 --no-history --platform linux/arm64 --config config.json a
	[[ "$stderr" == *history* ]]
	config L v2 | jq -e '.architecture == "arm64" and .history == null'
	works pack "${OWN[@]}" --image L:v3 --from L:v1 --config.cmd new b
	config L v3 | jq -e '.architecture == "s390x" and .config.Cmd == ["new"] and .config.Env == ["A=B"] and (.history | length) == 2'
}

@test "annotations, tags and indexes" {
	works pack "${OWN[@]}" --image L:v1 --name v2 --name v3 --platform linux/amd64 --annotation a=1 --annotation manifest:b=2 \
		--annotation index:c=3 --annotation config:d=4 a
	for tag in v1 v2 v3; do
		[ "$(ref L "$tag")" = "$(ref L v1)" ]
	done
	manifest L v1 | jq -e '.annotations == {a: "1", b: "2"} and .config.annotations.d == "4"'
	jq -e '.manifests[0].annotations.c == "3"' L/index.json
	works pack "${OWN[@]}" --image L:v1 --index --platform linux/arm64 --annotation index:c=5 b
	manifest L v1 | jq -e '.annotations.c == "5" and (.manifests | map(.platform.architecture)) == ["amd64", "arm64"]'
	works unpack "${ROOTLESS[@]}" --image L:v1 --platform linux/amd64 one
	[ -e one/rootfs/etc/one ]
	works unpack "${ROOTLESS[@]}" --image L:v1 --platform linux/arm64 two
	[ -e two/rootfs/etc/two ]
	works pack "${OWN[@]}" --image L:v1 --platform linux/arm64 b
	[ "$(manifest L v1 | jq -r .mediaType)" = application/vnd.oci.image.manifest.v1+json ]
	whole L
}

@test "compressions and levels" {
	for how in gzip gzip:1 gzip:9 zstd zstd:1 zstd:19 none auto; do
		works pack "${OWN[@]}" --image "L:${how/:/-}" --compress "$how" a
	done
	whole L
	[ "$(config L gzip-1 | jq -c .rootfs)" = "$(config L none | jq -c .rootfs)" ]
	[ "$(layers L auto)" = "$(layers L gzip)" ]
	[ "$(layers L gzip-1)" != "$(layers L gzip-9)" ]
	[ "$(manifest L none | jq -r '.layers[0].mediaType')" = application/vnd.oci.image.layer.v1.tar ]
}

@test "Docker's media types, and back" {
	works pack "${OWN[@]}" --image L:docker --docker-types a
	manifest L docker | jq -e '.mediaType == "application/vnd.docker.distribution.manifest.v2+json"
		and .config.mediaType == "application/vnd.docker.container.image.v1+json"
		and .layers[0].mediaType == "application/vnd.docker.image.rootfs.diff.tar.gzip"'
	works pack "${OWN[@]}" --image L:still --from L:docker b
	manifest L still | jq -e '.mediaType | contains("docker")'
	works pack "${OWN[@]}" --image L:oci --from L:docker --oci-types b
	manifest L oci | jq -e '[.mediaType, .config.mediaType, .layers[].mediaType] | map(contains("oci")) | all'
	whole L
}

@test "owners and masks" {
	works pack --image L:v1 --owner 12:34 --mask-path /etc --mask-path usr/lib a
	[ "$(layer_tar L v1 0 | tar --list --verbose --numeric-owner | awk '{ print $2 }' | sort -u)" = 12/34 ]
	[ "$(layer_names L v1 0 | xargs)" = "bin bin/link bin/tool bin/tool2 usr" ]
}

@test "the same trees give the same digests" {
	export SOURCE_DATE_EPOCH=1400000000
	works pack --image L:one --owner 0:0 a b
	mkdir there
	# Another order, other times of what is newer than that, another place, time zone and umask.
	(cd b && find . -depth -print0 | cpio --quiet --null --pass-through --make-directories --preserve-modification-time ../there/b) 2>/dev/null ||
		cp -a b there/b
	cp -a a there/a
	find there -type d -exec touch --date=@1700000000 {} +
	umask 077
	TZ=Asia/Kathmandu LC_ALL=C works pack --image L:two --owner 0:0 there/a there/b
	[ "$(ref L one)" = "$(ref L two)" ]
	config L one | jq -e '.created == "2014-05-13T16:53:20Z"'
	[ "$(layer_tar L one 0 | tar --list --verbose --utc --full-time | awk '{ print $4, $5 }' | sort -u)" = "2014-05-13 16:53:20" ]
}

@test "with a cache the second run changes nothing" {
	works pack "${OWN[@]}" --image L:v1 --cache C --json a b
	[ "$(jq -c '[.layers[].reused]' <<<"$output")" = "[false,false]" ]
	before=$(contents L)
	sleep 1
	works pack "${OWN[@]}" --image L:v1 --cache C --json a b
	[ "$(jq -c '[.layers[].reused]' <<<"$output")" = "[true,true]" ]
	[ "$(contents L)" = "$before" ]
	echo more >>b/etc/two
	works pack "${OWN[@]}" --image L:v1 --cache C --json a b
	[ "$(jq -c '[.layers[].reused]' <<<"$output")" = "[true,false]" ]
	whole L
	needs strace
	sleep 0.1
	run strace -f -e trace=openat,open,openat2 -o trace "$SHALE" pack "${OWN[@]}" --image L:v1 --cache C a b
	[ "$status" -eq 0 ] || skip "strace does not work here"
	[ "$(grep -cE '"(tool|two|one|passwd)"' trace)" -eq 0 ]
	run strace -f -e trace=openat,open,openat2 -o trace "$SHALE" pack "${OWN[@]}" --image L:v1 a b
	[ "$(grep -cE '"(tool|two|one|passwd)"' trace)" -gt 0 ]
}

@test "progress has the names that builders show" {
	works --progress plain pack "${OWN[@]}" --image L:v1 --name v2 a b
	[ "$(sed -nE 's/^shale: (exporting [a-z]+|naming to [a-z0-9]+).*/\1/p' <<<"$stderr" | xargs -d '\n' printf '%s, ')" = \
		"exporting layers, exporting config, exporting manifest, naming to v1, naming to v2, " ]
	works --progress json pack "${OWN[@]}" --image L:v1 a b
	grep '^{' <<<"$stderr" | jq -es 'map(select(.started)) | length >= 4 and all(.ended >= .started)'
}

@test "a failed or interrupted pack leaves nothing" {
	refuses 'no such file' pack "${OWN[@]}" --image new:v1 a nowhere
	[ ! -e new ]
	mkfifo a/etc/pipe
	mkdir c
	head -c 60000000 /dev/urandom >c/big
	"$SHALE" pack "${OWN[@]}" --image new:v1 --compress zstd:19 c &
	pid=$!
	sleep 0.2
	kill -TERM $pid || true
	status=0
	wait $pid || status=$?
	if [ "$status" -ne 0 ]; then
		[ "$status" -eq 143 ]
		[ ! -e new ]
	fi
	# An archive that never comes.
	mkfifo never
	"$SHALE" pack --image new:v1 - <>never &
	pid=$!
	sleep 0.2
	kill -TERM $pid
	status=0
	wait $pid || status=$?
	[ "$status" -eq 143 ]
	[ ! -e new ]
	image L v1
	before=$(contents L)
	refuses 'no such file' pack "${OWN[@]}" --image L:v1 --from L:v1 a nowhere
	[ "$(ref L v1)" != "" ]
	works gc --layout L
	[ "$(contents L)" = "$before" ]
}

@test "skopeo and buildah read it" {
	needs skopeo
	works pack "${OWN[@]}" --image L:v1 a b
	[ "$(skopeo inspect --format '{{.Digest}}' oci:L:v1)" = "$(ref L v1)" ]
	skopeo copy --quiet oci:L:v1 oci:copy:v1
	whole copy
	needs_root "to run buildah"
	needs buildah
	storage=(buildah --storage-driver vfs --root "$PWD/storage" --runroot "$PWD/run")
	container=$("${storage[@]}" from --quiet oci:copy:v1)
	root=$("${storage[@]}" mount "$container")
	diff -r --no-dereference b "$root"
	"${storage[@]}" rm "$container" >/dev/null
}

@test "a packed Debian runs" {
	[ -n "$DEBIAN" ] || skip "there is no Debian image"
	needs_root "and use its devices"
	works unpack --image "$DEBIAN:debian" debian
	works pack --image L:debian --compress gzip:1 --config.cmd /bin/true debian/rootfs
	whole L
	works pack --image L:again --from L:debian debian/rootfs
	[ "$(layers L again)" = "$(layers L debian)" ]
	works unpack --image L:debian bundle
	# Layers have whole seconds.
	"$TREEFACTS" debian/rootfs | sed -E 's/ mtime=(-?[0-9]+)[0-9]{9} / mtime=\1 /' >facts.1
	"$TREEFACTS" bundle/rootfs | sed -E 's/ mtime=(-?[0-9]+)[0-9]{9} / mtime=\1 /' >facts.2
	[ "$(wc -l <facts.1)" -gt 1000 ]
	diff -U0 facts.1 facts.2
	rm -rf debian
	works pack --image L:third --compress gzip:1 bundle/rootfs
	[ "$(layers L third)" = "$(layers L debian)" ]
	needs runc
	jq '.process.terminal = false | .process.args = ["/bin/bash", "-c", "dpkg --version | head -n 1"] | .ociVersion = "1.0.2"' \
		bundle/config.json >config.new
	mv config.new bundle/config.json
	run runc --root "$TMPDIR/runc" run --bundle bundle "shale-pack-$$" </dev/null
	echo "$output"
	[ "$status" -eq 0 ] || skip "runc cannot run containers here"
	[[ "$output" == *"package management program"* ]]
}

@test "a packed Go toolchain runs" {
	needs_root "to run runc without a user namespace"
	needs go runc
	goroot=$(go env GOROOT)
	works pack --image L:go --compress gzip:1 --mask-path src --mask-path test --mask-path api --mask-path doc \
		--config.env GOROOT=/ --config.env PATH=/bin --config.cmd /bin/go --config.cmd version "$goroot"
	whole L
	works unpack --image L:go bundle
	diff -r "$goroot/bin" bundle/rootfs/bin
	jq '.process.terminal = false | .ociVersion = "1.0.2"' bundle/config.json >config.new
	mv config.new bundle/config.json
	run runc --root "$TMPDIR/runc" run --bundle bundle "shale-pack-go-$$" </dev/null
	echo "$output"
	[ "$status" -eq 0 ] || skip "runc cannot run containers here"
	[ "$output" = "$(GOTOOLCHAIN=local "$goroot/bin/go" version)" ]
}

@test "wrong command lines of pack" {
	misuses 'nothing to pack' pack --image L:v1
	misuses 'mandatory argument: --image' pack a
	misuses 'invalid --owner' pack --image L:v1 --owner 1 a
	misuses 'invalid --owner' pack --image L:v1 --owner 1:4294967295 a
	misuses 'invalid --compress' pack --image L:v1 --compress xz a
	misuses 'invalid --compress' pack --image L:v1 --compress gzip:10 a
	misuses 'invalid --compress' pack --image L:v1 --compress none:1 a
	misuses 'invalid --annotation' pack --image L:v1 --annotation novalue a
	misuses 'invalid --annotation' pack --image L:v1 --annotation index:org.opencontainers.image.ref.name=x a
	misuses 'invalid --name' pack --image L:v1 --name 'a b' a
	misuses 'invalid --config' pack --image L:v1 --config nowhere a
	misuses 'may not be given together' pack --image L:v1 --oci-types --docker-types a
	misuses 'only be read once' pack --image L:v1 - -
	misuses 'invalid --from' pack --image L:v1 --from : a
	echo '{"Config": {}}' >config.json
	misuses 'config' pack "${OWN[@]}" --image L:v1 --config config.json a
	[ ! -e L ]
}
