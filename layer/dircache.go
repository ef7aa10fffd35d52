// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"container/list"
	"sync/atomic"

	"github.com/shale-oci/shale/internal/rooted"
)

// maxOpenDirs is how many directories a dirCache keeps open. Layers list their
// entries directory by directory, so that few are in use at a time.
const maxOpenDirs = 64

// openDir is an open directory that several users share; the last one closes.
type openDir struct {
	*rooted.Dir
	users atomic.Int32
}

func (o *openDir) release() {
	if o.users.Add(-1) == 0 {
		o.Close() //nolint:errcheck // a read-only descriptor has nothing to lose
	}
}

// dirCache keeps the directories of a tree open that were used last. It is used
// by one goroutine; what it gives out may be released by any.
type dirCache struct {
	root   *rooted.Dir
	byNode map[*Node]*list.Element
	recent list.List // of *cachedDir, the last used first
}

type cachedDir struct {
	node *Node
	dir  *openDir
}

// open returns the directory of n, which the caller must release.
func (c *dirCache) open(n *Node) (*openDir, error) {
	if e, ok := c.byNode[n]; ok {
		c.recent.MoveToFront(e)
		dir := e.Value.(*cachedDir).dir
		dir.users.Add(1)
		return dir, nil
	}
	d, err := c.openBelow(n)
	if err != nil {
		return nil, err
	}
	dir := &openDir{Dir: d}
	dir.users.Store(2) // the cache and the caller
	if c.byNode == nil {
		c.byNode = make(map[*Node]*list.Element, maxOpenDirs)
	}
	c.byNode[n] = c.recent.PushFront(&cachedDir{node: n, dir: dir})
	if c.recent.Len() > maxOpenDirs {
		c.close(c.recent.Back())
	}
	return dir, nil
}

// openBelow opens n from its parent if that is open, else from the root.
func (c *dirCache) openBelow(n *Node) (*rooted.Dir, error) {
	if e, ok := c.byNode[n.parent]; ok && n.parent != nil {
		return e.Value.(*cachedDir).dir.OpenDir(n.name)
	}
	return c.root.OpenPath(n.Path())
}

func (c *dirCache) close(e *list.Element) {
	cached := c.recent.Remove(e).(*cachedDir)
	delete(c.byNode, cached.node)
	cached.dir.release()
}

// drop forgets n and all directories below it.
func (c *dirCache) drop(n *Node) {
	for e := c.recent.Front(); e != nil; {
		next := e.Next()
		for at := e.Value.(*cachedDir).node; at != nil; at = at.parent {
			if at == n {
				c.close(e)
				break
			}
		}
		e = next
	}
}

func (c *dirCache) closeAll() {
	for c.recent.Len() > 0 {
		c.close(c.recent.Front())
	}
}
