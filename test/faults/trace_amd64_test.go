// SPDX-License-Identifier: Apache-2.0

package faults

import "syscall"

// canFail says that calls can be made to fail on this architecture.
const canFail = true

// skipCall keeps the kernel from doing what the thread is about to ask for.
func skipCall(tid int) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Orig_rax = ^uint64(0)
	return syscall.PtraceSetRegs(tid, &regs)
}

// setResult makes the call of the thread fail.
func setResult(tid int, errno syscall.Errno) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rax = uint64(-int64(errno))
	return syscall.PtraceSetRegs(tid, &regs)
}
