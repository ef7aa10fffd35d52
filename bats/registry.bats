# SPDX-License-Identifier: Apache-2.0
#
# Registries: Debian's docker-registry on this machine, with plain HTTP, and with TLS, a
# CA of its own and a password.

load helpers

setup() {
	sandbox
	needs docker-registry
	export DOCKER_CONFIG=$PWD/docker HOME=$PWD
	unset REGISTRY_AUTH_FILE XDG_RUNTIME_DIR
	# Nothing that goes to this machine may take a way round.
	export HTTP_PROXY=http://192.0.2.1:1 HTTPS_PROXY=http://192.0.2.1:1 http_proxy=http://192.0.2.1:1
	mkdir docker
	image L v1
	mkdir top
	head -c 3000000 /dev/urandom >top/data
	tar --create --file=top.tar --directory=top .
	"$MKLAYOUT" -layout L -tag v2 "$BATS_TEST_TMPDIR/base.tar" top.tar
}

teardown() {
	[ -z "${REGISTRY_PID:-}" ] || kill "$REGISTRY_PID" 2>/dev/null || true
	chmod -R u+rwX "$BATS_TEST_TMPDIR" 2>/dev/null || true
}

# registry [CONFIG...] starts a registry, with further lines in its configuration, and
# sets HOST.
registry() {
	local try
	for try in 1 2 3 4 5; do
		# Root's tests have the even ports, and those of an ordinary user the odd ones.
		HOST=127.0.0.1:$((RANDOM % 10000 * 2 + 20000 + (EUID != 0)))
		{
			printf '%s\n' 'version: 0.1' 'log: {level: error, accesslog: {disabled: true}}' \
				"storage: {filesystem: {rootdirectory: $PWD/registry}, delete: {enabled: true}}" 'http:' "  addr: $HOST"
			[ $# -eq 0 ] || printf '%s\n' "$@"
		} >registry.yml
		docker-registry serve registry.yml >registry.log 2>&1 3>&- &
		REGISTRY_PID=$!
		for ((wait = 0; wait < 50; wait++)); do
			kill -0 "$REGISTRY_PID" 2>/dev/null || break
			if (: <"/dev/tcp/${HOST/://}") 2>/dev/null; then return; fi
			sleep 0.1
		done
		kill "$REGISTRY_PID" 2>/dev/null || true
	done
	cat registry.log
	fail "docker-registry does not start (tried $try times)"
}

# secure_registry starts one with TLS and a password. The CA is in ca.
secure_registry() {
	needs openssl htpasswd
	mkdir ca
	openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj "/CN=a CA for a test" -keyout ca.key -out ca/ca.crt 2>/dev/null
	openssl req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr 2>/dev/null
	openssl x509 -req -in server.csr -CA ca/ca.crt -CAkey ca.key -CAcreateserial -days 1 -out server.pem \
		-extfile <(echo subjectAltName=IP:127.0.0.1) 2>/dev/null
	htpasswd -Bbn somebody secret >passwords
	registry "  tls: {certificate: $PWD/server.pem, key: $PWD/server.key}" "auth: {htpasswd: {realm: test, path: $PWD/passwords}}"
}

@test "push and pull give the same digests" {
	registry
	works push --image L:v2 "docker://$HOST/team/app:1.0"
	[ -z "$output$stderr" ]
	works pull "docker://$HOST/team/app:1.0" --image M:v2
	[ "$(ref M v2)" = "$(ref L v2)" ]
	whole M
	only_blobs M
	works tags "docker://$HOST/team/app"
	[ "$output" = 1.0 ]
	works tags --json "docker://$HOST/team/app"
	[ "$output" = '["1.0"]' ]
	works exists "docker://$HOST/team/app:1.0"
	shale exists "docker://$HOST/team/app:2.0"
	[ "$status" -eq 1 ]
	shale exists "docker://$HOST/none"
	[ "$status" -eq 1 ]
	refuses '404.*MANIFEST_UNKNOWN' pull "docker://$HOST/team/app:2.0" --image N
	[ ! -e N ]
}

@test "only what is missing travels" {
	registry
	works push --json --image L:v1 "docker://$HOST/app:v1"
	[ "$(jq -c .blobs <<<"$output")" = '{"copied":2}' ]
	works push --json --image L:v2 "docker://$HOST/app:v2"
	[ "$(jq -c .blobs <<<"$output")" = '{"copied":2,"kept":1}' ]
	works copy --json "docker://$HOST/app:v2" "docker://$HOST/other/app:v2"
	[ "$(jq -c .blobs <<<"$output")" = '{"mounted":3}' ]
	works pull --json "docker://$HOST/other/app:v2" --image L:again
	[ "$(jq -c .blobs <<<"$output")" = '{"kept":3}' ]
}

@test "skopeo and shale read what the other has pushed" {
	needs skopeo
	registry
	works push --image L:v2 "docker://$HOST/by/shale:v2"
	skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$HOST/by/shale:v2" oci:S:v2
	[ "$(ref S v2)" = "$(ref L v2)" ]
	skopeo --insecure-policy copy --quiet --dest-tls-verify=false oci:L:v2 "docker://$HOST/by/skopeo:v2"
	works pull "docker://$HOST/by/skopeo:v2" --image M:v2
	[ "$(ref M v2)" = "$(ref L v2)" ]
	whole M
}

@test "TLS, certificates and passwords" {
	secure_registry
	there=docker://$HOST/app:v2
	refuses 'certificate.*--cert-dir' push --image L:v2 "$there"
	refuses 'shale login' push --cert-dir ca --image L:v2 "$there"
	refuses 'unauthorized|401' login "$HOST" --cert-dir ca --username somebody --password wrong
	[ ! -e docker/config.json ]
	echo secret >password
	shale login "$HOST" --cert-dir ca --username somebody --password-stdin <password
	[ "$status" -eq 0 ]
	[[ "$stderr" == *"not encrypted"* ]]
	[ "$(stat -c %a docker/config.json)" = 600 ]
	works push --cert-dir ca --image L:v2 "$there"
	works pull --insecure "$there" --image M:v2
	works pull "--insecure=$HOST" "$there" --image M:again
	refuses 'certificate' pull --insecure=other.example "$there" --image N
	[ "$(ref M v2)" = "$(ref L v2)" ]
	[ "$(ref M again)" = "$(ref L v2)" ]
	whole M
	works logout "$HOST"
	works --verbose logout "$HOST"
	[[ "$stderr" == *"no credentials"* ]]
	refuses 'shale login' pull --cert-dir ca "$there" --image N
	[ ! -e N ]
	needs skopeo
	skopeo --insecure-policy copy --quiet --dest-creds somebody:secret --dest-cert-dir ca oci:L:v1 "docker://$HOST/app:v1"
	shale login "$HOST" --cert-dir ca -u somebody -p secret
	works pull --cert-dir ca "docker://$HOST/app:v1" --image M:v1
	[ "$(ref M v1)" = "$(ref L v1)" ]
}

@test "a digest is what counts" {
	registry
	works push --image L:v1 "docker://$HOST/app:v1"
	works push --image L:v2 "docker://$HOST/app:v2"
	works pull "docker://$HOST/app@$(ref L v1)" --image M:v1
	[ "$(ref M v1)" = "$(ref L v1)" ]
	refuses 'not sha256:' push --image L:v1 "docker://$HOST/app:new@$(ref L v2)"
	works rm "docker://$HOST/app@$(ref L v1)"
	works tags "docker://$HOST/app"
	[ "$output" = v2 ]
	refuses '404' rm "docker://$HOST/app@$(ref L v1)"
	refuses 'HOST/REPO@DIGEST' rm "docker://$HOST/app:v2"
}

@test "a pull that was killed goes on" {
	registry
	works push --image L:v2 "docker://$HOST/app:v2"
	for ((round = 1; round <= KILLS / 60; round++)); do
		rm -rf M
		"$SHALE" pull "docker://$HOST/app:v2" --image M:v2 3>&- &
		sleep "0.0$((RANDOM % 60 + 10))"
		kill -9 $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		[ ! -e M ] || whole M
		works pull "docker://$HOST/app:v2" --image M:v2
		[ "$(ref M v2)" = "$(ref L v2)" ]
		whole M
		works gc --layout M
		only_blobs M
	done
}

@test "what nobody answers ends soon, and clearly" {
	refuses 'connection refused' pull docker://127.0.0.1:1/app:v1 --image M
	[ ! -e M ]
	refuses 'no-such-host' push --image L:v1 docker://no-such-host.invalid/app:v1
}
