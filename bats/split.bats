# SPDX-License-Identifier: Apache-2.0

load helpers

# pack NAME makes NAME.tar out of the directory NAME.
pack() {
	tar --create --file="$1.tar" --directory="$1" --sort=name --format=posix --numeric-owner --owner=0 --group=0 \
		--mtime=@1500000000 --pax-option=delete=atime,delete=ctime .
}

# vendor makes the layout L: debian, runtime on it, and app1 and app2 on that.
setup() {
	sandbox
	base_tar base.tar
	mkdir -p base/usr lib/usr/lib app1/app app2/app
	tar --extract --file=base.tar --directory=base
	head -c 500000 /dev/urandom >base/usr/big
	[ ! -x /bin/busybox ] || cp /bin/busybox base/bin/sh
	head -c 200000 /dev/urandom >lib/usr/lib/lib.so
	for n in 1 2; do
		echo "app $n" >"app$n/app/name"
		head -c 30000 /dev/urandom >"app$n/app/data"
	done
	for n in base lib app1 app2; do pack "$n"; done
	"$MKLAYOUT" -layout L -tag debian base.tar
	"$MKLAYOUT" -layout L -tag runtime base.tar lib.tar
	"$MKLAYOUT" -layout L -tag app1 base.tar lib.tar app1.tar
	"$MKLAYOUT" -layout L -tag app2 base.tar lib.tar app2.tar
	TIERS=(--base L:debian --lib L:runtime)
}

# sent DIR prints how many bytes the files in it have.
sent() {
	find "$1" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'
}

blob_size() { # LAYOUT DIGEST
	stat -c %s "$1/blobs/${2/://}"
}

@test "split and join give the same digests" {
	before=$(fingerprint L)
	works split --image L:app1 --image L:app2 "${TIERS[@]}" OUT
	[ "$(fingerprint L)" = "$before" ]
	works join OUT --image J
	for ref in app1 app2; do
		[ "$(ref J "$ref")" = "$(ref L "$ref")" ]
	done
	whole J
	only_blobs J
	works unpack "${ROOTLESS[@]}" --image L:app1 one
	works unpack "${ROOTLESS[@]}" --image J:app1 two
	compare_trees one/rootfs two/rootfs
}

@test "the story of a site" {
	# The site gets base and lib once, with the first app.
	works split --image L:app1 "${TIERS[@]}" OUT1
	cp -r OUT1 usb1
	works join usb1 --image site
	whole site
	first=$(sent usb1)

	# The second app is what is sent from then on.
	works split --image L:app2 "${TIERS[@]}" --against OUT1 OUT2
	layer=$(layers L app2 | tail -n 1)
	config=$(manifest L app2 | jq -r .config.digest)
	news=$(($(blob_size L "$layer") + $(blob_size L "$config") + $(blob_size L "$(ref L app2)")))
	[[ "$output" == *"to write: $news bytes"* ]]
	[ ! -e OUT2/base ]
	[ ! -e OUT2/lib ]
	[ "$(find OUT2/app/blobs -type f | wc -l)" -eq 3 ]
	second=$(sent OUT2/app/blobs)
	echo "sent at first: $first bytes, then: $second bytes of blobs"
	[ "$second" -eq "$news" ]
	[ "$second" -lt "$((first / 10))" ]

	cp -r OUT2 usb2
	refuses 'left out' join usb2 --image elsewhere
	[ ! -e elsewhere ]
	works --verbose join usb2 --image site
	[ "$(ref site app2)" = "$(ref L app2)" ]
	[ "$(ref site app1)" = "$(ref L app1)" ]
	whole site

	works unpack "${ROOTLESS[@]}" --image site:app2 bundle
	[ "$(cat bundle/rootfs/app/name)" = "app 2" ]
	needs runc busybox
	ldd /bin/busybox >/dev/null 2>&1 && skip "busybox is not static"
	"$UMOCI" unpack "${ROOTLESS[@]}" --image L:app2 theirs 2>/dev/null
	run run_app theirs
	[ "$status" -eq 0 ] || skip "runc cannot run containers here: ${lines[*]: -1}"
	run run_app bundle
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$output" = "app 2" ]
}

run_app() {
	mkdir -p "$TMPDIR/run"
	jq '.process.terminal = false | .process.args = ["/bin/sh", "-c", "while read -r l; do echo $l; done </app/name"] | .ociVersion = "1.0.2"' \
		"$1/config.json" >"$TMPDIR/config.json"
	cp "$TMPDIR/config.json" "$1/config.json"
	XDG_RUNTIME_DIR=$TMPDIR/run runc --root "$TMPDIR/run/runc" run --bundle "$1" "shale-split-$BATS_SUITE_TEST_NUMBER-$$" </dev/null
}

@test "tiers come from different places" {
	works split --image L:app1 "${TIERS[@]}" OUT
	mkdir a b c
	mv OUT/base a/debian
	mv OUT/lib b/jre
	mv OUT/app c/app
	rm -r OUT
	works join --tier base=a/debian --tier lib=b/jre --app c/app --image J:new
	[ "$(ref J new)" = "$(ref L app1)" ]
	whole J
	refuses 'not tier base.*tier lib' join --tier base=b/jre --tier lib=a/debian --app c/app --image K
	refuses 'tier lib is missing' join --tier base=a/debian --app c/app --image K
	refuses 'tier lib is missing.*nowhere' join --tier base=a/debian --tier lib=nowhere --app c/app --image K
	[ ! -e K ]
}

@test "base and lib are images for other programs" {
	needs skopeo
	works split --image L:app1 "${TIERS[@]}" OUT
	[ "$(skopeo inspect --format '{{.Digest}}' oci:OUT/base:debian)" = "$(ref L debian)" ]
	skopeo copy --quiet oci:OUT/base:debian oci:copy:debian
	skopeo copy --quiet oci:OUT/lib:runtime oci:copy:lib
	whole copy
	[ "$(layers OUT/lib runtime)" = "$(layers L runtime | tail -n 1)" ]
	[ "$(find OUT -name "$(layers L debian | cut -d: -f2)" | wc -l)" -eq 1 ]
	unpacked OUT/lib:runtime lib-only
	[ -f lib-only/rootfs/usr/lib/lib.so ]
}

@test "any number of tiers" {
	works split --image L:app1 --tier one=L:debian --tier two=L:runtime --tier three=L:runtime OUT
	[ "$(jq -r '.tiers[].name' OUT/split.json | xargs)" = "one two three app" ]
	works join OUT --image J
	[ "$(ref J app1)" = "$(ref L app1)" ]
	whole J
}

@test "a base that is none is refused with the place" {
	refuses 'layer 2.*sha256:.*made by.*sha256:.*made by' split --image L:app1 --base L:app2 OUT
	[ ! -e OUT ]
	[ -z "$(find . -maxdepth 1 -name '.shale*')" ]
}

@test "a base that was recompressed matches and is told of" {
	"$MKLAYOUT" -layout L -tag debian -compress zstd base.tar
	works split --image L:app1 --base L:debian OUT
	[[ "$stderr" == *recompressed* ]]
	works join OUT --image J
	[ "$(ref J app1)" = "$(ref L app1)" ]
	whole OUT/base
}

@test "--dry-run writes nothing and tells what a site saves" {
	works split --image L:app1 "${TIERS[@]}" --dry-run OUT
	[ ! -e OUT ]
	[[ "$output" == *"a site that has the tiers below app saves"* ]]
	works split --image L:app1 "${TIERS[@]}" --dry-run --json OUT
	jq -e '.outs[0].tiers | map(.name) == ["base", "lib", "app"]' <<<"$output"
}

@test "--inspect tells what is there and what is missing" {
	works split --image L:app1 --image L:app2 "${TIERS[@]}" OUT
	works split --inspect OUT
	[[ "$output" == *"$(ref L app1)"* ]]
	[[ "$output" != *Missing* ]]
	layer=$(layers L debian)
	rm "OUT/base/blobs/${layer/://}"
	works split --inspect OUT
	[[ "$output" == *Missing* ]]
	works split --inspect OUT --json
	[ "$(jq -r '.tiers[0].missing[0].digest' <<<"$output")" = "$layer" ]
	refuses "lacks|missing" join OUT --image J
	[ ! -e J ]
}

@test "--each gives every image a directory of its own" {
	works split --image L:app1 --image L:app2 "${TIERS[@]}" --each OUT
	for ref in app1 app2; do
		works join "OUT/$ref" --image "J:$ref"
		[ "$(ref J "$ref")" = "$(ref L "$ref")" ]
	done
}

@test "--link keeps one copy on the disk" {
	works split --image L:app1 "${TIERS[@]}" --link OUT
	layer=$(layers L debian)
	a=$(stat -c %i "L/blobs/${layer/://}")
	b=$(stat -c %i "OUT/base/blobs/${layer/://}")
	# Where files can be cloned they are, and then share their data.
	[ "$a" = "$b" ] || cp --reflink=always base.tar cloned
	works join OUT --image J --link
	whole J
}

@test "volumes are taken back, and a bad one is named" {
	works split --image L:app1 "${TIERS[@]}" --max-size 200K OUT
	[ ! -e OUT ]
	[ "$(stat -c %s OUT.001)" -le 200000 ]
	sha256sum --check --quiet OUT.sha256
	works join OUT --image J
	[ "$(ref J app1)" = "$(ref L app1)" ]
	cp OUT.002 good
	truncate -s -1 OUT.002
	refuses 'OUT\.002 is damaged' join OUT --image K
	rm OUT.002
	refuses 'OUT\.002 is missing' join OUT --image K
	mv good OUT.002
	works join OUT --image K
	mkdir plain
	cat OUT.0?? | tar --extract --directory=plain
	works join plain --image P
	[ "$(ref P app1)" = "$(ref L app1)" ]
}

@test "archives are the same each time" {
	works split --image L:app1 "${TIERS[@]}" --format oci-archive A
	works split --image L:app1 "${TIERS[@]}" --format oci-archive B
	diff -r A B
	works join A --image J
	[ "$(ref J app1)" = "$(ref L app1)" ]
	needs skopeo
	[ "$(skopeo inspect --format '{{.Digest}}' oci-archive:A/base.tar)" = "$(ref L debian)" ]
}

@test "isula-build's format goes there and back" {
	echo '[{"name": "app1_latest_base_image.tar.gz", "rename": "the-base.tar.gz"}]' >names
	works split --image L:app1 --image L:app2 "${TIERS[@]}" --format isula --rename names OUT
	[ -f OUT/the-base.tar.gz ]
	[ -f OUT/app1_latest_lib_image.tar.gz ]
	[ -f OUT/app2_latest_app_image.tar.gz ]
	jq -e '."app1:latest".base == "the-base.tar.gz" and (."app1:latest".baseLayer | type) == "string"' OUT/manifest
	works join OUT --image J
	[ "$(manifest J app1:latest | jq -r .config.digest)" = "$(manifest L app1 | jq -r .config.digest)" ]
	whole J
	echo x >>OUT/the-base.tar.gz
	refuses 'the-base.tar.gz is not the base of the image, or is damaged' join OUT --image K
	[ ! -e K ]
	needs skopeo
	mkdir together
	works split --image L:app1 "${TIERS[@]}" --format isula ONE
	for f in ONE/*.tar.gz; do tar --extract --file="$f" --directory=together; done
	tar --create --file=together.tar --directory=together .
	skopeo --insecure-policy copy --quiet docker-archive:together.tar dir:copied
}

@test "a tag that is there stays, but for --force" {
	works split --image L:app1 "${TIERS[@]}" OUT
	image J app1 >/dev/null
	before=$(ref J app1)
	refuses 'app1 is there already' join OUT --image J
	[ "$(ref J app1)" = "$before" ]
	works join OUT --image J --force
	[ "$(ref J app1)" = "$(ref L app1)" ]
	works --verbose join OUT --image J
	[[ "$stderr" == *kept* ]]
	[[ "$stderr" != *copied* ]]
}

@test "split and join killed at random moments" {
	works split --image L:app1 "${TIERS[@]}" good
	for ((round = 1; round <= KILLS / 30; round++)); do
		rm -rf OUT J
		"$SHALE" split --image L:app1 "${TIERS[@]}" OUT &
		sleep "0.0$((RANDOM % 60 + 10))"
		kill -9 $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		[ -e OUT ] || works split --image L:app1 "${TIERS[@]}" OUT
		[ -z "$(find . -maxdepth 1 -name '.shale*')" ]
		diff -r good OUT
		"$SHALE" join OUT --image J &
		sleep "0.0$((RANDOM % 60 + 10))"
		kill -9 $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		works join OUT --image J
		[ "$(ref J app1)" = "$(ref L app1)" ]
		whole J
		works gc --layout J
		only_blobs J
	done
}

@test "wrong command lines of split and join" {
	misuses '\-\-image' split OUT
	misuses 'lib needs --base' split --image L:app1 --lib L:runtime OUT
	misuses 'base and --tier' split --image L:app1 --base L:debian --tier x=L:runtime OUT
	misuses 'name=path' split --image L:app1 --tier L:debian OUT
	misuses 'max-size' split --image L:app1 --base L:debian --max-size 1X OUT
	misuses 'inspect and --image' split --image L:app1 --inspect OUT
	misuses 'nothing to join' join --image J
	misuses '\-\-image' join OUT
	misuses 'no such|not exist' join OUT --image J
	[ ! -e J ]
	[ ! -e OUT ]
}
