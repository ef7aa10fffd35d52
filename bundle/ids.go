// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"io"

	"github.com/shale-oci/shale/internal/userns"
	"github.com/shale-oci/shale/layer"
	"github.com/shale-oci/shale/stack"
)

// checkOwners reads all layers, before anything is written, and refuses an image
// with an owner that no file can have in the process's user namespace. Outside
// of one, and where owners are mapped or kept in attributes, all are possible or
// known to be not.
func checkOwners(ctx context.Context, img *stack.Stack, opt UnpackOptions) error {
	m := opt.Map
	if !userns.Inside() || m.Rootless || len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0 {
		return nil
	}
	ids, err := userns.Available()
	if err != nil {
		return err
	}
	_, err = img.Tree(ctx, owners{ids}, stack.Options{Limits: opt.Limits})
	return err
}

// owners is the sink that only looks at who owns what.
type owners struct{ ids *userns.IDs }

func (o owners) Mkdir(n *layer.Node) error { return o.check(n) }

func (o owners) Update(n *layer.Node) error { return o.check(n) }

func (o owners) Put(n *layer.Node, _ io.Reader) error { return o.check(n) }

func (o owners) Link(_, _ *layer.Node) error { return nil }

func (o owners) Remove(*layer.Node) error { return nil }

func (o owners) check(n *layer.Node) error {
	if err := o.ids.CheckUID(n.Inode().UID); err != nil {
		return err
	}
	return o.ids.CheckGID(n.Inode().GID)
}
