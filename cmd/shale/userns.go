// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/userns"
)

// usernsFlag is the flag of the commands that make files of many owners, or read
// them.
type usernsFlag struct{ mode string }

func (f *usernsFlag) flags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{
		Name: "userns", Value: "auto", Destination: &f.mode,
		Usage: "`when` to run in a user namespace with your subordinate IDs, so that owners are real: " +
			"auto (as an ordinary user who has some), on or off",
	}}
}

func (f *usernsFlag) check(func(string) bool) error {
	switch f.mode {
	case "auto", "on", "off":
		return nil
	}
	return fmt.Errorf("invalid --userns: %s is none of auto, on and off", quote.Name(f.mode))
}

// enter runs the whole command once more in a user namespace, if that is what
// the flag asks for, and then returns how that has ended as an error. If it
// returns nil, the command is to be done here. With mapped set, the command keeps
// owners in another way and needs no namespace.
func (f *usernsFlag) enter(mapped bool) error {
	if f.mode == "off" || userns.Inside() || f.mode == "auto" && (mapped || os.Geteuid() == 0) {
		return nil
	}
	if mapped {
		return errors.New("--userns=on does not go together with --rootless or a map of IDs")
	}
	ids, err := userns.Find()
	if errors.Is(err, userns.ErrNone) && f.mode == "auto" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--userns: %w", err)
	}
	status, err := ids.Rerun()
	if err != nil {
		return fmt.Errorf("--userns: %w", err)
	}
	return &elsewhere{status}
}

// readsTrusted reports whether this process can read the xattrs that begin with "trusted.":
// that takes CAP_SYS_ADMIN in the initial user namespace (xattr(7)).
func readsTrusted() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return false
	}
	return !userns.Inside()
}

// elsewhere is the end of a command that was done by another process, which has
// said all there is to say.
type elsewhere struct{ status int }

func (e *elsewhere) Error() string { return fmt.Sprintf("ended with status %d", e.status) }
