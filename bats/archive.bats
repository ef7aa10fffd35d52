# SPDX-License-Identifier: Apache-2.0
#
# Images in oci-archives and docker-archives, exchanged with skopeo and buildah.

load helpers

setup() {
	sandbox
	image layout one >/dev/null
	image layout two -compress zstd -config '{"Cmd":["/two"]}' >/dev/null
}

skopeo() {
	command skopeo --insecure-policy --tmpdir "$TMPDIR" "$@"
}

# id LAYOUT TAG prints an image's ID, which is the digest of its config.
id_of() {
	manifest "$1" "$2" | jq -r .config.digest
}

# diff_ids LAYOUT TAG prints what the image's layers are, however they are compressed.
diff_ids() {
	config "$1" "$2" | jq -c .rootfs.diff_ids
}

# alone FILE fails if there is anything beside the file that was not there before.
alone() {
	[ "$(ls -A "$(dirname "$1")")" = "$(basename "$1")" ] || fail "left behind: $(ls -A "$(dirname "$1")")"
	[ -z "$(ls -A tmp)" ] || fail "left in TMPDIR: $(ls -A tmp)"
}

# only_untagged LAYOUT fails if anything in the layout has a tag, or is not whole.
only_untagged() {
	whole "$1"
	jq -e '.manifests == []' "$1/index.json"
}

@test "an oci-archive holds many images, and keeps their digests" {
	mkdir out
	works copy layout:one oci-archive:out/x.tar:one
	works copy layout:two oci-archive:out/x.tar:two
	alone out/x.tar
	works tags oci-archive:out/x.tar
	[ "$output" = "$(printf 'one\ntwo')" ]
	works copy --all-tags oci-archive:out/x.tar back
	for tag in one two; do
		[ "$(ref back $tag)" = "$(ref layout $tag)" ]
	done
	whole back
	only_blobs back
	# It is a layout for everybody.
	mkdir untarred
	tar --extract --file out/x.tar --directory untarred
	whole untarred
	refuses 'no tag three.*one, two' copy oci-archive:out/x.tar:three back
	refuses 'several images.*one, two' copy oci-archive:out/x.tar back
}

@test "a docker-archive holds many images, and keeps their IDs" {
	mkdir out
	works copy layout:one docker-archive:out/x.tar:example.com/one:1
	works copy layout:two docker-archive:out/x.tar:two:2
	alone out/x.tar
	works tags docker-archive:out/x.tar
	[ "$output" = "$(printf 'example.com/one:1\ntwo:2')" ]
	works copy docker-archive:out/x.tar:example.com/one:1 back:one
	works copy docker-archive:out/x.tar:docker.io/library/two:2 back:two
	for tag in one two; do
		[ "$(id_of back $tag)" = "$(id_of layout $tag)" ]
		[ "$(layers back $tag)" = "$(diff_ids layout $tag | jq -r '.[]')" ]
	done
	whole back
	works copy --compress gzip docker-archive:out/x.tar:two:2 back:gzip
	manifest back gzip | jq -e 'all(.layers[]; .mediaType | endswith("+gzip"))'
	[ "$(diff_ids back gzip)" = "$(diff_ids layout two)" ]
	refuses 'no three:3.*example.com/one:1, two:2' copy docker-archive:out/x.tar:three:3 back
	refuses '2 images.*example.com/one:1, two:2' copy docker-archive:out/x.tar back
	# Members in a fixed order, all alike.
	[ "$(tar --list --verbose --file out/x.tar | awk '{print $1, $2, $4}' | sort -u)" = '-rw-r--r-- 0/0 1970-01-01' ]
	tar --list --file out/x.tar | LC_ALL=C sort --check
}

@test "the same images give the same archive" {
	for n in 1 2; do
		mkdir "out$n"
		for tag in one two; do
			works copy "layout:$tag" "oci-archive:out$n/o.tar:$tag"
			works copy "layout:$tag" "docker-archive:out$n/d.tar:$tag:1"
		done
	done
	cmp out1/o.tar out2/o.tar
	cmp out1/d.tar out2/d.tar
	# Once more changes nothing.
	works copy layout:one oci-archive:out1/o.tar:one
	works copy layout:two docker-archive:out1/d.tar:two:1
	cmp out1/o.tar out2/o.tar
	cmp out1/d.tar out2/d.tar
	# On standard output they are what they are in a file.
	works copy layout:one oci-archive:three.tar:one
	"$SHALE" copy layout:one oci-archive:-:one >piped.tar
	cmp three.tar piped.tar
}

@test "skopeo reads shale's archives" {
	needs skopeo
	for tag in one two; do
		works copy "layout:$tag" "oci-archive:o.tar:$tag"
		works copy "layout:$tag" "docker-archive:d.tar:$tag:1"
	done
	for tag in one two; do
		skopeo copy --quiet --preserve-digests "oci-archive:o.tar:$tag" "oci:back:$tag"
		[ "$(ref back $tag)" = "$(ref layout $tag)" ]
		skopeo copy --quiet "docker-archive:d.tar:$tag:1" "oci:back:d$tag"
		[ "$(id_of back "d$tag")" = "$(id_of layout "$tag")" ]
		[ "$(diff_ids back "d$tag")" = "$(diff_ids layout "$tag")" ]
	done
	skopeo list-tags docker-archive:d.tar | jq -e '.Tags | length == 2'
	whole back
}

@test "shale reads skopeo's archives" {
	needs skopeo
	for tag in one two; do
		skopeo copy --quiet --preserve-digests "oci:layout:$tag" "oci-archive:o-$tag.tar:$tag"
		works copy "oci-archive:o-$tag.tar" "back:$tag"
		[ "$(ref back $tag)" = "$(ref layout $tag)" ]
	done
	skopeo copy --quiet oci:layout:one docker-archive:d.tar:example.com/one:1
	works copy docker-archive:d.tar back:d
	[ "$(id_of back d)" = "$(id_of layout one)" ]
	works copy docker-archive:d.tar:example.com/one:1 back:named
	[ "$(ref back d)" = "$(ref back named)" ]
	whole back
	# A second image joins one that skopeo wrote, and skopeo still reads both.
	works copy layout:two docker-archive:d.tar:two:2
	skopeo copy --quiet docker-archive:d.tar:example.com/one:1 oci:again:one
	skopeo copy --quiet docker-archive:d.tar:two:2 oci:again:two
	for tag in one two; do
		[ "$(id_of again $tag)" = "$(id_of layout $tag)" ]
	done
}

@test "buildah and shale exchange archives" {
	needs buildah
	needs_root "use buildah's storage"
	buildah() { command buildah --root "$PWD/storage" --runroot "$PWD/runroot" --storage-driver vfs "$@"; }
	works copy layout:one docker-archive:d.tar:localhost/one:1
	works copy layout:two docker-archive:d.tar:localhost/two:2
	works copy layout:one oci-archive:o.tar:one
	works copy layout:two oci-archive:o.tar:two
	for tag in one two; do
		pulled=$(buildah pull --quiet --policy always "oci-archive:o.tar:$tag")
		[ "sha256:$pulled" = "$(id_of layout $tag)" ]
	done
	pulled=$(buildah pull --quiet docker-archive:d.tar:localhost/one:1)
	[ "sha256:$pulled" = "$(id_of layout one)" ]
	# And back.
	buildah push --quiet "$pulled" oci-archive:theirs-o.tar:x
	buildah push --quiet "$pulled" docker-archive:theirs-d.tar:localhost/one:1
	works copy oci-archive:theirs-o.tar back:o
	works copy docker-archive:theirs-d.tar back:d
	for tag in o d; do
		[ "$(diff_ids back $tag)" = "$(diff_ids layout one)" ]
	done
	whole back
	# What buildah committed, in one archive with an image of ours.
	container=$(buildah from --pull-never "$pulled")
	buildah config --label by=buildah "$container"
	buildah commit --quiet "$container" docker-archive:both.tar:localhost/committed:1
	works copy layout:two docker-archive:both.tar:localhost/two:2
	works copy docker-archive:both.tar:localhost/committed:1 back:committed
	config back committed | jq -e '.config.Labels.by == "buildah"'
	works copy docker-archive:both.tar:localhost/two:2 back:two
	[ "$(id_of back two)" = "$(id_of layout two)" ]
	pulled=$(buildah pull --quiet docker-archive:both.tar:localhost/committed:1)
	[ "sha256:$pulled" = "$(id_of back committed)" ]
}

@test "archives are read compressed, and from pipes" {
	works copy layout:one oci-archive:o.tar:one
	works copy layout:one docker-archive:d.tar:one:1
	works copy docker-archive:d.tar want:d
	gzip --keep o.tar d.tar
	works copy oci-archive:o.tar.gz back:a
	works copy docker-archive:d.tar.gz back:b
	for what in o.tar o.tar.gz; do
		run --separate-stderr bash -c "cat $what | '$SHALE' copy oci-archive:- back:$what"
		[ "$status" -eq 0 ]
		[ "$(ref back "$what")" = "$(ref layout one)" ]
	done
	run --separate-stderr bash -c "'$SHALE' copy docker-archive:/dev/stdin back:c <d.tar && '$SHALE' copy docker-archive:<(cat d.tar.gz) back:d"
	[ "$status" -eq 0 ]
	for tag in b c d; do
		[ "$(ref back $tag)" = "$(ref want d)" ]
	done
	[ "$(ref back a)" = "$(ref layout one)" ]
	whole back
	[ -z "$(ls -A tmp)" ]
	needs xz
	xz --keep o.tar
	refuses 'xz' copy oci-archive:o.tar.xz back:x
}

@test "the docker-archives of old are read" {
	layer_tar layout one 0 >layer.tar
	mkdir -p old/1 old/2
	cp layer.tar old/1/layer.tar
	ln -s ../1/layer.tar old/2/layer.tar
	echo 1.0 | tee old/1/VERSION >old/2/VERSION
	config layout one | jq -c '.rootfs.diff_ids += .rootfs.diff_ids | .history += .history' >twice
	hex=$(sha256sum <twice | cut -d' ' -f1)
	mv twice "old/$hex.json"
	config=$hex.json jq -nc '[{Config: env.config, RepoTags: ["old:1"], Layers: ["1/layer.tar", "2/layer.tar"]}]' >old/manifest.json
	tar --create --file old.tar --directory old .
	works copy docker-archive:old.tar back:old
	[ "$(id_of back old)" = "sha256:$hex" ]
	[ "$(layers back old | sort -u)" = "sha256:$(sha256sum <layer.tar | cut -d' ' -f1)" ]
	whole back
}

@test "a hostile archive is refused, and nothing is written" {
	works copy layout:one oci-archive:good.tar:one
	works copy layout:one docker-archive:gooddocker.tar:one:1
	echo canary >canary
	mkdir tree
	tar --extract --file good.tar --directory tree
	echo evil >evil
	manifest=$(ref layout one)
	append() { # FILE TAR-OPTION...
		cp good.tar "$1"
		tar --append --absolute-names --file "$@"
	}
	append twice.tar --transform='s|evil|index.json|' evil
	append outside.tar --transform='s|evil|../canary|' evil
	append absolute.tar --transform="s|evil|$PWD/canary|" evil
	ln -s ../canary link
	append link.tar --transform='flags=r;s|link|blobs/sha256/link|' link
	mkfifo fifo
	append fifo.tar fifo
	head --bytes=3000 good.tar >short.tar
	cp good.tar flipped.tar
	printf X | dd of=flipped.tar bs=1 seek="$(grep --byte-offset --only-matching --text config good.tar | head -n 1 | cut -d: -f1)" conv=notrunc status=none
	head --bytes=100000 /dev/zero >zeros.tar
	: >empty.tar
	echo 'not a tar' >text.tar
	before=$(fingerprint canary)
	for file in twice outside absolute link fifo short flipped zeros empty text; do
		refuses "$file.tar|$manifest|sha256:" copy "oci-archive:$file.tar:one" "to-$file:x"
		[ ! -e "to-$file" ] || only_untagged "to-$file"
	done
	for file in twice outside absolute fifo short zeros empty text; do
		refuses "$file.tar" copy "docker-archive:$file.tar" "to-docker:x"
	done
	refuses 'docker-archive' copy oci-archive:gooddocker.tar to-docker:x
	refuses 'oci-archive' copy docker-archive:good.tar to-docker:x
	[ "$(fingerprint canary)" = "$before" ]
	[ -z "$(ls -A tmp)" ]
}

@test "what is no archive is not written over" {
	echo mine >notes
	for kind in oci-archive:notes:one docker-archive:notes:one:1; do
		refuses 'notes' copy layout:one "$kind"
		[ "$(cat notes)" = mine ]
	done
	refuses 'directory' copy layout:one oci-archive:layout:one
	refuses 'nosuch' copy layout:one oci-archive:nosuch/x.tar:one
	# A damaged blob stops everything, and the archive stays what it was.
	works copy layout:one oci-archive:x.tar:one
	sum=$(sha256sum x.tar)
	blob=$(layers layout two)
	flip "layout/blobs/${blob/://}" 100
	refuses "${blob#*:}" copy layout:two oci-archive:x.tar:two
	refuses "${blob#*:}" copy layout:two docker-archive:y.tar:two:2
	[ "$(sha256sum x.tar)" = "$sum" ]
	[ ! -e y.tar ]
	[ -z "$(ls -A tmp)" ]
}

@test "a kill leaves the archive that was there, or the new one" {
	head --bytes=10000000 /dev/urandom >random
	tar --create --file big.tar --owner=0 --group=0 --numeric-owner random
	"$MKLAYOUT" -layout layout -tag big -compress none big.tar >/dev/null
	mkdir out
	works copy layout:one oci-archive:out/o.tar:one
	works copy layout:one docker-archive:out/d.tar:one:1
	cp -r out first
	declare -A seen
	for round in $(seq 9); do
		for kind in oci-archive:out/o.tar:big docker-archive:out/d.tar:big:1; do
			"$SHALE" copy layout:big "$kind" 2>/dev/null &
			pid=$!
			sleep "0.0$round"
			kill -KILL $pid 2>/dev/null || true
			wait $pid || true
			[ "$(ls -A out)" = "$(printf 'd.tar\no.tar')" ] || fail "left behind: $(ls -A out)"
			file=${kind#*:}
			file=${file%%:*}
			run "$SHALE" tags "${kind%%:*}:$file"
			[ "$status" -eq 0 ]
			seen[${#lines[@]}]=1
			# The old one, byte by byte.
			[ "${#lines[@]}" -eq 2 ] || cmp "$file" "first/${file#out/}"
			cp "first/${file#out/}" "$file"
		done
	done
	[ -z "$(ls -A tmp)" ]
	echo "seen: ${!seen[*]}"
}

@test "a signal ends the writing of an archive without a trace" {
	head --bytes=30000000 /dev/urandom >random
	tar --create --file big.tar --owner=0 --group=0 --numeric-owner random
	"$MKLAYOUT" -layout layout -tag big big.tar >/dev/null
	mkdir out
	for signal in INT TERM; do
		for kind in oci-archive:out/o.tar:big docker-archive:out/d.tar:big:1; do
			status=0
			timeout --foreground --preserve-status --signal="$signal" 0.05 "$SHALE" copy layout:big "$kind" 2>/dev/null || status=$?
			[ "$status" -eq 0 ] || [ "$status" -eq 130 ] || [ "$status" -eq 143 ] || fail "exit status $status"
			[ "$status" -eq 0 ] || [ -z "$(ls -A out)" ] || fail "left behind: $(ls -A out)"
			[ -z "$(ls -A tmp)" ]
			rm -f out/*
		done
	done
}
