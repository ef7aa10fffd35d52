// SPDX-License-Identifier: Apache-2.0

package stack

import "github.com/shale-oci/shale/layout"

// Of returns the stack of layers in l that no image has yet, the lowest first. It has
// neither manifest nor config.
func Of(l *layout.Layout, layers ...Layer) *Stack { return &Stack{Layers: layers, layout: l} }
