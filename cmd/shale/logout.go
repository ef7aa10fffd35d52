// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/transfer"
)

func (a *app) logoutCommand() *cli.Command {
	return a.command(command{
		name:       "logout",
		usage:      "forget the credentials for a registry",
		details:    "It is no error if there are none.",
		examples:   []string{"shale logout registry.example"},
		positional: argRule{names: []string{"<HOST>"}},
		run: func(ctx context.Context, args []string) error {
			removed, err := transfer.Logout(ctx, args[0])
			switch {
			case err != nil:
				return err
			case removed:
				a.log.Infof("logged out from %s", args[0])
			default:
				a.log.Infof("there were no credentials for %s", args[0])
			}
			return nil
		},
	})
}
