# SPDX-License-Identifier: Apache-2.0

load helpers

setup() {
	sandbox
	image layout base >/dev/null
}

commands=(init new ls list tag rm remove stat unpack repack gc "raw add-layer")

@test "without arguments there is help, and exit status 0" {
	works
	for command in init new list tag remove stat unpack repack gc raw; do
		[[ $output == *"$command"* ]]
	done
	works raw
	[[ $output == *add-layer* ]]
}

@test "every command has help that names its flags" {
	for command in "${commands[@]}"; do
		for help in --help -h; do
			# shellcheck disable=SC2086 # two words for raw commands
			works $command "$help"
			[[ $output == *USAGE* ]]
			[[ $output == *--layout* || $output == *--image* ]]
		done
	done
	works help unpack
	[[ $output == *--keep-dirlinks* ]]
	works h repack
	[[ $output == *--mask-path* ]]
	works repack --help
	for flag in --mask-path --no-mask-volumes --refresh-bundle --no-history --history.author --history.comment \
		--history.created --history.created_by --compress; do
		[[ $output == *"$flag"* ]]
	done
	works unpack --help
	for flag in --uid-map --gid-map --rootless; do
		[[ $output == *"$flag"* ]]
	done
	works --help
	[[ $output != *cpu-profile* ]]
}

@test "--version prints the tool and what it implements" {
	for flag in --version -v; do
		works "$flag"
		[[ ${lines[0]} =~ ^[a-z]+\ version\ [0-9v] ]]
		[[ ${lines[1]} =~ ^image\ spec:\ 1\.[0-9.]+$ ]]
		[[ ${lines[2]} =~ ^runtime\ spec:\ 1\.[0-9.]+$ ]]
		[[ ${lines[3]} =~ ^go:\ go1\. ]]
	done
}

@test "an unknown command ends with exit status 3" {
	for command in nonsense "raw nonsense" unpackk; do
		# shellcheck disable=SC2086 # two words for raw commands
		shale $command
		[ "$status" -eq 3 ]
		[[ $stderr == *nonsense* || $stderr == *unpackk* ]]
	done
}

@test "an unknown flag is an error that names it and shows usage" {
	for command in "${commands[@]}"; do
		# shellcheck disable=SC2086 # two words for raw commands
		shale $command --nonsense
		[ "$status" -eq 1 ]
		[[ $stderr == *nonsense* ]]
		[[ $output$stderr == *USAGE* ]]
	done
	misuses 'nonsense' --nonsense ls --layout layout
}

@test "flags have one dash or two, and a value after a blank or an equals sign" {
	for flag in "-layout layout" "--layout layout" -layout=layout --layout=layout; do
		# shellcheck disable=SC2086 # two words for some
		works ls $flag
		[ "$output" = base ]
	done
	misuses 'layout' ls --layout
}

@test "flags may follow positional arguments" {
	works tag one --image layout:base
	works unpack bundle --image layout:base "${ROOTLESS[@]}"
	works repack bundle --image layout:two --no-history
	works ls --layout layout
	[ "$output" = $'base\none\ntwo' ]
}

@test "two dashes end the flags" {
	works unpack "${ROOTLESS[@]}" --image layout:base -- -bundle
	[ "$(cat ./-bundle/rootfs/etc/name)" = base ]
	works repack --image layout:same -- -bundle
	[ "$(layers layout same)" = "$(layers layout base)" ]
}

@test "messages go to standard error, and only as many as --log asks for" {
	works tag --image layout:base quiet
	[ -z "$output$stderr" ]
	works --log=info tag --image layout:base info
	[ -z "$output" ]
	works --verbose tag --image layout:base verbose
	[ -z "$output" ]
	for level in debug warn error fatal; do
		works --log "$level" tag --image layout:base "$level"
		[ -z "$output" ]
	done
	works ls --layout layout
	[ "$output" = $'base\nquiet\ninfo\nverbose\ndebug\nwarn\nerror\nfatal' ]
}

@test "--verbose tells what happens" {
	works --verbose raw add-layer --image layout:base "$BATS_TEST_TMPDIR/base.tar"
	[[ $stderr == *sha256:* ]]
}

@test "--verbose and --log exclude each other" {
	misuses 'log' --verbose --log=info ls --layout layout
	misuses 'log' --log=nonsense ls --layout layout
}

@test "--cpu-profile writes a profile" {
	works --cpu-profile profile ls --layout layout
	[ "$output" = base ]
	[ -s profile ]
}

@test "a closed standard output is an error or ends the program, and never a hang" {
	needs timeout
	run bash -c 'timeout 20 "$SHALE" ls --layout layout >/dev/full'
	[ "$status" -ne 124 ]
	[ "$status" -ne 0 ]
}

@test "errors are one line and never a stack trace" {
	for arguments in "ls --layout nowhere" "stat --image layout:nosuch" "unpack --image layout:nosuch bundle" "repack --image layout:x nobundle"; do
		# shellcheck disable=SC2086 # a command line
		refuses '.' $arguments
		[[ $stderr != *goroutine* ]]
	done
}

@test "nothing is written where it was not asked for" {
	before=$(contents .)
	works ls --layout layout
	works stat --image layout:base
	shale unpack --image layout:nosuch bundle
	shale nonsense
	[ "$(contents .)" = "$before" ]
	[ -z "$(ls -A tmp)" ]
}
