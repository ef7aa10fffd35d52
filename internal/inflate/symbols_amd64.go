// SPDX-License-Identifier: Apache-2.0

package inflate

import "golang.org/x/sys/cpu"

// fast says that the processor has the instructions of symbolsBMI2.
var fast = cpu.X86.HasBMI2

// The assembly takes the lowest byte of the bits to look up a distance.
const _ = uint(distBits-8) + uint(8-distBits)

// symbolsBMI2 is span.symbols in fewer instructions.
//
//go:noescape
func symbolsBMI2(s *span) outcome
