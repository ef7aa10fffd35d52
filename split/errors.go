// SPDX-License-Identifier: Apache-2.0

package split

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/shale-oci/shale/internal/quote"
)

// What can be wrong, to be asked for with [errors.Is]. Errors about blobs and
// layouts are those of the layout package.
var (
	// ErrNotPrefix means that the layers of a tier are not the lowest layers of an
	// image, in their order. The error is a [NotPrefixError].
	ErrNotPrefix = errors.New("not a prefix")
	// ErrMissingTier means that there is nothing where a tier should be, or that it
	// lacks a blob.
	ErrMissingTier = errors.New("missing tier")
	// ErrWrongTier means that what is in the place of a tier is another one.
	ErrWrongTier = errors.New("wrong tier")
	// ErrMissingVolume means that a volume is not there.
	ErrMissingVolume = errors.New("missing volume")
	// ErrDamaged means that a file of OUT is not what Split has written.
	ErrDamaged = errors.New("damaged")
	// ErrExists means that the ref is there already and stands for something else.
	ErrExists = errors.New("the tag exists")
	// ErrInvalid means that a document or an archive breaks the rules that it must
	// follow, or that options contradict each other.
	ErrInvalid = errors.New("invalid")
)

// NotPrefixError says where an image and a tier part.
type NotPrefixError struct {
	Image    string // its ref
	Platform string // as in linux/amd64
	Tier     string // its name
	TierRef  string // the ref of the tier's image
	Layer    int    // counted from 0, the lowest

	// What is there in the tier and in the image: the diffID, and the created_by of
	// its history. The image's are empty if it has no such layer.
	TierDiffID, ImageDiffID       digest.Digest
	TierCreatedBy, ImageCreatedBy string
}

// Error implements error.
func (e *NotPrefixError) Error() string {
	in := "the image has no more layers"
	if e.ImageDiffID != "" {
		in = "the image has " + madeBy(e.ImageDiffID, e.ImageCreatedBy)
	}
	return fmt.Sprintf("tier %s (%s) is not what image %s (%s) begins with: at layer %d the tier has %s, and %s",
		quote.Name(e.Tier), quote.Name(e.TierRef), quote.Name(e.Image), quote.Name(e.Platform),
		e.Layer, madeBy(e.TierDiffID, e.TierCreatedBy), in)
}

// Is makes it an [ErrNotPrefix].
func (e *NotPrefixError) Is(target error) bool { return target == ErrNotPrefix }

func madeBy(d digest.Digest, by string) string {
	if by == "" {
		return fmt.Sprintf("diffID %s, of which the history says nothing", quote.Name(string(d)))
	}
	return fmt.Sprintf("diffID %s, made by %q", quote.Name(string(d)), by)
}

// class is an error that errors.Is also finds under a sentinel that its text need
// not repeat.
type class struct {
	sentinel error
	err      error
}

func (c *class) Error() string   { return c.err.Error() }
func (c *class) Unwrap() []error { return []error{c.sentinel, c.err} }

// errorf makes an error of the class of the sentinel.
func errorf(sentinel error, format string, args ...any) error {
	return &class{sentinel, fmt.Errorf(format, args...)}
}

// both joins an error and what went wrong in cleaning up after it, in one line.
func both(err, second error) error {
	switch {
	case err == nil:
		return second
	case second == nil:
		return err
	}
	return fmt.Errorf("%w; then %w", err, second)
}

// cause takes the file name out of err, for messages that name the file
// themselves.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
