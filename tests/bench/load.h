/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * load.h - one load on one daemon: the guest is made of packets, the host programs are processes of their own
 *
 * Each call starts a daemon, measures, and ends it. The same code drives vsockd and whatever speaks vhost-user and the
 * hybrid protocol with the same options.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "fixture.h"

enum {
	LOAD_RING = 128,	 /* what QEMU gives */
	LOAD_BUFFER = 3776,	 /* a receive buffer of a Linux guest, header included */
	LOAD_WINDOW = 256 << 10, /* the guest's window: what Linux gives */
	LOAD_PATIENCE_MS = 10000,
};

/* Who is measured. */
struct load_side {
	const char *program;
	const char *poll_us; /* --poll-us, or NULL */
};

/**
 * struct load - what is done
 * @piece: bytes of a write of the host, or of a packet of the guest
 * @buffer: bytes of a receive buffer, header included; 0 for LOAD_BUFFER
 * @window: both windows; 0: the guest's is LOAD_WINDOW, the daemon's its default
 * @ns: how long
 * @conns: connections that are open besides
 */
struct load {
	u32 piece;
	u32 buffer;
	u32 window;
	u64 ns;
	u32 conns;
};

/*
 * What came out. Microseconds of processor time per MB, or per round trip: of the daemon, and where bytes are counted
 * of the host's program and of the guest that we are.
 */
struct load_result {
	double value;
	double cpu_us;
	double host_us;
	double guest_us;
};

u64 load_now(void);

/* GB/s. */
struct load_result load_to_guest(const struct load_side *side, const struct load *l);
struct load_result load_from_guest(const struct load_side *side, const struct load *l);

/* Microseconds of a round trip of one byte, both ends blocking. */
struct load_result load_round_trip(const struct load_side *side, const struct load *l);

/* The same beside @conns idle connections, over the same without them. */
struct load_result load_crowd(const struct load_side *side, const struct load *l);

/* Bytes of RssAnon per idle connection. */
struct load_result load_memory(const struct load_side *side, const struct load *l);

/* GB/s of a copy in memory, and through two Unix sockets in pieces of @piece. */
double load_copy(u64 ns);
double load_relay(u64 ns, u32 piece);

/*
 * GB/s where no daemon is in between: the host's program, and at the other end of its socket one that reads into the
 * buffers that the guest would post, or writes the packets that it would send, many with one system call. Each byte is
 * copied as often as by a daemon, so what one needs besides comes on top of this.
 */
double load_plain_to_guest(const struct load *l);
double load_plain_from_guest(const struct load *l);

#endif
