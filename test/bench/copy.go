// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// goalCopy is that copying is no slower than with the fastest of the others.
const goalCopy = 1

// copier is a program that copies from a layout to a registry and back.
type copier struct {
	name       string
	push, pull func(host, layout string) (program string, args []string)
}

// copy compares the way of the image from a layout to a registry on this machine, and from
// there to a new layout. The registry is Debian's, and empty each time.
func (b *bench) copy() error {
	b.head()
	registry, err := exec.LookPath("docker-registry")
	if err != nil {
		b.skip("copy", "docker-registry is not installed")
		return nil //nolint:nilerr // what is not there is not measured
	}
	// A layout with no other image: that is all that crane can push.
	only := filepath.Join(b.work, "only")
	if _, err := timed(b.shale, "copy", "--link", b.layout+":bench", only+":bench"); err != nil {
		return err
	}
	ours := copier{
		name: "shale",
		push: func(host, layout string) (string, []string) {
			return b.shale, []string{"push", "--image", layout + ":bench", "docker://" + host + "/bench:bench"}
		},
		pull: func(host, layout string) (string, []string) {
			return b.shale, []string{"pull", "docker://" + host + "/bench:bench", "--image", layout + ":bench"}
		},
	}
	for _, peer := range b.copiers() {
		work := "layout to registry to layout, " + peer.name
		program, _ := peer.push("", "")
		if _, err := exec.LookPath(program); err != nil {
			b.skip(work, peer.name+" is not installed")
			continue
		}
		err := b.compare(compared{
			work: work, goal: goalCopy,
			shale: b.thereAndBack(registry, only, ours), peer: b.thereAndBack(registry, only, peer),
		})
		if err != nil {
			return err
		}
	}
	return removeAll(only)
}

// copiers are the peers.
func (b *bench) copiers() []copier {
	crane := filepath.Join(filepath.Dir(b.umoci), "crane")
	return []copier{{
		name: "skopeo",
		push: func(host, layout string) (string, []string) {
			return "skopeo", []string{"--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false",
				"oci:" + layout + ":bench", "docker://" + host + "/bench:bench"}
		},
		pull: func(host, layout string) (string, []string) {
			return "skopeo", []string{"--insecure-policy", "copy", "--quiet", "--src-tls-verify=false",
				"docker://" + host + "/bench:bench", "oci:" + layout + ":bench"}
		},
	}, {
		name: "crane",
		push: func(host, layout string) (string, []string) {
			return crane, []string{"push", layout, host + "/bench:bench"}
		},
		pull: func(host, layout string) (string, []string) {
			return crane, []string{"pull", "--format=oci", host + "/bench:bench", layout}
		},
	}}
}

// thereAndBack measures one push and one pull together.
func (b *bench) thereAndBack(registry, layout string, c copier) func() (usage, error) {
	return func() (sum usage, err error) {
		host, stop, err := b.startRegistry(registry)
		if err != nil {
			return sum, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		back := filepath.Join(b.work, "back")
		defer func() { err = errors.Join(err, removeAll(back)) }()
		for _, step := range []struct {
			run    func(host, layout string) (string, []string)
			layout string
		}{{c.push, layout}, {c.pull, back}} {
			program, args := step.run(host, step.layout)
			u, err := timed(program, args...)
			if err != nil {
				return sum, err
			}
			sum = usage{wall: sum.wall + u.wall, cpu: sum.cpu + u.cpu, peak: max(sum.peak, u.peak)}
		}
		return sum, nil
	}
}

// startRegistry starts an empty registry.
func (b *bench) startRegistry(program string) (host string, stop func() error, err error) {
	root := filepath.Join(b.work, "registry")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	host = listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", nil, err
	}
	config := filepath.Join(b.work, "registry.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", root, host), 0o600); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(b.ctx, program, "serve", config)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return removeAll(root)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			return host, stop, resp.Body.Close()
		}
	}
	return "", nil, errors.Join(errors.New("docker-registry does not start"), stop())
}
