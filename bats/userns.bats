# SPDX-License-Identifier: Apache-2.0
#
# An ordinary user with subordinate IDs, for whom shale enters a user namespace
# by itself: owners are real inside. The tests take root to have such a user.

load helpers

user=shalesub

setup() {
	sandbox
	needs_root "make a user with subordinate IDs"
	needs newuidmap setpriv unshare
	if [ "$BATS_TEST_NUMBER" = 1 ]; then
		id "$user" >/dev/null 2>&1 || useradd --no-create-home --shell /bin/sh "$user"
		for file in /etc/subuid /etc/subgid; do
			grep -q "^$user:" "$file" || echo "$user:700000:65536" >>"$file"
		done
	fi
	image layout base
	[ -z "$DEBIAN" ] || cp -r "$DEBIAN" debian
	chown -R "$user:" .
	# Every directory on the way must let the user through.
	local dir=$PWD
	while [ "$dir" != / ]; do
		chmod a+x "$dir"
		dir=$(dirname "$dir")
	done
}

as_user() {
	setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- env TMPDIR="$PWD/tmp" HOME="$PWD" "$@"
}

# start_as_user is as_user for what is to be killed: it becomes the command.
start_as_user() {
	exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- env TMPDIR="$PWD/tmp" HOME="$PWD" "$@"
}

# in_namespace COMMAND... runs something as root of the user's namespace, with
# the IDs that shale maps.
in_namespace() {
	as_user unshare --user --map-root-user --map-auto "$@"
}

# entries LAYOUT TAG INDEX lists a layer with everything that tar can show.
entries() {
	layer_tar "$@" | tar --list --verbose --numeric-owner --full-time --xattrs --xattrs-include='*'
}

@test "unpack enters a user namespace, and owners are real in it" {
	as_user "$SHALE" unpack --image layout:base bundle 2>err
	[ ! -s err ]
	[ "$(stat -c %u bundle/rootfs/etc/name)" = "$(id -u "$user")" ]
	[ "$(jq -c .map_options bundle/umoci.json)" = '{"uid_mappings":null,"gid_mappings":null,"rootless":false}' ]
	in_namespace chown 33:42 bundle/rootfs/etc/name
	as_user "$SHALE" repack --image layout:new bundle
	[[ "$(entries layout new 1)" == *" 33/42 "*"etc/name"* ]]
	as_user "$SHALE" unpack --image layout:new again
	[ "$(in_namespace stat -c %u:%g again/rootfs/etc/name)" = 33:42 ]
	[ "$(stat -c %u again/rootfs/etc/name)" -ge 100000 ]
	in_namespace rm -r bundle again
}

@test "--userns=off and --rootless stay outside" {
	run as_user "$SHALE" unpack --userns=off --image layout:base bundle
	[ "$status" -eq 1 ]
	[[ $output == *rootless* ]]
	[ ! -e bundle ]
	as_user "$SHALE" unpack --rootless --image layout:base bundle
	[ "$(jq .map_options.rootless bundle/umoci.json)" = true ]
	as_user "$SHALE" repack --image layout:new bundle
	[ "$(ref layout new)" = "$(ref layout base)" ]
}

@test "--userns takes no other words, and no mapping besides" {
	run as_user "$SHALE" unpack --userns=maybe --image layout:base bundle
	[ "$status" -eq 1 ]
	[[ $output == *maybe* ]]
	run as_user "$SHALE" unpack --userns=on --rootless --image layout:base bundle
	[ "$status" -eq 1 ]
	[ ! -e bundle ]
}

@test "an owner that the namespace lacks is told before anything is written" {
	mkdir tree
	echo x >tree/file
	tar --create --file=far.tar --directory=tree --owner=:70000 --group=:0 --numeric-owner file
	"$MKLAYOUT" -layout layout -tag far far.tar
	chown -R "$user:" layout
	run as_user "$SHALE" unpack --image layout:far bundle
	[ "$status" -eq 1 ]
	[ "$(grep -c . <<<"$output")" -eq 1 ]
	[[ $output == *"layer $(layers layout far)"*"uid 70000"*"$user:"*":4464"*/etc/subuid* ]]
	[ ! -e bundle ]
}

@test "exit statuses and signals go through" {
	run as_user "$SHALE" unpack --image layout:none bundle
	[ "$status" -eq 1 ]
	[[ $output == *none* ]]
	[ -n "$DEBIAN" ] || return 0
	start_as_user "$SHALE" unpack --image debian:debian bundle 3>&- &
	pid=$!
	sleep 0.3
	kill -TERM "$pid"
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 143 ] || [ -e bundle/umoci.json ]
	[ -e bundle/umoci.json ] || [ ! -e bundle ]
}

# edit BUNDLE makes the same changes as root anywhere.
edit=$(
	cat <<'END'
set -e
cd "$1/rootfs"
echo new >etc/new-file
chown 33:42 etc/new-file
chmod 4755 etc/new-file
rm -r usr/share/perl5
chown 1:1 usr/bin/env
ln etc/hostname etc/hostname.link
rm -f etc/issue && mkdir etc/issue && echo x >etc/issue/x
ln -s /nowhere etc/dangling
mkfifo var/fifo
setfattr -n user.note -v text etc/debian_version 2>/dev/null || setfattr -n user.note -v text etc/passwd
END
)

@test "a repack by a user gives the layer that root's repack gives" {
	[ -n "$DEBIAN" ] || skip "there is no Debian image: it takes root and debootstrap to build"
	needs setfattr
	cp -r debian mine
	chown -R root: mine
	export SOURCE_DATE_EPOCH=1600000000
	"$SHALE" unpack --image mine:debian root-bundle
	bash -c "$edit" edit "$PWD/root-bundle"
	"$SHALE" repack --image mine:new root-bundle

	as_user "$SHALE" unpack --image debian:debian bundle
	in_namespace bash -c "$edit" edit "$PWD/bundle"
	as_user env SOURCE_DATE_EPOCH=1600000000 "$SHALE" repack --image debian:new bundle

	entries mine new 3 >root.txt
	entries debian new 3 >user.txt
	[ "$(wc -l <root.txt)" -gt 10 ]
	diff root.txt user.txt
	[ "$(config mine new | jq -r '.rootfs.diff_ids[3]')" = "$(config debian new | jq -r '.rootfs.diff_ids[3]')" ]
	in_namespace rm -r bundle
}

@test "runc runs the bundle of an ordinary user in his namespace" {
	[ -n "$DEBIAN" ] || skip "there is no Debian image: it takes root and debootstrap to build"
	needs runc
	as_user "$SHALE" unpack --image debian:debian bundle
	# A runtime in the namespace is root there, without a cgroup of its own.
	in_namespace jq '.process.terminal = false | .process.args = ["/bin/sh", "-c", "id -u; stat -c %U /var/mail"] |
		.linux.cgroupsPath = null | del(.linux.resources) |
		.linux.namespaces |= map(select(.type != "network" and .type != "cgroup")) |
		.mounts |= map(select(.type != "cgroup" and .type != "sysfs" and .type != "mqueue"))' bundle/config.json >tmp/config.json
	in_namespace cp tmp/config.json bundle/config.json
	run in_namespace env XDG_RUNTIME_DIR="$PWD/tmp" runc --root "$PWD/tmp/runc" run --bundle bundle "shale-$$"
	echo "$output"
	[[ $output == "0"*root* ]]
	in_namespace rm -r bundle
}

@test "runc and crun run the bundle of an ordinary user without a namespace of his" {
	[ -n "$DEBIAN" ] || skip "there is no Debian image: it takes root and debootstrap to build"
	needs runc crun
	as_user "$SHALE" unpack --rootless --image debian:debian bundle
	jq '.process.terminal = false | .process.args = ["/bin/sh", "-c", "id -u; echo here"]' bundle/config.json >tmp/config.json
	cp tmp/config.json bundle/config.json
	for runtime in runc crun; do
		mkdir "tmp/$runtime"
		chown "$user:" "tmp/$runtime"
		run one_hierarchy setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- \
			env XDG_RUNTIME_DIR="$PWD/tmp/$runtime" HOME="$PWD" \
			"$runtime" --root "$PWD/tmp/$runtime" run --bundle bundle "shale-$runtime-$$"
		echo "$runtime: $output"
		[ "$status" -eq 0 ]
		[ "$output" = $'0\nhere' ]
	done
}

@test "diff enters the user namespace that a bundle was unpacked in" {
	as_user "$SHALE" unpack --image layout:base bundle
	in_namespace chown 33:42 bundle/rootfs/etc/name
	as_user "$SHALE" diff layout:base bundle >out
	[ "$(cat out)" = $'M /etc/name: uid 0 -> 33, gid 0 -> 42\n1 changed (5B)' ]
	run as_user "$SHALE" diff --exit-code layout:base bundle
	[ "$status" -eq 1 ]
	run as_user "$SHALE" diff --exit-code layout:base bundle/none
	[ "$status" -eq 2 ]
}
