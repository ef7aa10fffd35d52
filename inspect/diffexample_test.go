// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shale-oci/shale/inspect"
)

// Two directories are compared here; each side can be an image just as well.
func ExampleDiff() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	write := func(name, content string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			fmt.Println(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			fmt.Println(err)
		}
	}
	write("old/etc/motd", "hello\n", 0o644)
	write("old/etc/secret", "1234\n", 0o644)
	write("new/etc/motd", "howdy\n", 0o644)
	write("new/etc/secret", "1234\n", 0o600)
	write("new/etc/issue", "shale\n", 0o644)

	d, err := inspect.Diff(context.Background(),
		inspect.DiffSource{Dir: filepath.Join(dir, "old")},
		inspect.DiffSource{Dir: filepath.Join(dir, "new")},
		inspect.DiffOptions{Ignore: inspect.DiffMtime})
	if err != nil {
		fmt.Println(err)
		return
	}
	for e := range d.Entries() {
		fmt.Println(e.Kind, e.Path, e.Fields)
	}
	// Output:
	// added /etc/issue []
	// changed /etc/motd [content]
	// changed /etc/secret [mode]
}
