// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/shale-oci/shale/internal/rooted"
)

// ownership is what new files and directories of a layout get, so that they look
// like the layout's own: also if root writes into the layout of somebody else,
// and whatever the umask.
type ownership struct {
	chown    bool // whether to set uid and gid
	uid, gid uint32
	dirMode  uint32
	fileMode uint32
}

// newOwnership takes owner and directory mode from the layout directory, and the
// mode of files from the oci-layout file.
func newOwnership(dir, file rooted.Stat) ownership {
	return ownership{
		chown:    os.Geteuid() == 0,
		uid:      dir.UID,
		gid:      dir.GID,
		dirMode:  dir.Perm() &^ unix.S_ISVTX,
		fileMode: file.Perm() & 0o666,
	}
}

// adopt gives the open file or directory to the layout's owner, with the mode.
func (o ownership) adopt(fd int, mode uint32) error {
	st, err := rooted.FromFd(fd)
	if err != nil {
		return err
	}
	if o.chown && (st.UID != o.uid || st.GID != o.gid) {
		if err := tolerable(unix.Fchown(fd, int(o.uid), int(o.gid))); err != nil {
			return err
		}
	}
	if st.Perm() != mode {
		return tolerable(unix.Fchmod(fd, mode))
	}
	return nil
}

// tolerable drops the errors of file systems that know no owners or modes, and
// of owners that have no ID in this user namespace. They are no reason to refuse
// to write.
func tolerable(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
