// SPDX-License-Identifier: Apache-2.0

//go:build !race

package split

// raceEnabled says that memory may be several times what it would be.
const raceEnabled = false
