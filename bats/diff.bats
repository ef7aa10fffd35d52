# SPDX-License-Identifier: Apache-2.0

load helpers

# layer NAME makes NAME.tar out of the directory NAME.
layer() {
	tar --create --file="$1.tar" --directory="$1" --sort=name --format=posix --numeric-owner --owner=0 --group=0 \
		--mtime=@1500000000 --pax-option=delete=atime,delete=ctime .
}

# setup makes the layout L with the image old, and new with one more layer.
setup() {
	sandbox
	base_tar base.tar
	mkdir -p upper/etc upper/bin upper/srv
	echo BASE >upper/etc/name # as large as before
	printf 'root:x:0:0:root:/root:/bin/bash\n' >upper/etc/passwd
	echo tool >upper/bin/tool
	chmod 700 upper/bin/tool
	ln -s ../etc upper/bin/link
	echo new >upper/srv/new
	: >upper/srv/.wh.fifo
	layer upper
	"$MKLAYOUT" -layout L -tag old base.tar
	"$MKLAYOUT" -layout L -tag new -config '{"Env": ["A=1"], "User": "1"}' base.tar upper.tar
	"$MKLAYOUT" -layout M -tag old base.tar
}

# facts prints what the last run told of paths.
facts() {
	jq -c '.entries[] | [.path, .kind, .fields]' <<<"$output"
}

@test "diff lists what was added, deleted and changed" {
	works diff L:old L:new
	printf '%s\n' "$output" >out
	grep -Fx 'A /srv/new: file 0644 0:0 4B' out
	grep -Ex 'D /srv/fifo: fifo 0[0-7]{3} 0:0' out
	grep -Fx 'M /etc/name: content' out
	grep -Ex 'M /etc/passwd: size [0-9]+ -> [0-9]+, content' out
	grep -Fx 'M /bin/tool: mode 0755 -> 0700, hardlinks' out
	grep -Fx 'M /bin/tool2: hardlinks' out
	grep -Fx 'M /bin/link: target tool -> ../etc' out
	grep -Fx 'C user: <none> -> 1' out
	grep -Fx 'C env A: <none> -> 1' out
	[ "$(grep -c '^[AD] ' out)" -eq 2 ]
	works diff L:new L:old
	[[ $output == *'A /srv/fifo: '*'D /srv/new: '* ]]
}

@test "diff agrees with find and cmp on the unpacked images" {
	unpacked L:old one
	unpacked L:new two
	(cd one/rootfs && find . -printf '/%P\n') | LC_ALL=C sort >names.1
	(cd two/rootfs && find . -printf '/%P\n') | LC_ALL=C sort >names.2
	works diff --json L:old L:new
	diff <(jq -r '.entries[] | select(.kind == "added") | .path' <<<"$output") <(LC_ALL=C comm -13 names.1 names.2)
	diff <(jq -r '.entries[] | select(.kind == "deleted") | .path' <<<"$output") <(LC_ALL=C comm -23 names.1 names.2)
	diff <(jq -r '.entries[] | select(.fields | index("content")) | .path' <<<"$output") \
		<(LC_ALL=C comm -12 names.1 names.2 | while read -r name; do
			[ ! -f "one/rootfs$name" ] || [ -L "one/rootfs$name" ] || cmp -s "one/rootfs$name" "two/rootfs$name" || echo "$name"
		done)
	# The trees on the disk differ as the images do, and each is its image.
	entries=$(facts)
	works diff --json one two
	[ "$(facts)" = "$entries" ]
	works diff --json L:old two
	[ "$(facts)" = "$entries" ]
	works diff --exit-code --times L:old one
	[ -z "$output" ]
	works diff --exit-code --times two L:new
	[ -z "$output" ]
}

@test "diff --exit-code tells same, different and trouble apart" {
	works diff L:old L:new
	shale diff --exit-code L:old L:new
	[ "$status" -eq 1 ]
	[ -z "$stderr" ]
	works diff --exit-code L:old M:old
	[ -z "$output" ]
	for args in 'L:old' 'L:old L:none' 'L:old nowhere' '--bogus L:old L:new' 'L:old L:new --ignore nothing' \
		'L:old L:new --platform linux' 'L:old L:new --platform linux/riscv64'; do
		# shellcheck disable=SC2086 # these are several words
		shale diff --exit-code $args
		[ "$status" -eq 2 ]
		[ -n "$stderr" ]
	done
}

@test "diff --json is one line, sorted, with a version" {
	works diff --json L:old L:new
	[ "${#lines[@]}" -eq 1 ]
	jq -e '.schemaVersion == 1 and .old.kind == "image" and .old.name == "L:old"' <<<"$output"
	[ "$(jq -r .new.digest <<<"$output")" = "$(ref L new)" ]
	jq -e '(.entries | map(.path)) == (.entries | map(.path) | sort)' <<<"$output"
	jq -e '.summary.added == {"paths": 1, "bytes": 4} and .summary.deleted.paths == 1' <<<"$output"
	first=$output
	works diff --format json L:old L:new
	[ "$output" = "$first" ]
}

@test "diff --format luet and --summary print what luet reads" {
	works diff --format luet L:old L:new
	jq -e '.[0] | .Image1 == "L:old" and .Image2 == "L:new" and .DiffType == "File"' <<<"$output"
	jq -e '.[0].Diff.Adds == [{"Name": "/srv/new", "Size": 4}] and .[0].Diff.Dels == [{"Name": "/srv/fifo", "Size": 0}]' <<<"$output"
	[ "$(jq -c '[.[0].Diff.Mods[].Name]' <<<"$output")" = '["/bin/link","/bin/tool","/bin/tool2","/etc/name","/etc/passwd"]' ]
	works diff --summary L:old L:new
	jq -e '.summary[0] | .add_files == 1 and .add_sizes == 4 and .del_files == 1 and .del_sizes == 0 and .change_files == 5' <<<"$output"
}

@test "diff --ignore, --include and --exclude say what counts" {
	works diff --exit-code --ignore mode,content,size,target,hardlinks --ignore config --exclude /srv L:old L:new
	works diff --include /etc --ignore config L:old L:new
	[[ $output == *'M /etc/name'* ]]
	[[ $output != *'/bin'* ]]
	works diff --json --include 'na*' --exclude '/bin/**' L:old L:new
	[ "$(jq -c '[.entries[].path]' <<<"$output")" = '["/etc/name"]' ]
}

@test "diff does not take another time for a difference, unless it is asked to" {
	unpacked L:old bundle
	touch -d @1600000000 bundle/rootfs/etc/name
	works diff --exit-code L:old bundle
	[[ $output == '1 in time alone'* ]]
	shale diff --exit-code --times L:old bundle
	[ "$status" -eq 1 ]
	[[ $output == 'M /etc/name: mtime 2017-07-14T02:40:00Z -> 2020-09-13T12:26:40Z'* ]]
}

@test "diff --content shows texts, and never what a terminal acts on" {
	unpacked L:old bundle
	printf 'base\n\033[31mred\n' >bundle/rootfs/etc/name
	printf '\0' >bundle/rootfs/etc/group
	works diff --content L:old bundle
	# shellcheck disable=SC1003 # a backslash at the end of a pattern
	[[ $output == *'+++ /etc/name'*'@@ -1 +1,2 @@'*' base'*'+\x1b[31mred'* ]]
	[[ $output == *'(content not shown: binary)'* ]]
	[[ $output != *$'\e'* ]]
}

@test "diff finds what was edited in a bundle, whatever its times say" {
	unpacked L:old bundle
	touch -r bundle/rootfs/etc/name stamp
	echo BASE >bundle/rootfs/etc/name
	touch -r stamp bundle/rootfs/etc/name
	chmod 600 bundle/rootfs/bin/tool
	works diff L:old bundle
	[[ $output == *'M /etc/name: content'* ]]
	[[ $output == *'M /bin/tool: mode 0755 -> 0600'* ]]
	before=$(fingerprint bundle L)
	works diff L:old bundle
	[ "$(fingerprint bundle L)" = "$before" ]
}

@test "diff reads no layer that makes no difference" {
	works diff --exit-code L:old M:old
	while read -r layer; do
		rm "L/blobs/${layer/://}"
	done < <(layers L old)
	works diff --exit-code L:old M:old
	shale diff L:old L:new
	[ "$status" -eq 2 ]
	[[ $stderr == *"$(layers L old)"* ]]
}

@test "diff tells images from directories" {
	mkdir -p tree 'L:old'
	shale diff L:old tree # now that there is a directory of this name
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	shale diff oci:L:old dir:tree
	[ "$status" -eq 0 ]
	[[ $output == *'D /etc/passwd: '* ]]
	works tag --image M:old latest
	works diff --json M tree
	jq -e '.old.kind == "image" and .new.kind == "directory"' <<<"$output"
	unpacked L:new bundle
	works diff --json bundle tree
	jq -e '.old.kind == "bundle"' <<<"$output"
}

@test "diff knows the owners of a rootless bundle" {
	needs_root 'making files of other owners'
	mkdir owned
	echo a >owned/a
	echo b >owned/b
	tar --create --file=owned.tar --directory=owned --format=posix --numeric-owner --owner=7 --group=8 .
	"$MKLAYOUT" -layout L -tag owned owned.tar
	works unpack --rootless --image L:owned rootless
	works diff --exit-code --times L:owned rootless
	[ -z "$output" ]
	works unpack --uid-map 0:1000:100 --gid-map 0:2000:100 --image L:owned mapped
	[ "$(stat -c %u:%g mapped/rootfs/a)" = 1007:2008 ]
	works diff --exit-code --times L:owned mapped
	[ -z "$output" ]
	works diff --exit-code --times rootless mapped
	chown 1009 mapped/rootfs/a
	works diff L:owned mapped
	[[ $output == *'M /a: uid 7 -> 9'* ]]
}
