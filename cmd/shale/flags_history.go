// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/quote"
)

// historyFlags say what the history of an image tells of the change.
type historyFlags struct {
	none      bool
	author    string
	comment   string
	created   string
	createdBy string

	given func(name string) bool // to tell an empty value from none
	time  time.Time              // of created
}

func (f *historyFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{
			Name: "no-history", Destination: &f.none,
			Usage: "add no entry to the history of the image",
		},
		&cli.StringFlag{
			Name: "history.author", Destination: &f.author,
			Usage: "the `author` in the history entry; by default the image's, or with insert nobody",
		},
		&cli.StringFlag{
			Name: "history.comment", Destination: &f.comment,
			Usage: "the `comment` in the history entry",
		},
		&cli.StringFlag{
			Name: "history.created", Destination: &f.created,
			Usage: "the `time` in the history entry, as in 2006-01-02T15:04:05Z; by default now, or SOURCE_DATE_EPOCH",
		},
		&cli.StringFlag{
			Name: "history.created_by", Destination: &f.createdBy,
			Usage: "the `command` in the history entry",
		},
	}
}

func (f *historyFlags) check(given func(string) bool) error {
	f.given = given
	if name := f.details(); f.none && name != "" {
		return fmt.Errorf("--no-history and --%s may not be given together", name)
	}
	if !given("history.created") {
		return nil
	}
	var err error
	if f.time, err = parseTime(f.created); err != nil {
		return fmt.Errorf("invalid --history.created: %w", err)
	}
	return nil
}

// details returns the name of a flag that was given to say what the entry is to
// tell, or nothing.
func (f *historyFlags) details() string {
	for _, name := range []string{"history.author", "history.comment", "history.created", "history.created_by"} {
		if f.given(name) {
			return name
		}
	}
	return ""
}

// entry returns the history entry, or nil if none is wanted. What the flags leave
// open is said by the arguments, and by the clock or SOURCE_DATE_EPOCH.
func (f *historyFlags) entry(by, author string) (*ispec.History, error) {
	created, err := creationTime()
	if err != nil || f.none {
		return nil, err
	}
	h := ispec.History{Created: &created, CreatedBy: by, Author: author, Comment: f.comment}
	if f.given("history.created") {
		h.Created = &f.time
	}
	if f.given("history.created_by") {
		h.CreatedBy = f.createdBy
	}
	if f.given("history.author") {
		h.Author = f.author
	}
	return &h, nil
}

// warnOfMissing warns of a layer without an entry in the history.
func (a *app) warnOfMissing(h *ispec.History) {
	if h == nil {
		a.warn("the new layer has no history entry, which confuses many tools")
	}
}

// parseTime parses a time of RFC 3339.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("%s is not a time as in 2006-01-02T15:04:05Z", quote.Name(s))
	}
	return t, nil
}
