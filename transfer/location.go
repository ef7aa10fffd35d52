// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// Scheme is the kind of a place.
type Scheme string

// The kinds of places that there are.
const (
	SchemeLayout        Scheme = "oci"            // an OCI layout directory
	SchemeOCIArchive    Scheme = "oci-archive"    // an OCI layout in a tar
	SchemeDockerArchive Scheme = "docker-archive" // what "docker save" writes
	SchemeRegistry      Scheme = "docker"         // a repository of a registry
)

// Location names an image at a place, or the place as a whole.
type Location struct {
	Scheme Scheme
	// Path is the directory of a layout, or the file of an archive.
	Path string
	// Repo is the repository: HOST/PATH in a registry, and in a docker-archive the
	// name that goes before the tag, which may be empty.
	Repo string
	// Tag is the tag, and empty if none was given. [Location.Ref] has the default.
	Tag string
	// Digest is the digest that the image must have, and empty if any will do.
	Digest digest.Digest
}

// ParseLocation reads one of
//
//	oci:DIR[:TAG]   DIR[:TAG]   oci-archive:FILE[:TAG]   docker-archive:FILE[:NAME:TAG]
//	docker://HOST/REPO[:TAG][@DIGEST]
//
// A layout and an oci-archive may also have @DIGEST in place of a tag. The error is
// layout.ErrInvalid for anything else.
func ParseLocation(s string) (Location, error) {
	l, err := parseLocation(s)
	if err != nil {
		return Location{}, &Error{Op: "parse", Ref: s, Err: invalid(err)}
	}
	return l, nil
}

func parseLocation(s string) (Location, error) {
	if rest, ok := strings.CutPrefix(s, "docker://"); ok {
		return parseRepository(rest)
	}
	scheme, rest, found := strings.Cut(s, ":")
	switch Scheme(scheme) {
	case SchemeLayout, SchemeOCIArchive:
		if found {
			return parsePath(Scheme(scheme), rest)
		}
	case SchemeDockerArchive:
		if found {
			return parseDockerArchive(rest)
		}
	case SchemeRegistry:
		if found {
			return Location{}, errors.New("a registry is written docker://HOST/REPO[:TAG]")
		}
	}
	switch scheme {
	case "containers-storage", "docker-daemon", "ostree", "sif", "tarball":
		if found {
			return Location{}, fmt.Errorf("%s is not supported: there are oci, oci-archive, docker-archive and docker://", scheme)
		}
	case "http", "https":
		if strings.HasPrefix(rest, "//") {
			return Location{}, errors.New("a registry is written docker://HOST/REPO[:TAG]")
		}
	}
	return parsePath(SchemeLayout, s)
}

// parsePath reads PATH[:TAG] and PATH@DIGEST.
func parsePath(scheme Scheme, s string) (Location, error) {
	l := Location{Scheme: scheme}
	if path, d, ok := cutDigest(s); ok {
		l.Path, l.Digest = path, d
	} else {
		var tagged bool
		l.Path, l.Tag, tagged = strings.Cut(s, ":")
		switch {
		case tagged && l.Tag == "":
			return l, errors.New("tag is empty")
		case tagged && !layout.ValidRef(l.Tag):
			return l, fmt.Errorf("%s is not a valid tag", quote.Name(l.Tag))
		}
	}
	if l.Path == "" {
		return l, errors.New("path is empty")
	}
	return l, nil
}

// cutDigest takes a digest off the end.
func cutDigest(s string) (before string, d digest.Digest, ok bool) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return s, "", false
	}
	d = digest.Digest(s[i+1:])
	if d.Validate() != nil {
		return s, "", false
	}
	return s[:i], d, true
}

// parseDockerArchive reads FILE[:NAME[:TAG]].
func parseDockerArchive(s string) (Location, error) {
	l := Location{Scheme: SchemeDockerArchive}
	var named bool
	l.Path, l.Repo, named = strings.Cut(s, ":")
	if l.Path == "" {
		return l, errors.New("path is empty")
	}
	if !named {
		return l, nil
	}
	colon := strings.HasSuffix(l.Repo, ":")
	l.Repo, l.Tag = cutTag(l.Repo)
	switch {
	case colon:
		return l, errors.New("tag is empty")
	case l.Repo == "":
		return l, errors.New("name is empty")
	case !archiveName.MatchString(l.Repo):
		return l, fmt.Errorf("%s is not a valid name", quote.Name(l.Repo))
	case l.Tag != "" && !tagPattern.MatchString(l.Tag):
		return l, fmt.Errorf("%s is not a valid tag", quote.Name(l.Tag))
	}
	return l, nil
}

// cutTag takes a tag off the end. A colon before a slash belongs to a port.
func cutTag(s string) (name, tag string) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.Contains(s[i:], "/") {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// The grammars of the distribution-spec for the names of repositories and tags, and of
// URLs for hosts.
var (
	repoPattern = regexp.MustCompile(`^` + repoComponent + `(/` + repoComponent + `)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	hostPattern = regexp.MustCompile(`^(` + hostComponent + `(\.` + hostComponent + `)*|\[[0-9a-fA-F:.]+\])(:[0-9]+)?$`)
	archiveName = regexp.MustCompile(`^(` + hostComponent + `(\.` + hostComponent + `)*(:[0-9]+)?/)?` + repoComponent + `(/` + repoComponent + `)*$`)
)

const (
	repoComponent = `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
	hostComponent = `[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?`
)

// dockerHub is where names without a host are.
const dockerHub = "docker.io"

// parseRepository reads HOST/REPO[:TAG][@DIGEST].
func parseRepository(s string) (Location, error) {
	l := Location{Scheme: SchemeRegistry}
	if before, d, ok := cutDigest(s); ok {
		s, l.Digest = before, d
	} else if strings.Contains(s, "@") {
		return l, errors.New("what follows the @ is not a digest")
	}
	colon := strings.HasSuffix(s, ":")
	s, l.Tag = cutTag(s)
	host, repo, ok := strings.Cut(s, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" && !strings.HasPrefix(host, "[") {
		host, repo = dockerHub, s
	}
	if host == dockerHub && repo != "" && !strings.Contains(repo, "/") {
		repo = "library/" + repo
	}
	switch {
	case repo == "":
		return l, errors.New("repository is empty: a registry is written docker://HOST/REPO[:TAG]")
	case !hostPattern.MatchString(host):
		return l, fmt.Errorf("%s is not a valid host", quote.Name(host))
	case len(repo) > 255 || !repoPattern.MatchString(repo):
		return l, fmt.Errorf("%s is not a valid repository", quote.Name(repo))
	case colon:
		return l, errors.New("tag is empty")
	case l.Tag != "" && !tagPattern.MatchString(l.Tag):
		return l, fmt.Errorf("%s is not a valid tag", quote.Name(l.Tag))
	}
	l.Repo = host + "/" + repo
	return l, nil
}

// Host returns the host of a registry, with its port if it has one.
func (l Location) Host() string {
	host, _, _ := strings.Cut(l.Repo, "/")
	return host
}

// Repository returns the repository without the host.
func (l Location) Repository() string {
	_, repo, _ := strings.Cut(l.Repo, "/")
	return repo
}

// Ref returns the tag, layout.DefaultRef if neither a tag nor a digest was given.
func (l Location) Ref() string {
	if l.Tag == "" && l.Digest == "" {
		return layout.DefaultRef
	}
	return l.Tag
}

// String returns the location in the form that [ParseLocation] reads.
func (l Location) String() string {
	var s string
	switch l.Scheme {
	case SchemeRegistry:
		s = "docker://" + l.Repo
	case SchemeDockerArchive:
		s = string(l.Scheme) + ":" + l.Path
		if l.Repo != "" {
			s += ":" + l.Repo
		}
	default:
		s = string(l.Scheme) + ":" + l.Path
	}
	if l.Tag != "" {
		s += ":" + l.Tag
	}
	if l.Digest != "" {
		s += "@" + l.Digest.String()
	}
	return s
}
