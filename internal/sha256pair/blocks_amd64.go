// SPDX-License-Identifier: Apache-2.0

package sha256pair

import "golang.org/x/sys/cpu"

// fast says that the processor has the instructions that blocks consists of.
var fast = cpu.X86.HasSSE41 && cpu.X86.HasSSSE3 && hasSHA()

// blocks adds whole blocks of 64 bytes to both states.
//
//go:noescape
func blocks(a, b *[8]uint32, p []byte)

// hasSHA reports whether the processor has Intel's SHA extensions, which x/sys does
// not tell.
func hasSHA() bool
