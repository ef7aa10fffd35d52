// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/shale-oci/shale/internal/quote"
)

// What can be wrong, to be asked for with [errors.Is].
var (
	// ErrNotFound means that there is no such ref, blob, or image for the platform.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous means that several entries of index.json carry the same ref.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrInvalid means that a layout, document, descriptor, digest or ref breaks
	// the rules that it must follow.
	ErrInvalid = errors.New("invalid")
	// ErrMediaType means that something is not of the type that was asked for.
	ErrMediaType = errors.New("unexpected media type")
	// ErrDigest means that content does not have the digest that it should have.
	ErrDigest = errors.New("wrong digest")
	// ErrSize means that content does not have the size that it should have.
	ErrSize = errors.New("wrong size")
	// ErrTooLarge means that a document is larger than [Options] allow.
	ErrTooLarge = errors.New("too large")
	// ErrTooDeep means that documents refer to each other beyond Options.MaxDepth.
	ErrTooDeep = errors.New("too deep")
	// ErrLock means that the file system cannot lock.
	ErrLock = errors.New("cannot lock")
)

// Error is the type of all errors of this package, except for those that a
// callback of the caller returned.
type Error struct {
	Op  string // what was tried, as a verb phrase: "open blob", "resolve"
	Ref string // what it was tried on: a digest, ref, file or path; may be empty
	Err error
}

// Error returns one line, in which bytes that a terminal could take for commands
// are escaped.
func (e *Error) Error() string {
	if e.Ref == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + quote.Name(e.Ref) + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// opError returns err as an [Error], and nil for nil.
func opError(op, ref string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Ref: ref, Err: err}
}

// class is an error that errors.Is also finds under a sentinel that its text
// need not repeat.
type class struct {
	sentinel error
	err      error
}

func (c *class) Error() string   { return c.err.Error() }
func (c *class) Unwrap() []error { return []error{c.sentinel, c.err} }

// as puts err under the sentinel.
func as(sentinel, err error) error { return &class{sentinel, err} }

// cause takes the file name out of err, for messages that have named the file in
// a way that tells more.
func cause(err error) error {
	if pe, ok := err.(*fs.PathError); ok { //nolint:errorlint // what wraps it tells more
		return pe.Err
	}
	return err
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

// missing returns cause(err), and puts it under ErrNotFound if it says that
// there is no such file.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return as(ErrNotFound, cause(err))
	}
	return cause(err)
}
