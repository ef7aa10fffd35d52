// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
)

// TestWaitingForAnArchiveEnds: a signal ends the reading of an archive that does not come.
func TestWaitingForAnArchiveEnds(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	silent, err := os.OpenFile(fifo, os.O_RDWR, 0)
	must(t, err)
	defer silent.Close()
	r, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	stdin := os.Stdin
	os.Stdin = r
	defer func() {
		os.Stdin = stdin
		r.Close()
	}()
	for _, path := range []string{fifo, standardStream} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := openArchiveFile(ctx, path, layer.Limits{})
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the wait does not end", path)
		}
	}
}
