# Made by "shale docs completions"; do not edit.
# shellcheck shell=bash

_shale() {
	local line=${COMP_LINE:0:COMP_POINT} word cur='' prev='' command='shale' commands='' flags='' values='' args=files
	local -a words
	read -ra words <<<"$line"
	[[ $line != *[[:space:]] ]] && cur=${words[-1]} && unset 'words[-1]'
	for word in "${words[@]:1}"; do
		_shale_is_command "$command" "$word"
	done
	prev=${words[-1]}
	_shale_command "$command"

	local flag=${cur%%=*}
	if [[ $cur == -*=* ]]; then
		cur=${cur#*=}
	elif [[ $prev == -* && $prev != *=* ]]; then
		flag=$prev
	else
		flag=''
	fi
	if [[ -n $flag ]]; then
		flag=${flag#-}
		_shale_value "$command" "${flag#-}"
	fi
	if [[ -n $values ]]; then
		case $values in
		:files) _shale_files -f ;;
		:directories) _shale_files -d ;;
		:image) _shale_image ;;
		:any) COMPREPLY=() ;;
		*) _shale_words "$values" ;;
		esac
	elif [[ $cur == -* ]]; then
		_shale_words "$flags"
	elif [[ -n $commands ]]; then
		_shale_words "$commands"
	elif [[ $args == files ]]; then
		_shale_files -f
	elif [[ $args == images ]]; then
		_shale_image
	else
		_shale_words "$args"
	fi
	# What bash takes for a word of its own is not repeated.
	local rest=${cur%"${cur##*[:=]}"} n
	if [[ -n $rest && $COMP_WORDBREAKS == *[:=]* ]]; then
		for n in "${!COMPREPLY[@]}"; do
			COMPREPLY[n]=${COMPREPLY[n]#"$rest"}
		done
	fi
}

_shale_words() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_shale_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

_shale_image() {
	local path=${cur%%:*} tag
	if [[ $cur == *:* ]]; then
		COMPREPLY=()
		# Tags are foreign: what a shell would do something with is left out.
		while read -r tag; do
			[[ $tag == "${cur#*:}"* && $tag != *[^A-Za-z0-9._:@+/-]* ]] && COMPREPLY+=("$path:$tag")
		done < <(shale --log=fatal ls --layout "${path/#\~\//$HOME/}" 2>/dev/null)
	else
		compopt -o nospace 2>/dev/null
		_shale_files -d
	fi
}

# _shale_is_command goes one command down if there is one of this name.
_shale_is_command() {
	case "$1 $2" in
	'shale init') command='shale init' ;;
	'shale new') command='shale new' ;;
	'shale list') command='shale list' ;;
	'shale ls') command='shale list' ;;
	'shale tag') command='shale tag' ;;
	'shale remove') command='shale remove' ;;
	'shale rm') command='shale remove' ;;
	'shale stat') command='shale stat' ;;
	'shale diff') command='shale diff' ;;
	'shale verify') command='shale verify' ;;
	'shale config') command='shale config' ;;
	'shale insert') command='shale insert' ;;
	'shale unpack') command='shale unpack' ;;
	'shale repack') command='shale repack' ;;
	'shale pack') command='shale pack' ;;
	'shale squash') command='shale squash' ;;
	'shale rebase') command='shale rebase' ;;
	'shale export') command='shale export' ;;
	'shale split') command='shale split' ;;
	'shale join') command='shale join' ;;
	'shale copy') command='shale copy' ;;
	'shale push') command='shale push' ;;
	'shale pull') command='shale pull' ;;
	'shale exists') command='shale exists' ;;
	'shale tags') command='shale tags' ;;
	'shale login') command='shale login' ;;
	'shale logout') command='shale logout' ;;
	'shale gc') command='shale gc' ;;
	'shale raw') command='shale raw' ;;
	'shale completion') command='shale completion' ;;
	'shale raw add-layer') command='shale raw add-layer' ;;
	'shale raw runtime-config') command='shale raw runtime-config' ;;
	'shale raw config') command='shale raw runtime-config' ;;
	'shale raw unpack') command='shale raw unpack' ;;
	esac
}

# _shale_command says what there is to be said after a command.
_shale_command() {
	case $1 in
	'shale')
		flags='--verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		commands='init new list ls tag remove rm stat diff verify config insert unpack repack pack squash rebase export split join copy push pull exists tags login logout gc raw completion help'
		;;
	'shale init')
		flags='--layout --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale new')
		flags='--image --platform --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale list')
		flags='--json --layout --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale tag')
		flags='--image --platform --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale remove')
		flags='--image --platform --cert-dir --insecure --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale stat')
		flags='--json --image --platform --files --layer --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale diff')
		flags='--json --format --summary --ignore --times --include --exclude --content --exit-code --platform --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --userns --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		args='images'
		;;
	'shale verify')
		flags='--json --layout --image --platform --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale config')
		flags='--all-platforms --image --platform --tag --no-history --history.author --history.comment --history.created --history.created_by --config.user --config.exposedports --config.env --config.entrypoint --config.entrypoint.json --config.cmd --config.cmd.json --config.volume --config.label --config.workingdir --config.stopsignal --created --author --platform.os --os --platform.arch --architecture --platform.variant --manifest.annotation --index.annotation --clear --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale insert')
		flags='--whiteout --opaque --image --platform --tag --no-history --history.author --history.comment --history.created --history.created_by --uid-map --gid-map --rootless --compress --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale unpack')
		flags='--keep-dirlinks --image --platform --from --cert-dir --insecure --uid-map --gid-map --rootless --userns --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale repack')
		flags='--mask-path --no-mask-volumes --refresh-bundle --checksum --image --platform --no-history --history.author --history.comment --history.created --history.created_by --compress --userns --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale pack')
		flags='--image --platform --no-history --history.author --history.comment --history.created --history.created_by --uid-map --gid-map --rootless --userns --config.user --config.exposedports --config.env --config.entrypoint --config.entrypoint.json --config.cmd --config.cmd.json --config.volume --config.label --config.workingdir --config.stopsignal --created --author --platform.os --os --platform.arch --architecture --platform.variant --manifest.annotation --index.annotation --clear --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --from --upper --config --compress --owner --mask-path --annotation --index --name --oci-types --docker-types --cache --json --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale squash')
		flags='--image --platform --tag --history.author --history.comment --history.created --history.created_by --compress --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --keep-base --from --to --all-platforms --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale rebase')
		flags='--image --platform --tag --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --old-base --new-base --all-platforms --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale export')
		flags='--path --compress --image --platform --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale split')
		flags='--image --base --lib --tier --against --each --link --format --max-size --rename --dry-run --inspect --json --max-bytes --max-ratio --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale join')
		flags='--image --app --tier --force --link --json --max-bytes --max-ratio --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale copy')
		flags='--platform --all --all-tags --referrers --format --compress --link --json --cert-dir --insecure --max-bytes --max-ratio --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale push')
		flags='--image --platform --all --all-tags --referrers --format --compress --link --json --cert-dir --insecure --max-bytes --max-ratio --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale pull')
		flags='--image --platform --all --all-tags --referrers --format --compress --link --json --cert-dir --insecure --max-bytes --max-ratio --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale exists')
		flags='--json --cert-dir --insecure --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale tags')
		flags='--json --cert-dir --insecure --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale login')
		flags='--username -u --password -p --password-stdin --cert-dir --insecure --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale logout')
		flags='--verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale gc')
		flags='--dry-run --json --layout --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale raw')
		flags='--verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		commands='add-layer runtime-config config unpack help'
		;;
	'shale raw add-layer')
		flags='--image --platform --tag --no-history --history.author --history.comment --history.created --history.created_by --compress --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale raw runtime-config')
		flags='--rootfs --image --platform --uid-map --gid-map --rootless --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale raw unpack')
		flags='--keep-dirlinks --image --platform --uid-map --gid-map --rootless --userns --max-bytes --max-ratio --max-entries --max-xattr-size --max-header-size --max-metadata-size --verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		;;
	'shale completion')
		flags='--verbose --log --progress --no-lock --max-index-size --max-document-size --max-depth --help'
		args='bash fish zsh'
		;;
	esac
}

# _shale_value says what values a flag of a command has, if it has any.
_shale_value() {
	case "$1 $2" in
	'shale log') values='debug info warn error fatal' ;;
	'shale progress') values='auto plain json none' ;;
	'shale max-index-size') values=':any' ;;
	'shale max-document-size') values=':any' ;;
	'shale max-depth') values=':any' ;;
	'shale init layout') values=':directories' ;;
	'shale init log') values='debug info warn error fatal' ;;
	'shale init progress') values='auto plain json none' ;;
	'shale init max-index-size') values=':any' ;;
	'shale init max-document-size') values=':any' ;;
	'shale init max-depth') values=':any' ;;
	'shale new image') values=':image' ;;
	'shale new platform') values=':any' ;;
	'shale new log') values='debug info warn error fatal' ;;
	'shale new progress') values='auto plain json none' ;;
	'shale new max-index-size') values=':any' ;;
	'shale new max-document-size') values=':any' ;;
	'shale new max-depth') values=':any' ;;
	'shale list layout') values=':directories' ;;
	'shale list log') values='debug info warn error fatal' ;;
	'shale list progress') values='auto plain json none' ;;
	'shale list max-index-size') values=':any' ;;
	'shale list max-document-size') values=':any' ;;
	'shale list max-depth') values=':any' ;;
	'shale tag image') values=':image' ;;
	'shale tag platform') values=':any' ;;
	'shale tag log') values='debug info warn error fatal' ;;
	'shale tag progress') values='auto plain json none' ;;
	'shale tag max-index-size') values=':any' ;;
	'shale tag max-document-size') values=':any' ;;
	'shale tag max-depth') values=':any' ;;
	'shale remove image') values=':image' ;;
	'shale remove platform') values=':any' ;;
	'shale remove cert-dir') values=':directories' ;;
	'shale remove log') values='debug info warn error fatal' ;;
	'shale remove progress') values='auto plain json none' ;;
	'shale remove max-index-size') values=':any' ;;
	'shale remove max-document-size') values=':any' ;;
	'shale remove max-depth') values=':any' ;;
	'shale stat image') values=':image' ;;
	'shale stat platform') values=':any' ;;
	'shale stat layer') values=':any' ;;
	'shale stat max-bytes') values=':any' ;;
	'shale stat max-ratio') values=':any' ;;
	'shale stat max-entries') values=':any' ;;
	'shale stat max-xattr-size') values=':any' ;;
	'shale stat max-header-size') values=':any' ;;
	'shale stat max-metadata-size') values=':any' ;;
	'shale stat log') values='debug info warn error fatal' ;;
	'shale stat progress') values='auto plain json none' ;;
	'shale stat max-index-size') values=':any' ;;
	'shale stat max-document-size') values=':any' ;;
	'shale stat max-depth') values=':any' ;;
	'shale diff format') values=':any' ;;
	'shale diff ignore') values='type mode uid gid size content target device xattrs mtime hardlinks owner config config.platform config.created config.author config.user config.env config.entrypoint config.cmd config.workingDir config.volumes config.exposedPorts config.labels config.stopSignal config.other config.history config.annotations' ;;
	'shale diff include') values=':any' ;;
	'shale diff exclude') values=':any' ;;
	'shale diff platform') values=':any' ;;
	'shale diff max-bytes') values=':any' ;;
	'shale diff max-ratio') values=':any' ;;
	'shale diff max-entries') values=':any' ;;
	'shale diff max-xattr-size') values=':any' ;;
	'shale diff max-header-size') values=':any' ;;
	'shale diff max-metadata-size') values=':any' ;;
	'shale diff userns') values='auto on off' ;;
	'shale diff log') values='debug info warn error fatal' ;;
	'shale diff progress') values='auto plain json none' ;;
	'shale diff max-index-size') values=':any' ;;
	'shale diff max-document-size') values=':any' ;;
	'shale diff max-depth') values=':any' ;;
	'shale verify layout') values=':directories' ;;
	'shale verify image') values=':image' ;;
	'shale verify platform') values=':any' ;;
	'shale verify max-bytes') values=':any' ;;
	'shale verify max-ratio') values=':any' ;;
	'shale verify max-entries') values=':any' ;;
	'shale verify max-xattr-size') values=':any' ;;
	'shale verify max-header-size') values=':any' ;;
	'shale verify max-metadata-size') values=':any' ;;
	'shale verify log') values='debug info warn error fatal' ;;
	'shale verify progress') values='auto plain json none' ;;
	'shale verify max-index-size') values=':any' ;;
	'shale verify max-document-size') values=':any' ;;
	'shale verify max-depth') values=':any' ;;
	'shale config image') values=':image' ;;
	'shale config platform') values=':any' ;;
	'shale config tag') values=':any' ;;
	'shale config history.author') values=':any' ;;
	'shale config history.comment') values=':any' ;;
	'shale config history.created') values=':any' ;;
	'shale config history.created_by') values=':any' ;;
	'shale config config.user') values=':any' ;;
	'shale config config.exposedports') values=':any' ;;
	'shale config config.env') values=':any' ;;
	'shale config config.entrypoint') values=':any' ;;
	'shale config config.entrypoint.json') values=':any' ;;
	'shale config config.cmd') values=':any' ;;
	'shale config config.cmd.json') values=':any' ;;
	'shale config config.volume') values=':any' ;;
	'shale config config.label') values=':any' ;;
	'shale config config.workingdir') values=':any' ;;
	'shale config config.stopsignal') values=':any' ;;
	'shale config created') values=':any' ;;
	'shale config author') values=':any' ;;
	'shale config platform.os' | 'shale config os') values=':any' ;;
	'shale config platform.arch' | 'shale config architecture') values=':any' ;;
	'shale config platform.variant') values=':any' ;;
	'shale config manifest.annotation') values=':any' ;;
	'shale config index.annotation') values=':any' ;;
	'shale config clear') values='config.cmd config.entrypoint config.env config.exposedports config.labels config.volume index.annotations manifest.annotations' ;;
	'shale config log') values='debug info warn error fatal' ;;
	'shale config progress') values='auto plain json none' ;;
	'shale config max-index-size') values=':any' ;;
	'shale config max-document-size') values=':any' ;;
	'shale config max-depth') values=':any' ;;
	'shale insert image') values=':image' ;;
	'shale insert platform') values=':any' ;;
	'shale insert tag') values=':any' ;;
	'shale insert history.author') values=':any' ;;
	'shale insert history.comment') values=':any' ;;
	'shale insert history.created') values=':any' ;;
	'shale insert history.created_by') values=':any' ;;
	'shale insert uid-map') values=':any' ;;
	'shale insert gid-map') values=':any' ;;
	'shale insert compress') values='auto none gzip zstd' ;;
	'shale insert log') values='debug info warn error fatal' ;;
	'shale insert progress') values='auto plain json none' ;;
	'shale insert max-index-size') values=':any' ;;
	'shale insert max-document-size') values=':any' ;;
	'shale insert max-depth') values=':any' ;;
	'shale unpack image') values=':image' ;;
	'shale unpack platform') values=':any' ;;
	'shale unpack from') values=':image' ;;
	'shale unpack cert-dir') values=':directories' ;;
	'shale unpack uid-map') values=':any' ;;
	'shale unpack gid-map') values=':any' ;;
	'shale unpack userns') values='auto on off' ;;
	'shale unpack max-bytes') values=':any' ;;
	'shale unpack max-ratio') values=':any' ;;
	'shale unpack max-entries') values=':any' ;;
	'shale unpack max-xattr-size') values=':any' ;;
	'shale unpack max-header-size') values=':any' ;;
	'shale unpack max-metadata-size') values=':any' ;;
	'shale unpack log') values='debug info warn error fatal' ;;
	'shale unpack progress') values='auto plain json none' ;;
	'shale unpack max-index-size') values=':any' ;;
	'shale unpack max-document-size') values=':any' ;;
	'shale unpack max-depth') values=':any' ;;
	'shale repack mask-path') values=':any' ;;
	'shale repack image') values=':image' ;;
	'shale repack platform') values=':any' ;;
	'shale repack history.author') values=':any' ;;
	'shale repack history.comment') values=':any' ;;
	'shale repack history.created') values=':any' ;;
	'shale repack history.created_by') values=':any' ;;
	'shale repack compress') values='auto none gzip zstd' ;;
	'shale repack userns') values='auto on off' ;;
	'shale repack log') values='debug info warn error fatal' ;;
	'shale repack progress') values='auto plain json none' ;;
	'shale repack max-index-size') values=':any' ;;
	'shale repack max-document-size') values=':any' ;;
	'shale repack max-depth') values=':any' ;;
	'shale pack image') values=':image' ;;
	'shale pack platform') values=':any' ;;
	'shale pack history.author') values=':any' ;;
	'shale pack history.comment') values=':any' ;;
	'shale pack history.created') values=':any' ;;
	'shale pack history.created_by') values=':any' ;;
	'shale pack uid-map') values=':any' ;;
	'shale pack gid-map') values=':any' ;;
	'shale pack userns') values='auto on off' ;;
	'shale pack config.user') values=':any' ;;
	'shale pack config.exposedports') values=':any' ;;
	'shale pack config.env') values=':any' ;;
	'shale pack config.entrypoint') values=':any' ;;
	'shale pack config.entrypoint.json') values=':any' ;;
	'shale pack config.cmd') values=':any' ;;
	'shale pack config.cmd.json') values=':any' ;;
	'shale pack config.volume') values=':any' ;;
	'shale pack config.label') values=':any' ;;
	'shale pack config.workingdir') values=':any' ;;
	'shale pack config.stopsignal') values=':any' ;;
	'shale pack created') values=':any' ;;
	'shale pack author') values=':any' ;;
	'shale pack platform.os' | 'shale pack os') values=':any' ;;
	'shale pack platform.arch' | 'shale pack architecture') values=':any' ;;
	'shale pack platform.variant') values=':any' ;;
	'shale pack manifest.annotation') values=':any' ;;
	'shale pack index.annotation') values=':any' ;;
	'shale pack clear') values='config.cmd config.entrypoint config.env config.exposedports config.labels config.volume index.annotations manifest.annotations' ;;
	'shale pack max-bytes') values=':any' ;;
	'shale pack max-ratio') values=':any' ;;
	'shale pack max-entries') values=':any' ;;
	'shale pack max-xattr-size') values=':any' ;;
	'shale pack max-header-size') values=':any' ;;
	'shale pack max-metadata-size') values=':any' ;;
	'shale pack from') values=':image' ;;
	'shale pack upper') values=':directories' ;;
	'shale pack config') values=':files' ;;
	'shale pack compress') values='auto none gzip zstd' ;;
	'shale pack owner') values=':any' ;;
	'shale pack mask-path') values=':any' ;;
	'shale pack annotation') values=':any' ;;
	'shale pack name') values=':any' ;;
	'shale pack cache') values=':directories' ;;
	'shale pack log') values='debug info warn error fatal' ;;
	'shale pack progress') values='auto plain json none' ;;
	'shale pack max-index-size') values=':any' ;;
	'shale pack max-document-size') values=':any' ;;
	'shale pack max-depth') values=':any' ;;
	'shale squash image') values=':image' ;;
	'shale squash platform') values=':any' ;;
	'shale squash tag') values=':any' ;;
	'shale squash history.author') values=':any' ;;
	'shale squash history.comment') values=':any' ;;
	'shale squash history.created') values=':any' ;;
	'shale squash history.created_by') values=':any' ;;
	'shale squash compress') values='auto none gzip zstd' ;;
	'shale squash max-bytes') values=':any' ;;
	'shale squash max-ratio') values=':any' ;;
	'shale squash max-entries') values=':any' ;;
	'shale squash max-xattr-size') values=':any' ;;
	'shale squash max-header-size') values=':any' ;;
	'shale squash max-metadata-size') values=':any' ;;
	'shale squash keep-base') values=':image' ;;
	'shale squash from') values=':any' ;;
	'shale squash to') values=':any' ;;
	'shale squash log') values='debug info warn error fatal' ;;
	'shale squash progress') values='auto plain json none' ;;
	'shale squash max-index-size') values=':any' ;;
	'shale squash max-document-size') values=':any' ;;
	'shale squash max-depth') values=':any' ;;
	'shale rebase image') values=':image' ;;
	'shale rebase platform') values=':any' ;;
	'shale rebase tag') values=':any' ;;
	'shale rebase max-bytes') values=':any' ;;
	'shale rebase max-ratio') values=':any' ;;
	'shale rebase max-entries') values=':any' ;;
	'shale rebase max-xattr-size') values=':any' ;;
	'shale rebase max-header-size') values=':any' ;;
	'shale rebase max-metadata-size') values=':any' ;;
	'shale rebase old-base') values=':image' ;;
	'shale rebase new-base') values=':image' ;;
	'shale rebase log') values='debug info warn error fatal' ;;
	'shale rebase progress') values='auto plain json none' ;;
	'shale rebase max-index-size') values=':any' ;;
	'shale rebase max-document-size') values=':any' ;;
	'shale rebase max-depth') values=':any' ;;
	'shale export path') values=':any' ;;
	'shale export compress') values='auto none gzip zstd' ;;
	'shale export image') values=':image' ;;
	'shale export platform') values=':any' ;;
	'shale export max-bytes') values=':any' ;;
	'shale export max-ratio') values=':any' ;;
	'shale export max-entries') values=':any' ;;
	'shale export max-xattr-size') values=':any' ;;
	'shale export max-header-size') values=':any' ;;
	'shale export max-metadata-size') values=':any' ;;
	'shale export log') values='debug info warn error fatal' ;;
	'shale export progress') values='auto plain json none' ;;
	'shale export max-index-size') values=':any' ;;
	'shale export max-document-size') values=':any' ;;
	'shale export max-depth') values=':any' ;;
	'shale split image') values=':image' ;;
	'shale split base') values=':image' ;;
	'shale split lib') values=':image' ;;
	'shale split tier') values=':any' ;;
	'shale split against') values=':any' ;;
	'shale split format') values=':any' ;;
	'shale split max-size') values=':any' ;;
	'shale split rename') values=':files' ;;
	'shale split max-bytes') values=':any' ;;
	'shale split max-ratio') values=':any' ;;
	'shale split log') values='debug info warn error fatal' ;;
	'shale split progress') values='auto plain json none' ;;
	'shale split max-index-size') values=':any' ;;
	'shale split max-document-size') values=':any' ;;
	'shale split max-depth') values=':any' ;;
	'shale join image') values=':image' ;;
	'shale join app') values=':files' ;;
	'shale join tier') values=':any' ;;
	'shale join max-bytes') values=':any' ;;
	'shale join max-ratio') values=':any' ;;
	'shale join log') values='debug info warn error fatal' ;;
	'shale join progress') values='auto plain json none' ;;
	'shale join max-index-size') values=':any' ;;
	'shale join max-document-size') values=':any' ;;
	'shale join max-depth') values=':any' ;;
	'shale copy platform') values=':any' ;;
	'shale copy format') values=':any' ;;
	'shale copy compress') values='none gzip zstd' ;;
	'shale copy cert-dir') values=':directories' ;;
	'shale copy max-bytes') values=':any' ;;
	'shale copy max-ratio') values=':any' ;;
	'shale copy log') values='debug info warn error fatal' ;;
	'shale copy progress') values='auto plain json none' ;;
	'shale copy max-index-size') values=':any' ;;
	'shale copy max-document-size') values=':any' ;;
	'shale copy max-depth') values=':any' ;;
	'shale push image') values=':image' ;;
	'shale push platform') values=':any' ;;
	'shale push format') values=':any' ;;
	'shale push compress') values='none gzip zstd' ;;
	'shale push cert-dir') values=':directories' ;;
	'shale push max-bytes') values=':any' ;;
	'shale push max-ratio') values=':any' ;;
	'shale push log') values='debug info warn error fatal' ;;
	'shale push progress') values='auto plain json none' ;;
	'shale push max-index-size') values=':any' ;;
	'shale push max-document-size') values=':any' ;;
	'shale push max-depth') values=':any' ;;
	'shale pull image') values=':image' ;;
	'shale pull platform') values=':any' ;;
	'shale pull format') values=':any' ;;
	'shale pull compress') values='none gzip zstd' ;;
	'shale pull cert-dir') values=':directories' ;;
	'shale pull max-bytes') values=':any' ;;
	'shale pull max-ratio') values=':any' ;;
	'shale pull log') values='debug info warn error fatal' ;;
	'shale pull progress') values='auto plain json none' ;;
	'shale pull max-index-size') values=':any' ;;
	'shale pull max-document-size') values=':any' ;;
	'shale pull max-depth') values=':any' ;;
	'shale exists cert-dir') values=':directories' ;;
	'shale exists log') values='debug info warn error fatal' ;;
	'shale exists progress') values='auto plain json none' ;;
	'shale exists max-index-size') values=':any' ;;
	'shale exists max-document-size') values=':any' ;;
	'shale exists max-depth') values=':any' ;;
	'shale tags cert-dir') values=':directories' ;;
	'shale tags log') values='debug info warn error fatal' ;;
	'shale tags progress') values='auto plain json none' ;;
	'shale tags max-index-size') values=':any' ;;
	'shale tags max-document-size') values=':any' ;;
	'shale tags max-depth') values=':any' ;;
	'shale login username' | 'shale login u') values=':any' ;;
	'shale login password' | 'shale login p') values=':any' ;;
	'shale login cert-dir') values=':directories' ;;
	'shale login log') values='debug info warn error fatal' ;;
	'shale login progress') values='auto plain json none' ;;
	'shale login max-index-size') values=':any' ;;
	'shale login max-document-size') values=':any' ;;
	'shale login max-depth') values=':any' ;;
	'shale logout log') values='debug info warn error fatal' ;;
	'shale logout progress') values='auto plain json none' ;;
	'shale logout max-index-size') values=':any' ;;
	'shale logout max-document-size') values=':any' ;;
	'shale logout max-depth') values=':any' ;;
	'shale gc layout') values=':directories' ;;
	'shale gc log') values='debug info warn error fatal' ;;
	'shale gc progress') values='auto plain json none' ;;
	'shale gc max-index-size') values=':any' ;;
	'shale gc max-document-size') values=':any' ;;
	'shale gc max-depth') values=':any' ;;
	'shale raw log') values='debug info warn error fatal' ;;
	'shale raw progress') values='auto plain json none' ;;
	'shale raw max-index-size') values=':any' ;;
	'shale raw max-document-size') values=':any' ;;
	'shale raw max-depth') values=':any' ;;
	'shale raw add-layer image') values=':image' ;;
	'shale raw add-layer platform') values=':any' ;;
	'shale raw add-layer tag') values=':any' ;;
	'shale raw add-layer history.author') values=':any' ;;
	'shale raw add-layer history.comment') values=':any' ;;
	'shale raw add-layer history.created') values=':any' ;;
	'shale raw add-layer history.created_by') values=':any' ;;
	'shale raw add-layer compress') values='auto none gzip zstd' ;;
	'shale raw add-layer log') values='debug info warn error fatal' ;;
	'shale raw add-layer progress') values='auto plain json none' ;;
	'shale raw add-layer max-index-size') values=':any' ;;
	'shale raw add-layer max-document-size') values=':any' ;;
	'shale raw add-layer max-depth') values=':any' ;;
	'shale raw runtime-config rootfs') values=':directories' ;;
	'shale raw runtime-config image') values=':image' ;;
	'shale raw runtime-config platform') values=':any' ;;
	'shale raw runtime-config uid-map') values=':any' ;;
	'shale raw runtime-config gid-map') values=':any' ;;
	'shale raw runtime-config log') values='debug info warn error fatal' ;;
	'shale raw runtime-config progress') values='auto plain json none' ;;
	'shale raw runtime-config max-index-size') values=':any' ;;
	'shale raw runtime-config max-document-size') values=':any' ;;
	'shale raw runtime-config max-depth') values=':any' ;;
	'shale raw unpack image') values=':image' ;;
	'shale raw unpack platform') values=':any' ;;
	'shale raw unpack uid-map') values=':any' ;;
	'shale raw unpack gid-map') values=':any' ;;
	'shale raw unpack userns') values='auto on off' ;;
	'shale raw unpack max-bytes') values=':any' ;;
	'shale raw unpack max-ratio') values=':any' ;;
	'shale raw unpack max-entries') values=':any' ;;
	'shale raw unpack max-xattr-size') values=':any' ;;
	'shale raw unpack max-header-size') values=':any' ;;
	'shale raw unpack max-metadata-size') values=':any' ;;
	'shale raw unpack log') values='debug info warn error fatal' ;;
	'shale raw unpack progress') values='auto plain json none' ;;
	'shale raw unpack max-index-size') values=':any' ;;
	'shale raw unpack max-document-size') values=':any' ;;
	'shale raw unpack max-depth') values=':any' ;;
	'shale completion log') values='debug info warn error fatal' ;;
	'shale completion progress') values='auto plain json none' ;;
	'shale completion max-index-size') values=':any' ;;
	'shale completion max-document-size') values=':any' ;;
	'shale completion max-depth') values=':any' ;;
	esac
}

complete -F _shale shale
