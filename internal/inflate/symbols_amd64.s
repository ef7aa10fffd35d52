// SPDX-License-Identifier: Apache-2.0

// The loop of span.symbols for processors with BMI2, whose shifts take their count from
// any register and leave the flags alone. What follows a symbol is looked up before the
// symbol is written, and before more bits are loaded, so that the processor does not
// wait for either: the bits for that, at most 11, are always there. Of the 56 that LOAD
// provides, three literals take up to 33, one of them in a subtable up to 37, and a
// length, after two literals, up to 42; 14 are left to look up 8 bits of a distance.
// After the second LOAD a distance takes up to 28.

#include "textflag.h"
#include "go_asm.h"

// Registers.
#define IN     R8  // the next byte to load
#define INTOP  R9  // where to stop
#define OUT    DI  // the next byte to decode
#define OUTTOP R11 // where to stop
#define BASE   R12 // the oldest byte of the stream that is still there
#define BUF    BX  // bits
#define N      CX  // how many, in the lowest byte
#define LIT    SI
#define DIST   R13
#define E      AX  // the entry of a table
#define T      DX
#define LEN    R10 // the bits before E was used up; then the length, and the match's end
#define SRC    R14

// LOAD makes sure that there are 56 bits.
#define LOAD \
	MOVQ  (IN), T \
	SHLXQ N, T, T \
	ORQ   T, BUF \
	MOVL  N, T \
	XORL  $63, T \
	SHRL  $3, T \
	ANDL  $7, T \
	ADDQ  T, IN \
	ORL   $56, N

// USE uses up the bits of E. What of E is above the lowest byte does no harm to N.
#define USE \
	SHRXQ E, BUF, BUF \
	SUBL  E, N

// SYMBOL looks up a literal or length.
#define SYMBOL \
	MOVL BUF, E \
	ANDL $(const_litSize-1), E \
	MOVL (LIT)(E*4), E

// PUT writes the literal E, and looks up what follows it meanwhile.
#define PUT \
	MOVL E, T \
	SYMBOL \
	SHRL $16, T \
	MOVB T, (OUT) \
	INCQ OUT

// EXTRA is the base of E plus its extra bits, which are the upper ones of those that it
// uses up of from: the others are its code.
#define EXTRA(from, to) \
	BZHIQ E, from, to \
	MOVL  E, T \
	SHRL  $8, T \
	SHRXQ T, to, to \
	SHRL  $16, E \
	ADDQ  E, to

// SUBTABLE looks up what follows an entry that stands for a subtable.
#define SUBTABLE(table) \
	MOVL  E, T \
	SHRL  $8, T \
	ANDL  $0xf, T \
	BZHIQ T, BUF, T \
	SHRL  $16, E \
	ADDL  T, E \
	MOVL  (table)(E*4), E

// func symbolsBMI2(s *span) outcome
TEXT ·symbolsBMI2(SB), NOSPLIT, $0-16
	MOVQ s+0(FP), DX
	MOVQ span_in(DX), IN
	MOVQ IN, INTOP
	ADDQ span_ip(DX), IN
	ADDQ span_inTop(DX), INTOP
	MOVQ span_out(DX), OUT
	MOVQ OUT, OUTTOP
	MOVQ OUT, BASE
	ADDQ span_wp(DX), OUT
	ADDQ span_outTop(DX), OUTTOP
	ADDQ span_base(DX), BASE
	MOVQ span_buf(DX), BUF
	MOVQ span_n(DX), N
	MOVQ span_lit(DX), LIT
	MOVQ span_dist(DX), DIST

	LOAD
	SYMBOL

	PCALIGN $32
loop:
	LOAD
	MOVQ BUF, LEN
	USE
	TESTL E, E
	JPL  noLiteral
	PUT
	MOVQ BUF, LEN
	USE
	TESTL E, E
	JPL  noLiteral
	PUT
	MOVQ BUF, LEN
	USE
	TESTL E, E
	JPL  noLiteral
	PUT

next:
	CMPQ IN, INTOP
	JGE  more
	CMPQ OUT, OUTTOP
	JLT  loop

more:
	MOVQ $const_goOn, AX
	JMP  done

noLiteral:
	TESTL $const_special, E
	JNZ  specialSymbol

length:
	EXTRA(LEN, LEN)
	MOVBLZX BUF, E
	MOVL (DIST)(E*4), E
	LOAD
	TESTL $const_special, E
	JNZ  specialDistance

match:
	MOVQ BUF, SRC
	USE
	EXTRA(SRC, SRC)
	MOVQ OUT, T
	SUBQ BASE, T
	CMPQ SRC, T
	JHI  corrupt
	MOVQ SRC, T // the distance
	SYMBOL
	MOVQ OUT, SRC
	SUBQ T, SRC
	ADDQ OUT, LEN
	CMPQ T, $16
	JLO  near

	// Most matches end within 32 bytes.
	MOVOU (SRC), X0
	MOVOU X0, (OUT)
	MOVOU 16(SRC), X0
	MOVOU X0, 16(OUT)
	ADDQ $32, OUT
	CMPQ OUT, LEN
	JLO  copy32
	MOVQ LEN, OUT
	JMP  next

copy32:
	MOVOU 32(SRC), X0
	MOVOU X0, (OUT)
	MOVOU 48(SRC), X0
	MOVOU X0, 16(OUT)
	ADDQ $32, SRC
	ADDQ $32, OUT
	CMPQ OUT, LEN
	JLO  copy32
	MOVQ LEN, OUT
	JMP  next

near:
	CMPQ T, $1
	JEQ  run
	CMPQ T, $8
	JLO  copy
	MOVQ $8, T

	// Eight bytes at a time, of which as many count as are there: those behind them
	// are written again.
copy:
	MOVQ (SRC), X0
	MOVQ X0, (OUT)
	ADDQ T, SRC
	ADDQ T, OUT
	CMPQ OUT, LEN
	JLO  copy
	MOVQ LEN, OUT
	JMP  next

run:
	MOVBLZX (SRC), SRC
	MOVQ $0x0101010101010101, T
	IMULQ T, SRC
	MOVQ SRC, X0
	PUNPCKLQDQ X0, X0
run16:
	MOVOU X0, (OUT)
	ADDQ $16, OUT
	CMPQ OUT, LEN
	JLO  run16
	MOVQ LEN, OUT
	JMP  next

specialSymbol:
	TESTL $const_subtable, E
	JZ   endOrCorrupt
	SUBTABLE(LIT)
	MOVQ BUF, LEN
	USE
	TESTL E, E
	JPL  longLength
	PUT
	JMP  next

longLength:
	TESTL $const_special, E
	JZ   length

endOrCorrupt:
	TESTL $const_endOfBlock, E
	JZ   corrupt
	MOVQ $const_blockEnded, AX
	JMP  done

specialDistance:
	TESTL $const_subtable, E
	JZ   corrupt
	USE
	SUBTABLE(DIST)
	TESTL $const_special, E
	JZ   match

corrupt:
	MOVQ $const_isCorrupt, AX

done:
	MOVQ s+0(FP), DX
	SUBQ span_in(DX), IN
	SUBQ span_out(DX), OUT
	ANDL $63, N
	MOVQ IN, span_ip(DX)
	MOVQ OUT, span_wp(DX)
	MOVQ BUF, span_buf(DX)
	MOVQ N, span_n(DX)
	MOVQ AX, ret+8(FP)
	RET
