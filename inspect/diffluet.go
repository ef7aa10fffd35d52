// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"github.com/shale-oci/shale/layer"
)

// LuetDiff is a difference in the form in which luet keeps it, which is that of
// container-diff. As JSON, luet has a list of them.
type LuetDiff struct {
	Image1   string
	Image2   string
	DiffType string // always "File"
	Diff     LuetFiles
}

// LuetFiles are the paths, sorted.
type LuetFiles struct {
	Adds []LuetFile
	Dels []LuetFile
	Mods []LuetFile // whatever it is that has changed, unless it is the time alone
}

// LuetFile is one path.
type LuetFile struct {
	Name string // with a leading slash
	Size int64  // in bytes, as it is in the image that has it, the new one if both do
}

// LuetSummary is what luet sums up of each pair of images.
type LuetSummary struct {
	Summary []LuetCounts `json:"summary"`
}

// LuetCounts counts paths that are no directories, and their sizes in bytes.
type LuetCounts struct {
	Image1      string `json:"image1"`
	Image2      string `json:"image2"`
	AddFiles    int    `json:"add_files"`
	AddSizes    int64  `json:"add_sizes"`
	DelFiles    int    `json:"del_files"`
	DelSizes    int64  `json:"del_sizes"`
	ChangeFiles int    `json:"change_files"`
	ChangeSizes int64  `json:"change_sizes"`
}

// Luet returns the difference as luet has it. As there, the size of a directory is that
// of all below it, and the size of a symbolic link is the length of its target.
func (d *Difference) Luet() LuetDiff {
	res := LuetDiff{
		Image1: d.Old.Name, Image2: d.New.Name, DiffType: "File",
		Diff: LuetFiles{Adds: []LuetFile{}, Dels: []LuetFile{}, Mods: []LuetFile{}},
	}
	sizes := [2]luetSizes{newLuetSizes(d.d.sides[0]), newLuetSizes(d.d.sides[1])}
	d.luet(func(kind DiffKind, p *diffPair, i int) {
		list := &res.Diff.Mods
		switch kind {
		case DiffAdded:
			list = &res.Diff.Adds
		case DiffDeleted:
			list = &res.Diff.Dels
		}
		*list = append(*list, LuetFile{Name: slashed(p.path), Size: sizes[i].of(p.names[i], p.inos[i])})
	})
	return res
}

// LuetSummary returns the sums of the difference. Directories do not count.
func (d *Difference) LuetSummary() LuetSummary {
	c := LuetCounts{Image1: d.Old.Name, Image2: d.New.Name}
	d.luet(func(kind DiffKind, p *diffPair, i int) {
		if p.inos[i].Type == layer.Directory {
			return
		}
		files, sizes := &c.ChangeFiles, &c.ChangeSizes
		switch kind {
		case DiffAdded:
			files, sizes = &c.AddFiles, &c.AddSizes
		case DiffDeleted:
			files, sizes = &c.DelFiles, &c.DelSizes
		}
		*files++
		*sizes += luetSize(p.inos[i])
	})
	return LuetSummary{Summary: []LuetCounts{c}}
}

// luet calls fn for each path that counts, with the side i whose size is told.
func (d *Difference) luet(fn func(kind DiffKind, p *diffPair, i int)) {
	_ = d.d.changes(func(p *diffPair, fields DiffFields) error { // whose errors survey has met
		kind, i := DiffChanged, 1
		switch {
		case p.inos[0] == nil:
			kind = DiffAdded
		case p.inos[1] == nil:
			kind, i = DiffDeleted, 0
		case fields == DiffMtime && !d.d.opt.Times:
			return nil
		}
		fn(kind, p, i)
		return nil
	})
}

// luetSize returns the size of what is no directory.
func luetSize(ino *layer.Inode) int64 {
	if ino.Type == layer.Symlink {
		return int64(len(ino.Target))
	}
	return ino.Size
}

// luetSizes sums up the directories of a side, each once: its entry may be followed by
// those of all directories in it.
type luetSizes struct {
	side *diffSide
	dirs map[diffName]int64
}

func newLuetSizes(s *diffSide) luetSizes { return luetSizes{side: s, dirs: map[diffName]int64{}} }

func (l *luetSizes) of(n diffName, ino *layer.Inode) int64 {
	if ino.Type != layer.Directory {
		return luetSize(ino)
	}
	size, known := l.dirs[n]
	if known {
		return size
	}
	for _, c := range l.side.children(n) {
		if below, err := l.side.inode(c); err == nil { // survey has met all errors
			size += l.of(c, below)
		}
	}
	l.dirs[n] = size
	return size
}
