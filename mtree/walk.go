// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
)

// WalkOptions are the options of [Walk]. The zero value reads every regular
// file.
type WalkOptions struct {
	// Cache, if any, vouches for files that have not changed since: they are
	// neither opened nor asked for their extended attributes.
	Cache *Cache

	// Digest, if any, is asked first for the digest of the regular file at path,
	// by callers that have written the file themselves. It is called from
	// several goroutines at once. If ok is false, the cache is asked, and then
	// the file is read.
	Digest func(path string, st rooted.Stat) (digest [sha256.Size]byte, ok bool)

	// Read, if not nil, says whether a regular file whose digest is not known
	// otherwise is read for it. What it says no to has no digest in the tree. It is
	// called from several goroutines at once.
	Read func(path string, st rooted.Stat) bool

	// Entries is about how many entries there are, if that is known: knowing saves
	// time and memory.
	Entries int

	// Rootless makes directories and files that their owner may not read
	// readable for the moment in which they are read. It takes the owner to do
	// that. The tree has their true modes.
	Rootless bool

	// Progress is told how many entries have been checked.
	Progress progress.Func
}

// Walk makes the tree of the directory root and all below it. It follows no
// symbolic link, opens nothing but directories and regular files, and goes from
// directory to directory by descriptor. The work is spread over all processors.
//
// What cannot be read is an error, as is a file that changes while it is read;
// extended attributes that cannot be read count as none, as in go-mtree. Walk
// must not be run twice at once on directories that share the descriptor root.
func Walk(ctx context.Context, root *rooted.Dir, opt WalkOptions) (*Tree, error) {
	w := &walker{ctx: ctx, opt: opt, tree: newTree()}
	w.tree.inodes, w.tree.xattrs = true, true
	w.cond.L = &w.mu
	w.dirs.max = maxOpenDirs
	if opt.Entries > 0 {
		w.tree.nodes = make([]node, 0, opt.Entries+64)
	}
	if c := opt.Cache; c != nil {
		w.tree.nodes = make([]node, 0, max(opt.Entries, c.tree.Len()+c.tree.Len()/16)+64)
		w.tree.names = make([]byte, 0, len(c.tree.names)+len(c.tree.names)/16+1024)
		// What the cache vouches for keeps its number in extras.
		w.tree.extras = slices.Clip(c.tree.extras)
		w.total = int64(c.tree.Len())
	}
	if err := w.start(root); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { w.fail(ctx.Err()) })
	defer stop()
	var wg sync.WaitGroup
	for range max(runtime.GOMAXPROCS(0), 2) {
		wg.Go(func() { w.work() })
	}
	wg.Wait()
	w.fail(w.dirs.relockAll())
	w.fail(ctx.Err())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	w.report(0, true)
	return w.tree, nil
}

// statBatch is how many entries of one directory are one piece of work.
const statBatch = 1024

// walker is the state of one Walk. Work is a stack, so that the tree is walked
// depth first and few directories are open at a time.
type walker struct {
	ctx  context.Context
	opt  WalkOptions
	tree *Tree    // guarded by mu
	dirs dirTable // has its own lock

	mu     sync.Mutex
	cond   sync.Cond // jobs, active or err have changed
	jobs   []job
	active int   // workers that have a job, which may yield more
	late   []job // jobs to be done alone, after all others
	err    error

	interned map[string]int32 // extended attributes -> tree.extras; guarded by mu

	progressMu sync.Mutex
	done       int64
	reported   int64
	total      int64
}

// job is one piece of work of one of three kinds: list, look or hash.
type job struct {
	dir    *dirRef
	list   bool            // list dir, which has not been opened yet
	ents   []rooted.Dirent // look at these entries of dir, sorted by name
	base   int32           // number of the node of ents[0]
	hash   []pending       // hash these files in dir
	unlock bool            // make them readable first
}

// start looks at the root and makes the job to list it.
func (w *walker) start(root *rooted.Dir) error {
	st, err := root.Lstat(".")
	if err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	f := found{node: node{known: allKeywords}}
	f.setStat(&st)
	cached := int32(-1)
	if w.opt.Cache != nil {
		cached = 0
	}
	w.complete(&f, root, ".", &st, cached)
	if err := w.add(&f, &st); err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	w.tree.nodes = append(w.tree.nodes, f.node)
	ref := rootRef(root, &st)
	ref.cached = cached
	w.jobs = append(w.jobs, job{dir: ref, list: true})
	return nil
}

// work does jobs until there are none and nobody can make more.
func (w *walker) work() {
	var s scratch
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.jobs) == 0 && w.active > 0 && w.err == nil {
			w.cond.Wait()
		}
		if len(w.jobs) == 0 && len(w.late) > 0 {
			w.jobs = append(w.jobs, w.late[len(w.late)-1])
			w.late = w.late[:len(w.late)-1]
		}
		if len(w.jobs) == 0 || w.err != nil {
			return
		}
		j := w.jobs[len(w.jobs)-1]
		w.jobs[len(w.jobs)-1] = job{}
		w.jobs = w.jobs[:len(w.jobs)-1]
		w.active++
		w.mu.Unlock()
		err := w.do(&j, &s)
		w.mu.Lock()
		w.active--
		if err != nil && w.err == nil {
			w.err = err
		}
		if w.err != nil || w.active == 0 {
			w.cond.Broadcast()
		}
	}
}

// fail ends the walk with err, unless it is nil or there is an error already.
func (w *walker) fail(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.cond.Broadcast()
}

// push adds jobs, the last of which is the first to be done.
func (w *walker) push(jobs ...job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs = append(w.jobs, jobs...)
	for range jobs {
		w.cond.Signal()
	}
}

func (w *walker) do(j *job, s *scratch) error {
	var err error
	switch {
	case j.list:
		err = w.list(j, s)
	case j.ents != nil:
		err = w.look(j, s)
	default:
		err = w.hash(j, s)
	}
	if err != nil {
		return err
	}
	return w.dirs.release(j.dir)
}

// list opens a directory, makes the nodes of its entries, and looks at them,
// unless there are so many that several workers should.
func (w *walker) list(j *job, s *scratch) error {
	ref := j.dir
	dir, err := w.dirs.open(ref, w.opt.Rootless)
	if err != nil {
		return walkError(ref.path(), err)
	}
	ents, err := dir.Names()
	w.dirs.unpin(ref)
	if err != nil {
		return walkError(ref.path(), err)
	}
	slices.SortFunc(ents, func(a, b rooted.Dirent) int { return strings.Compare(a.Name, b.Name) })
	base, err := w.reserve(ref, ents)
	if err != nil {
		return walkError(ref.path(), err)
	}
	w.report(1, false)
	if len(ents) <= statBatch {
		return w.look(&job{dir: ref, ents: ents, base: base}, s)
	}
	var jobs []job
	for batch := range slices.Chunk(ents, statBatch) {
		jobs = append(jobs, job{dir: ref, ents: batch, base: base})
		base += int32(len(batch))
	}
	w.dirs.retain(ref, len(jobs))
	w.push(jobs...)
	return nil
}

// reserve makes room for the children of a directory.
func (w *walker) reserve(ref *dirRef, ents []rooted.Dirent) (base int32, err error) {
	if ref.depth > MaxDepth {
		return 0, errTooDeep
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tree
	if len(t.nodes)+len(ents) > 1<<31-1 {
		return 0, errTooMany
	}
	base = int32(len(t.nodes))
	t.nodes[ref.node].first, t.nodes[ref.node].count = base, int32(len(ents))
	for _, ent := range ents {
		n := node{parent: ref.node}
		if err := t.addName(&n, ent.Name); err != nil {
			return 0, err
		}
		t.nodes = append(t.nodes, n)
	}
	return base, nil
}

// report counts n more entries.
func (w *walker) report(n int64, end bool) {
	if w.opt.Progress == nil {
		return
	}
	w.progressMu.Lock()
	defer w.progressMu.Unlock()
	w.done += n
	if !end && w.done-w.reported < 256 {
		return
	}
	w.reported = w.done
	total := w.total
	if end || total < w.done {
		total = w.done
	}
	if w.total == 0 && !end {
		total = 0
	}
	w.opt.Progress(progress.Event{Stage: "checking", Done: w.done, Total: total, Unit: progress.Files, End: end})
}

// walkError says in which directory err came up.
func walkError(dir string, err error) error {
	return fmt.Errorf("walk %s: %w", quote.Name(dir), err)
}
