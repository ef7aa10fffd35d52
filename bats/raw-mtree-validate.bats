# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
	unpacked layout:base bundle
	manifest=$(echo bundle/*.mtree)
}

# differs LINES ARGS... expects a difference: exit status 1, a message, and these lines.
differs() {
	local want=$1
	shift
	shale raw mtree-validate "${ROOTLESS[@]}" "$@"
	[ "$status" -eq 1 ] || fail "exit status $status, not 1"
	[ "$output" = "$want" ] || fail "the output is not: $want"
	[[ $stderr == *differences* ]] || fail "there is no message"
}

# same ARGS... expects no difference: exit status 0 and nothing else.
same() {
	works raw mtree-validate "${ROOTLESS[@]}" "$@"
	[ -z "$output" ]
	[ -z "$stderr" ]
}

@test "raw mtree-validate says nothing about what is equal" {
	same --manifest "$manifest" --path bundle/rootfs
	same -f "$manifest" -p bundle/rootfs
	same --file "$manifest" -p bundle/rootfs --umoci-keywords
	"$UMOCI" raw mtree-validate "${ROOTLESS[@]}" -f "$manifest" -p bundle/rootfs
}

@test "raw mtree-validate prints a line for each path that differs" {
	chmod 600 bundle/rootfs/etc/name
	differs '"etc/name": keyword "mode": expected 0644; got 0600' -f "$manifest" -p bundle/rootfs
	rm bundle/rootfs/etc/group
	echo new >bundle/rootfs/etc/new
	differs '"etc/group": missing path
"etc/name": keyword "mode": expected 0644; got 0600
"etc/new": unexpected path' -f "$manifest" -p bundle/rootfs -k mode
	diff <(printf '%s\n' "$output") <("$UMOCI" raw mtree-validate "${ROOTLESS[@]}" -f "$manifest" -p bundle/rootfs -k mode 2>/dev/null | sort)
}

@test "raw mtree-validate compares the keywords that it is told to" {
	echo BASE >bundle/rootfs/etc/name
	touch --date=@1500000000 bundle/rootfs/etc/name
	same -f "$manifest" -p bundle/rootfs -k size,mode,tar_time
	same -f "$manifest" -p bundle/rootfs --use-keywords 'size mode'
	shale raw mtree-validate "${ROOTLESS[@]}" -f "$manifest" -p bundle/rootfs -k mode -K sha256
	[ "$status" -eq 1 ]
	[[ $output == '"etc/name": keyword "sha256digest": expected '* ]]
	shale raw mtree-validate "${ROOTLESS[@]}" -f "$manifest" -p bundle/rootfs --use-keywords size --add-keywords 'mode,sha256digest'
	[ "$status" -eq 1 ]
	[[ $output == '"etc/name": keyword "sha256digest": '* ]]
	# The type always counts.
	rm bundle/rootfs/etc/name
	mkdir bundle/rootfs/etc/name
	differs '"etc/name": keyword "type": expected file; got dir' -f "$manifest" -p bundle/rootfs -k uid
}

@test "raw mtree-validate --umoci-keywords takes those of bundles, whatever the manifest has" {
	printf '#mtree\n.  type=dir\n    a  type=file md5digest=00000000000000000000000000000000\n..\n' >other.mtree
	mkdir tree
	: >tree/a
	shale raw mtree-validate -f other.mtree -p tree
	[ "$status" -eq 1 ]
	[[ $output == *md5digest* ]]
	shale raw mtree-validate -f other.mtree -p tree --umoci-keywords
	[[ $output != *md5digest* ]]
	same -f other.mtree -p tree --umoci-keywords -k type
}

@test "raw mtree-validate --rootless reads what its owner may not" {
	chmod 0 bundle/rootfs/etc/name bundle/rootfs/var
	works raw mtree-validate --rootless -f "$manifest" -p bundle/rootfs -k type,sha256
	[ -z "$output" ]
	[ "$(stat -c %a bundle/rootfs/etc/name bundle/rootfs/var | sort -u)" = 0 ]
	if [ "$(id -u)" != 0 ]; then
		refuses 'permission' raw mtree-validate -f "$manifest" -p bundle/rootfs -k type,sha256
	fi
}

@test "raw mtree-validate is not in the help of raw" {
	works raw
	[[ $output != *mtree-validate* ]]
	works raw mtree-validate --help
	[[ $output == *--umoci-keywords* ]]
}

@test "raw mtree-validate refuses a wrong command line" {
	misuses '--manifest' raw mtree-validate -p bundle/rootfs
	misuses '--path' raw mtree-validate -f "$manifest"
	misuses 'manifest.*empty' raw mtree-validate -f '' -p bundle/rootfs
	misuses 'path.*empty' raw mtree-validate -f "$manifest" -p ''
	misuses 'positional' raw mtree-validate -f "$manifest" -p bundle/rootfs extra
	refuses 'nosuch' raw mtree-validate -f nosuch -p bundle/rootfs
	refuses 'nosuch' raw mtree-validate -f "$manifest" -p nosuch
	refuses 'colour' raw mtree-validate -f "$manifest" -p bundle/rootfs -k colour
	refuses 'mtree' raw mtree-validate -f bundle/config.json -p bundle/rootfs
}
