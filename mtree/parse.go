// SPDX-License-Identifier: Apache-2.0

package mtree

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
)

// maxLine is the longest line of a manifest in bytes, continuation lines
// included. All extended attributes of a file are on one line.
const maxLine = 16 << 20

// Parse reads an mtree manifest as [Tree.WriteManifest], umoci, go-mtree and
// other programs write it, as in mtree(5): entries by name or by full path, in
// any order, with any keywords. Lines may be continued by a backslash at their
// end.
//
// Of the keywords it understands those that umoci uses, and time; others are
// ignored. The tree has nothing that the manifest does not say: inode numbers,
// for one. Directories that are not listed, but something in them is, count as
// no entries.
//
// Names that could lead out of the root, entries that are listed twice, and
// anything else that makes no sense is an error that tells the line.
func Parse(r io.Reader) (*Tree, error) {
	p := parser{
		tree: newTree(), r: bufio.NewReaderSize(r, 64<<10), dir: -1, interned: make(map[string]int32),
	}
	p.tree.xattrs = true
	p.tree.nodes = []node{{mode: unix.S_IFDIR}}
	p.lines = []int32{0}
	for p.err == nil && p.readLine() {
		p.err = p.parseLine()
	}
	if p.err != nil {
		return nil, fmt.Errorf("parse mtree manifest: line %d: %w", p.first, p.err)
	}
	if len(p.tree.nodes) == 1 && p.tree.nodes[0].known == 0 {
		return newTree(), nil
	}
	if err := p.finish(); err != nil {
		return nil, fmt.Errorf("parse mtree manifest: %w", err)
	}
	return p.tree, nil
}

// parser builds a tree line by line. Until finish, the nodes are in the order of
// the lines and only know their parents.
type parser struct {
	tree *Tree
	r    *bufio.Reader
	err  error

	line   []byte // the present line, without its end
	long   []byte // memory for lines that are not whole in r's buffer
	number int    // of the last line read
	first  int    // of the first of the lines that line is made of

	dir   int32   // the present directory, -1 outside of the root's
	stack []int32 // the directories that ".." leads back to
	set   attributes
	lines []int32 // the line of each node

	gomtree    bool // the header is that of go-mtree
	afterBlank bool // the line before was blank
	afterTag   bool // the line before was the comment that names a directory

	interned map[string]int32   // as in Tree.addExtra
	children map[childKey]int32 // by name, once there is an entry by full path
}

type childKey struct {
	parent int32
	name   string
}

var errLongLine = fmt.Errorf("more than %d bytes", maxLine)

// readLine reads the next line, with those that continue it.
func (p *parser) readLine() bool {
	p.line, p.long = nil, p.long[:0]
	p.first = p.number + 1
	for {
		part, err := p.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			p.err = err
			return false
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			p.long = append(p.long, part...)
			if len(p.long) > maxLine {
				p.err = errLongLine
				return false
			}
			continue
		}
		if err == io.EOF && len(part) == 0 && len(p.long) == 0 {
			return false
		}
		p.number++
		p.line = part
		if len(p.long) > 0 {
			p.long = append(p.long, part...)
			p.line = p.long
		}
		p.line = bytes.TrimSuffix(bytes.TrimSuffix(p.line, []byte("\n")), []byte("\r"))
		if err == io.EOF || !continued(p.line) {
			return true
		}
		if rest := p.line[:len(p.line)-1]; len(p.long) > 0 {
			p.long = rest // which is where it is
		} else {
			p.long = append(p.long, rest...)
		}
		if len(p.long) > maxLine {
			p.err = errLongLine
			return false
		}
	}
}

// continued reports whether the next line belongs to this one: a backslash at
// its end is not one half of an escaped backslash, nor in a comment.
func continued(line []byte) bool {
	if len(line) == 0 || line[len(line)-1] != '\\' || bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) {
		return false
	}
	slashes := len(line) - len(bytes.TrimRight(line, `\`))
	return slashes%2 == 1
}

func (p *parser) parseLine() error {
	fields := fieldScanner{p.line}
	word := fields.next()
	afterBlank, afterTag := p.afterBlank, p.afterTag
	p.afterBlank, p.afterTag = false, false
	switch {
	case len(word) == 0:
		p.afterBlank = true
		return nil
	case word[0] == '#':
		p.comment()
		p.afterTag = p.gomtree && afterBlank
		return nil
	case word[0] == '/':
		return p.command(string(word), &fields)
	case string(word) == "..":
		if len(p.stack) == 0 {
			return errors.New(`".." leads out of the root`)
		}
		p.dir, p.stack = p.stack[len(p.stack)-1], p.stack[:len(p.stack)-1]
		return nil
	case afterTag && bytes.IndexByte(p.line, '=') < 0:
		// go-mtree writes the names of directories into comments as they are, so
		// that this is what comes after a newline in such a name.
		p.afterTag = true
		return nil
	}
	attrs := p.set
	if err := attrs.parse(&fields); err != nil {
		return fmt.Errorf("%s: %w", quote.Name(string(word)), err)
	}
	if err := p.entry(word, &attrs); err != nil {
		return fmt.Errorf("%s: %w", quote.Name(string(word)), err)
	}
	return nil
}

// comment looks at the header that go-mtree writes, which says whether extended
// attributes were looked at.
func (p *parser) comment() {
	key, list, ok := strings.Cut(strings.TrimLeft(string(p.line), " \t#"), ":")
	top := len(p.tree.nodes) == 1 && p.tree.nodes[0].known == 0
	if !top || p.gomtree || !ok || strings.TrimSpace(key) != "keywords" {
		return
	}
	p.gomtree, p.tree.xattrs = true, false
	for keyword := range strings.SplitSeq(list, ",") {
		if keyword = strings.TrimSpace(keyword); keyword == "xattr" || keyword == "xattrs" {
			p.tree.xattrs = true
		}
	}
}

// command obeys /set, which adds to the defaults of the entries that follow, and
// /unset, which removes what it names, or everything.
func (p *parser) command(word string, fields *fieldScanner) error {
	switch word {
	case "/set":
		if err := p.set.parse(fields); err != nil {
			return fmt.Errorf("/set: %w", err)
		}
		return nil
	case "/unset":
		keys := ^keywords(0)
		if f := fields.next(); len(f) > 0 && string(f) != "all" {
			for keys = 0; len(f) > 0; f = fields.next() {
				keys |= keywordNamed(f)
			}
		}
		p.set.forget(keys)
		return nil
	}
	return fmt.Errorf("unknown command %s", quote.Name(word))
}

// entry adds an entry, called by its name or by its full path.
func (p *parser) entry(word []byte, attrs *attributes) error {
	// An entry without any keyword is one, too.
	attrs.known |= keyListed
	name, err := unvis(word)
	if err != nil {
		return err
	}
	if bytes.IndexByte(word, '/') >= 0 {
		return p.fullPath(name, attrs)
	}
	if name == "." && p.dir < 0 {
		if err := p.fill(0, attrs); err != nil {
			return err
		}
		p.stack, p.dir = append(p.stack, p.dir), 0
		return nil
	}
	i, err := p.add(max(p.dir, 0), name, attrs)
	if err != nil {
		return err
	}
	if attrs.isDir() {
		if len(p.stack) > MaxDepth {
			return errTooDeep
		}
		p.stack, p.dir = append(p.stack, p.dir), i
	}
	return nil
}

// fullPath adds an entry that is called by its path from the root, and the
// directories that it is in.
func (p *parser) fullPath(name string, attrs *attributes) error {
	if p.children == nil {
		p.children = make(map[childKey]int32)
		for i := range p.tree.nodes[1:] {
			i := int32(i + 1)
			p.children[childKey{p.tree.nodes[i].parent, string(p.tree.nameBytes(i))}] = i
		}
	}
	dir, depth := int32(0), 0
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." {
			continue
		}
		if depth++; depth > MaxDepth+1 {
			return errTooDeep
		}
		i, ok := p.children[childKey{dir, part}]
		if !ok {
			var err error
			if i, err = p.add(dir, part, &attributes{node: node{mode: unix.S_IFDIR}}); err != nil {
				return err
			}
		}
		dir = i
	}
	return p.fill(dir, attrs)
}

// add makes a node.
func (p *parser) add(parent int32, name string, attrs *attributes) (int32, error) {
	if !validName(name) {
		return 0, errors.New("not the name of a file in its directory")
	}
	i := len(p.tree.nodes)
	if i == 1<<31-1 {
		return 0, errTooMany
	}
	n := node{parent: parent}
	if err := p.tree.addName(&n, name); err != nil {
		return 0, err
	}
	p.tree.nodes = append(p.tree.nodes, n)
	p.lines = append(p.lines, int32(min(p.first, 1<<31-1)))
	if p.children != nil {
		p.children[childKey{parent, name}] = int32(i)
	}
	return int32(i), p.fill(int32(i), attrs)
}

// fill gives a node that nothing is known of its attributes.
func (p *parser) fill(i int32, attrs *attributes) error {
	n := &p.tree.nodes[i]
	if n.known != 0 {
		return fmt.Errorf("listed before in line %d", p.lines[i])
	}
	filled := attrs.node
	if i == 0 {
		if attrs.known&keyType != 0 && !attrs.isDir() {
			return errors.New("the root is not a directory")
		}
		filled.mode |= unix.S_IFDIR
	}
	filled.parent, filled.name, filled.nameLen = n.parent, n.name, n.nameLen
	if !attrs.more.empty() {
		var err error
		if filled.extra, err = p.tree.addExtra(attrs.more, p.interned); err != nil {
			return err
		}
	}
	*n = filled
	p.lines[i] = int32(min(p.first, 1<<31-1))
	return nil
}

// finish brings the nodes into the order of a Tree: the children of a directory
// next to each other and sorted by name.
func (p *parser) finish() error {
	t := p.tree
	n := len(t.nodes)
	first := make([]int32, n+1) // by parent, shifted by one
	for i := 1; i < n; i++ {
		first[t.nodes[i].parent+1]++
	}
	first[0] = 1
	for i := range n {
		first[i+1] += first[i]
	}
	order := make([]int32, n) // new number -> old number
	next := slices.Clone(first)
	for i := 1; i < n; i++ {
		parent := t.nodes[i].parent
		order[next[parent]] = int32(i)
		next[parent]++
	}
	for parent := range n {
		if err := p.sortChildren(int32(parent), order[first[parent]:first[parent+1]]); err != nil {
			return err
		}
	}
	number := make([]int32, n) // old number -> new number
	for i, old := range order {
		number[old] = int32(i)
	}
	nodes := make([]node, n)
	for i, old := range order {
		nodes[i] = t.nodes[old]
		nodes[i].parent = number[nodes[i].parent]
		nodes[i].first, nodes[i].count = first[old], first[old+1]-first[old]
	}
	t.nodes = nodes
	return nil
}

// sortChildren sorts the children of one directory by name.
func (p *parser) sortChildren(parent int32, children []int32) error {
	t := p.tree
	if d := &t.nodes[parent]; len(children) > 0 && !d.isDir() {
		if d.known&keyType != 0 {
			return fmt.Errorf("line %d: %s is not in a directory", p.lines[children[0]],
				quote.Name(string(t.nameBytes(children[0]))))
		}
		d.mode |= unix.S_IFDIR
	}
	byName := func(a, b int32) int { return bytes.Compare(t.nameBytes(a), t.nameBytes(b)) }
	if !slices.IsSortedFunc(children, byName) {
		slices.SortStableFunc(children, byName)
	}
	for i := 1; i < len(children); i++ {
		if byName(children[i-1], children[i]) == 0 {
			return fmt.Errorf("line %d: %s: listed before in line %d", p.lines[children[i]],
				quote.Name(string(t.nameBytes(children[i]))), p.lines[children[i-1]])
		}
	}
	return nil
}
