# SPDX-License-Identifier: Apache-2.0
#
# unpack --from: bundles of images that are in no layout.

load helpers

setup() {
	sandbox
	image layout one >/dev/null
	image layout two -compress zstd -config '{"Cmd":["/two"]}' >/dev/null
	works copy layout:one oci-archive:o.tar:one
	works copy layout:two oci-archive:o.tar:two
	works copy layout:one docker-archive:d.tar:one:1
}

from() { # SOURCE BUNDLE [OPTION...]
	works unpack "${ROOTLESS[@]}" --from "$@"
	[ -z "$(ls -A tmp)" ] || fail "left in TMPDIR: $(ls -A tmp)"
}

walk() { # BUNDLE
	jq -c '.from_descriptor_path.descriptor_walk' "$1/umoci.json"
}

@test "unpack --from makes the bundle that unpack --image makes" {
	unpacked layout:one want
	from layout:one same
	from oci:layout:one named
	from oci-archive:o.tar:one archived
	run --separate-stderr bash -c "gzip -c o.tar | '$SHALE' unpack ${ROOTLESS[*]} --from oci-archive:-:one piped"
	[ "$status" -eq 0 ]
	for bundle in same named archived piped; do
		compare_trees want/rootfs "$bundle/rootfs"
		diff want/config.json "$bundle/config.json"
		[ "$(walk $bundle)" = "$(walk want)" ]
		diff <(mtree_lines want/*.mtree) <(mtree_lines "$bundle"/*.mtree)
	done
	# A docker-archive has no manifest: that of the bundle is what copy makes of it.
	from docker-archive:d.tar:one:1 docker
	works copy docker-archive:d.tar layout:docker
	compare_trees want/rootfs docker/rootfs
	[ "$(walk docker | jq -r '.[].digest')" = "$(ref layout docker)" ]
	[ -z "$(ls -A tmp)" ]
}

@test "a bundle from elsewhere is repacked into a layout that has the image" {
	from oci-archive:o.tar:two bundle
	echo new >bundle/rootfs/etc/new
	works init --layout site
	refuses "$(ref layout two).*shale copy" repack --image site:new bundle
	[ "$(jq '.manifests | length' site/index.json)" -eq 0 ]
	works copy oci-archive:o.tar:two site:two
	works repack --image site:new bundle
	whole site
	run layer_names site new -1
	[[ $output == *etc/new* ]]
	[ "$(manifest site new | jq -c '.layers[:-1]')" = "$(manifest site two | jq -c .layers)" ]
}

@test "unpack --from chooses the platform, and knows the index" {
	for arch in amd64 s390x; do
		image "layout-$arch" app >/dev/null
		config "layout-$arch" app | jq -c ".architecture = \"$arch\"" >one.json
		config=sha256:$(sha256sum <one.json | cut -d' ' -f1) size=$(stat -c %s one.json)
		export config size
		cp one.json "layout/blobs/${config/://}"
		manifest "layout-$arch" app | jq -c '.config.digest = env.config | .config.size = (env.size | tonumber)' >two.json
		hex=$(sha256sum <two.json | cut -d' ' -f1)
		cp two.json "layout/blobs/sha256/$hex"
		printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"os":"linux","architecture":"%s"}}\n' \
			"$hex" "$(stat -c %s two.json)" "$arch" >>entries
	done
	jq -sc '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}' <entries >index
	hex=$(sha256sum <index | cut -d' ' -f1)
	cp index "layout/blobs/sha256/$hex"
	digest=sha256:$hex size=$(stat -c %s index)
	export digest size
	jq -c '.manifests += [{mediaType: "application/vnd.oci.image.index.v1+json", digest: env.digest, size: (env.size | tonumber),
		annotations: {"org.opencontainers.image.ref.name": "multi"}}]' layout/index.json >new-index
	mv new-index layout/index.json
	works copy layout:multi oci-archive:m.tar:multi
	works unpack "${ROOTLESS[@]}" --platform linux/s390x --image layout:multi want
	from oci-archive:m.tar:multi bundle --platform linux/s390x
	[ "$(walk bundle)" = "$(walk want)" ]
	[ "$(walk bundle | jq length)" -eq 2 ]
	compare_trees want/rootfs bundle/rootfs
	refuses 'no image for linux/riscv64, only for linux/amd64, linux/s390x' unpack "${ROOTLESS[@]}" --platform linux/riscv64 --from oci-archive:m.tar:multi none
	[ ! -e none ]
	[ -z "$(ls -A tmp)" ]
}

@test "unpack --from a registry" {
	needs docker-registry curl
	port=$((20000 + (BASHPID + $(date +%s)) % 10000))
	printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: 127.0.0.1:%d}\n' "$PWD" "$port" >registry.yml
	docker-registry serve registry.yml >registry.log 2>/dev/null 3>&- &
	registry=$!
	for _ in $(seq 100); do
		curl --silent --fail --noproxy '*' "http://127.0.0.1:$port/v2/" >/dev/null && break
		sleep 0.1
	done
	result=0
	{
		works copy layout:two "docker://127.0.0.1:$port/team/app:two" &&
			unpacked layout:two want &&
			from "docker://127.0.0.1:$port/team/app:two" bundle &&
			compare_trees want/rootfs bundle/rootfs &&
			[ "$(walk bundle | jq -r '.[].digest')" = "$(ref layout two)" ] &&
			refuses 'manifest unknown' unpack "${ROOTLESS[@]}" --from "docker://127.0.0.1:$port/team/app:three" none
	} || result=$?
	kill "$registry"
	wait "$registry" || true
	[ "$result" -eq 0 ]
	[ ! -e none ]
}

@test "unpack --from leaves nothing behind when it fails" {
	for source in oci-archive:o.tar:three oci-archive:o.tar docker-archive:d.tar:two:1 layout:three nowhere:one oci-archive:nosuch.tar docker-archive:layout; do
		refuses "${source%%:*}|${source##*:}" unpack "${ROOTLESS[@]}" --from "$source" bundle
		[ ! -e bundle ]
		[ -z "$(ls -A tmp)" ]
	done
	# A blob in the archive is damaged.
	block=$(tar --list --block-number --file o.tar | sed -n "s|^block \([0-9]*\): .*$(layers layout one | cut -d: -f2)|\1|p")
	flip o.tar $(((block + 1) * 512 + 20))
	refuses "$(layers layout one)" unpack "${ROOTLESS[@]}" --from oci-archive:o.tar:one bundle
	[ ! -e bundle ]
	[ -z "$(ls -A tmp)" ]
	mkdir -p full/rootfs
	refuses 'rootfs' unpack "${ROOTLESS[@]}" --from docker-archive:d.tar full
	[ "$(ls -A full)" = rootfs ]
	[ -z "$(ls -A tmp)" ]
}

@test "unpack --from a layout writes nothing to it" {
	before=$(fingerprint layout)
	chmod -R a-w layout
	from layout:one bundle
	chmod -R u+w layout
	from oci:layout:two bundle2
	[ "$(fingerprint layout)" = "$before" ]
}

@test "signals remove the temporary layout, and a kill leaves it to the next run" {
	head --bytes=40000000 /dev/urandom >random
	tar --create --file big.tar --owner=0 --group=0 --numeric-owner random
	"$MKLAYOUT" -layout layout -tag big big.tar >/dev/null
	works copy layout:big oci-archive:big-archive.tar:big
	rm -r layout
	for signal in INT TERM; do
		for delay in 0.02 0.05 0.1 0.2 0.3; do
			status=0
			timeout --foreground --preserve-status --signal="$signal" "$delay" "$SHALE" unpack "${ROOTLESS[@]}" --from oci-archive:big-archive.tar bundle 2>message || status=$?
			[ -z "$(ls -A tmp)" ] || fail "left in TMPDIR: $(ls -A tmp)"
			if [ "$status" -eq 0 ]; then
				chmod -R u+rwX bundle
				rm -r bundle
				continue
			fi
			[ "$status" -eq 130 ] || [ "$status" -eq 143 ] || fail "exit status $status: $(cat message)"
			[ ! -e bundle ]
		done
	done
	# Until there is a temporary layout, and then at once.
	"$SHALE" unpack "${ROOTLESS[@]}" --from oci-archive:big-archive.tar bundle 2>/dev/null &
	pid=$!
	for _ in $(seq 1000); do
		[ -z "$(ls -A tmp)" ] || break
		sleep 0.001
	done
	kill -KILL $pid 2>/dev/null || true
	wait $pid || true
	rm -rf bundle
	from oci-archive:big-archive.tar bundle
}

@test "unpack refuses a wrong --from" {
	misuses '--image and --from' unpack --image layout:one --from layout:one bundle
	misuses '--image, or --from' unpack bundle
	misuses 'invalid --from' unpack --from 'layout:a b' bundle
	misuses 'invalid --from' unpack --from '' bundle
	misuses 'invalid --from' unpack --from docker:one bundle
	misuses 'invalid --platform' unpack --from layout:one --platform linux bundle
	[ ! -e bundle ]
}
