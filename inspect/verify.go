// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shale-oci/shale/internal/progress"
	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/layout"
)

// VerifyVersion is the version of the form of [VerifyReport]. Members may be added
// without a new version.
const VerifyVersion = 1

// DefaultMaxFindings is how many findings a report lists, if nothing else is said.
const DefaultMaxFindings = 10_000

// VerifyOptions say what [Verify] looks at. The zero value means the whole layout.
type VerifyOptions struct {
	// Ref, if not empty, is the ref whose entry of index.json is verified, with all
	// that it leads to.
	Ref string
	// Platform, if not nil, restricts Verify to the images for this platform, or for
	// an older variant of it.
	Platform *ispec.Platform
	// MaxFindings is how many findings the report lists; all are counted. 0 means
	// DefaultMaxFindings.
	MaxFindings int
	// Limits are what the layers of an image may cost. Those of a stream hold for each
	// layer by itself, all others for the layers of an image together. Beyond a limit
	// there is a finding.
	Limits layer.Limits
	// Layout has the limits of index.json and of other documents. Nil stands for the
	// zero value.
	Layout *layout.Options
	// Progress receives the stage "verifying", in bytes of layers and other blobs
	// that are no documents. May be nil.
	Progress progress.Func
}

// VerifyReport is what [Verify] reports.
type VerifyReport struct {
	Version int `json:"version"` // VerifyVersion

	// Findings are in the order in which they were made: the files of the layout,
	// the documents that index.json leads to, layers and other blobs, what nothing
	// leads to. The same layout gives the same findings.
	Findings []Finding `json:"findings"`
	// Omitted is how many more there are than VerifyOptions.MaxFindings.
	Omitted int `json:"omitted"`

	// How many findings there are of each severity, listed or not.
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Infos    int `json:"infos"`

	// What was looked at: the images, and the blobs with their bytes as they are in
	// the layout, each counted once.
	Images int   `json:"images"`
	Blobs  int   `json:"blobs"`
	Bytes  int64 `json:"bytes"`
}

// Finding is one thing that is to be said about a layout.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Object   Object   `json:"object"` // what it is about
	// In is the digest of the document that the finding is found in, or
	// "index.json", if that is not the object.
	In string `json:"in,omitempty"`
	// Message is a sentence for people, without a final stop. Foreign names in it
	// are escaped.
	Message string `json:"message"`
}

// Object is what a [Finding] is about.
type Object struct {
	Kind ObjectKind `json:"kind"`
	// Name is a digest, a ref, or a path in the layout, as it stands there: nothing
	// is escaped.
	Name string `json:"name"`
}

// ObjectKind says what the name of an [Object] is.
type ObjectKind string

// The kinds of objects.
const (
	BlobObject ObjectKind = "blob"
	RefObject  ObjectKind = "ref"
	FileObject ObjectKind = "file"
)

// Verify looks for everything that can be wrong with the layout at path, or with one
// ref in it, and goes on after each finding. It also takes layouts that [layout.Open]
// refuses: what is wrong with them is a finding. The error is for what keeps Verify
// from looking: there is no directory, or no such ref or image for the platform
// ([layout.ErrNotFound]), or ctx is done.
//
// All documents are read by the rules of the image-spec. Layers are applied to each
// other by the merge engine, in memory. Every blob is read once, except for a layer that
// lies on different layers in different images, which is read once for each.
//
// Verify never writes and never locks. Nothing that another program does in the layout
// meanwhile is an excuse: it may be reported.
func Verify(ctx context.Context, path string, opt VerifyOptions) (*VerifyReport, error) {
	if opt.Ref != "" && !layout.ValidRef(opt.Ref) {
		return nil, fmt.Errorf("verify ref %s: %w: not a valid ref", quote.Name(opt.Ref), layout.ErrInvalid)
	}
	opt.MaxFindings = cmp.Or(opt.MaxFindings, DefaultMaxFindings)
	v := &verifier{
		opt:       opt,
		limits:    documentLimits(opt.Layout),
		report:    &VerifyReport{Version: VerifyVersion, Findings: []Finding{}},
		told:      map[Finding]bool{},
		blobs:     map[digest.Digest]*blobFacts{},
		walked:    map[string]bool{},
		manifests: map[digest.Digest]*manifestFacts{},
		configs:   map[digest.Digest]*configFacts{},
		leaves:    map[digest.Digest]bool{},
	}
	var err error
	if v.store, err = openStore(path); err != nil {
		return nil, fmt.Errorf("verify layout %s: %w", quote.Name(path), err)
	}
	defer v.store.close()
	if err := v.verify(ctx); err != nil {
		return nil, err
	}
	return v.report, nil
}

// verifier is one run of [Verify].
type verifier struct {
	opt    VerifyOptions
	limits layout.Options // none of which is 0
	store  *store
	report *VerifyReport
	told   map[Finding]bool // what is in the report

	blobs     map[digest.Digest]*blobFacts // all that anything leads to
	walked    map[string]bool              // indexes that have been read
	manifests map[digest.Digest]*manifestFacts
	configs   map[digest.Digest]*configFacts
	images    []*imageStack          // in the order in which they were found
	leaves    map[digest.Digest]bool // blobs that are neither documents nor layers of images
	order     []digest.Digest        // of leaves
	meter     *meter
	fits      bool // an image for the platform was found
	// partial means that it is not known all that index.json leads to.
	partial bool
}

func documentLimits(given *layout.Options) layout.Options {
	var opt layout.Options
	if given != nil {
		opt = *given
	}
	opt.MaxIndex = cmp.Or(opt.MaxIndex, layout.DefaultMaxIndex)
	opt.MaxDocument = cmp.Or(opt.MaxDocument, layout.DefaultMaxDocument)
	opt.MaxDepth = cmp.Or(opt.MaxDepth, layout.DefaultMaxDepth)
	return opt
}

func (v *verifier) verify(ctx context.Context) error {
	v.checkFiles()
	if err := v.walkIndexFile(ctx); err != nil {
		return err
	}
	if v.opt.Platform != nil && !v.fits && v.report.Errors == 0 {
		return fmt.Errorf("verify: %w: there is no image for %s", layout.ErrNotFound,
			quote.Name(layout.PlatformString(*v.opt.Platform)))
	}
	if err := v.readLayers(ctx); err != nil {
		return err
	}
	if err := v.readLeaves(ctx); err != nil {
		return err
	}
	if v.opt.Ref == "" && v.opt.Platform == nil {
		return v.listRest(ctx)
	}
	return nil
}

// found adds a finding, unless it was there before.
func (v *verifier) found(code Code, about Object, in, format string, args ...any) {
	f := Finding{Code: code, Severity: severities[code], Object: about, In: in, Message: fmt.Sprintf(format, args...)}
	if f.In == about.Name {
		f.In = ""
	}
	if v.told[f] {
		return
	}
	r := v.report
	switch f.Severity {
	case SeverityError:
		r.Errors++
	case SeverityWarning:
		r.Warnings++
	default:
		r.Infos++
	}
	if len(r.Findings) == v.opt.MaxFindings {
		r.Omitted++
		return
	}
	v.told[f] = true
	r.Findings = append(r.Findings, f)
}

func blobObject(d digest.Digest) Object { return Object{BlobObject, string(d)} }
func fileObject(name string) Object     { return Object{FileObject, name} }
func refObject(ref string) Object       { return Object{RefObject, ref} }

// cannotGoOn returns the error of ctx if err is, and nil if err is a fact about the
// layout.
func cannotGoOn(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return cmp.Or(ctx.Err(), err)
	}
	return nil
}
