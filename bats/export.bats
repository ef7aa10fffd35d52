# SPDX-License-Identifier: Apache-2.0

load helpers

# layer NAME [TAR-OPTION...] makes NAME.tar out of the directory NAME.
layer() {
	local name=$1
	shift
	tar --create --file="$name.tar" --directory="$name" --sort=name --format=posix --numeric-owner \
		--pax-option=delete=atime,delete=ctime "$@" .
}

setup() {
	sandbox
	mkdir -p base/a/deep base/locked base/z two/a two/z
	for f in base/a/{1,2} base/a/deep/x base/locked/file base/z/gone; do echo "$f" >"$f"; done
	ln base/a/1 base/z/hard
	ln -s a/deep base/link
	mkfifo base/z/fifo
	echo changed >two/a/2
	: >two/z/.wh.gone
	truncate --size=5M two/z/holes
	printf end >>two/z/holes
	printf odd >two/$'not\xffutf8'
	chmod 4755 two/a/2
	chmod 555 base/locked
	find base two -exec touch --no-dereference --date=@1400000000.5 {} +
	layer base --owner=0 --group=0
	layer two --owner=0 --group=0 --sparse --pax-option=SCHILY.xattr.user.mark:=value
	"$MKLAYOUT" -layout L -tag app base.tar two.tar
	before=$(contents L)
}

# extracted FILE DIR unpacks an archive as people do.
extracted() {
	mkdir "$2"
	tar --extract --file="$1" --directory="$2" --same-permissions --xattrs --xattrs-include='*'
}

@test "what tar extracts is what unpack makes" {
	works export --image L:app out.tar
	[ -z "$output$stderr" ]
	unpacked L:app bundle
	extracted out.tar tree
	compare_trees bundle/rootfs tree
	[ "$(stat -c %Y tree/locked)" = 1400000000 ]
	[ "$(contents L)" = "$before" ]
	only_blobs L
}

@test "export goes to standard output, to a file, or to a pipe" {
	"$SHALE" export --image L:app >one.tar
	"$SHALE" export --image L:app - >two.tar
	"$SHALE" export --image L:app three.tar
	mkfifo pipe
	cat pipe >four.tar &
	"$SHALE" export --image L:app pipe
	wait $!
	[ -p pipe ]
	for f in two three four; do cmp one.tar "$f.tar"; done
	works export --image L:app /dev/null
	[ -c /dev/null ]
	[ ! -e ./- ]
	[ "$(find tmp -mindepth 1 | wc -l)" -eq 0 ]
}

@test "the same image gives the same archive, sorted by path" {
	works export --image L:app one.tar
	SOURCE_DATE_EPOCH=1 works export --image L:app two.tar
	cmp one.tar two.tar
	# With slashes lowest, that is the order of a walk.
	tar --list --file=one.tar --quoting-style=escape | sed 's|/$||' | tr / '\001' >names
	LC_ALL=C sort --check names
	[ "$(grep -c gone names || true)" -eq 0 ]
	works squash --image L:app --tag small
	works export --image L:small three.tar
	cmp one.tar three.tar
}

@test "owners are those of the image, whoever exports it" {
	mkdir three
	echo x >three/owned
	layer three --owner=1234 --group=5678
	"$MKLAYOUT" -layout L -tag owned base.tar three.tar
	works export --image L:owned out.tar
	tar --list --verbose --numeric-owner --file=out.tar owned | grep -q ' 1234/5678 '
	[ "$(tar --list --verbose --numeric-owner --file=out.tar | grep -c '^prw')" -eq 1 ]
}

@test "export takes a part" {
	for path in /a/deep a/deep ./link//; do
		works export --image L:app --path "$path" part.tar
		[ "$(tar --list --file=part.tar | tr '\n' ' ')" = 'a/deep/ a/deep/x ' ]
	done
	# The other name of the file is not in the part.
	works export --image L:app --path z/hard part.tar
	[ "$(tar --extract --to-stdout --file=part.tar z/hard)" = base/a/1 ]
	refuses 'z/gone: .*not exist' export --image L:app --path z/gone part2.tar
	refuses 'not exist' export --image L:app --path a/1/below part2.tar
	[ ! -e part2.tar ]
}

@test "export compresses as it is told" {
	works export --image L:app plain.tar
	works export --image L:app --compress gzip out.tar.gz
	works export --image L:app --compress zstd out.tar.zst
	gzip -dc out.tar.gz | cmp - plain.tar
	for f in auto.tar.gz auto.tgz auto.tar.zst auto.tzst auto.tar; do works export --image L:app "$f"; done
	cmp auto.tar plain.tar
	for f in auto.tar.gz auto.tgz; do cmp "$f" out.tar.gz; done
	for f in auto.tar.zst auto.tzst; do cmp "$f" out.tar.zst; done
	works export --image L:app --compress none plain.tar.gz
	cmp plain.tar.gz plain.tar
	needs zstd
	zstd -qdc out.tar.zst | cmp - plain.tar
}

@test "a file that is there is replaced, if all goes well" {
	echo old >out.tar
	chmod 640 out.tar
	ln -s out.tar link.tar
	blob=L/blobs/sha256/$(layers L app | tail -n 1 | cut -d: -f2)
	cp "$blob" good
	chmod 644 "$blob"
	flip "$blob" 60
	refuses 'sha256:' export --image L:app out.tar
	[ "$(cat out.tar)" = old ]
	[ "$(find . -maxdepth 1 -name '.shale*' | wc -l)" -eq 0 ]
	cp good "$blob"
	works export --image L:app link.tar
	[ -L link.tar ]
	[ "$(stat -c %a out.tar)" = 640 ]
	tar --list --file=out.tar >/dev/null
	umask 027
	works export --image L:app fresh.tar
	[ "$(stat -c %a fresh.tar)" = 640 ]
}

@test "a reader that has seen enough is no error worth a word" {
	head -c 3000000 /dev/urandom >two/random
	layer two --owner=0 --group=0
	"$MKLAYOUT" -layout L -tag large base.tar two.tar
	# shellcheck disable=SC2016 # expanded by the inner shell
	run --separate-stderr bash -c '"$SHALE" export --image L:large | head -c 10 | wc -c; exit "${PIPESTATUS[0]}"'
	[ "$status" -eq 141 ]
	[ "$output" = 10 ]
	[ -z "$stderr" ]
	mkfifo pipe
	head -c 10 pipe >/dev/null &
	shale export --image L:large pipe
	wait $!
	[ "$status" -eq 141 ]
	[ -z "$stderr" ]
}

@test "export does not write to a terminal" {
	needs script
	run script --quiet --return --command "$SHALE export --image L:app" /dev/null
	[ "$status" -eq 1 ]
	[[ "$output" == *"not for a terminal"* ]]
}

@test "wrong command lines of export" {
	misuses '\-\-image' export
	misuses 'positional' export --image L:app a b
	misuses 'empty' export --image L:app ''
	misuses 'compress' export --image L:app --compress xz x.tar
	refuses 'is a directory' export --image L:app L
	refuses 'nowhere/x.tar: .*no such' export --image L:app nowhere/x.tar
	refuses 'there is no such ref' export --image L:none x.tar
	refuses 'max-entries' export --image L:app --max-entries 3 x.tar
	[ ! -e x.tar ]
}
