// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// humanSize returns a number of bytes in the unit that suits it, with four
// digits: powers of 1000, as in 1.234MB.
func humanSize(bytes int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	size := float64(bytes)
	for size >= 1000 && len(units) > 1 {
		size /= 1000
		units = units[1:]
	}
	return fmt.Sprintf("%.4g%s", size, units[0])
}
