// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/urfave/cli/v3"

func (a *app) rawCommand() *cli.Command {
	return a.group(&cli.Command{
		Name:        "raw",
		Usage:       "commands that do one step of others by itself",
		Description: "For those who know the OCI specifications.",
		Commands: []*cli.Command{
			a.rawAddLayerCommand(),
			a.rawRuntimeConfigCommand(),
			a.rawUnpackCommand(),
			a.rawMtreeValidateCommand(),
		},
	})
}
