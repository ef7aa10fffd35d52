# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base -config '{"User": "old", "Env": ["A=1", "B=2"], "Entrypoint": ["/bin/tool"], "Cmd": ["-x"], "WorkingDir": "/old",
		"StopSignal": "SIGTERM", "Labels": {"a": "1", "b": "2"}, "Volumes": {"/data": {}, "/old": {}}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}}' >/dev/null
}

# has FILTER [TAG] checks the config of an image.
has() {
	config layout "${2:-base}" | jq -e "$1" >/dev/null || fail "not so: $1: $(config layout "${2:-base}")"
}

# notes FILTER [TAG] checks the manifest of an image.
notes() {
	manifest layout "${2:-base}" | jq -e "$1" >/dev/null || fail "not so: $1: $(manifest layout "${2:-base}")"
}

@test "config changes single values" {
	works config --image layout:base --config.user 1000:100 --config.workingdir /srv/app --config.stopsignal SIGQUIT \
		--created 2001-02-03T04:05:06.7Z --author 'A <a@example.org>'
	[ -z "$output" ]
	has '.config.User == "1000:100" and .config.WorkingDir == "/srv/app" and .config.StopSignal == "SIGQUIT"'
	has '.created == "2001-02-03T04:05:06.7Z" and .author == "A <a@example.org>"'
	works config --image layout:base --config.user= --config.workingdir= --config.stopsignal= --author=
	has '.config | has("User") or has("WorkingDir") or has("StopSignal") | not'
	has 'has("author") | not'
	whole layout
	only_blobs layout
}

@test "config changes the platform, by either name of the flags" {
	works config --image layout:base --platform.os plan9 --platform.arch mips --platform.variant v2
	has '.os == "plan9" and .architecture == "mips" and .variant == "v2"'
	works config --image layout:base --os linux --architecture arm64
	has '.os == "linux" and .architecture == "arm64" and .variant == "v2"'
}

@test "config sets environment variables in place, or at the end" {
	works config --image layout:base --config.env A=new --config.env C=x=y --config.env D= --config.env 'E=a, b'
	has '.config.Env == ["A=new", "B=2", "C=x=y", "D=", "E=a, b"]'
	works config --image layout:base --config.env B- --config.env D- --config.env none- --config.env F-=6
	has '.config.Env == ["A=new", "C=x=y", "E=a, b", "F-=6"]'
}

@test "config replaces entrypoint and command" {
	works config --image layout:base --config.cmd -c --config.cmd 'ls -l, x' --config.cmd --image
	has '.config.Cmd == ["-c", "ls -l, x", "--image"] and .config.Entrypoint == ["/bin/tool"]'
	works config --image layout:base --config.entrypoint /bin/sh --config.entrypoint -e
	has '.config.Entrypoint == ["/bin/sh", "-e"] and (.config.Cmd | length) == 3'
	# What umoci takes for an argument is one.
	works config --image layout:base --config.entrypoint '[]'
	has '.config.Entrypoint == ["[]"]'
}

@test "config sets an empty entrypoint and command" {
	works config --image layout:base --clear config.entrypoint --tag a
	has '(.config.Entrypoint // []) == [] and .config.Cmd == ["-x"]' a
	works config --image layout:base --config.entrypoint.json '[]' --config.cmd.json '["a b", "", "-c"]' --tag b
	has '(.config.Entrypoint // []) == [] and .config.Cmd == ["a b", "", "-c"]' b
	[ "$(config layout a | jq -c .config.Env)" = '["A=1","B=2"]' ]
}

@test "config adds and removes volumes and ports" {
	works config --image layout:base --config.volume /new --config.volume /a,b --config.exposedports 8080 --config.exposedports 1/udp
	has '(.config.Volumes | keys) == ["/a,b", "/data", "/new", "/old"]'
	has '(.config.ExposedPorts | keys) == ["1/udp", "53/udp", "80/tcp", "8080"]'
	works config --image layout:base --config.volume /old- --config.volume /none- --config.exposedports 80/tcp- --config.volume /minus-/
	has '(.config.Volumes | keys) == ["/a,b", "/data", "/minus-/", "/new"]'
	has '(.config.ExposedPorts | keys) == ["1/udp", "53/udp", "8080"]'
}

@test "config sets and removes labels" {
	works config --image layout:base --config.label b=new --config.label c=x=y --config.label d= --config.label a- --config.label e-=5
	has '.config.Labels == {"b": "new", "c": "x=y", "d": "", "e-": "5"}'
}

@test "config annotates the manifest" {
	works config --image layout:base --manifest.annotation org.example.a=1 --manifest.annotation 'b=x, y=z'
	notes '.annotations == {"org.example.a": "1", "b": "x, y=z"}'
	works config --image layout:base --manifest.annotation org.example.a- --manifest.annotation c=3
	notes '.annotations == {"b": "x, y=z", "c": "3"}'
	# An image that another tool reads as well.
	"$UMOCI" stat --json --image layout:base | jq -e '.manifest.blob.annotations.c == "3"'
}

@test "config annotates the descriptor in the index" {
	works config --image layout:base --index.annotation org.example.a=1 --index.annotation b=2
	jq -e '.manifests[0].annotations == {"org.opencontainers.image.ref.name": "base", "org.example.a": "1", "b": "2"}' layout/index.json
	notes '.annotations == null'
	works config --image layout:base --index.annotation b- --tag other
	jq -e '.manifests | map(.annotations) == [{"org.opencontainers.image.ref.name": "base", "org.example.a": "1", "b": "2"},
		{"org.opencontainers.image.ref.name": "other", "org.example.a": "1"}]' layout/index.json
	works config --image layout:base --clear index.annotations
	[ "$(jq -c '.manifests[-1].annotations' layout/index.json)" = '{"org.opencontainers.image.ref.name":"base"}' ]
	works ls --layout layout
	[ "$output" = $'other\nbase' ]
}

@test "config clears before it sets" {
	works config --image layout:base --manifest.annotation x=1
	works config --image layout:base --config.label new=1 --clear config.labels --config.env NEW=1 --clear config.env \
		--config.volume /only --clear config.volume --config.exposedports 9 --clear config.exposedports \
		--config.cmd only --clear config.cmd --config.entrypoint only --clear config.entrypoint \
		--manifest.annotation new=1 --clear manifest.annotations
	has '.config.Labels == {"new": "1"} and .config.Env == ["NEW=1"] and .config.Cmd == ["only"] and .config.Entrypoint == ["only"]'
	has '(.config.Volumes | keys) == ["/only"] and (.config.ExposedPorts | keys) == ["9"]'
	notes '.annotations == {"new": "1"}'
	for key in config.labels config.env config.volume config.exposedports config.cmd config.entrypoint manifest.annotations; do
		works config --image layout:base --clear "$key"
	done
	has '.config | [.Labels, .Env, .Volumes, .ExposedPorts, .Cmd, .Entrypoint] | all(. == null or length == 0)'
	has '.config.User == "old"'
	notes '(.annotations // {}) == {}'
}

@test "config writes its history" {
	works config --image layout:base --author me --config.user x
	has '.history | length == 2 and .[1].empty_layer and .[1].created_by == "shale config" and .[1].author == "me"'
	works config --image layout:base --no-history --config.user y
	has '(.history | length) == 2 and .config.User == "y"'
	works config --image layout:base --history.author 'A <a@example.org>' --history.comment why --history.created 2001-02-03T04:05:06Z \
		--history.created_by 'by hand'
	has '.history[-1] == {"author": "A <a@example.org>", "comment": "why", "created": "2001-02-03T04:05:06Z", "created_by": "by hand", "empty_layer": true}'
	works config --image layout:base --history.author= --history.created_by=
	has '.history[-1] | has("author") or has("created_by") | not'
	[ "$(layers layout base | wc -l)" -eq 1 ]
	whole layout
}

@test "config takes the time of its history from SOURCE_DATE_EPOCH, and rather from the flag" {
	export SOURCE_DATE_EPOCH=1000000000
	created=$(config layout base | jq -r .created)
	works config --image layout:base --tag a --config.user x
	works config --image layout:base --tag b --config.user x
	[ "$(ref layout a)" = "$(ref layout b)" ]
	has '.history[-1].created == "2001-09-09T01:46:40Z"' a
	[ "$(config layout a | jq -r .created)" = "$created" ]
	works config --image layout:base --tag c --history.created 2002-02-03T04:05:06+01:00
	has '.history[-1].created == "2002-02-03T04:05:06+01:00"' c
	SOURCE_DATE_EPOCH=soon refuses 'SOURCE_DATE_EPOCH' config --image layout:base --no-history
}

@test "config overwrites the tag unless another is given" {
	before=$(ref layout base)
	works config --image layout:base --tag new/1.0 --config.user x
	[ "$(ref layout base)" = "$before" ]
	has '.config.User == "x"' new/1.0
	works config --image layout:base --config.user y
	[ "$(ref layout base)" != "$before" ]
	works tag --image layout:base latest
	works config --image layout --config.user z
	has '.config.User == "z"' latest
	has '.config.User == "y"'
}

@test "config keeps what it does not know" {
	digest=$(ref layout base)
	blob layout "$digest" | jq -c '. + {"com.example.unknown": {"a": [1]}}' >changed
	new=$(sha256sum <changed | cut -d' ' -f1)
	cp changed "layout/blobs/sha256/$new"
	jq -c --arg d "sha256:$new" --argjson s "$(stat -c %s changed)" '.manifests[0] += {"digest": $d, "size": $s}' layout/index.json >index
	cp index layout/index.json
	works config --image layout:base --config.user x
	notes '."com.example.unknown" == {"a": [1]}'
	has '.config.User == "x"'
}

@test "umoci and shale go on with what the other configured" {
	works config --image layout:base --config.user one
	"$UMOCI" config --image layout:base --config.label umoci=yes
	works config --image layout:base --config.label shale=yes
	has '.config.User == "one" and .config.Labels == {"a": "1", "b": "2", "umoci": "yes", "shale": "yes"}'
	has '[.history[-3:][].created_by] == ["shale config", "umoci config", "shale config"]'
	diff <("$UMOCI" stat --json --image layout:base | jq -S .) <("$SHALE" stat --json --image layout:base | jq -S .)
}

@test "config refuses what it cannot do, and changes nothing" {
	before=$(fingerprint layout)
	refuses 'config.env.*A' config --image layout:base --config.env A
	refuses 'config.env' config --image layout:base --config.env =1
	refuses 'config.label' config --image layout:base --config.label A
	refuses 'manifest.annotation' config --image layout:base --manifest.annotation A
	refuses 'index.annotation' config --image layout:base --index.annotation A
	refuses 'index.annotation.*tag' config --image layout:base --index.annotation org.opencontainers.image.ref.name=x
	refuses 'rootfs.diffids' config --image layout:base --clear rootfs.diffids
	refuses 'clear.*config.everything' config --image layout:base --clear config.everything
	refuses 'config.env,config.cmd' config --image layout:base --clear config.env,config.cmd
	refuses 'created.*today' config --image layout:base --created today
	refuses 'history.created.*today' config --image layout:base --history.created today
	refuses 'JSON' config --image layout:base --config.entrypoint.json x
	refuses 'together' config --image layout:base --config.cmd a --config.cmd.json '[]'
	refuses 'no-history.*history.comment.*together' config --image layout:base --no-history --history.comment x
	refuses 'nosuch' config --image layout:nosuch --config.user x
	refuses 'nowhere' config --image nowhere:base --config.user x
	[ "$(fingerprint layout)" = "$before" ]
}

@test "config refuses a wrong command line" {
	before=$(fingerprint layout)
	misuses 'missing mandatory argument.*--image' config --config.user x
	misuses 'positional argument' config --image layout:base extra
	misuses 'positional argument' config extra --image layout:base --config.user x
	misuses 'invalid --image' config --image layout: --config.user x
	misuses 'invalid --image' config --image :base --config.user x
	misuses 'invalid --image' config --image 'layout:a b' --config.user x
	misuses 'invalid --tag' config --image layout:base --tag= --config.user x
	misuses 'invalid --tag' config --image layout:base --tag a..b --config.user x
	misuses 'config.bogus' config --image layout:base --config.bogus x
	misuses 'argument' config --image layout:base --config.cmd
	[ "$(fingerprint layout)" = "$before" ]
}
