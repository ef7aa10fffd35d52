// SPDX-License-Identifier: Apache-2.0

// Package ranks_test holds the module's real imports against the architecture:
// every package has a rank and imports only lower ones, and every foreign
// module has owners. ARCHITECTURE.md draws the same picture; the linter's
// depguard rules repeat it for editors.
package ranks_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/shale-oci/shale"

// ranks lists every package outside of internal/ and test/, whose ranks are 0
// and above all others. A package without a rank fails the test.
var ranks = map[string]int{
	"cmd/shale": 7,
	"backend":   6,
	"bundle":    5,
	"pack":      5,
	"split":     5,
	"inspect":   5,
	"transfer":  5,
	"mutate":    4,
	"stack":     3,
	"layer":     2,
	"mtree":     1,
	"layout":    1,
}

const (
	internalRank = 0
	testRank     = 8
)

// owners says which packages may import a foreign module, or a part of one:
// the longest prefix counts. The word "any" allows all. Nothing is imported
// that is not here.
var owners = map[string][]string{
	"github.com/apex/log":                                {"cmd/shale"},
	"github.com/docker/cli":                              {"transfer"},
	"github.com/google/go-containerregistry":             {"transfer"},
	"github.com/klauspost/compress":                      {"layer", "test/ocitest"},
	"github.com/klauspost/pgzip":                         {"layer"},
	"github.com/moby/sys/user":                           {"bundle"},
	"github.com/opencontainers/go-digest":                {"any"},
	"github.com/opencontainers/image-spec":               {"any"},
	"github.com/opencontainers/runtime-spec":             {"any"},
	"github.com/opencontainers/umoci":                    {},
	"github.com/opencontainers/umoci/oci/config/convert": {"bundle"},
	"github.com/opencontainers/umoci/pkg/hardening":      {"layout"},
	"github.com/urfave/cli/v3":                           {"cmd/shale"},
	"github.com/vbatts/go-mtree":                         {"mtree"},
	"golang.org/x/sync":                                  {"any"},
	"golang.org/x/sys":                                   {"any"},
}

// oracles are what tests may import besides, from any package: implementations
// to compare with, and what it takes to run them.
var oracles = []string{
	"github.com/apex/log", // umoci's library logs to it
	"github.com/cyphar/filepath-securejoin",
	"github.com/google/go-containerregistry/pkg/registry",
	"github.com/klauspost/compress",
	"github.com/opencontainers/umoci/",
	"github.com/vbatts/go-mtree",
	"golang.org/x/crypto/bcrypt", // for the password file of a registry
}

// forbidden are packages that must not be linked into the binary, by whatever
// way: umoci's root package brings a command line library with it.
var forbidden = []string{
	"github.com/opencontainers/umoci",
	"github.com/urfave/cli",
	"testing",
}

type listed struct {
	Dir          string
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

func (p listed) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=Dir,ImportPath,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, &stderr)
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("decode what go list says: %v", err)
		}
		// What a test reads itself is what go test looks at to tell whether an
		// earlier result still holds.
		if _, err := os.ReadDir(p.Dir); err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// rank returns the rank of a package of this module.
func rank(name string) (int, bool) {
	switch {
	case strings.HasPrefix(name, "internal/"):
		return internalRank, true
	case strings.HasPrefix(name, "test/"):
		return testRank, true
	}
	r, ok := ranks[name]
	return r, ok
}

func TestImportsGoDown(t *testing.T) {
	for _, p := range list(t, "./...") {
		own, ok := rank(p.name())
		if !ok {
			t.Errorf("%s has no rank: put it into the table of this test and of ARCHITECTURE.md", p.name())
			continue
		}
		for _, imported := range p.Imports {
			name, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			if other, _ := rank(name); !allowed(p.name(), own, name, other) {
				t.Errorf("%s (rank %d) imports %s (rank %d)", p.name(), own, name, other)
			}
		}
	}
}

// allowed says whether one package of this module may import another. Leaves
// and fixtures may build on their like, all others only on what is below.
func allowed(from string, fromRank int, to string, toRank int) bool {
	switch {
	case fromRank == internalRank, fromRank == testRank && toRank == testRank:
		return toRank == fromRank && from != to
	case from == "test/ocitest":
		return false // an oracle shares no code with what it judges
	}
	return toRank < fromRank
}

// TestTestsImportDown holds for test files too, with one exception: tests may
// use the fixtures of test/.
func TestTestsImportDown(t *testing.T) {
	for _, p := range list(t, "./...") {
		own, _ := rank(p.name())
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			name, ours := strings.CutPrefix(imported, module+"/")
			if !ours || name == p.name() || strings.HasPrefix(name, "test/") {
				continue
			}
			if other, _ := rank(name); other >= own && other != internalRank {
				t.Errorf("the tests of %s (rank %d) import %s (rank %d)", p.name(), own, name, other)
			}
		}
	}
}

func TestForeignModulesHaveOwners(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, imported := range p.Imports {
			if foreign(imported) && !owns(p.name(), imported) {
				t.Errorf("%s imports %s, which it does not own", p.name(), imported)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if foreign(imported) && !owns(p.name(), imported) && !oracle(imported) {
				t.Errorf("the tests of %s import %s, which is neither theirs nor an oracle", p.name(), imported)
			}
		}
	}
}

// foreign says whether an import path is neither of this module nor of the
// standard library.
func foreign(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && path != module && !strings.HasPrefix(path, module+"/")
}

func owns(name, imported string) bool {
	best := ""
	for prefix := range owners {
		if within(imported, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return slices.Contains(owners[best], "any") || slices.Contains(owners[best], name)
}

func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func oracle(imported string) bool {
	return slices.ContainsFunc(oracles, func(prefix string) bool {
		if strings.HasSuffix(prefix, "/") {
			return strings.HasPrefix(imported, prefix)
		}
		return within(imported, prefix)
	})
}

func TestBinaryHasNothingForbidden(t *testing.T) {
	for _, p := range list(t, "./cmd/...") {
		for _, path := range forbidden {
			if slices.Contains(p.Deps, path) {
				t.Errorf("%s links %s", p.name(), path)
			}
		}
	}
}

// TestRulesBite makes sure that the rules above can fail.
func TestRulesBite(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"layout", "layer"}, {"layout", "mtree"}, {"mtree", "layer"}, {"bundle", "inspect"},
		{"mutate", "bundle"}, {"internal/quote", "layout"}, {"bundle", "test/ocitest"}, {"test/ocitest", "layer"},
	} {
		from, _ := rank(c.from)
		to, _ := rank(c.to)
		if allowed(c.from, from, c.to, to) {
			t.Errorf("%s may import %s", c.from, c.to)
		}
	}
	for _, c := range []struct{ from, to string }{
		{"layout", "github.com/apex/log"}, {"layer", "github.com/vbatts/go-mtree/pkg/govis"}, {"bundle", "github.com/opencontainers/umoci"},
		{"layout", "github.com/opencontainers/umoci/oci/config/convert"}, {"cmd/shale", "github.com/stretchr/testify/assert"},
	} {
		if owns(c.from, c.to) {
			t.Errorf("%s may import %s", c.from, c.to)
		}
	}
	if foreign("encoding/json") || !foreign("golang.org/x/sys/unix") || foreign(module+"/layout") {
		t.Error("foreign modules are not told from others")
	}
	if oracle("github.com/opencontainers/umoci") || !oracle("github.com/opencontainers/umoci/oci/layer") {
		t.Error("umoci's root package counts as an oracle")
	}
}
