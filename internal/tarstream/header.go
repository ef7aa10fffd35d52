// SPDX-License-Identifier: Apache-2.0

package tarstream

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"strings"
	"time"
)

// parse reads a header that is of the frequent kind, and otherwise returns false, with
// hdr in the middle.
func parse(b *[blockSize]byte, hdr *tar.Header) bool {
	switch b[156] {
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeDir:
	default:
		return false
	}
	prefix, ok := form(b)
	if !ok || !fields(b, hdr) {
		return false
	}
	hdr.Name, hdr.Linkname = text(b[:100]), text(b[157:257])
	if len(prefix) > 0 && prefix[0] != 0 {
		hdr.Name = text(prefix) + "/" + hdr.Name
	}
	return true
}

// form reports whether a header is in the form of POSIX.1-1988 (ustar), or in GNU's
// older one, which has times where ustar has the beginning of a long name.
func form(b *[blockSize]byte) (prefix []byte, ok bool) {
	switch string(b[257:265]) {
	case "ustar\x0000":
		return b[345:500], string(b[508:]) != "tar\x00" // which is another form again
	case "ustar  \x00":
		return nil, b[345] == 0 && b[357] == 0
	}
	return nil, false
}

// fields reads all of a header but the names. It returns false if the sum is wrong, or a
// number is not a plain octal one.
func fields(b *[blockSize]byte, hdr *tar.Header) bool {
	n := numbers{ok: true}
	if sum := n.octal(b[148:156]); !n.ok || sum != checksum(b) {
		return false
	}
	*hdr = tar.Header{
		Typeflag: b[156],
		Mode:     n.octal(b[100:108]),
		Uid:      int(n.octal(b[108:116])),
		Gid:      int(n.octal(b[116:124])),
		Size:     n.octal(b[124:136]),
		ModTime:  time.Unix(n.octal(b[136:148]), 0),
		Devmajor: n.octal(b[329:337]),
		Devminor: n.octal(b[337:345]),
	}
	return n.ok
}

// text returns what is before the first NUL.
func text(b []byte) string {
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

// numbers reads fields until one is not a plain octal number.
type numbers struct{ ok bool }

// octal reads octal digits behind spaces and before spaces and NULs; none are zero.
func (n *numbers) octal(b []byte) (v int64) {
	i := 0
	for i < len(b) && b[i] == ' ' {
		i++
	}
	for ; i < len(b) && b[i]-'0' < 8; i++ {
		v = v<<3 | int64(b[i]-'0')
	}
	for ; i < len(b); i++ {
		if b[i] != ' ' && b[i] != 0 {
			n.ok = false
		}
	}
	return v
}

// checksum adds up the bytes of a header, of which those of the sum itself count as
// spaces.
func checksum(b *[blockSize]byte) int64 {
	const lanes = 0x00ff00ff00ff00ff
	var four uint64 // sums of 16 bits, each of 128 bytes at the most
	for i := 0; i < blockSize; i += 8 {
		word := binary.LittleEndian.Uint64(b[i:])
		four += word&lanes + word>>8&lanes
	}
	sum := int64(four&0xffff + four>>16&0xffff + four>>32&0xffff + four>>48)
	for _, c := range b[148:156] {
		sum += ' ' - int64(c)
	}
	return sum
}

// extension returns how many bytes of records follow an extended header for the next
// entry (pax, POSIX.1-2001), or 0 if it is none, or they are not in one block.
func extension(b *[blockSize]byte) int {
	var hdr tar.Header
	if b[156] != tar.TypeXHeader {
		return 0
	}
	if _, ok := form(b); !ok || !fields(b, &hdr) || hdr.Size > blockSize {
		return 0
	}
	return int(hdr.Size)
}

// records adds to hdr what an extended header says, and returns false if that is more
// than names and times, or not in its plainest form.
func records(data []byte, hdr *tar.Header) bool {
	hdr.PAXRecords = make(map[string]string, 1)
	for len(data) > 0 {
		n, digits := 0, 0
		for ; digits < min(3, len(data)) && data[digits]-'0' < 10; digits++ {
			n = n*10 + int(data[digits]-'0')
		}
		if n < digits+len(" k=v\n") || n > len(data) || data[digits] != ' ' || data[n-1] != '\n' {
			return false
		}
		key, value, _ := strings.Cut(string(data[digits+1:n-1]), "=")
		if _, twice := hdr.PAXRecords[key]; twice || !record(key, value, hdr) {
			return false
		}
		hdr.PAXRecords[key] = value
		data = data[n:]
	}
	return true
}

func record(key, value string, hdr *tar.Header) (ok bool) {
	switch key {
	case "path":
		hdr.Name = value
		return value != "" && strings.IndexByte(value, 0) < 0
	case "linkpath":
		hdr.Linkname = value
		return value != "" && strings.IndexByte(value, 0) < 0
	case "mtime":
		hdr.ModTime, ok = seconds(value)
	case "atime":
		hdr.AccessTime, ok = seconds(value)
	case "ctime":
		hdr.ChangeTime, ok = seconds(value)
	}
	return ok
}

// seconds reads decimal seconds since 1970, with up to nine decimals.
func seconds(s string) (time.Time, bool) {
	whole, part, _ := strings.Cut(s, ".")
	if whole == "" || len(whole) > 12 || len(part) > 9 {
		return time.Time{}, false
	}
	sec, ok1 := decimal(whole)
	nsec, ok2 := decimal(part)
	for range 9 - len(part) {
		nsec *= 10
	}
	return time.Unix(sec, nsec), ok1 && ok2
}

func decimal(s string) (n int64, ok bool) {
	for i := range len(s) {
		if s[i]-'0' >= 10 {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}
