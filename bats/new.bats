# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	works init --layout layout
}

@test "new makes an image without layers for this platform" {
	works new --image layout:empty
	[ -z "$output" ]
	whole layout
	only_blobs layout
	manifest layout empty | jq -e '.schemaVersion == 2 and .mediaType == "application/vnd.oci.image.manifest.v1+json" and .layers == []'
	manifest layout empty | jq -e '.config.mediaType == "application/vnd.oci.image.config.v1+json"'
	config layout empty | jq -e '.os == "linux" and .rootfs == {type: "layers", diff_ids: []} and (.history // []) == []'
	[ "$(config layout empty | jq -r .architecture)" = "$(go_arch)" ]
}

go_arch() {
	case $(uname -m) in
	x86_64) echo amd64 ;;
	aarch64) echo arm64 ;;
	*) uname -m ;;
	esac
}

@test "new puts the present time into the config" {
	before=$(date +%s)
	works new --image layout:empty
	created=$(date +%s --date="$(config layout empty | jq -r .created)")
	[ "$created" -ge "$before" ]
	[ "$created" -le "$(date +%s)" ]
}

@test "new takes latest for a missing tag" {
	works new --image layout
	[ -n "$(ref layout latest)" ]
}

@test "new makes the config and manifest that umoci makes" {
	export SOURCE_DATE_EPOCH=1234567890
	works new --image layout:ours
	"$UMOCI" new --image layout:theirs
	[ "$(config layout ours | jq -r .created)" = 2009-02-13T23:31:30Z ]
	diff <(config layout ours | jq -S .) <(config layout theirs | jq -S .)
	diff <(manifest layout ours | jq -S .) <(manifest layout theirs | jq -S .)
}

@test "new with SOURCE_DATE_EPOCH always makes the same image" {
	export SOURCE_DATE_EPOCH=1234567890
	works new --image layout:one
	works new --image layout:two
	[ "$(ref layout one)" = "$(ref layout two)" ]
}

@test "new refuses a SOURCE_DATE_EPOCH that is no integer" {
	before=$(fingerprint layout)
	for bad in x 1.5 2020-01-01 99999999999999999999; do
		SOURCE_DATE_EPOCH=$bad refuses 'SOURCE_DATE_EPOCH' new --image layout:empty
	done
	[ "$(fingerprint layout)" = "$before" ]
}

@test "new takes a tag over and keeps the others" {
	image layout other
	SOURCE_DATE_EPOCH=1 works new --image layout:empty
	first=$(ref layout empty)
	other=$(ref layout other)
	SOURCE_DATE_EPOCH=2 works new --image layout:empty
	[ "$(ref layout empty)" != "$first" ]
	[ "$(ref layout other)" = "$other" ]
	[ "$(jq '.manifests | length' layout/index.json)" -eq 2 ]
}

@test "new accepts every tag that the grammar allows" {
	for tag in a A1 1.2.3 a-b a_b a.b a:b a@b a+b a--b a/b a/b-c/d v1.0--rc1/x sha256:abc; do
		works new --image "layout:$tag"
		[ -n "$(ref layout "$tag")" ]
	done
}

@test "new refuses every tag that the grammar does not allow" {
	before=$(fingerprint layout)
	for tag in '' ' ' 'a b' -a a- .a a. a---b a..b a__b /a a/ a//b ../a $'a\nb' 'ä' 'a*' 'a$'; do
		misuses 'invalid --image' new --image "layout:$tag"
	done
	[ "$(fingerprint layout)" = "$before" ]
}

@test "new needs an image, and nothing else" {
	misuses 'missing mandatory argument.*--image' new
	misuses 'path is empty' new --image :tag
	misuses 'path is empty' new --image ''
	misuses 'positional argument' new --image layout:a b
	[ "$(jq '.manifests | length' layout/index.json)" -eq 0 ]
}

@test "new refuses what is no layout" {
	refuses 'nowhere|oci-layout|no such|invalid image' new --image nowhere:tag
	[ ! -e nowhere ]
	mkdir directory
	refuses 'oci-layout|invalid image' new --image directory:tag
	[ -z "$(ls -A directory)" ]
	echo '{"imageLayoutVersion":"2.0.0"}' >layout/oci-layout
	refuses 'version|invalid image' new --image layout:tag
	[ "$(jq '.manifests | length' layout/index.json)" -eq 0 ]
}
