# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base -config '{"User": "app", "Env": ["A=1"], "Entrypoint": ["/bin/tool"], "Cmd": ["-x"], "WorkingDir": "/srv",
		"Labels": {"l": "v"}, "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}' >/dev/null
	mkdir -p root/etc
	printf 'root:x:0:0::/root:/bin/sh\napp:x:7:8::/srv/app:/bin/sh\n' >root/etc/passwd
	printf 'root:x:0:\napp:x:8:\nextra:x:9:app\n' >root/etc/group
}

@test "raw runtime-config writes how to run the image" {
	works raw runtime-config --image layout:base --rootfs root config.json
	[ -z "$output" ]
	jq -e '.process.args == ["/bin/tool", "-x"] and .process.cwd == "/srv" and .process.terminal' config.json
	jq -e '.process.env | .[1:] == ["TERM=xterm", "A=1", "HOME=/srv/app"] and (.[0] | startswith("PATH="))' config.json
	jq -e '.process.user == {"uid": 7, "gid": 8, "additionalGids": [9]}' config.json
	jq -e '.process.noNewPrivileges and (.process.capabilities | length == 5 and all(. == ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]))' config.json
	jq -e '.mounts[-1] == {"destination": "/data", "type": "tmpfs", "source": "none", "options": ["rw", "nosuid", "nodev", "noexec", "relatime"]}' config.json
	jq -e '.annotations | .l == "v" and ."org.opencontainers.image.stopSignal" == "SIGQUIT" and ."org.opencontainers.image.exposedPorts" == "80/tcp"' config.json
	jq -e '[.linux.namespaces[].type] | sort == ["cgroup", "ipc", "mount", "network", "pid", "uts"]' config.json
	grep -q $'^\t"ociVersion"' config.json
}

@test "raw config is the same" {
	works raw runtime-config --image layout:base --rootfs root one.json
	works raw config two.json --image layout:base --rootfs=root
	cmp one.json two.json
}

@test "raw runtime-config writes what umoci writes, but for the version of the specification" {
	for flags in "" --rootless "--uid-map 0:1000:10 --gid-map 0:2000:10"; do
		# shellcheck disable=SC2086 # several words
		works raw runtime-config --image layout:base --rootfs root $flags ours.json
		# shellcheck disable=SC2086 # several words
		"$UMOCI" raw runtime-config --image layout:base --rootfs root $flags theirs.json
		diff <(jq -S 'del(.ociVersion)' ours.json) <(jq -S 'del(.ociVersion)' theirs.json)
	done
}

@test "raw runtime-config without a root filesystem makes an unknown user root, and says so" {
	works raw runtime-config --image layout:base config.json
	[[ $stderr == *app* ]]
	jq -e '.process.user.uid == 0 and .root.path == "rootfs"' config.json
	works config --image layout:base --config.user 4711:12
	works raw runtime-config --image layout:base config.json
	[ -z "$stderr" ]
	jq -e '.process.user == {"uid": 4711, "gid": 12}' config.json
}

@test "raw runtime-config --rootfs looks users up, also behind a link of the user's" {
	ln -s root link
	works raw runtime-config --image layout:base --rootfs link config.json
	jq -e '.process.user.uid == 7' config.json
	works config --image layout:base --config.user nobody-knows
	refuses 'nobody-knows' raw runtime-config --image layout:base --rootfs root other.json
	[ ! -e other.json ]
}

@test "raw runtime-config --rootless and maps" {
	works raw runtime-config --image layout:base --rootfs root --rootless config.json
	jq -e --argjson uid "$(id -u)" --argjson gid "$(id -g)" '.linux |
		.uidMappings == [{"containerID": 0, "hostID": $uid, "size": 1}] and .gidMappings == [{"containerID": 0, "hostID": $gid, "size": 1}]' config.json
	jq -e '[.linux.namespaces[].type] | index("user") != null and index("network") == null' config.json
	jq -e '(.process.user.additionalGids // []) == [] and .linux.resources == null' config.json
	jq -e '[.mounts[].options[]?] | all(test("^[ug]id=") | not)' config.json
	works raw runtime-config --image layout:base --rootfs root --uid-map 0:1000:10 --uid-map 20:5000 --gid-map 0:2000:10 config.json
	jq -e '.linux.uidMappings == [{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 20, "hostID": 5000, "size": 1}]' config.json
	jq -e '[.linux.namespaces[].type] | index("user") != null and index("network") != null' config.json
}

@test "raw runtime-config replaces a file as a whole, and writes to other things" {
	echo old >config.json
	chmod 600 config.json
	works raw runtime-config --image layout:base --rootfs root config.json
	jq -e .ociVersion config.json
	[ "$(stat -c %a config.json)" = 600 ]
	works raw runtime-config --image layout:base --rootfs root /dev/stdout
	[ "$output" = "$(cat config.json)" ]
	before=$(ls -A)
	refuses 'nosuch' raw runtime-config --image layout:base --rootfs root nosuch/config.json
	refuses 'directory' raw runtime-config --image layout:base --rootfs root layout
	[ "$(ls -A)" = "$before" ]
}

@test "raw runtime-config refuses an image for another system" {
	works config --image layout:base --os plan9
	refuses 'plan9' raw runtime-config --rootless --image layout:base --rootfs root config.json
	[ ! -e config.json ]
}

@test "raw runtime-config refuses a wrong command line" {
	misuses 'missing mandatory argument.*--image' raw runtime-config config.json
	misuses 'positional argument' raw runtime-config --image layout:base
	misuses 'positional argument' raw config --image layout:base one two
	misuses 'empty' raw config --image layout:base ''
	misuses 'invalid --image' raw config --image layout: config.json
	misuses 'uid-map' raw config --uid-map 0 --image layout:base config.json
	misuses 'gid-map' raw config --gid-map 0:0:x --image layout:base config.json
	refuses 'nosuch' raw config --image layout:nosuch config.json
	refuses 'nosuch' raw config --rootfs nosuch --image layout:base config.json
	refuses 'nowhere' raw config --image nowhere:base config.json
	[ ! -e config.json ]
}
