// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tracer runs a program under ptrace and does something to one of its system
// calls. strace can do that too, but it counts the calls of each thread on their
// own, and which thread of a Go program makes a call is a matter of luck: it
// cannot say "the fifth", and so it cannot be sure to have had all.
type tracer struct {
	// which calls are counted; all if nil.
	which func(c call) bool
	// at is the number of the call that gets the fault, from 1 on; 0 is none and
	// -1 every one.
	at int
	// errno is what the call fails with in place of being made. If it is 0, the
	// program gets the signal before the call is made.
	errno syscall.Errno
	// signal is SIGKILL if it is 0.
	signal syscall.Signal
	// returned is called when a call that was counted has been made.
	returned func(c call)
	// started is called when the program has been loaded.
	started func(pid int)
}

// call is a system call.
type call struct {
	pid  int
	nr   uint64
	args [6]uint64
	fail bool // it is one that the tracer makes fail
}

// traced is how a program ended that was traced.
type traced struct {
	status int // the exit status; -1 if a signal has ended it
	signal syscall.Signal
	calls  int    // how many were counted
	hit    string // the call that got the fault; empty if none did
	stdout string
	stderr string
}

// syscallInfo is struct ptrace_syscall_info of the kernel.
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	arch uint32
	ip   uint64
	sp   uint64
	nr   uint64
	args [6]uint64
	_    [2]uint64
}

const (
	getSyscallInfo = 0x420e // PTRACE_GET_SYSCALL_INFO
	entering       = 1
	leaving        = 2
)

// run runs the program and returns when all of it has ended. attr is not to be used
// again.
func (tr *tracer) run(program string, args []string, attr *os.ProcAttr) (*traced, error) {
	type result struct {
		t   *traced
		err error
	}
	done := make(chan result)
	go func() {
		// All of ptrace belongs to the thread that started the program; and with
		// the thread, which ends here, whatever is left of the program ends too.
		runtime.LockOSThread()
		t, err := tr.trace(program, args, attr)
		done <- result{t, err}
	}()
	r := <-done
	return r.t, r.err
}

func (tr *tracer) trace(program string, args []string, attr *os.ProcAttr) (*traced, error) {
	t := &traced{}
	out, errs, wait, err := pipes()
	if err != nil {
		return nil, err
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	a := *attr
	a.Files = []*os.File{stdin, out, errs}
	a.Sys.Ptrace, a.Sys.Setpgid, a.Sys.Pdeathsig = true, true, syscall.SIGKILL
	p, err := os.StartProcess(program, append([]string{program}, args...), &a)
	if err == nil {
		err = tr.follow(p.Pid, t)
		_ = p.Release()
	}
	out.Close()
	errs.Close()
	t.stdout, t.stderr = wait()
	return t, err
}

// pipes returns two pipes, and what returns all that was written into them once
// the caller and its children have closed them.
func pipes() (out, errs *os.File, wait func() (string, string), err error) {
	var texts [2]bytes.Buffer
	var writers [2]*os.File
	done := make(chan struct{}, 2)
	for i := range texts {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, nil, err
		}
		writers[i] = w
		go func() {
			_, _ = io.Copy(&texts[i], r)
			r.Close()
			done <- struct{}{}
		}()
	}
	return writers[0], writers[1], func() (string, string) {
		<-done
		<-done
		return texts[0].String(), texts[1].String()
	}, nil
}

// follow leads the program from its first instruction to its end.
func (tr *tracer) follow(pid int, t *traced) error {
	var ws syscall.WaitStatus
	if _, err := wait4(pid, &ws); err != nil {
		return fmt.Errorf("wait for the program: %w", err)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
		unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(pid, options); err != nil {
		return fmt.Errorf("set ptrace options: %w", err)
	}
	if tr.started != nil {
		tr.started(pid)
	}
	counted := map[int]call{} // calls that are being made, by thread
	fresh := map[int]bool{pid: true}
	next, sig := pid, 0
	for {
		// A thread that has been killed meanwhile is none to go on with.
		if err := syscall.PtraceSyscall(next, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ptrace: %w", err)
		}
		var err error
		if next, err = wait4(-pid, &ws); errors.Is(err, syscall.ECHILD) {
			return nil
		} else if err != nil {
			return fmt.Errorf("wait for a thread: %w", err)
		}
		sig = 0
		switch {
		case ws.Exited() || ws.Signaled():
			if next == pid {
				t.status, t.signal = ws.ExitStatus(), 0
				if ws.Signaled() {
					t.signal = ws.Signal()
				}
			}
		case ws.StopSignal() == syscall.SIGTRAP|0x80:
			if err := tr.stopped(next, pid, counted, t); err != nil {
				return err
			}
		case ws.StopSignal() == syscall.SIGTRAP: // a clone, fork or exec
		case ws.StopSignal() == syscall.SIGSTOP && !fresh[next]:
			fresh[next] = true // a new thread begins like that
		default:
			sig = int(ws.StopSignal())
		}
	}
}

func wait4(pid int, ws *syscall.WaitStatus) (int, error) {
	for {
		n, err := syscall.Wait4(pid, ws, unix.WALL, nil)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// stopped is called when a thread is about to make a call, or has made it.
func (tr *tracer) stopped(tid, pid int, counted map[int]call, t *traced) error {
	var info syscallInfo
	_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, getSyscallInfo, uintptr(tid),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errors.Is(errno, syscall.ESRCH) {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("ask for the system call: %w", errno)
	}
	switch info.op {
	case entering:
		c := call{pid: pid, nr: info.nr, args: info.args}
		if tr.which != nil && !tr.which(c) {
			return nil
		}
		t.calls++
		fault := t.calls == tr.at || tr.at == -1
		c.fail = fault && tr.errno != 0
		counted[tid] = c
		if !fault {
			return nil
		}
		t.hit = fmt.Sprintf("%s %s", c.name(), c.path())
		if tr.errno == 0 {
			return syscall.Kill(pid, cmp.Or(tr.signal, syscall.SIGKILL))
		}
		return skipCall(tid)
	case leaving:
		c, ok := counted[tid]
		if !ok {
			return nil
		}
		delete(counted, tid)
		if tr.returned != nil {
			tr.returned(c)
		}
		if c.fail {
			return setResult(tid, tr.errno)
		}
	}
	return nil
}

// path returns the file that the call is about, as far as it says so; empty if it
// is about none.
func (c call) path() string {
	at := func(fd uint64) string {
		if int32(fd) == unix.AT_FDCWD {
			p, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", c.pid))
			return p
		}
		p, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.pid, int32(fd)))
		return p
	}
	switch about[c.nr].args {
	case byFD:
		return at(c.args[0])
	case byName:
		name := c.text(c.args[1])
		if filepath.IsAbs(name) {
			return name
		}
		return at(c.args[0]) + "/" + name
	}
	return ""
}

// text reads a string of the program.
func (c call) text(addr uint64) string {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.pid))
	if err != nil {
		return ""
	}
	defer mem.Close()
	buf := make([]byte, unix.PathMax)
	n, _ := mem.ReadAt(buf, int64(addr))
	text, _, _ := strings.Cut(string(buf[:n]), "\x00")
	return text
}

// The ways in which a call says what file it is about.
const (
	byFD   = iota + 1 // its first argument is a descriptor
	byName            // and its second a name below that
)

// about are the calls that change files, and how to find out which.
var about = map[uint64]struct {
	name string
	args int
}{
	unix.SYS_OPENAT:          {"openat", byName},
	unix.SYS_OPENAT2:         {"openat2", byName},
	unix.SYS_MKDIRAT:         {"mkdirat", byName},
	unix.SYS_MKNODAT:         {"mknodat", byName},
	unix.SYS_UNLINKAT:        {"unlinkat", byName},
	unix.SYS_RENAMEAT:        {"renameat", byName},
	unix.SYS_RENAMEAT2:       {"renameat2", byName},
	unix.SYS_LINKAT:          {"linkat", byName},
	unix.SYS_FCHMODAT:        {"fchmodat", byName},
	unix.SYS_FCHOWNAT:        {"fchownat", byName},
	unix.SYS_UTIMENSAT:       {"utimensat", byName},
	unix.SYS_WRITE:           {"write", byFD},
	unix.SYS_PWRITE64:        {"pwrite64", byFD},
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", byFD},
	unix.SYS_IOCTL:           {"ioctl", byFD},
	unix.SYS_FTRUNCATE:       {"ftruncate", byFD},
	unix.SYS_FALLOCATE:       {"fallocate", byFD},
	unix.SYS_FSYNC:           {"fsync", byFD},
	unix.SYS_FDATASYNC:       {"fdatasync", byFD},
	unix.SYS_SYNCFS:          {"syncfs", byFD},
	unix.SYS_FCHMOD:          {"fchmod", byFD},
	unix.SYS_FCHOWN:          {"fchown", byFD},
	unix.SYS_FSETXATTR:       {"fsetxattr", byFD},
	unix.SYS_FLOCK:           {"flock", byFD},
	unix.SYS_CLOSE:           {"close", byFD},
}

func (c call) name() string {
	if a, ok := about[c.nr]; ok {
		return a.name
	}
	return fmt.Sprintf("call %d", c.nr)
}

// opens reports whether the call opens a file to make or change it.
func (c call) changesOnOpen() bool {
	flags := c.args[2]
	if c.nr == unix.SYS_OPENAT2 {
		var how [8]byte
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.pid))
		if err != nil {
			return false
		}
		defer mem.Close()
		if _, err := mem.ReadAt(how[:], int64(c.args[2])); err != nil {
			return false
		}
		flags = binary.NativeEndian.Uint64(how[:])
	}
	return flags&(unix.O_CREAT|unix.O_TRUNC) != 0
}

// changes selects the calls that change something below dir, or that lock, sync
// or close something there.
func changes(dir string, names ...string) func(call) bool {
	return func(c call) bool {
		a, ok := about[c.nr]
		if !ok || len(names) > 0 && !contains(names, a.name) {
			return false
		}
		if (c.nr == unix.SYS_OPENAT || c.nr == unix.SYS_OPENAT2) && !c.changesOnOpen() {
			return false
		}
		return strings.HasPrefix(c.path(), dir+"/")
	}
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}
