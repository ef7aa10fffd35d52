// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/test/ocitest"
)

// child starts this program to copy.
func child(t *testing.T, src, dst string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SHALE_TEST_COPY="+src+" "+dst)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestKilledPullGoesOn kills a pull after 3 MiB of a blob have been sent. The next one asks
// for the rest only.
func TestKilledPullGoesOn(t *testing.T) {
	src := filepath.Join(t.TempDir(), "source")
	ocitest.Image{Layers: [][]byte{ocitest.Layer(ocitest.File("big", string(random(9, 6<<20)), 0o644))}}.Write(t, src, "v1")
	f, host := faultyServer(t)
	there := "docker://" + host + "/app:v1"
	mustCopy(t, src+":v1", there, quick())
	stalled := make(chan struct{}, 10)
	f.commit(func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		next.ServeHTTP(&stallWriter{w, 3 << 20, req.Context()}, req)
		stalled <- struct{}{}
		return true
	}, always(blobGet))
	dst := filepath.Join(t.TempDir(), "new")
	cmd := child(t, there, dst+":v1")
	deadline := time.Now().Add(20 * time.Second)
	for received(dst) < 2<<20 {
		if time.Now().After(deadline) {
			t.Fatal("nothing comes")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	ocitest.AssertWhole(t, dst)
	if _, err := Resolve(t.Context(), location(t, dst+":v1"), quick()); err == nil {
		t.Error("there is a tag already")
	}
	var asked atomic.Value
	f.commit(func(_ http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if r := req.Header.Get("Range"); r != "" {
			asked.Store(r)
		}
		return false
	}, always(blobGet))
	mustCopy(t, there, dst+":v1", quick())
	wantSame(t, src, dst, "v1")
	if got, _ := asked.Load().(string); !strings.HasPrefix(got, "bytes=2") && !strings.HasPrefix(got, "bytes=3") {
		t.Errorf("the second pull asked for %q", got)
	}
}

// received returns how many bytes the temporary files in a layout have.
func received(dir string) (size int64) {
	files, _ := filepath.Glob(filepath.Join(dir, ".shale-*", "*"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			size += info.Size()
		}
	}
	return size
}

// TestKilledAtAnyTime kills copies at random moments: the destination stays whole, tags
// lead to the old or the new, and the next copy and gc leave nothing behind.
func TestKilledAtAnyTime(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	src := newSource(t)
	host := server(t, nil)
	there := "docker://" + host + "/app:multi"
	mustCopy(t, src+":multi", there, quick())
	took := time.Now()
	cmd := child(t, there, filepath.Join(t.TempDir(), "first")+":multi")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	all := time.Since(took)
	for round := range rounds {
		dst := filepath.Join(t.TempDir(), "new")
		old := stack("linux/riscv64").Write(t, dst, "multi").Digest
		cmd := child(t, there, dst+":multi")
		time.Sleep(all * time.Duration(round+1) / time.Duration(rounds+1))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		ocitest.AssertWhole(t, dst)
		if got := digestOf(t, dst, "multi"); got != old && got != digestOf(t, src, "multi") {
			t.Errorf("the tag leads to %s", got)
		}
		mustCopy(t, there, dst+":multi", quick())
		l := openAt(t, dst)
		if _, err := l.GC(t.Context(), &layout.GCOptions{}); err != nil {
			t.Error(err)
		}
		wantSame(t, src, dst, "multi")
	}
}

// TestKilledPush kills pushes at random moments: no tag appears before its image, and the
// next push completes it.
func TestKilledPush(t *testing.T) {
	src := newSource(t)
	var early atomic.Bool
	f, host := faultyServer(t)
	there := "docker://" + host + "/app"
	for round := range 5 {
		ref := "t" + string(rune('a'+round))
		f.commit(func(_ http.ResponseWriter, req *http.Request, _ http.Handler) bool {
			if strings.HasSuffix(req.URL.Path, "/manifests/"+ref) && req.Method == http.MethodPut {
				early.Store(true)
			}
			time.Sleep(10 * time.Millisecond)
			return false
		}, always(func(*http.Request) bool { return true }))
		cmd := child(t, src+":multi", there+":"+ref)
		time.Sleep(time.Duration(20+40*round) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		f.none()
		if ok, err := Exists(t.Context(), location(t, there+":"+ref), quick()); err != nil || ok && !early.Load() {
			t.Errorf("%s: %v %v", ref, ok, err)
		} else if ok {
			whole := filepath.Join(t.TempDir(), "whole")
			mustCopy(t, there+":"+ref, whole+":multi", quick())
			wantSame(t, src, whole, "multi")
		}
		mustCopy(t, src+":multi", there+":"+ref, quick())
	}
	dst := filepath.Join(t.TempDir(), "new")
	mustCopy(t, there+":ta", dst+":multi", quick())
	wantSame(t, src, dst, "multi")
}
