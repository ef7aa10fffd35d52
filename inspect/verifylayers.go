// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/limit"
	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/layer"
)

// step is a layer on top of certain others. Images that begin with the same layers
// share the steps.
type step struct {
	stackLayer
	parent *step
	kids   []*step // after plan, the one with the most steps on top of it last
	byKey  map[stepKey]*step
	// said are the diffIDs that configs say the layer has.
	said []saidDiffID

	tree    *layer.Tree   // what the layers up to this one amount to; nil once all kids have it
	budget  *layer.Budget // what is left for the layers on top
	waiting int           // kids that need the tree
	broken  bool          // the tree is not all that it should be
}

type stepKey struct {
	digest      digest.Digest
	compression layer.Compression
	algorithm   digest.Algorithm // of the diffID
}

type saidDiffID struct {
	digest digest.Digest // empty if it is not known
	config digest.Digest
}

// maxSaid is how many configs that disagree about a diffID are heard.
const maxSaid = 100

// plan returns the steps that the images need, each after the one below it.
func (v *verifier) plan() []*step {
	root := &step{byKey: map[stepKey]*step{}}
	var order []*step
	for _, image := range v.images {
		at := root
		for _, l := range image.layers {
			at = at.next(l)
			at.say(saidDiffID{l.diffID, image.config})
		}
	}
	root.weigh()
	var add func(*step)
	add = func(s *step) {
		for _, kid := range s.kids {
			order = append(order, kid)
			add(kid)
		}
		s.waiting = len(s.kids)
	}
	add(root)
	root.tree, root.budget = layer.NewTree(), v.opt.Limits.Budget(0)
	return order
}

// weigh returns how many steps there are from s on, and puts the kids in the order in
// which they are visited, the one with the most steps last. That one takes over the tree
// of s, so the tree is only kept while the others are visited, each of which has less
// than half of the steps: no more than log2 of all steps have their trees kept at a time.
func (s *step) weigh() int {
	weights := make(map[*step]int, len(s.kids))
	sum := 1
	for _, kid := range s.kids {
		weights[kid] = kid.weigh()
		sum += weights[kid]
	}
	slices.SortStableFunc(s.kids, func(a, b *step) int { return cmp.Compare(weights[a], weights[b]) })
	return sum
}

// next returns the step of l on top of s.
func (s *step) next(l stackLayer) *step {
	alg := digest.SHA256
	if l.diffID != "" {
		alg = l.diffID.Algorithm()
	}
	key := stepKey{l.digest, l.compression, alg}
	kid := s.byKey[key]
	if kid == nil {
		kid = &step{stackLayer: l, parent: s, byKey: map[stepKey]*step{}}
		s.byKey[key] = kid
		s.kids = append(s.kids, kid)
	}
	kid.usable = kid.usable || l.usable // one of two descriptors may have the wrong size
	if kid.data == nil {
		kid.data = l.data
	}
	kid.diffID = cmp.Or(kid.diffID, l.diffID)
	return kid
}

func (s *step) say(id saidDiffID) {
	if id.digest == "" || len(s.said) == maxSaid {
		return
	}
	for _, other := range s.said {
		if other == id {
			return
		}
	}
	s.said = append(s.said, id)
}

// takeTree takes over the tree that the layer goes on top of, or makes a copy for
// itself if others need it too.
func (s *step) takeTree() {
	from := s.parent
	s.tree, s.budget, s.broken = from.tree, from.budget, from.broken
	if from.waiting--; from.waiting == 0 {
		from.tree = nil
	} else {
		s.tree, s.budget = s.tree.Clone(), s.budget.Clone()
	}
}

// readLayers reads the layers of all images and applies them to each other.
func (v *verifier) readLayers(ctx context.Context) error {
	steps := v.plan()
	v.meter = &meter{report: v.opt.Progress}
	for _, s := range steps {
		if v.readable(s) {
			v.meter.total += v.facts(s.digest).size
		}
	}
	for _, d := range v.order {
		v.meter.total += v.facts(d).size
	}
	var ahead *layerRun
	defer func() {
		if ahead != nil {
			ahead.close()
		}
	}()
	for i, s := range steps {
		run := ahead
		ahead = nil
		if run == nil {
			run = v.begin(ctx, s)
		}
		if i+1 < len(steps) {
			ahead = v.begin(ctx, steps[i+1])
		}
		if err := v.apply(ctx, s, run); err != nil {
			return err
		}
		if s.waiting == 0 {
			s.tree = nil
		}
	}
	return nil
}

// readable reports whether there is anything to be read for the step.
func (v *verifier) readable(s *step) bool {
	if !s.usable || !s.supported {
		return false
	}
	facts := v.facts(s.digest)
	return s.data != nil || facts.err == nil && !facts.bad
}

// layerRun is a layer that is being read.
type layerRun struct {
	blob   *blobReader
	stream *layer.Stream
	err    error // of opening it

	mu       sync.Mutex
	warnings []string // of the compression
}

// begin opens the layer of a step: from then on it is read ahead and uncompressed.
func (v *verifier) begin(ctx context.Context, s *step) *layerRun {
	run := &layerRun{}
	if !v.readable(s) {
		return run
	}
	facts := v.facts(s.digest)
	if facts.err != nil {
		run.blob = embedded(ctx, s.digest, s.data)
	} else if run.blob, run.err = v.store.open(ctx, s.digest, facts.size); run.err != nil {
		return run
	}
	diffID := s.diffID
	if diffID == "" {
		diffID = digest.FromString("") // only the algorithm counts
	}
	run.stream, run.err = layer.NewStream(ctx, run.blob, layer.StreamOptions{
		Compression: s.compression,
		DiffID:      diffID,
		Budget:      v.opt.Limits.Budget(run.blob.left),
		Warn: func(msg string) {
			run.mu.Lock()
			defer run.mu.Unlock()
			run.warnings = append(run.warnings, msg)
		},
	})
	return run
}

func (r *layerRun) close() {
	if r.stream != nil {
		r.stream.Close()
	}
	if r.blob != nil {
		r.blob.close()
	}
}

// apply applies the layer of a step, and reports what is wrong with it.
func (v *verifier) apply(ctx context.Context, s *step, run *layerRun) error {
	defer run.close()
	s.takeTree()
	if run.blob == nil {
		s.broken = true
		if run.err != nil {
			return v.spoiled(ctx, s.digest, run.err)
		}
		return nil
	}
	var found layerFindings
	if run.err != nil {
		found.unreadable(run.err)
	} else {
		found.apply(ctx, s, run, v.meter)
		// Reading ahead has to end before the rest is read here.
		run.stream.Close()
	}
	if err := run.blob.finish(); err != nil {
		// Whatever else was wrong, this is why.
		s.broken = true
		return v.spoiled(ctx, s.digest, err)
	}
	if facts := v.facts(s.digest); facts.err == nil {
		v.count(facts)
		v.meter.add(facts.size)
	}
	for _, msg := range run.warnings {
		found.add(PaddedLayer, "%s", msg)
	}
	for _, f := range found.list {
		v.found(f.code, blobObject(s.digest), "", "%s", f.message)
	}
	if found.over > 0 {
		v.found(InvalidEntry, blobObject(s.digest), "", "there are %d more such entries", found.over)
	}
	s.broken = s.broken || found.broken
	if found.sum != "" {
		for _, said := range s.said {
			if said.digest != found.sum {
				v.found(WrongDiffID, blobObject(s.digest), string(said.config), "the config says that the diffID is %s, and it is %s",
					said.digest, found.sum)
			}
		}
	}
	return ctx.Err()
}

// layerFindings are what is wrong with a layer, if its blob is what its digest says.
type layerFindings struct {
	list   []layerFinding
	over   int           // how many entries more than maxEntries are wrong
	broken bool          // not all of it was applied
	sum    digest.Digest // of the content, if all of it could be read
}

type layerFinding struct {
	code    Code
	message string
}

// maxEntries is how many entries of a layer are reported.
const maxEntries = 100

func (f *layerFindings) add(code Code, format string, args ...any) {
	f.list = append(f.list, layerFinding{code, fmt.Sprintf(format, args...)})
}

// apply applies the layer to the tree and reads it to its end.
func (f *layerFindings) apply(ctx context.Context, s *step, run *layerRun, m *meter) {
	err := s.tree.Apply(ctx, &meteredStream{run: run, m: m}, layer.Discard, layer.ApplyOptions{
		Budget: s.budget,
		Warn:   func(msg string) { f.add(IgnoredXattr, "%s", msg) },
		Skip:   func(e *layer.EntryError) error { return f.entry(e, s.broken) },
	})
	ended := run.stream.Finish()
	mismatch := errors.Is(ended, layer.ErrDiffID)
	if ended == nil || mismatch {
		f.sum = run.stream.Sum()
		if err != nil {
			f.tar(err)
		}
		return
	}
	f.unreadable(ended)
}

// entry reports an entry that cannot be applied. If the tree is broken, what a link
// leads to may have been lost with the rest.
func (f *layerFindings) entry(e *layer.EntryError, broken bool) error {
	if over := (*limit.Error)(nil); errors.As(e, &over) {
		return e
	}
	code := InvalidEntry
	switch {
	case errors.Is(e, layer.ErrWhiteoutName):
		code = InvalidWhiteout
	case errors.Is(e, layer.ErrNoTarget), errors.Is(e, layer.ErrLinkDir), errors.Is(e, layer.ErrSelfLink):
		if broken {
			return nil
		}
		code = MissingLinkTarget
	}
	if len(f.list) >= maxEntries {
		f.over++
		return nil
	}
	f.add(code, "%v", e)
	return nil
}

// tar reports what kept the archive from being read to its end.
func (f *layerFindings) tar(err error) {
	f.broken = true
	if over := (*limit.Error)(nil); errors.As(err, &over) {
		f.add(TooLarge, "%v", err)
		return
	}
	f.add(InvalidTar, "%v", err)
}

// unreadable reports what kept the content from being read to its end.
func (f *layerFindings) unreadable(err error) {
	f.broken = true
	over := (*limit.Error)(nil)
	switch {
	case errors.As(err, &over):
		f.add(TooLarge, "%v", err)
	case errors.Is(err, layer.ErrMagic):
		f.add(WrongCompression, "%v", err)
	case errors.Is(err, layer.ErrTrailingBytes):
		f.add(TrailingBytes, "%v", err)
	default:
		f.add(CorruptLayer, "the layer cannot be uncompressed: %v", err)
	}
}

// readLeaves reads the blobs of which nothing but the digest is checked.
func (v *verifier) readLeaves(ctx context.Context) error {
	for _, d := range v.order {
		facts := v.facts(d)
		if facts.err != nil || facts.bad || facts.read {
			continue
		}
		r, err := v.store.open(ctx, d, facts.size)
		if err == nil {
			err = r.finish()
			r.close()
		}
		if err != nil {
			if err := v.spoiled(ctx, d, err); err != nil {
				return err
			}
			continue
		}
		v.count(facts)
		v.meter.add(facts.size)
	}
	v.meter.at(0, true)
	return nil
}

// meter reports how far reading has come, in bytes of blobs.
type meter struct {
	report      progress.Func
	done, total int64
}

// add counts what was read to its end.
func (m *meter) add(n int64) {
	m.done += n
	m.at(0, false)
}

// at reports, with so many bytes of the blob that is being read.
func (m *meter) at(n int64, end bool) {
	m.report.Report(progress.Event{Stage: "verifying", Done: m.done + n, Total: m.total, Unit: progress.Bytes, End: end})
}

// meteredStream is a layer, which reports how much of its blob has been used.
type meteredStream struct {
	run  *layerRun
	m    *meter
	last int64
}

func (s *meteredStream) Read(p []byte) (int, error) {
	n, err := s.run.stream.Read(p)
	if at := s.run.blob.done.Load(); at-s.last >= 1<<20 {
		s.last = at
		s.m.at(at, false)
	}
	return n, err
}
