// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
)

// DiffFields is a set of what can differ.
type DiffFields uint32

// What can differ of a path, and in the config and the manifest of an image.
const (
	DiffType DiffFields = 1 << iota
	DiffMode
	DiffUID
	DiffGID
	DiffSize
	DiffContent   // of a regular file; also if the size differs
	DiffTarget    // of a symbolic link
	DiffDevice    // the number of a device
	DiffXattrs    // names and values
	DiffMtime     // with fractions of a second
	DiffHardlinks // the other names of the file
	DiffPlatform
	DiffCreated
	DiffAuthor
	DiffUser
	DiffEnv
	DiffEntrypoint
	DiffCmd
	DiffWorkingDir
	DiffVolumes
	DiffExposedPorts
	DiffLabels
	DiffStopSignal
	DiffOther       // any further member of the config's "config", such as Healthcheck
	DiffHistory     // the number of entries
	DiffAnnotations // of the manifest

	diffEnd

	// DiffOwner is user and group.
	DiffOwner = DiffUID | DiffGID
	// DiffConfig is all that is not of a path.
	DiffConfig = (diffEnd - 1) &^ (DiffPlatform - 1)
)

// diffFieldNames are the names of the fields in the order of their bits.
var diffFieldNames = [...]string{
	"type", "mode", "uid", "gid", "size", "content", "target", "device", "xattrs", "mtime", "hardlinks",
	"platform", "created", "author", "user", "env", "entrypoint", "cmd", "workingDir", "volumes", "exposedPorts",
	"labels", "stopSignal", "other", "history", "annotations",
}

// diffFieldNamed returns the fields by the names that [ParseDiffFields] takes.
func diffFieldNamed(name string) DiffFields {
	switch name {
	case "owner":
		return DiffOwner
	case "config":
		return DiffConfig
	}
	ofConfig := strings.TrimPrefix(name, "config.")
	i := slices.Index(diffFieldNames[:], ofConfig)
	f := DiffFields(1) << max(i, 0)
	if i < 0 || (f&DiffConfig != 0) != (ofConfig != name) {
		return 0
	}
	return f
}

// ParseDiffFields reads lists of fields with commas between them. The names are those in
// [DiffEntry].Fields, with "owner" for uid and gid; those in [ConfigChange].Field with
// "config." before them; and "config" for all of these.
func ParseDiffFields(lists ...string) (DiffFields, error) {
	var fields DiffFields
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			f := diffFieldNamed(strings.TrimSpace(name))
			if f == 0 {
				return 0, fmt.Errorf("%s is none of %s", quote.Name(name), strings.Join(DiffFieldNames(), ", "))
			}
			fields |= f
		}
	}
	return fields, nil
}

// DiffFieldNames returns all names that [ParseDiffFields] takes.
func DiffFieldNames() []string {
	var list []string
	for i, name := range diffFieldNames {
		if DiffFields(1)<<i == DiffPlatform {
			list = append(list, "owner", "config")
		}
		if DiffFields(1)<<i&DiffConfig != 0 {
			name = "config." + name
		}
		list = append(list, name)
	}
	return list
}

// names returns the names of the fields, in the order in which they are declared.
func (f DiffFields) names() []string {
	var list []string
	for i, name := range diffFieldNames {
		if f&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

// DiffKind says what has become of a path.
type DiffKind string

// The kinds of change. A path that is of another type than before is changed.
const (
	DiffAdded   DiffKind = "added"
	DiffDeleted DiffKind = "deleted"
	DiffChanged DiffKind = "changed"
)

// DiffEntry is a path that differs.
type DiffEntry struct {
	Path      string   `json:"path"`               // with a leading slash
	PathBytes []byte   `json:"pathBytes,omitzero"` // the same, if it is not UTF-8
	Kind      DiffKind `json:"kind"`
	// Fields are what has changed, in the order of [DiffFields].
	Fields []string  `json:"fields,omitzero"`
	Old    *DiffFile `json:"old,omitzero"` // nil if it was added
	New    *DiffFile `json:"new,omitzero"` // nil if it was deleted

	// Text is a unified diff of the content, where that was asked for. NoText says why
	// there is none: "binary", "large", or "unreadable".
	Text   string `json:"text,omitzero"`
	NoText string `json:"noText,omitzero"`
}

// DiffFile is what a path stands for.
type DiffFile struct {
	// Type is one of "file", "directory", "symlink", "char", "block", "fifo" and
	// "socket".
	Type string `json:"type"`
	Mode string `json:"mode"` // permissions with setuid, setgid and sticky, four octal digits
	UID  uint32 `json:"uid"`  // inside the container
	GID  uint32 `json:"gid"`
	Size int64  `json:"size"` // of a regular file, in bytes
	// Digest is that of the content of a regular file, where both sides have one of the
	// same size and it was not clear that they are the same.
	Digest      digest.Digest     `json:"digest,omitzero"`
	Target      string            `json:"target,omitzero"`      // of a symbolic link
	TargetBytes []byte            `json:"targetBytes,omitzero"` // the same, if it is not UTF-8
	Device      string            `json:"device,omitzero"`      // major:minor
	Xattrs      map[string][]byte `json:"xattrs,omitzero"`
	Mtime       string            `json:"mtime"` // as in RFC 3339, in UTC
	// Links are all names, if there are several. Other entries have the same list.
	Links []string `json:"links,omitzero"`
}

// diffTypes are the types in JSON.
var diffTypes = map[layer.Type]string{
	0:                 "socket",
	layer.Regular:     "file",
	layer.Directory:   "directory",
	layer.Symlink:     "symlink",
	layer.CharDevice:  "char",
	layer.BlockDevice: "block",
	layer.Fifo:        "fifo",
}

func slashed(path string) string {
	if path == "." {
		return "/"
	}
	return "/" + path
}

// notUTF8 returns the bytes of s if JSON cannot hold them as a string.
func notUTF8(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// describeFile describes all of a file but its names, and nil for none.
func describeFile(ino *layer.Inode) *DiffFile {
	if ino == nil {
		return nil
	}
	f := &DiffFile{
		Type: diffTypes[ino.Type], Mode: fmt.Sprintf("%04o", ino.Mode), UID: ino.UID, GID: ino.GID, Size: ino.Size,
		Target: ino.Target, TargetBytes: notUTF8(ino.Target),
		Mtime: time.Unix(ino.Mtime.Sec, int64(ino.Mtime.Nsec)).UTC().Format(time.RFC3339Nano),
	}
	if ino.Type == layer.CharDevice || ino.Type == layer.BlockDevice {
		f.Device = fmt.Sprintf("%d:%d", ino.Major, ino.Minor)
	}
	if len(ino.Xattrs) > 0 {
		f.Xattrs = make(map[string][]byte, len(ino.Xattrs))
		for _, x := range ino.Xattrs {
			f.Xattrs[x.Name] = []byte(x.Value)
		}
	}
	return f
}

func toDigest(sum [sha256.Size]byte) digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum[:]))
}
