// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"

	"github.com/apex/log"
	"github.com/urfave/cli/v3"

	"github.com/shale-oci/shale/internal/progress"
)

// app is one run of shale: its streams and what the global flags have made of
// them.
type app struct {
	stdout *output
	stderr *console
	log    *log.Logger
	meter  meter

	profile *os.File

	global struct {
		verbose    bool
		logLevel   string
		progress   string
		noLock     bool
		layout     layoutFlags
		cpuProfile string
	}
}

// run runs shale with the arguments that follow its name, and returns its exit
// code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{
		stdout: newOutput(stdout),
		stderr: &console{w: stderr},
		meter:  noMeter{},
	}
	a.log = &log.Logger{Handler: &logHandler{a.stderr}, Level: log.WarnLevel}
	err := a.root().Run(ctx, append([]string{"shale"}, args...))
	a.meter.stop()
	if ferr := a.stdout.flush(); ferr != nil && err == nil {
		err = ferr
	}
	return a.end(ctx, err)
}

// root is the tree of all commands.
func (a *app) root() *cli.Command {
	return a.group(&cli.Command{
		Name:  "shale",
		Usage: "take OCI images apart into layers, change them, put them together again",
		Description: "The images are in OCI layouts: directories on this machine. There is no daemon, and\n" +
			"with --rootless no need to be root.",
		Version: programVersion(),
		Flags:   a.globalFlags(),
		Before:  a.before,
		After:   a.after,
		Writer:  a.stdout, ErrWriter: a.stderr,
		// The exit code is decided in one place, after the run.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Commands: []*cli.Command{
			a.initCommand(),
			a.newCommand(),
			a.listCommand(),
			a.tagCommand(),
			a.removeCommand(),
			a.statCommand(),
			a.diffCommand(),
			a.verifyCommand(),
			a.configCommand(),
			a.insertCommand(),
			a.unpackCommand(),
			a.repackCommand(),
			a.packCommand(),
			a.squashCommand(),
			a.rebaseCommand(),
			a.exportCommand(),
			a.splitCommand(),
			a.joinCommand(),
			a.copyCommand(),
			a.pushCommand(),
			a.pullCommand(),
			a.existsCommand(),
			a.tagsCommand(),
			a.loginCommand(),
			a.logoutCommand(),
			a.gcCommand(),
			a.rawCommand(),
			a.completionCommand(),
			a.docsCommand(),
		},
	})
}

func (a *app) globalFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.BoolFlag{
			Name: "verbose", Destination: &a.global.verbose,
			Usage: "the same as --log=info",
		},
		&cli.StringFlag{
			Name: "log", Value: "warn", Destination: &a.global.logLevel,
			Usage: "log from this `level` on: debug, info, warn, error or fatal",
		},
		&cli.StringFlag{
			Name: "progress", Value: "auto", Destination: &a.global.progress,
			Usage: "`how` to show progress: auto (a bar on a terminal), plain, json or none",
		},
		&cli.BoolFlag{
			Name: "no-lock", Destination: &a.global.noLock,
			Usage: "do not lock the layout, where the file system cannot: nobody else may change it meanwhile",
		},
		&cli.StringFlag{
			Name: "cpu-profile", Hidden: true, Destination: &a.global.cpuProfile,
			Usage: "write a CPU profile to `file`",
		},
	}, a.global.layout.flags()...)
}

// before puts the global flags into effect.
func (a *app) before(ctx context.Context, cmd *cli.Command) (context.Context, error) {
	if err := a.setLevel(cmd.IsSet("log")); err != nil {
		return ctx, err
	}
	if err := a.global.layout.parse(); err != nil {
		return ctx, err
	}
	m, err := newMeter(a.global.progress, a.stderr)
	if err != nil {
		return ctx, err
	}
	a.meter = m
	if a.global.cpuProfile != "" {
		f, err := os.Create(a.global.cpuProfile)
		if err != nil {
			return ctx, fmt.Errorf("create CPU profile: %w", err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return ctx, fmt.Errorf("start CPU profile: %w", err)
		}
		a.profile = f
	}
	return ctx, nil
}

func (a *app) setLevel(given bool) error {
	level := a.global.logLevel
	if a.global.verbose {
		if given {
			return errors.New("--log and --verbose may not be given together")
		}
		level = "info"
	}
	l, err := log.ParseLevel(level)
	if err != nil {
		return fmt.Errorf("invalid --log: %q is none of debug, info, warn, error and fatal", level)
	}
	a.log.Level = l
	return nil
}

func (a *app) after(context.Context, *cli.Command) error {
	if a.profile == nil {
		return nil
	}
	pprof.StopCPUProfile()
	return a.profile.Close()
}

// warn is the callback for warnings from libraries.
func (a *app) warn(msg string) { a.log.Warn(msg) }

// report is the callback for progress from libraries.
func (a *app) report() progress.Func { return a.meter.report }
