// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
	"github.com/shale-oci/shale/pack"
	"github.com/shale-oci/shale/test/ocitest"
)

// overlayKind is a way in which uppers are made.
type overlayKind struct {
	name   string
	userns bool // in a user namespace with one ID
	fuse   bool // by fuse-overlayfs
	root   bool // only root can
}

var overlayKinds = []overlayKind{
	{name: "kernel with trusted xattrs", root: true},
	{name: "kernel with userxattr in a user namespace", userns: true},
	{name: "fuse-overlayfs in a user namespace", userns: true, fuse: true},
}

// overlayEnv tells the process that TestUppers starts what to do: the kind, the directory
// and the seed.
const overlayEnv = "SHALE_PACK_TEST_OVERLAY"

// overlays is how many random uppers of each kind are packed.
const overlays = 12

// TestUppers has an overlay mounted and edited at random, packs the upper directory on top of
// an image of the lower one, and unpacks that with umoci's library.
func TestUppers(t *testing.T) {
	for _, kind := range overlayKinds {
		t.Run(kind.name, func(t *testing.T) {
			if kind.root && os.Geteuid() != 0 {
				t.Skip("only root may mount an overlay with trusted xattrs")
			}
			for seed := range uint64(overlays) {
				packUpper(t, kind, seed)
				if kind.fuse {
					break // it is always the same
				}
			}
		})
	}
}

func packUpper(t *testing.T, kind overlayKind, seed uint64) {
	t.Helper()
	root := tempRoot(t)
	lower, upper := filepath.Join(root, "lower"), filepath.Join(root, "upper")
	for _, dir := range []string{lower, upper, filepath.Join(root, "work"), filepath.Join(root, "merged")} {
		must(t, os.Mkdir(dir, 0o755))
	}
	if kind.fuse {
		shell(t, lower, fuseLower)
	} else {
		ocitest.RandomEdits(t, rand.New(rand.NewPCG(seed, 3)), lower, 40)
	}
	if kind.userns && os.Geteuid() == 0 {
		// What belongs to others could not be copied up.
		shell(t, lower, `find . \( -type c -o -type b \) -delete; chown -hR 0:0 .; chmod -R u+rwX .`)
	}
	want := regrouped(t, runOverlay(t, kind, root, seed), lower, upper)

	l := newLayout(t)
	opt := pack.Options{Map: mapping()}
	base := image(t, l, []pack.Snapshot{{Dir: lower}}, opt)
	opt.Base = layout.Path{base.Descriptor}
	res := image(t, l, []pack.Snapshot{{Upper: upper}}, opt)
	layers := plainLayers(t, l, res.Descriptor)
	if strings.Contains(string(layers[len(layers)-1]), "overlay") {
		t.Errorf("seed %d: attributes of overlayfs are in the layer", seed)
	}
	ignore := []string{"nlink"}
	if kind.userns {
		ignore = append(ignore, "owner")
	}
	got := unpacked(t, layers)
	for name, f := range got {
		if f.SHA256 == "unreadable" { // for this user, not for root in the namespace
			shown := want[name]
			shown.SHA256 = f.SHA256
			want[name] = shown
		}
	}
	assertSame(t, fmt.Sprintf("seed %d", seed), want, got, ignore...)
	shell(t, root, "chmod -R u+rwX . && rm -r ./*") // the kernel closes its work directory
}

// fuseLower and fuseEdits are what fuse-overlayfs is tried with, which does not survive all
// that RandomEdits does.
const (
	fuseLower = `mkdir -p a b/c d/e f; for n in a/1 a/2 a/3 b/c/1 d/e/1 d/2 f/1 t1 t2; do echo $n >$n; done
		ln a/1 f/linked; ln -s a link; chmod 2750 d`
	fuseEdits = `rm a/1; rm -r b; mkdir b; echo new >b/new; mv a/2 a/4; echo more >>d/e/1; chmod 700 d; rm t1; mkdir t1
		echo x >t1/x; rm -r f; echo file >f; ln d/2 d/3; rm link; ln -s d link; mkfifo fifo; rm t2; echo again >t2`
)

func shell(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// regrouped says which names of a merged tree have the same file, by the files in the two
// directories: overlayfs shows the inode number of a lower file also for its copy, and counts
// names that are hidden.
func regrouped(t *testing.T, merged ocitest.Tree, lower, upper string) ocitest.Tree {
	t.Helper()
	files := map[[2]uint64][]string{}
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		var st unix.Stat_t
		layer := uint64(1)
		if unix.Lstat(filepath.Join(upper, name), &st) != nil {
			layer = 0
			must(t, unix.Lstat(filepath.Join(lower, name), &st))
		}
		f := merged[name]
		f.Group = ""
		merged[name] = f
		if f.Type != "dir" {
			files[[2]uint64{layer, st.Ino}] = append(files[[2]uint64{layer, st.Ino}], name)
		}
	}
	for _, names := range files {
		for _, name := range names {
			if len(names) > 1 {
				f := merged[name]
				f.Group = names[0]
				merged[name] = f
			}
		}
	}
	return merged
}

// runOverlay edits an overlay in a process with namespaces of its own, and returns what it
// showed at last.
func runOverlay(t *testing.T, kind overlayKind, root string, seed uint64) ocitest.Tree {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOverlayChild$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%t %t %d %s", overlayEnv, kind.userns, kind.fuse, seed, root))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if kind.userns {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("no namespaces here: %v", err)
	case err != nil:
		t.Fatalf("seed %d: %v\n%s", seed, err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("no overlay here: %s", out)
	}
	data, err := os.ReadFile(filepath.Join(root, "merged.json"))
	must(t, err)
	var tree ocitest.Tree
	must(t, json.Unmarshal(data, &tree))
	return decoded(tree)
}

// TestOverlayChild is what runOverlay starts.
func TestOverlayChild(t *testing.T) {
	f := strings.SplitN(os.Getenv(overlayEnv), " ", 4)
	if len(f) < 4 {
		t.Skip("this is for the process that TestUppers starts")
	}
	seed, err := strconv.ParseUint(f[2], 10, 64)
	must(t, err)
	root := f[3]
	must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	merged := filepath.Join(root, "merged")
	mountOverlay(t, f[0] == "true", f[1] == "true", root, merged)
	if f[1] == "true" {
		shell(t, merged, fuseEdits)
	} else {
		t.Log(ocitest.RandomEdits(t, rand.New(rand.NewPCG(seed, 4)), merged, 25))
	}
	tree, err := json.Marshal(encoded(ocitest.Snapshot(t, merged)))
	must(t, err)
	must(t, unix.Unmount(merged, 0))
	must(t, os.WriteFile(filepath.Join(root, "merged.json"), tree, 0o644))
}

func mountOverlay(t *testing.T, userns, fuse bool, root, merged string) {
	t.Helper()
	dirs := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", root)
	if fuse {
		path, err := exec.LookPath("fuse-overlayfs")
		if err != nil {
			t.Skip(err)
		}
		if out, err := exec.Command(path, "-o", dirs, merged).CombinedOutput(); err != nil {
			t.Skipf("fuse-overlayfs: %v: %s", err, out)
		}
		return
	}
	options := dirs + ",index=off,redirect_dir=off,metacopy=off"
	if userns {
		options = dirs + ",userxattr"
	}
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skipf("mount: %v", err)
	}
}

// encoded and decoded keep names and values that are no UTF-8 whole in JSON.
func encoded(tree ocitest.Tree) ocitest.Tree { return recode(tree, strconv.QuoteToASCII) }

func decoded(tree ocitest.Tree) ocitest.Tree {
	return recode(tree, func(s string) string {
		plain, err := strconv.Unquote(s)
		if err != nil {
			return s
		}
		return plain
	})
}

func recode(tree ocitest.Tree, by func(string) string) ocitest.Tree {
	out := ocitest.Tree{}
	for name, f := range tree {
		xattrs := f.Xattrs
		if f.Xattrs != nil {
			f.Xattrs = map[string]string{}
		}
		for k, v := range xattrs {
			f.Xattrs[by(k)] = by(v)
		}
		f.Link = by(f.Link)
		if f.Group != "" {
			f.Group = by(f.Group)
		}
		out[by(name)] = f
	}
	return out
}

// entriesOf lists the names in the only layer of an image, in their order.
func entriesOf(t *testing.T, l *layout.Layout, res pack.Result) []string {
	t.Helper()
	layers := plainLayers(t, l, res.Descriptor)
	var names []string
	for _, hdr := range headers(t, layers[len(layers)-1]) {
		names = append(names, hdr.Name)
	}
	return names
}

// TestUpperForms packs an upper directory in which everything is that overlayfs and
// fuse-overlayfs write, made by hand.
func TestUpperForms(t *testing.T) {
	dir := tempRoot(t)
	for _, d := range []string{"kernel", "file", "new/below", "fuse", "x", ".wh..wh.plnk/1"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	touch := func(name string) { must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644)) }
	for _, name := range []string{
		".wh.gone", "fuse/.wh.gone", "file/.wh..wh..opq", "file/kept", "file/.wh.hidden", "x/marked", "x/plain",
		".wh..wh.aufs", ".wh..wh.plnk/1/inside", "new/below/kept", "twice", ".wh.twice",
	} {
		touch(name)
	}
	want := []string{"./", ".wh.gone", "file/", "file/.wh..wh..opq", "file/kept", "fuse/", "fuse/.wh.gone"}
	set := func(name, attr, value string) bool {
		err := unix.Setxattr(filepath.Join(dir, name), attr, []byte(value), 0)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			t.Logf("without %s: %v", attr, err)
			return false
		}
		must(t, err)
		return true
	}
	want = append(want, "kernel/")
	if set("kernel", "user.overlay.opaque", "y") {
		want = append(want, "kernel/.wh..wh..opq")
	}
	want = append(want, "new/")
	if set("new", "user.fuseoverlayfs.opaque", "y") {
		want = append(want, "new/.wh..wh..opq")
	}
	want = append(want, "new/below/", "new/below/kept")
	if unix.Mknod(filepath.Join(dir, "new/below/gone"), unix.S_IFCHR, 0) == nil && unix.Mknod(filepath.Join(dir, "whiteout"), unix.S_IFCHR, 0) == nil {
		want = append(want, ".wh.whiteout")
	} else {
		t.Log("without devices")
	}
	want = append(want, "twice", ".wh.twice", "x/", "x/plain")
	if set("x", "user.overlay.opaque", "x") && set("x/marked", "user.overlay.whiteout", "") {
		want = append(want, "x/.wh.marked")
	} else {
		want = append(want, "x/marked")
	}
	set("file", "user.overlay.origin", "1")
	set("file", "user.overlay.impure", "y")
	set("file", "trusted.overlay.uuid", "1")

	l := newLayout(t)
	res := image(t, l, []pack.Snapshot{{Upper: dir}}, pack.Options{Map: mapping()})
	got := entriesOf(t, l, res)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if layers := plainLayers(t, l, res.Descriptor); strings.Contains(string(layers[0]), "overlay") {
		t.Error("attributes of overlayfs are in the layer")
	}
	res = image(t, l, []pack.Snapshot{{Upper: dir}}, pack.Options{Map: mapping(), Masks: []string{"/file", "gone", "/fuse/gone/"}})
	for _, name := range entriesOf(t, l, res) {
		if strings.HasPrefix(name, "file") || strings.HasSuffix(name, ".wh.gone") {
			t.Errorf("%s is not masked", name)
		}
	}
}

// TestUpperRefuses packs uppers that cannot be understood without more.
func TestUpperRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(dir string) error
		want error
	}{
		"redirect": {func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/renamed", 0o755), unix.Setxattr(dir+"/renamed", "user.overlay.redirect", []byte("/old"), 0))
		}, pack.ErrOverlay},
		"metacopy": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/renamed", nil, 0o644), unix.Setxattr(dir+"/renamed", "user.overlay.metacopy", nil, 0))
		}, pack.ErrOverlay},
		"owner and mode in fuse-overlayfs": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/renamed", nil, 0o644), unix.Setxattr(dir+"/renamed", "user.fuseoverlayfs.override_stat", []byte("0:0:0755"), 0))
		}, pack.ErrOverlay},
		"owner and mode in containers": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/renamed", nil, 0o644), unix.Setxattr(dir+"/renamed", "user.containers.override_stat", []byte("0:0:0755"), 0))
		}, pack.ErrOverlay},
		"whiteout with content": {func(dir string) error {
			return os.WriteFile(dir+"/.wh.renamed", []byte("x"), 0o644)
		}, pack.ErrWhiteout},
		"whiteout that is a directory": {func(dir string) error { return os.Mkdir(dir+"/.wh.renamed", 0o755) }, pack.ErrWhiteout},
		"whiteout of nothing":          {func(dir string) error { return os.WriteFile(dir+"/.wh.", nil, 0o644) }, layer.ErrWhiteoutName},
		"whiteout of the parent":       {func(dir string) error { return os.WriteFile(dir+"/.wh...", nil, 0o644) }, layer.ErrWhiteoutName},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempRoot(t)
			if err := tt.make(dir); errors.Is(err, unix.ENOTSUP) {
				t.Skipf("no xattrs here: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			l := newLayout(t)
			for _, s := range []pack.Snapshot{{Name: "mine", Upper: dir}, {Name: "mine", Dir: dir}} {
				if s.Dir != "" && !errors.Is(tt.want, pack.ErrOverlay) {
					continue // a whole tree has no whiteouts: see TestRefuses
				}
				_, err := pack.Image(t.Context(), l, []pack.Snapshot{s}, pack.Options{Map: mapping(), Refs: []string{"v1"}})
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "snapshot mine") || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				assertUntouched(t, l)
			}
		})
	}
}
