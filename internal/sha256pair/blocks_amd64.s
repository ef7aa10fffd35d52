// SPDX-License-Identifier: Apache-2.0

// Written out rather than generated: sixteen times four rounds, of which the first
// four also load the message and the last need no more of it. The message schedule
// is made once, and each round done for both states, one after the other: a round
// waits for the one before it, so that the second state's come nearly for free.

#include "textflag.h"

// Registers.
#define WK   X0 // four words of the message schedule, with their constants
#define ABEF X1 // the first state, in the order that the instructions want
#define CDGH X2
#define M0   X3 // the message schedule
#define M1   X4
#define M2   X5
#define M3   X6
#define T    X7
#define SWAP X8 // turns the bytes of words around
#define ABEG X9 // the second state
#define CDGI X10

#define LOAD(at, m) \
	MOVOU at*16(SI), m \
	PSHUFB SWAP, m

#define FIRST(k, m) \
	MOVO m, WK \
	PADDD k*16(AX), WK \
	SHA256RNDS2 WK, ABEF, CDGH \
	SHA256RNDS2 WK, ABEG, CDGI

#define SECOND \
	PSHUFD $0x0E, WK, WK \
	SHA256RNDS2 WK, CDGH, ABEF \
	SHA256RNDS2 WK, CDGI, ABEG

// NEXT makes four more words: next, from all four registers.
#define NEXT(prev, m, next) \
	MOVO m, T \
	PALIGNR $4, prev, T \
	PADDD T, next \
	SHA256MSG2 m, next

// PACK brings a state into the order that the instructions want, and UNPACK back.
#define PACK(dcba, hgfe) \
	PSHUFD $0xB1, dcba, dcba \
	PSHUFD $0x1B, hgfe, hgfe \
	MOVO dcba, T \
	PALIGNR $8, hgfe, dcba \
	PBLENDW $0xF0, T, hgfe

#define UNPACK(abef, cdgh) \
	PSHUFD $0x1B, abef, abef \
	PSHUFD $0xB1, cdgh, cdgh \
	MOVO abef, T \
	PBLENDW $0xF0, cdgh, abef \
	PALIGNR $8, T, cdgh

// func blocks(a, b *[8]uint32, p []byte)
TEXT ·blocks(SB), NOSPLIT, $0-40
	MOVQ a+0(FP), DI
	MOVQ b+8(FP), R8
	MOVQ p_base+16(FP), SI
	MOVQ p_len+24(FP), DX
	SHRQ $6, DX
	JZ   done
	LEAQ ·constants(SB), AX
	MOVOU ·swap(SB), SWAP
	MOVOU 0(DI), ABEF
	MOVOU 16(DI), CDGH
	MOVOU 0(R8), ABEG
	MOVOU 16(R8), CDGI
	PACK(ABEF, CDGH)
	PACK(ABEG, CDGI)

block:
	MOVO ABEF, X11
	MOVO CDGH, X12
	MOVO ABEG, X13
	MOVO CDGI, X14


	LOAD(0, M0)
	FIRST(0, M0)
	SECOND

	LOAD(1, M1)
	FIRST(1, M1)
	SECOND
	SHA256MSG1 M1, M0

	LOAD(2, M2)
	FIRST(2, M2)
	SECOND
	SHA256MSG1 M2, M1

	LOAD(3, M3)
	FIRST(3, M3)
	NEXT(M2, M3, M0)
	SECOND
	SHA256MSG1 M3, M2

	FIRST(4, M0)
	NEXT(M3, M0, M1)
	SECOND
	SHA256MSG1 M0, M3

	FIRST(5, M1)
	NEXT(M0, M1, M2)
	SECOND
	SHA256MSG1 M1, M0

	FIRST(6, M2)
	NEXT(M1, M2, M3)
	SECOND
	SHA256MSG1 M2, M1

	FIRST(7, M3)
	NEXT(M2, M3, M0)
	SECOND
	SHA256MSG1 M3, M2

	FIRST(8, M0)
	NEXT(M3, M0, M1)
	SECOND
	SHA256MSG1 M0, M3

	FIRST(9, M1)
	NEXT(M0, M1, M2)
	SECOND
	SHA256MSG1 M1, M0

	FIRST(10, M2)
	NEXT(M1, M2, M3)
	SECOND
	SHA256MSG1 M2, M1

	FIRST(11, M3)
	NEXT(M2, M3, M0)
	SECOND
	SHA256MSG1 M3, M2

	FIRST(12, M0)
	NEXT(M3, M0, M1)
	SECOND
	SHA256MSG1 M0, M3

	FIRST(13, M1)
	NEXT(M0, M1, M2)
	SECOND

	FIRST(14, M2)
	NEXT(M1, M2, M3)
	SECOND

	FIRST(15, M3)
	SECOND

	PADDD X11, ABEF
	PADDD X12, CDGH
	PADDD X13, ABEG
	PADDD X14, CDGI
	ADDQ  $64, SI
	DECQ  DX
	JNZ   block

	UNPACK(ABEF, CDGH)
	UNPACK(ABEG, CDGI)
	MOVOU ABEF, 0(DI)
	MOVOU CDGH, 16(DI)
	MOVOU ABEG, 0(R8)
	MOVOU CDGI, 16(R8)

done:
	RET

// func hasSHA() bool
TEXT ·hasSHA(SB), NOSPLIT, $0-1
	XORL AX, AX
	XORL CX, CX
	CPUID
	MOVB $0, ret+0(FP)
	CMPL AX, $7
	JLT  none
	MOVL $7, AX
	XORL CX, CX
	CPUID
	BTL  $29, BX
	SETCS ret+0(FP)

none:
	RET
