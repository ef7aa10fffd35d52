// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"errors"
	"fmt"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/layout"
)

// What can be wrong, to be asked for with [errors.Is]. What is wrong with content is
// told by the errors of package layout: ErrNotFound, ErrDigest, ErrSize, ErrTooLarge,
// ErrInvalid.
var (
	// ErrUnauthorized means that the registry wants other credentials, or grants these
	// no access.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrInsecure means that a registry could only be spoken to without encryption,
	// or with a certificate that is not trusted.
	ErrInsecure = errors.New("insecure")
	// ErrUnavailable means that a registry did not answer, or not in a useful way,
	// however often it was asked.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnsupported means that a place cannot hold, or do, what was asked for.
	ErrUnsupported = errors.New("not supported")
)

// Error is an error of this package.
type Error struct {
	Op  string // what was tried, as a verb phrase: "copy", "resolve"
	Ref string // what it was tried on: a location, digest or host; may be empty
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

// class is an error that errors.Is also finds under a sentinel that its text need
// not repeat.
type class struct {
	sentinel error
	err      error
}

func (c *class) Error() string   { return c.err.Error() }
func (c *class) Unwrap() []error { return []error{c.sentinel, c.err} }

func as(sentinel, err error) error { return &class{sentinel, err} }

func invalid(err error) error { return as(layout.ErrInvalid, err) }

func errorf(sentinel error, format string, args ...any) error {
	return as(sentinel, fmt.Errorf(format, args...))
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
