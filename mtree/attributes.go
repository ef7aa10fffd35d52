// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// fieldScanner cuts a line at white space.
type fieldScanner struct{ rest []byte }

// next returns the next field, which is empty at the end of the line.
func (s *fieldScanner) next() []byte {
	start := 0
	for start < len(s.rest) && isBlank(s.rest[start]) {
		start++
	}
	end := start
	for end < len(s.rest) && !isBlank(s.rest[end]) {
		end++
	}
	field := s.rest[start:end]
	s.rest = s.rest[end:]
	return field
}

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// attributes is what the keywords of a line, or of /set, say.
type attributes struct {
	node
	more    extra
	tarTime bool // the time is from tar_time, which wins over time
}

var (
	errNumber = errors.New("not a number")
	errDigest = errors.New("not a SHA-256 digest in hexadecimal")
)

// parse adds the keywords that are left in fields. Of a keyword that is there
// twice, the last one counts.
func (a *attributes) parse(fields *fieldScanner) error {
	for f := fields.next(); len(f) > 0; f = fields.next() {
		key, value, ok := bytes.Cut(f, []byte("="))
		if !ok {
			continue // such as "optional"
		}
		var err error
		if prefix, _, ok := bytes.Cut(key, []byte(".")); ok && isXattr(prefix) {
			err = a.addXattr(f[len(prefix)+1:])
		} else {
			err = a.add(key, value)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", f, err)
		}
	}
	return nil
}

// add takes over one keyword.
func (a *attributes) add(key, value []byte) (err error) {
	var known keywords
	switch string(key) {
	case "size":
		known = keySize
		a.size, err = parseInt(value, 10)
		if a.size < 0 {
			err = errNumber
		}
	case "type":
		known = keyType
		mode, ok := typeMode(string(value))
		if !ok {
			return errors.New("unknown type")
		}
		a.mode = a.mode&^unix.S_IFMT | mode
	case "uid":
		known = keyUID
		a.uid, err = parseUint32(value, 10)
	case "gid":
		known = keyGID
		a.gid, err = parseUint32(value, 10)
	case "mode":
		known = keyMode
		var perm uint32
		perm, err = parseUint32(value, 8)
		a.mode = a.mode&unix.S_IFMT | perm&0o7777
	case "link":
		known = keyLink
		a.more.link, err = unvis(value)
	case "nlink":
		known = keyNlink
		a.nlink, err = parseUint32(value, 10)
	case "time", "tar_time":
		tarTime := string(key) == "tar_time"
		if a.tarTime && !tarTime {
			return nil
		}
		known, a.tarTime = keyTime, tarTime
		seconds, _, _ := bytes.Cut(value, []byte("."))
		a.mtime, err = parseInt(seconds, 10)
	case "sha256", "sha256digest":
		known = keyDigest
		if len(value) != 2*sha256.Size {
			return errDigest
		}
		if _, err := hex.Decode(a.digest[:], value); err != nil {
			return errDigest
		}
	}
	a.known |= known
	return err
}

// forget undoes the given keywords.
func (a *attributes) forget(keys keywords) {
	keep := *a
	*a = attributes{}
	a.known = keep.known &^ keys
	if a.known&keySize != 0 {
		a.size = keep.size
	}
	if a.known&keyType != 0 {
		a.mode |= keep.mode & unix.S_IFMT
	}
	if a.known&keyUID != 0 {
		a.uid = keep.uid
	}
	if a.known&keyGID != 0 {
		a.gid = keep.gid
	}
	if a.known&keyMode != 0 {
		a.mode |= keep.mode & 0o7777
	}
	if a.known&keyLink != 0 {
		a.more.link = keep.more.link
	}
	if a.known&keyNlink != 0 {
		a.nlink = keep.nlink
	}
	if a.known&keyTime != 0 {
		a.mtime, a.tarTime = keep.mtime, keep.tarTime
	}
	if a.known&keyDigest != 0 {
		a.digest = keep.digest
	}
	if a.known&keyXattr != 0 {
		a.more.xattrs = keep.more.xattrs
	}
}

func isXattr(prefix []byte) bool { return string(prefix) == "xattr" || string(prefix) == "xattrs" }

// addXattr takes over an extended attribute: its name, "=", and its value in
// base64. As go-mtree writes a "=" in a name as it is, the right one is the
// first that base64 comes after.
func (a *attributes) addXattr(field []byte) error {
	for i, c := range field {
		if c != '=' {
			continue
		}
		value, err := base64.StdEncoding.AppendDecode([]byte{}, field[i+1:])
		if err != nil {
			continue
		}
		name, err := unvis(field[:i])
		if err != nil {
			return err
		}
		// Not in place: these may be shared with /set.
		a.more.xattrs = slices.DeleteFunc(slices.Clone(a.more.xattrs), func(x Xattr) bool { return x.Name == name })
		a.more.xattrs = append(a.more.xattrs, Xattr{Name: name, Value: value})
		a.known |= keyXattr
		return nil
	}
	return errors.New("not in base64")
}

func parseInt(b []byte, base int) (int64, error) {
	v, err := strconv.ParseInt(string(b), base, 64)
	if err != nil {
		return 0, errNumber
	}
	return v, nil
}

func parseUint32(b []byte, base int) (uint32, error) {
	v, err := strconv.ParseUint(string(b), base, 32)
	if err != nil {
		return 0, errNumber
	}
	return uint32(v), nil
}
