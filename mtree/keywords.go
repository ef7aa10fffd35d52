// SPDX-License-Identifier: Apache-2.0

package mtree

import "golang.org/x/sys/unix"

// keywords is a set of mtree keywords: those that an entry of a manifest has,
// or those in which two entries differ.
type keywords uint16

const (
	keySize keywords = 1 << iota
	keyType
	keyUID
	keyGID
	keyMode
	keyLink
	keyNlink
	keyTime
	keyDigest
	keyXattr
	keyDevice    // known to walks and caches only: umoci's manifests lack it
	keyHardlinks // no keyword: which other names the inode has
	keyListed    // no keyword: the manifest has the entry, even if nothing else
)

// allKeywords is what a walk finds out about every entry. Links and digests are
// added where there are any.
const allKeywords = keySize | keyType | keyUID | keyGID | keyMode | keyNlink | keyTime | keyXattr | keyDevice

// keywordNames are the names of the keywords in the order of their bits, which
// is the order that umoci's manifests have them in.
var keywordNames = [...]string{
	"size", "type", "uid", "gid", "mode", "link", "nlink", "tar_time", "sha256digest", "xattr",
	"device", "hardlinks",
}

// manifestKeywords is how many of keywordNames a manifest has.
const manifestKeywords = 10

// typeNames are the values of the keyword type.
var typeNames = [...]struct {
	mode uint32
	name string
}{
	{unix.S_IFREG, "file"},
	{unix.S_IFDIR, "dir"},
	{unix.S_IFLNK, "link"},
	{unix.S_IFIFO, "fifo"},
	{unix.S_IFSOCK, "socket"},
	{unix.S_IFCHR, "char"},
	{unix.S_IFBLK, "block"},
}

// typeName returns the value of the keyword type for an st_mode, "" if there is
// none.
func typeName(mode uint32) string {
	for _, t := range typeNames {
		if t.mode == mode&unix.S_IFMT {
			return t.name
		}
	}
	return ""
}

// typeMode is the reverse of typeName.
func typeMode(name string) (mode uint32, ok bool) {
	for _, t := range typeNames {
		if t.name == name {
			return t.mode, true
		}
	}
	return 0, false
}

// keywordNamed returns the keyword called name in /unset, 0 if it is none of
// ours.
func keywordNamed(name []byte) keywords {
	switch string(name) {
	case "time":
		return keyTime
	case "sha256":
		return keyDigest
	case "xattrs":
		return keyXattr
	}
	for i, known := range keywordNames[:manifestKeywords] {
		if string(name) == known {
			return 1 << i
		}
	}
	return 0
}
