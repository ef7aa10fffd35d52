// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// atDate returns a tracer that lets the program believe that it is another day. Its
// clock goes on from there; those of files are the kernel's, so that the two
// contradict each other besides.
func atDate(day time.Time) *tracer {
	shift := int64(time.Until(day) / time.Second)
	return &tracer{
		started: hideClock,
		which:   func(c call) bool { return c.nr == unix.SYS_CLOCK_GETTIME && c.args[0] == unix.CLOCK_REALTIME },
		returned: func(c call) {
			mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_RDWR, 0)
			if err != nil {
				return
			}
			defer mem.Close()
			var sec [8]byte
			if _, err := mem.ReadAt(sec[:], int64(c.args[1])); err == nil {
				now := int64(binary.NativeEndian.Uint64(sec[:]))
				binary.NativeEndian.PutUint64(sec[:], uint64(now+shift))
				_, _ = mem.WriteAt(sec[:], int64(c.args[1]))
			}
		},
	}
}

// hideClock takes from a program that has just been loaded the knowledge that the
// kernel has put a clock into its memory, which can be read without a system call.
func hideClock(pid int) {
	const sysinfo, ignore = 33, 1 // AT_SYSINFO_EHDR and AT_IGNORE
	var regs syscall.PtraceRegs
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil || syscall.PtraceGetRegs(pid, &regs) != nil {
		return
	}
	defer mem.Close()
	word := func(addr uint64) uint64 {
		var b [8]byte
		_, _ = mem.ReadAt(b[:], int64(addr))
		return binary.NativeEndian.Uint64(b[:])
	}
	// On the stack are the number of arguments, these, the environment and the
	// auxiliary vector, with zeros behind each.
	at := regs.Rsp + 8*(2+word(regs.Rsp))
	for word(at) != 0 {
		at += 8
	}
	for at += 8; word(at) != 0; at += 16 {
		if word(at) == sysinfo {
			var b [8]byte
			binary.NativeEndian.PutUint64(b[:], ignore)
			_, _ = mem.WriteAt(b[:], int64(at))
		}
	}
}
