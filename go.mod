module github.com/shale-oci/shale

go 1.26.0

require (
	github.com/apex/log v1.9.0
	github.com/klauspost/compress v1.20.3
	github.com/klauspost/pgzip v1.3.0
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
	github.com/opencontainers/runtime-spec v1.3.0
	github.com/opencontainers/umoci v0.6.0
	github.com/urfave/cli/v3 v3.14.0
	github.com/vbatts/go-mtree v0.7.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)
