// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/inspect"
	"github.com/shale-oci/shale/layout"
)

// filesFlags are --files and what goes with it.
type filesFlags struct {
	on    bool
	layer string
}

func (f *filesFlags) flags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{
			Name: "files", Destination: &f.on,
			Usage: "list the files in the image, the layer that each comes from, and what they waste",
		},
		&cli.StringFlag{
			Name: "layer", Destination: &f.layer,
			Usage: "with --files, list one `layer` alone: its number, 1 being the lowest, or its digest or diffID",
		},
	}
}

func (f *filesFlags) check(given func(string) bool) error {
	switch {
	case !given("layer"):
		return nil
	case !f.on:
		return errors.New("--layer is for --files")
	case f.layer == "":
		return errors.New("invalid --layer: it is empty")
	}
	return nil
}

// statFiles lists the files of an image. They are written as they come: an image may
// have millions.
func (a *app) statFiles(ctx context.Context, image imageFlag, f filesFlags, limits limitFlags, asJSON bool) error {
	return a.withImage(ctx, image, func(l *layout.Layout, path layout.Path) error {
		printer := filesPrinter(&filesTable{w: a.stdout})
		if asJSON {
			printer = &filesJSON{w: a.stdout}
		}
		sum, err := inspect.Files(ctx, l, path, inspect.FilesOptions{
			Layer:    f.layer,
			Limits:   limits.limits,
			Warn:     a.warn,
			Progress: a.report(),
		}, printer.file)
		if err != nil {
			return err
		}
		return printer.summary(sum)
	})
}

type filesPrinter interface {
	file(inspect.File) error
	summary(*inspect.FilesSummary) error
}

// filesJSON prints one object in one line: the version, the files, and then the
// members of the summary.
type filesJSON struct {
	w     *output
	files int
}

func (j *filesJSON) begin() {
	if j.files == 0 {
		j.w.printf(`{"version":%d,"files":[`, inspect.FilesVersion)
	}
}

func (j *filesJSON) file(f inspect.File) error {
	j.begin()
	if j.files > 0 {
		j.w.printf(",")
	}
	j.files++
	return j.write(f)
}

// write prints v without the newline that an encoder adds.
func (j *filesJSON) write(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode as JSON: %w", err)
	}
	_, err = j.w.Write(escapeControls(data))
	return err
}

func (j *filesJSON) summary(s *inspect.FilesSummary) error {
	j.begin()
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode as JSON: %w", err)
	}
	j.w.printf("],%s\n", bytes.TrimPrefix(escapeControls(data), []byte("{")))
	return j.w.err
}

// filesTable prints a line for each file, in the manner of ls, and then one for each
// layer.
type filesTable struct {
	w     *output
	begun bool
}

func (t *filesTable) begin() {
	if !t.begun {
		t.begun = true
		t.w.printf("%-10s %11s %12s %-20s %5s %12s %s\n", "MODE", "OWNER", "SIZE", "MODIFIED", "LAYER", "HIDES", "PATH")
	}
}

func (t *filesTable) file(f inspect.File) error {
	t.begin()
	mode, owner, size, mtime := "deleted", "", "", ""
	if f.Type != "whiteout" {
		mode, owner, size = lsMode(f.Type, f.Mode), fmt.Sprintf("%d:%d", f.UID, f.GID), fmt.Sprint(f.Size)
		mtime = f.Mtime[:min(len(f.Mtime), len("2006-01-02T15:04:05"))]
	}
	if f.Device != "" {
		size = f.Device
	}
	hides := "-"
	if f.Shadows > 0 {
		hides = fmt.Sprint(f.Shadows)
	}
	name := quoteText(f.Path)
	switch {
	case f.Type == "symlink":
		name += " -> " + quoteText(f.Target)
	case f.Hardlink != "":
		name += " = " + quoteText(f.Hardlink)
	}
	t.w.printf("%-10s %11s %12s %-20s %5d %12s %s\n", mode, owner, size, mtime, f.Layer, hides, name)
	return t.w.err
}

// lsMode writes type and mode as ls does.
func lsMode(kind, octal string) string {
	letters := map[string]byte{"directory": 'd', "symlink": 'l', "char": 'c', "block": 'b', "fifo": 'p'}
	first, ok := letters[kind]
	if !ok {
		first = '-'
	}
	var mode uint32
	fmt.Sscanf(octal, "%o", &mode) //nolint:errcheck // it was printed as such
	text := []byte(string(first) + "rwxrwxrwx")
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			text[i+1] = '-'
		}
	}
	for i, special := range []byte("sst") {
		if mode&(1<<(11-i)) == 0 {
			continue
		}
		at := &text[3*(i+1)]
		if *at == '-' {
			special -= 'a' - 'A' // it cannot be executed
		}
		*at = special
	}
	return string(text)
}

func (t *filesTable) summary(s *inspect.FilesSummary) error {
	t.begin()
	t.w.printf("\n%5s %9s %12s %12s %12s %s\n", "LAYER", "FILES", "BYTES", "WASTED", "HIDES", "DIGEST")
	for i, l := range s.Layers {
		t.w.printf("%5d %9d %12d %12d %12d %s\n", i+1, l.Files, l.Bytes, l.Wasted, l.Shadows, l.Digest)
	}
	t.w.printf("\n%s in files, %s of it wasted: efficiency %s%%\n", humanSize(s.Bytes), humanSize(s.Wasted), partOf(s.Efficiency))
	return t.w.err
}

// partOf returns a part in percent, and never rounds what is not all up to all.
func partOf(part float64) string {
	text := fmt.Sprintf("%.1f", 100*part)
	if text == "100.0" && part < 1 {
		text = "99.9"
	}
	return strings.TrimSuffix(text, ".0")
}
