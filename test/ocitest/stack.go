// SPDX-License-Identifier: Apache-2.0

package ocitest

import (
	"archive/tar"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"
)

// Stack is a stack of layers, lowest first.
type Stack [][]Entry

// Layers returns each layer as an uncompressed tar stream.
func (s Stack) Layers() [][]byte {
	var layers [][]byte
	for _, entries := range s {
		layers = append(layers, Layer(entries...))
	}
	return layers
}

// String lists all entries, for the message of a test that failed.
func (s Stack) String() string {
	var b strings.Builder
	for i, entries := range s {
		fmt.Fprintf(&b, "layer %d:\n", i+1)
		for _, e := range entries {
			fmt.Fprintf(&b, "\t%v\n", e)
		}
	}
	return b.String()
}

// StackOptions restrict what RandomStack makes, for the sake of an oracle that
// cannot do all of it. The zero value allows everything.
type StackOptions struct {
	Entries int // changes per layer; 0 stands for 15

	// Unprivileged leaves out what an ordinary user cannot unpack: owners
	// other than 0, devices, capabilities, and modes that shut out the owner.
	Unprivileged bool

	// NoLinkedParents leaves out entries whose parent directory is reached
	// through a symlink. An overlay of unpacked layers cannot show those.
	NoLinkedParents bool

	// NoCrossLinks leaves out hardlinks to files of lower layers. An overlay
	// of unpacked layers cannot show those either.
	NoCrossLinks bool
}

// RandomStack makes n layers that could have been made by real tools one after
// another: every name that an entry needs is there, every directory has an
// entry, a layer holds whiteouts only for names in layers below it, and does
// not change the type of a name twice. Beyond that there is everything: names
// sorted or not, entries before those of their parents, duplicates, whiteouts,
// opaque directories, changes of type, hardlinks, symlinks that escape or
// dangle, names that are not UTF-8, fractional times, xattrs. The same rng
// state gives the same stack.
func RandomStack(rng *rand.Rand, n int, opt StackOptions) Stack {
	if opt.Entries == 0 {
		opt.Entries = 15
	}
	g := &generator{rng: rng, opt: opt, nodes: map[string]*node{".": {Entry: Dir(".", 0o755)}}}
	var stack Stack
	for range n {
		stack = append(stack, g.layer())
	}
	return stack
}

// node is what the model knows of a name; names of one file share one.
type node struct {
	Entry
	layer int
}

func (n *node) is(typeflag byte) bool { return n.Header.Typeflag == typeflag }

type generator struct {
	rng   *rand.Rand
	opt   StackOptions
	nodes map[string]*node // by clean name; the root is "."

	depth   int // of the layer in the making
	entries []Entry
	touched map[string]bool // names with an entry in this layer
	implied map[string]bool // directories that still need one
	gone    map[string]bool // names with a whiteout in this layer
	ordered bool            // entries depend on each other and must not be sorted
}

var components = []string{"a", "b", "c", "d", "bin", "lib", "x y", "ü", "\xff\xfe", ".hidden", "new\nline"}

// layer makes one layer and applies it to the model.
func (g *generator) layer() []Entry {
	g.depth++
	g.entries, g.ordered = nil, false
	g.touched, g.implied, g.gone = map[string]bool{}, map[string]bool{}, map[string]bool{}
	actions := []struct {
		weight int
		do     func()
	}{
		{30, g.addFile}, {20, g.addDir}, {12, g.addSymlink}, {12, g.addHardlink}, {5, g.addSpecial},
		{12, g.whiteout}, {4, g.opaque}, {8, g.duplicate},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	for range g.opt.Entries {
		pick := g.rng.IntN(total)
		for _, a := range actions {
			if pick -= a.weight; pick < 0 {
				a.do()
				break
			}
		}
	}
	// Directories that entries above took for granted, after those entries.
	for _, name := range slices.Sorted(maps.Keys(g.implied)) {
		g.emit(name, name, g.meta(Dir(name, 0)))
	}
	if g.chance(20) {
		g.emit(".", ".", g.meta(Dir(".", 0)).Mode(0o755))
	}
	return g.finish()
}

// finish puts the entries in one of the orders that tools write, and their
// names in one of the spellings.
func (g *generator) finish() []Entry {
	if !g.ordered && g.chance(60) {
		// Hardlinks come last, and stay in their order: each after its target.
		key := func(e Entry) string {
			if e.Header.Typeflag == tar.TypeLink {
				return "1"
			}
			return "0" + e.Header.Name
		}
		slices.SortStableFunc(g.entries, func(a, b Entry) int { return cmp.Compare(key(a), key(b)) })
	}
	if g.chance(40) {
		for i, e := range g.entries {
			if e.Header.Name != "./" {
				g.entries[i].Header.Name = "./" + e.Header.Name
			}
		}
	}
	return g.entries
}

func (g *generator) chance(percent int) bool { return g.rng.IntN(100) < percent }

// emit adds an entry under the name spelled, which means the name name.
func (g *generator) emit(name, spelled string, e Entry) {
	e.Header.Name = spelled
	if e.Header.Typeflag == tar.TypeDir {
		e.Header.Name += "/"
	}
	g.entries = append(g.entries, e)
	g.touched[name] = true
	delete(g.implied, name)

	if old := g.nodes[name]; e.Header.Typeflag != tar.TypeDir || old == nil || !old.is(tar.TypeDir) {
		g.forget(name)
	}
	g.nodes[name] = &node{Entry: e, layer: g.depth}
	for parent := path.Dir(name); g.nodes[parent] == nil; parent = path.Dir(parent) {
		g.nodes[parent] = &node{Entry: Dir(parent, 0o755), layer: g.depth}
		g.touched[parent] = true
		g.implied[parent] = true
	}
}

// forget removes name and all below it from the model.
func (g *generator) forget(name string) {
	for other := range g.nodes {
		if other == name || strings.HasPrefix(other, name+"/") {
			delete(g.nodes, other)
		}
	}
}

// busy says whether name or anything below it has an entry in this layer.
func (g *generator) busy(name string) bool {
	for other := range g.touched {
		if other == name || strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}

// names returns the names that pass the filter, sorted, without the root.
func (g *generator) names(keep func(name string, n *node) bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(g.nodes)) {
		if name != "." && keep(name, g.nodes[name]) {
			names = append(names, name)
		}
	}
	return names
}

func (g *generator) pick(names []string) string { return names[g.rng.IntN(len(names))] }

// place returns a name that an entry of another type than what is there, if
// anything is, may take in this layer, and how to spell it. It is empty if
// the dice found none.
func (g *generator) place(typeflag byte) (name, spelled string) {
	var dirs []string
	for d, n := range g.nodes {
		if n.is(tar.TypeDir) && strings.Count(d, "/") < 4 {
			dirs = append(dirs, d)
		}
	}
	slices.Sort(dirs)
	dir := g.pick(dirs)
	name = path.Join(dir, g.pick(components))
	if g.chance(25) && g.nodes[name] == nil { // a parent that has no entry yet
		name = path.Join(name, g.pick(components))
	}
	old := g.nodes[name]
	if old != nil && !old.is(typeflag) && g.busy(name) {
		return "", ""
	}
	for above := name; above != "."; above = path.Dir(above) {
		if g.gone[above] {
			return "", "" // tools disagree on a name that is both removed and there
		}
	}
	return name, g.spell(name)
}

// spell returns name, or another name that leads there through a symlink.
func (g *generator) spell(name string) string {
	if g.opt.NoLinkedParents || !g.chance(15) {
		return name
	}
	links := g.names(func(link string, n *node) bool {
		if !n.is(tar.TypeSymlink) {
			return false
		}
		to := resolve(link, n.Header.Linkname)
		return to != "." && g.plainDir(to) && strings.HasPrefix(name, to+"/")
	})
	if len(links) == 0 {
		return name
	}
	link := g.pick(links)
	g.ordered = true
	return link + strings.TrimPrefix(name, resolve(link, g.nodes[link].Header.Linkname))
}

// plainDir says whether name is a directory.
func (g *generator) plainDir(name string) bool {
	n := g.nodes[name]
	return n != nil && n.is(tar.TypeDir)
}

// resolve returns what a symlink at name that holds target points to, one step
// far and with the root of the tree as "/".
func resolve(name, target string) string {
	if !path.IsAbs(target) {
		target = path.Join("/", path.Dir(name), target)
	}
	if p := strings.TrimPrefix(path.Clean(target), "/"); p != "" {
		return p
	}
	return "."
}

// meta gives an entry a random mode, owner, time and xattrs.
func (g *generator) meta(e Entry) Entry {
	modes := []int64{0o644, 0o755, 0o600, 0o700, 0o4755, 0o2755, 0o1777, 0o444}
	if !g.opt.Unprivileged {
		modes = append(modes, 0)
	}
	e.Header.Mode = modes[g.rng.IntN(len(modes))]
	if g.opt.Unprivileged && e.Header.Typeflag == tar.TypeDir {
		e.Header.Mode |= 0o700
	}
	if !g.opt.Unprivileged && g.chance(40) {
		e = e.Owner(g.rng.IntN(3)*1000, g.rng.IntN(65536))
	}
	mtime := time.Unix(g.rng.Int64N(2_000_000_000), 0)
	if g.chance(20) {
		mtime = mtime.Add(time.Duration(g.rng.IntN(1_000_000_000)))
	}
	e = e.Mtime(mtime)
	regular := e.Header.Typeflag == tar.TypeReg
	if regular || e.Header.Typeflag == tar.TypeDir {
		for g.chance(15) {
			e = e.Xattr("user."+g.pick([]string{"a", "b", "c"}), fmt.Sprintf("v%d\x00\xff", g.rng.IntN(100)))
		}
	}
	if regular && !g.opt.Unprivileged && g.chance(5) {
		e = e.Xattr("security.capability", Capability)
	}
	return e
}

// Capability is a valid value of security.capability: cap_net_raw+ep.
const Capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func (g *generator) addFile() {
	if name, spelled := g.place(tar.TypeReg); name != "" {
		content := strings.Repeat(fmt.Sprintf("%d ", g.rng.IntN(1000)), g.rng.IntN(400))
		g.emit(name, spelled, g.meta(File(name, content, 0)))
	}
}

func (g *generator) addDir() {
	if name, spelled := g.place(tar.TypeDir); name != "" {
		g.emit(name, spelled, g.meta(Dir(name, 0)))
	}
}

func (g *generator) addSymlink() {
	name, spelled := g.place(tar.TypeSymlink)
	if name == "" {
		return
	}
	targets := append(g.names(func(string, *node) bool { return true }), "nowhere", "../../../..", ".")
	target := g.pick(targets)
	if g.chance(60) {
		target = "/" + target
	}
	g.emit(name, spelled, g.meta(Symlink(name, target)).Mode(0o777))
}

func (g *generator) addHardlink() {
	targets := g.names(func(_ string, n *node) bool {
		return !n.is(tar.TypeDir) && (!g.opt.NoCrossLinks || n.layer == g.depth)
	})
	if len(targets) == 0 {
		return
	}
	target := g.pick(targets)
	n := g.nodes[target]
	name, spelled := g.place(n.Header.Typeflag)
	// Never over another name of a file: it may be a name of the same one.
	if name == "" || g.nodes[name] != nil || strings.HasPrefix(name, target+"/") {
		return
	}
	if n.layer != g.depth {
		g.ordered = true // a later entry may take the target's name
	}
	e := n.Entry
	e.Header.Typeflag = tar.TypeLink
	e.Header.Linkname = target
	e.Header.Size, e.Header.Devmajor, e.Header.Devminor, e.Body = 0, 0, 0, nil
	e.Header.PAXRecords = maps.Clone(e.Header.PAXRecords)
	g.emit(name, spelled, e)
	g.nodes[name] = n
}

func (g *generator) addSpecial() {
	typeflag := byte(tar.TypeFifo)
	if !g.opt.Unprivileged && g.chance(50) {
		typeflag = tar.TypeChar
	}
	if name, spelled := g.place(typeflag); name != "" {
		e := g.meta(Fifo(name, 0))
		if typeflag == tar.TypeChar {
			e.Header.Typeflag, e.Header.Devmajor, e.Header.Devminor = typeflag, 1, int64(1+g.rng.IntN(8))
		}
		g.emit(name, spelled, e)
	}
}

func (g *generator) whiteout() {
	gone := g.names(func(name string, _ *node) bool { return !g.busy(name) })
	if len(gone) == 0 {
		return
	}
	name := g.pick(gone)
	g.entries = append(g.entries, Whiteout(g.spell(name)))
	g.forget(name)
	g.gone[name] = true
	g.ordered = true
}

func (g *generator) opaque() {
	dirs := g.names(func(name string, n *node) bool {
		return n.is(tar.TypeDir) && n.layer < g.depth && g.coherent(name)
	})
	if len(dirs) == 0 {
		return
	}
	dir := g.pick(dirs)
	g.entries = append(g.entries, Opaque(dir))
	g.ordered = true
	g.touched[dir] = true
	for name := range g.nodes {
		if strings.HasPrefix(name, dir+"/") && !g.touched[name] {
			delete(g.nodes, name)
		}
	}
}

// coherent says whether all that this layer has below dir has its directories
// from this layer too: what an opaque whiteout of dir does is clear then.
func (g *generator) coherent(dir string) bool {
	for name := range g.touched {
		if !strings.HasPrefix(name, dir+"/") {
			continue
		}
		for above := path.Dir(name); above != dir; above = path.Dir(above) {
			if !g.touched[above] {
				return false
			}
		}
	}
	return true
}

// duplicate writes a regular file of this layer once more, with other content:
// the last entry of a name counts.
func (g *generator) duplicate() {
	own := g.names(func(name string, n *node) bool {
		return n.is(tar.TypeReg) && n.layer == g.depth && g.touched[name]
	})
	if len(own) > 0 {
		name := g.pick(own)
		g.ordered = true
		g.emit(name, name, g.meta(File(name, fmt.Sprint("again ", g.rng.IntN(1000)), 0)))
	}
}
