// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	imagespec "github.com/opencontainers/image-spec/specs-go"
	runtimespec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v3"
)

// version is the version of a release, set by the build with
// -ldflags "-X main.version=1.2.3".
var version string

func init() {
	cli.VersionPrinter = func(cmd *cli.Command) {
		w := cmd.Root().Writer
		fmt.Fprintln(w, "shale version", cmd.Version)         //nolint:errcheck // see output
		fmt.Fprintln(w, "image spec:", imagespec.Version)     //nolint:errcheck // see output
		fmt.Fprintln(w, "runtime spec:", runtimespec.Version) //nolint:errcheck // see output
		fmt.Fprintln(w, "go:", runtime.Version())             //nolint:errcheck // see output
	}
}

// programVersion returns the version of this program.
func programVersion() string {
	if version != "" {
		return strings.TrimPrefix(version, "v")
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return buildVersion(info)
}

// buildVersion returns the version that the go command has recorded: the
// module's, from "go install" or a tag, or else the commit.
func buildVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	if revision == "" {
		return "devel"
	}
	return "git-" + revision[:min(12, len(revision))] + dirty
}
