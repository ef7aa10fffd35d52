// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/shale-oci/shale/internal/quote"
)

// spool is a temporary file without a name, for contents that come before their turn.
// What is all zeros costs no room in it.
type spool struct {
	file *os.File
	size int64 // bytes written, holes at the end included
}

func newSpool(dir string) (*spool, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := os.CreateTemp(dir, ".shale-")
	if err == nil {
		err = os.Remove(f.Name())
	}
	if err != nil {
		return nil, fmt.Errorf("create temporary file in %s: %w", quote.Name(dir), err)
	}
	return &spool{file: f}, nil
}

var zeros [64 << 10]byte

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	if len(p) > len(zeros) || !bytes.Equal(p, zeros[:len(p)]) {
		if _, err := s.file.WriteAt(p, s.size); err != nil {
			return 0, fmt.Errorf("write temporary file: %w", err)
		}
	}
	s.size += int64(len(p))
	return len(p), nil
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, offset int64) (int, error) {
	want := min(int64(len(p)), max(0, s.size-offset))
	n, err := s.file.ReadAt(p[:want], offset)
	if err == io.EOF {
		clear(p[n:want]) // the hole at the end
		n, err = int(want), nil
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (s *spool) close() {
	if s != nil {
		s.file.Close() //nolint:errcheck // nobody needs it any more
	}
}
