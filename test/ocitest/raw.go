// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"bytes"
	"fmt"
)

// BlockSize is the unit that tar streams are made of, in bytes.
const BlockSize = 512

// RawHeader is a ustar header whose fields are written as they stand, with
// nothing checked, so that tests can write what no proper writer would. An
// empty numeric field becomes 0, an empty Magic that of POSIX, and the
// checksum is right unless Checksum says otherwise.
type RawHeader struct {
	Name, Linkname, Prefix   string
	Mode, UID, GID           string // octal digits or a binary number, verbatim
	Size, Mtime              string
	Devmajor, Devminor       string
	Typeflag                 byte
	Magic, Version, Checksum string
}

// RawMember is an entry with the header h and, after it, the body padded to
// whole blocks. The body may differ in length from what the header says.
func RawMember(h RawHeader, body []byte) Entry {
	b := append(h.block(), body...)
	if rest := len(body) % BlockSize; rest != 0 {
		b = append(b, make([]byte, BlockSize-rest)...)
	}
	return Raw(b)
}

// RawPAX is an extended header whose records are taken as they stand; it
// holds for the member after it.
func RawPAX(records string) Entry {
	return RawMember(RawHeader{
		Name:     "PaxHeaders.0/raw",
		Mode:     "0000644",
		Size:     fmt.Sprintf("%011o", len(records)),
		Typeflag: 'x',
	}, []byte(records))
}

// PAXRecord returns one well-formed PAX record, length included.
func PAXRecord(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for n != len(fmt.Sprint(n))+len(rest) {
		n = len(fmt.Sprint(n)) + len(rest)
	}
	return fmt.Sprint(n) + rest
}

func (h RawHeader) block() []byte {
	block := make([]byte, BlockSize)
	set := func(offset, size int, value, otherwise string) {
		if value == "" {
			value = otherwise
		}
		copy(block[offset:offset+size], value)
	}
	set(0, 100, h.Name, "")
	set(100, 8, h.Mode, "0000644")
	set(108, 8, h.UID, "0000000")
	set(116, 8, h.GID, "0000000")
	set(124, 12, h.Size, "00000000000")
	set(136, 12, h.Mtime, "13132027400") // Epoch
	block[156] = h.Typeflag
	set(157, 100, h.Linkname, "")
	set(257, 6, h.Magic, "ustar\x00")
	set(263, 2, h.Version, "00")
	set(329, 8, h.Devmajor, "0000000")
	set(337, 8, h.Devminor, "0000000")
	set(345, 155, h.Prefix, "")

	copy(block[148:156], bytes.Repeat([]byte{' '}, 8))
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	set(148, 8, h.Checksum, fmt.Sprintf("%06o\x00 ", sum))
	return block
}
