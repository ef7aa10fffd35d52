// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/mutate"
)

// commit puts the layers on the image, and writes its config and its manifest.
func (e *exporter) commit(ctx context.Context) (Result, error) {
	var (
		res     Result
		created *time.Time
	)
	for _, n := range e.nodes {
		m := n.made
		if m.created != nil && (created == nil || m.created.After(*created)) {
			created = m.created
		}
		l := Layer{Snapshot: n.name(), Reused: m.reused}
		history := e.history(n)
		if m.empty {
			if history != nil {
				e.image.AddHistory(*history)
			}
		} else {
			d, err := e.image.AppendLayer(ctx, m.layer, history)
			if err != nil {
				return res, &SnapshotError{n.name(), err}
			}
			l.Descriptor, l.DiffID = &d, m.layer.DiffID
		}
		res.Layers = append(res.Layers, l)
	}
	if created != nil {
		s := e.image.Settings()
		s.Created = created
		e.image.Set(s)
	}
	if e.opt.Edit != nil {
		if err := e.opt.Edit(e.image); err != nil {
			return res, err
		}
	}
	started := time.Now()
	path, err := e.image.Commit(ctx)
	if err != nil {
		return res, err
	}
	res.Descriptor = path.Target()
	res.Root = res.Descriptor
	for _, doc := range []struct {
		stage string
		d     ispec.Descriptor
	}{{"exporting config", e.image.Manifest().Config}, {"exporting manifest", res.Descriptor}} {
		e.steps.send(progress.Event{
			Stage: doc.stage, Name: doc.d.Digest.String(), Done: doc.d.Size, Total: doc.d.Size, Unit: progress.Bytes,
			End: true, Started: started, Ended: time.Now(),
		})
	}
	return res, nil
}

// history returns the entry for the layer of a snapshot; nil for none.
func (e *exporter) history(n *node) *ispec.History {
	if e.opt.NoHistory {
		return nil
	}
	h := ispec.History{CreatedBy: "shale pack"}
	if n.History != nil {
		h = *n.History
	}
	if h.Created == nil {
		h.Created = n.made.created
	}
	return &h
}

// name makes the refs lead to the image: all of them in one step, or none. Those that are to
// lead to an index come one after the other.
func (e *exporter) name(ctx context.Context, res *Result) error {
	if len(e.opt.Refs) == 0 {
		return nil
	}
	if e.opt.Index {
		return e.include(ctx, res)
	}
	steps := e.naming()
	if len(e.opt.IndexAnnotations) > 0 {
		all := map[string]string{}
		maps.Copy(all, res.Root.Annotations)
		maps.Copy(all, e.opt.IndexAnnotations)
		res.Root.Annotations = all
	}
	err := e.layout.Update(ctx, func(index *ispec.Index) error {
		for _, ref := range e.opt.Refs {
			setRef(index, ref, res.Root)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("name image: %w", err)
	}
	for _, s := range steps {
		s.end()
	}
	res.Refs = slices.Clone(e.opt.Refs)
	return nil
}

func (e *exporter) naming() []*step {
	var all []*step
	for _, ref := range e.opt.Refs {
		all = append(all, e.steps.start("naming to", ref, 1, progress.Refs))
	}
	return all
}

// setRef makes the ref point to root. If it does already, nothing changes, not even the
// order of the entries.
func setRef(index *ispec.Index, ref string, root ispec.Descriptor) {
	root.Annotations = maps.Clone(root.Annotations)
	if root.Annotations == nil {
		root.Annotations = map[string]string{}
	}
	root.Annotations[ispec.AnnotationRefName] = ref
	carries := func(d ispec.Descriptor) bool {
		name, ok := d.Annotations[ispec.AnnotationRefName]
		return ok && name == ref
	}
	n := slices.IndexFunc(index.Manifests, carries)
	if n >= 0 && reflect.DeepEqual(index.Manifests[n], root) && !slices.ContainsFunc(index.Manifests[n+1:], carries) {
		return
	}
	index.Manifests = append(slices.DeleteFunc(slices.Clone(index.Manifests), carries), root)
}

// include puts the image into the indexes that the refs lead to.
func (e *exporter) include(ctx context.Context, res *Result) error {
	for i, s := range e.naming() {
		ref := e.opt.Refs[i]
		err := e.layout.MoveRef(ctx, ref, func(now *ispec.Descriptor) (*ispec.Descriptor, error) {
			root, err := mutate.Include(ctx, e.layout, now, res.Descriptor, e.opt.IndexAnnotations)
			res.Root = root
			return &root, err
		})
		if err != nil {
			return fmt.Errorf("name image: %w", err)
		}
		s.end()
		res.Refs = append(res.Refs, ref)
	}
	return nil
}
