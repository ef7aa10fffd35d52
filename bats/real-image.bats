# SPDX-License-Identifier: Apache-2.0
#
# A Debian image in three layers, of which the third has all that layers can be
# awkward with: see test/images/debian.sh.

load helpers

setup() {
	sandbox
	[ -n "$DEBIAN" ] || skip "there is no Debian image: it takes root and debootstrap to build"
	cp -r "$DEBIAN" layout
	chmod -R u+w layout
}

@test "the image has what makes it worth testing" {
	[ "$(layers layout debian | wc -l)" -eq 3 ]
	run layer_names layout debian 1
	[[ $output == *.wh.* ]]
	run layer_names layout debian 2
	for name in usr/bin/.wh.less usr/share/doc/.wh..wh..opq etc/debian_version/number etc/apt/preferences.d mnt \
		opt/app/bin/capable opt/app/bin/setuid var/lib/odd/fifo var/lib/odd/char; do
		grep -Fqx "$name" <<<"$output" || fail "no $name"
	done
}

# Without privileges there are files in place of device nodes, and shale's say
# what they stand for: as an ordinary user these ten are not compared.
placeholders='(dev/)?(console|full|null|ptmx|random|tty|urandom|zero)|(var/lib/odd/)?(block|char)'

without_placeholders() {
	if [ "$(id -u)" = 0 ]; then cat; else grep -Ev "^ *\"?($placeholders)\"? "; fi
}

@test "the image unpacks to the tree that umoci makes" {
	unpacked layout:debian ours
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:debian theirs 2>/dev/null
	same_tree ours theirs
	for which in ours theirs; do
		mtree_lines "$which/sha256_$(ref layout debian | cut -d: -f2).mtree" | without_placeholders >"$which.mtree"
		[ "$(wc -l <"$which.facts")" -gt 5000 ]
		[ "$(wc -l <"$which.mtree")" -gt 5000 ]
	done
	diff -U0 ours.mtree theirs.mtree
	diff <(jq -S . ours/umoci.json) <(jq -S . theirs/umoci.json)
}

@test "the tree is what the layers say" {
	unpacked layout:debian bundle
	cd bundle/rootfs
	[ ! -e usr/bin/less ]
	[ ! -e usr/share/bug ]
	[ "$(ls usr/share/doc)" = README ]
	[ "$(cat etc/debian_version/number)" != "" ]
	[ "$(cat etc/apt/preferences.d)" = 'no parts' ]
	[ "$(readlink mnt)" = /opt ]
	[ opt/app/data/first -ef var/lib/odd/third ]
	[ "$(stat -c %h opt/app/data/first)" -eq 3 ]
	[ "$(stat -c %a opt/app/bin/setuid)" = 4755 ]
	[ "$(stat -c %a opt/app/data)" = 1777 ]
	[ "$(stat -c %Y opt/app/data/second)" = -5 ]
	[ "$(stat -c %.9Y var/lib/odd/empty)" = 1234567890.123456789 ]
	[ "$(getfattr --only-values -n user.shale.text opt/app/data/first)" = 'a value' ]
	[ -p var/lib/odd/fifo ]
	[ -e var/lib/odd/$'new\nline' ]
	if [ "$(id -u)" = 0 ]; then
		[ "$(stat -c '%F %t:%T' var/lib/odd/char)" = 'character special file 1:7' ]
		[ "$(stat -c '%F %t:%T' var/lib/odd/block)" = 'block special file 7:3' ]
		[[ $(getcap opt/app/bin/capable) == *cap_net_raw* ]]
		[ "$(stat -c %u:%g opt/app/bin/setuid)" = 1000:2000 ]
	fi
	[ -z "$(find . -name '.wh.*' 2>/dev/null)" ]
}

@test "the image repacks unchanged without a new layer" {
	unpacked layout:debian bundle
	works repack --image layout:same bundle
	[ "$(ref layout same)" = "$(ref layout debian)" ]
	stat_caches bundle | xargs -r rm
	works repack --image layout:same bundle
	[ "$(ref layout same)" = "$(ref layout debian)" ]
}

@test "a bundle of umoci's repacks unchanged without a new layer" {
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:debian bundle 2>/dev/null
	works repack --image layout:same bundle
	[ "$(layers layout same)" = "$(layers layout debian)" ]
}

# same_tree A B compares the trees of two bundles but for placeholders.
same_tree() {
	local which
	for which; do
		"$TREEFACTS" "$which/rootfs" | without_placeholders >"$which.facts"
	done
	diff -U0 "$1.facts" "$2.facts"
}

# edit makes changes all over the image.
edit() { # ROOTFS
	(
		cd "$1" || exit
		echo 'added' >etc/added
		echo 'more' >>etc/bash.bashrc
		rm -r usr/share/pixmaps usr/share/zoneinfo 2>/dev/null || true
		rm etc/debian_version/number && rmdir etc/debian_version && echo 13 >etc/debian_version
		rm etc/apt/preferences.d && mkdir etc/apt/preferences.d && echo part >etc/apt/preferences.d/part
		rm mnt && mkdir mnt && ln -s ../etc mnt/etc
		ln opt/app/data/first opt/app/data/fourth
		rm var/lib/odd/third
		chmod 2755 opt/app/bin/setuid
		rm var/lib/odd/fifo && echo plain >var/lib/odd/fifo
		mv var/lib/odd/$'new\nline' var/lib/odd/$'newer\nline'
		setfattr -n user.shale.text -v changed opt/app/data/first
		# Not every user may look into the closed directory, and it is not new.
		find . -name closed -prune -o -newermt @1600000000 -exec touch --no-dereference --date=@1600000000 {} +
	)
}

@test "changes all over the image survive repack and unpack, with shale and with umoci" {
	unpacked layout:debian bundle
	edit bundle/rootfs
	works repack --image layout:edited bundle
	whole layout
	only_blobs layout
	[ "$(layers layout edited | wc -l)" -eq 4 ]
	unpacked layout:edited again
	same_tree bundle again
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:edited theirs 2>/dev/null
	same_tree bundle theirs
}

@test "the same edit of two unpacks gives the same digests" {
	export SOURCE_DATE_EPOCH=1700000000
	for copy in 1 2; do
		unpacked layout:debian "bundle$copy"
		edit "bundle$copy/rootfs"
		works repack --image "layout:edited$copy" "bundle$copy"
	done
	[ "$(ref layout edited1)" = "$(ref layout edited2)" ]
	[ "$(ref layout edited1)" != "$(ref layout debian)" ]
}

@test "skopeo reads and copies the repacked layout" {
	needs skopeo
	unpacked layout:debian bundle
	edit bundle/rootfs
	works repack --image layout:edited bundle
	skopeo inspect oci:layout:edited | jq -e '.Layers | length == 4'
	skopeo copy --quiet oci:layout:edited oci:copy:edited
	[ "$(layers copy edited)" = "$(layers layout edited)" ]
	unpacked copy:edited again
	same_tree bundle again
}

# run_in RUNTIME BUNDLE runs a command in the bundle and prints what it says.
run_in() {
	local runtime=$1 bundle=$2
	mkdir -p "$TMPDIR/run"
	jq '.process.terminal = false | .process.args = ["/bin/sh", "-c", "cat /etc/debian_version/number && id -u && ls /usr/share/doc"] | .ociVersion = "1.0.2"' \
		"$bundle/config.json" >"$TMPDIR/config.json"
	cp "$TMPDIR/config.json" "$bundle/config.json"
	XDG_RUNTIME_DIR=$TMPDIR/run one_hierarchy "$runtime" --root "$TMPDIR/run/$runtime" run --bundle "$bundle" "shale-$BATS_SUITE_TEST_NUMBER-$$"
}

@test "runc runs a command in the bundle" {
	needs runc
	unpacked layout:debian bundle
	expected=$(cat bundle/rootfs/etc/debian_version/number)$'\n0\nREADME'
	# Whether this machine can run containers at all is for umoci's bundle to say.
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:debian theirs 2>/dev/null
	run run_in runc theirs
	[ "$status" -eq 0 ] || skip "runc cannot run containers here: ${lines[*]: -1}"
	run run_in runc bundle
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$output" = "$expected" ]
}

@test "crun runs a command in the bundle" {
	needs crun
	unpacked layout:debian bundle
	expected=$(cat bundle/rootfs/etc/debian_version/number)$'\n0\nREADME'
	"$UMOCI" unpack "${ROOTLESS[@]}" --image layout:debian theirs 2>/dev/null
	run run_in crun theirs
	[ "$status" -eq 0 ] || skip "crun cannot run containers here: ${lines[*]: -1}"
	run run_in crun bundle
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$output" = "$expected" ]
}
