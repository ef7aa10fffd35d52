# SPDX-License-Identifier: Apache-2.0

load helpers

# layer NAME makes NAME.tar out of the directory NAME.
layer() {
	tar --create --file="$1.tar" --directory="$1" --sort=name --format=posix --numeric-owner --owner=0 --group=0 \
		--mtime=@1500000000.25 --pax-option=delete=atime,delete=ctime .
}

OLD='{"User":"1000","Env":["PATH=/bin","RELEASE=1"],"Cmd":["sh"],"Labels":{"base":"1","kept":"1"},"WorkingDir":"/"}'
NEW='{"User":"2000","Env":["PATH=/usr/bin","RELEASE=2","MORE=1"],"Entrypoint":["init"],"Cmd":["bash"],"Labels":{"base":"2","kept":"1"},"StopSignal":"SIGINT"}'
APP='{"User":"1000","Env":["PATH=/app:/bin","RELEASE=1","APP=1"],"Cmd":["app"],"Labels":{"base":"1","kept":"app"},"WorkingDir":"/srv","ExposedPorts":{"80/tcp":{}}}'

# L has b1, and app on it with two layers of its own; other has b2.
setup() {
	sandbox
	mkdir -p b1/etc b1/lib b2/etc b2/lib b2/usr one/app two/etc two/app
	echo 1 | tee b1/etc/release b1/etc/old b1/lib/so >/dev/null
	echo 2 | tee b2/etc/release b2/etc/old b2/lib/so b2/usr/more >/dev/null
	echo app >one/app/app
	: >two/etc/.wh.old
	ln -s /lib/so two/app/so
	for n in b1 b2 one two; do layer "$n"; done
	# A hardlink to a file that both bases have.
	mkdir -p link/lib link/app
	echo 1 >link/lib/so
	ln link/lib/so link/app/hard
	tar --create --file=link.tar --format=posix --numeric-owner --owner=0 --group=0 --mtime=@1500000000 --directory=link lib/so app/hard
	tar --delete --file=link.tar lib/so
	"$MKLAYOUT" -layout L -tag b1 -config "$OLD" b1.tar
	"$MKLAYOUT" -layout L -tag app -config "$APP" b1.tar one.tar two.tar link.tar
	"$MKLAYOUT" -layout other -tag b2 -config "$NEW" -compress zstd b2.tar
	# What must come out.
	"$MKLAYOUT" -layout want -tag app b2.tar one.tar two.tar link.tar
}

rebased() {
	works rebase --image L:app --old-base L:b1 --new-base other:b2 "$@"
}

@test "rebase puts the image's own layers on another base" {
	before=$(ref L app)
	rebased --tag new
	[ "$(ref L app)" = "$before" ]
	[ "$(layers L new)" = "$(layers other b2; layers L app | tail -n 3)" ]
	unpacked L:new bundle
	unpacked want:app wanted
	compare_trees wanted/rootfs bundle/rootfs
	[ "$(cat bundle/rootfs/app/hard)" = 2 ]
	[ ! -e bundle/rootfs/etc/old ]
	whole L
	works verify --layout L
	only_blobs L
	"$UMOCI" unpack "${ROOTLESS[@]}" --image L:new umoci
	diff -r --no-dereference bundle/rootfs umoci/rootfs
}

@test "rebase takes from the new base what came from the old one" {
	rebased --tag new
	config L new | jq -e '.config == {"User": "2000", "Env": ["PATH=/app:/bin", "RELEASE=2", "MORE=1", "APP=1"], "Entrypoint": ["init"],
		"Cmd": ["app"], "Labels": {"base": "2", "kept": "app"}, "WorkingDir": "/srv", "StopSignal": "SIGINT", "ExposedPorts": {"80/tcp": {}}}'
	# One entry of the base, and three of the image's own.
	config L new | jq -e '[.history[].created_by] == ["layer 1", "layer 2", "layer 3", "layer 4"]'
	[[ "$stderr" == *"both changed the variable PATH"* ]]
}

@test "rebase knows the old base by the annotations" {
	refuses 'does not say what its base is' rebase --image L:app --new-base other:b2
	rebased
	manifest L app | jq -e --arg digest "$(ref other b2)" '.annotations == {
		"org.opencontainers.image.base.digest": $digest, "org.opencontainers.image.base.name": "b2"}'
	# By the digest, in the layout of the new base; nowhere else is it.
	"$MKLAYOUT" -layout other -tag b3 -config "$NEW" b1.tar b2.tar
	works rebase --image L:app --new-base other:b3
	[ "$(layers L app | wc -l)" -eq 5 ]
	# By the name, if somebody has removed the image with the digest and made it anew.
	"$MKLAYOUT" -layout L -tag b3 -config "$OLD" b1.tar b2.tar
	works rm --image other:b3
	works rebase --image L:app --new-base L:b1
	[ "$(layers L app | wc -l)" -eq 4 ]
	[ "$(layers L app | head -n 1)" = "$(layers L b1)" ]
	whole L
	# And if there is neither, it says so.
	works rm --image L:b1
	refuses 'the base that the image names, b1 sha256:[0-9a-f]*, is not in layout' rebase --image L:app --new-base other:b2
}

@test "there and back again is where one was" {
	rebased --tag there
	works rebase --image L:there --tag back --new-base L:b1 --old-base other:b2
	[ "$(layers L back)" = "$(layers L app)" ]
	[ "$(config L back | jq -cS .)" = "$(config L app | jq -cS .)" ]
}

@test "rebase refuses where the seam is not clean" {
	before=$(contents L)
	"$MKLAYOUT" -layout other -tag wrong one.tar
	refuses 'layer 1 is sha256:.* there, and sha256:.* here' rebase --image L:app --old-base other:wrong --new-base other:b2
	"$MKLAYOUT" -layout other -tag larger b1.tar b2.tar one.tar two.tar link.tar
	refuses 'not a base of the image' rebase --image L:app --old-base other:larger --new-base other:b2
	refuses 'there is no such ref' rebase --image L:app --old-base other:none --new-base other:b2
	refuses 'there is no such ref' rebase --image L:app --old-base L:b1 --new-base other:none
	[ "$(contents L)" = "$before" ]
	rm b2/lib/so
	layer b2
	"$MKLAYOUT" -layout other -tag nolib b2.tar
	refuses 'entry app/hard: hardlink to something that is not there: lib/so' rebase --image L:app --old-base L:b1 --new-base other:nolib
	[ "$(ref L app)" = "$(jq -r '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "app") | .digest' L/index.json)" ]
	whole L
}

@test "skopeo reads what rebase has made" {
	needs skopeo
	rebased
	skopeo --insecure-policy copy --quiet oci:L:app dir:copied
	skopeo inspect --config oci:L:app | jq -e '.rootfs.diff_ids | length == 4'
}

@test "wrong command lines of rebase" {
	misuses '\-\-image' rebase --new-base L:b1
	misuses '\-\-new-base' rebase --image L:app
	misuses 'old-base' rebase --image L:app --old-base '' --new-base L:b1
	misuses 'positional' rebase --image L:app --new-base L:b1 x
	misuses 'all-platforms and --platform' rebase --image L:app --new-base L:b1 --all-platforms --platform linux/arm64
	misuses 'no such|not exist' rebase --image L:app --old-base nowhere --new-base L:b1
}
