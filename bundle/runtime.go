// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"

	"github.com/moby/sys/user"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	rspec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/umoci/oci/config/convert"
	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/quote"
	"github.com/shale-oci/shale/internal/rooted"
	"github.com/shale-oci/shale/layer"
)

// specVersion is the version of the runtime-spec that config.json says it
// complies with: the oldest that knows all of its fields, because runtimes
// refuse what is newer than they are (crun 1.8 refuses 1.2).
const specVersion = "1.0.2"

// maxUserFile is how large a passwd or group file may be, in bytes. A list of
// members takes sixteen times its length in memory, at worst.
const maxUserFile = 2 << 20

// RuntimeOptions say how [WriteRuntimeConfig] describes a container.
type RuntimeOptions struct {
	// Map are the ID mappings of the container's user namespace.
	Map layer.MapOptions
	// Rootfs is the root filesystem, where the image's user is looked up. If nil,
	// a user that is not numeric becomes root, with a warning.
	Rootfs *rooted.Dir
	// RootPath is what the container's root filesystem is called, relative to the
	// bundle. If empty, "rootfs".
	RootPath string
	// Warn may be nil.
	Warn func(msg string)
}

// WriteRuntimeConfig writes the config.json of a container of the image, by the
// rules of the image-spec's "Conversion to OCI Runtime Configuration".
func WriteRuntimeConfig(w io.Writer, img *ispec.Image, opt RuntimeOptions) error {
	spec, err := runtimeSpec(img, opt)
	if err != nil {
		return fmt.Errorf("make %s: %w", configName, err)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "\t")
	return enc.Encode(spec)
}

func runtimeSpec(img *ispec.Image, opt RuntimeOptions) (*rspec.Spec, error) {
	// The user is looked up here, where symbolic links in the image's /etc lead
	// nowhere else, and the converter is not told of either.
	bare := *img
	bare.Config.User = ""
	if wd := bare.Config.WorkingDir; wd != "" {
		bare.Config.WorkingDir = path.Clean("/" + wd)
	}
	spec, err := convert.ToRuntimeSpec("", bare)
	if err != nil {
		return nil, err
	}
	spec.Version = specVersion
	spec.Root.Path = cmp.Or(opt.RootPath, rootfsName)
	if err := setUser(&spec, img, opt); err != nil {
		return nil, err
	}
	if len(opt.Map.UIDMappings) > 0 || len(opt.Map.GIDMappings) > 0 {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, rspec.LinuxNamespace{Type: rspec.UserNamespace})
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = opt.Map.UIDMappings, opt.Map.GIDMappings
	}
	if opt.Map.Rootless {
		if err := convert.ToRootless(&spec); err != nil {
			return nil, err
		}
	}
	return &spec, nil
}

// setUser looks the image's user up and makes it the process's.
func setUser(spec *rspec.Spec, img *ispec.Image, opt RuntimeOptions) error {
	u, err := lookupUser(img.Config.User, opt.Rootfs)
	if err != nil {
		if opt.Rootfs != nil {
			return fmt.Errorf("user %s: %w", quote.Name(img.Config.User), err)
		}
		if opt.Warn != nil {
			opt.Warn(fmt.Sprintf("user %s cannot be looked up without a root filesystem: the container will run as root",
				quote.Name(img.Config.User)))
		}
		u = &user.ExecUser{}
	}
	spec.Process.User.UID, spec.Process.User.GID = uint32(u.Uid), uint32(u.Gid)
	spec.Process.User.AdditionalGids = []uint32{}
	for _, gid := range u.Sgids {
		spec.Process.User.AdditionalGids = append(spec.Process.User.AdditionalGids, uint32(gid))
	}
	setHome(spec.Process, img.Config.Env, u.Home)
	return nil
}

// setHome sets HOME, last, unless the image does. Nobody who is not in passwd has a
// home.
func setHome(p *rspec.Process, imageEnv []string, home string) {
	for _, kv := range imageEnv {
		if strings.HasPrefix(kv, "HOME=") {
			return
		}
	}
	var env []string
	for _, kv := range p.Env {
		if !strings.HasPrefix(kv, "HOME=") {
			env = append(env, kv)
		}
	}
	if home != "" {
		env = append(env, "HOME="+home)
	}
	p.Env = env
}

func lookupUser(name string, rootfs *rooted.Dir) (*user.ExecUser, error) {
	passwd, err := openUserFile(rootfs, "etc/passwd")
	if err != nil {
		return nil, err
	}
	defer passwd.Close() //nolint:errcheck // only read from
	group, err := openUserFile(rootfs, "etc/group")
	if err != nil {
		return nil, err
	}
	defer group.Close() //nolint:errcheck // only read from
	u, err := user.GetExecUser(name, &user.ExecUser{}, passwd, group)
	if err != nil {
		return nil, err
	}
	if err := checkID("uid", u.Uid); err != nil {
		return nil, err
	}
	for _, gid := range append([]int{u.Gid}, u.Sgids...) {
		if err := checkID("gid", gid); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// checkID refuses a number out of passwd or group that would be cut down to
// another ID: 2^32 to root's.
func checkID(kind string, id int) error {
	if id < 0 || int64(id) >= math.MaxUint32 {
		return fmt.Errorf("%s %d: %w", kind, id, layer.ErrOwner)
	}
	return nil
}

// openUserFile opens a file of the root filesystem, or nothing if there is none.
func openUserFile(rootfs *rooted.Dir, path string) (io.ReadCloser, error) {
	none := io.NopCloser(strings.NewReader(""))
	if rootfs == nil {
		return none, nil
	}
	f, err := rootfs.OpenFollow(path)
	// A name that leads nowhere is no file.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return none, nil
	}
	if err != nil {
		return nil, err
	}
	return &userFile{File: f, path: path, left: maxUserFile}, nil
}

// userFile is a file that must not be larger than maxUserFile. To read only a
// part of it could make another ID of the one at the end of the part.
type userFile struct {
	*os.File
	path string
	left int
}

// Read implements [io.Reader].
func (f *userFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p[:min(len(p), f.left+1)])
	if f.left -= n; f.left < 0 {
		return 0, fmt.Errorf("%s is larger than the limit of %d bytes", f.path, maxUserFile)
	}
	return n, err
}
