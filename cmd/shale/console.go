// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// output is standard output. It remembers the first error, so that a command
// may print without looking and the full disk is noticed all the same.
type output struct {
	w   *bufio.Writer
	err error
}

func newOutput(w io.Writer) *output { return &output{w: bufio.NewWriter(w)} }

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	o.fail(err)
	return n, o.err
}

func (o *output) printf(format string, args ...any) {
	fmt.Fprintf(o, format, args...) //nolint:errcheck // remembered in o.err
}

func (o *output) flush() error {
	if o.err == nil {
		o.fail(o.w.Flush())
	}
	return o.err
}

func (o *output) fail(err error) {
	if err != nil {
		o.err = &outputError{cause(err)}
	}
}

// outputError is a write to standard output that failed.
type outputError struct{ err error }

func (e *outputError) Error() string { return "write to standard output: " + e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

// cause takes the name of a file out of err.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// console is standard error. Lines are written above the progress bar, if there
// is one: the bar is the last line, and never an obstacle. Errors are dropped,
// for there is nobody left to tell.
type console struct {
	mu  sync.Mutex
	w   io.Writer
	bar string
}

const eraseLine = "\r\x1b[K"

// Write writes whole lines.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bar != "" {
		io.WriteString(c.w, eraseLine) //nolint:errcheck // see console
		c.bar = ""
	}
	c.w.Write(p) //nolint:errcheck // see console
	return len(p), nil
}

// println writes s as one line, whatever is in it.
func (c *console) println(s string) {
	fmt.Fprintln(c, oneLine(s)) //nolint:errcheck // see console
}

// draw makes line the progress bar. An empty one takes the bar away.
func (c *console) draw(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if line == c.bar {
		return
	}
	io.WriteString(c.w, eraseLine+line) //nolint:errcheck // see console
	c.bar = line
}

// terminal returns w as a terminal on which a line can be redrawn, or nil.
func terminal(w io.Writer) *os.File {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	return f
}

// width returns the number of columns of a terminal.
func width(terminal *os.File) int {
	size, err := unix.IoctlGetWinsize(int(terminal.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}

// oneLine returns s with everything that would not stay within its line, or
// would do something to the terminal, as an escape of Go's syntax.
func oneLine(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteString(s[i : i+n])
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}
