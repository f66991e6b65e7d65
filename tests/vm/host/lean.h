/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lean.h - a guest that costs little, so that it is the device whose speed is measured
 *
 * Payload is neither written nor read, all that arrived is taken before its buffers are posted again, and nobody asks
 * for the time: in an emulated machine that alone costs more than a packet. One thread is the guest; others are the
 * host's programs and use plain sockets.
 */
#ifndef TESTS_HOST_LEAN_H
#define TESTS_HOST_LEAN_H

#include "host.h"

#include <pthread.h>

enum {
	LANE_HOST_PORT = 5000, /* where the host listens, or has its datagrams */
};

/**
 * struct lane - a connection, or what datagram sockets send each other
 * @flow: it; of datagrams, the ports and the counts
 * @type: enum vsp_type
 * @acked: what the host was told of flow.got
 * @asked: the host was asked what it has read, and has not said so
 * @echoes: each packet is answered with one of its length
 * @answered: the host has agreed to it
 */
struct lane {
	struct flow flow;
	u16 type;
	u32 acked;
	bool asked;
	bool echoes;
	bool answered;
};

/**
 * struct lean - the guest
 * @g: its device
 * @lanes, @n: lane i has port @port + i of the guest; other measurements have others
 * @ended: lanes that the host has shut down, which the guest agrees to with a reset
 * @over: set by lean_end_soon(), which rings @over_fd
 * @clock: calls it after @ms, if @timed
 */
struct lean {
	struct guest g;
	struct lane *lanes;
	u32 n;
	u32 port;
	u32 ended;
	bool over;
	int over_fd;
	pthread_t clock;
	bool timed;
	u32 ms;
};

/* A guest with receive buffers of @buffer bytes, and its @n lanes without connections. */
void lean_begin(struct lean *l, u32 n, u32 buffer);
void lean_end(struct lean *l);

/* Connect lane @i; sockets block. */
void lean_open_by_host(struct lean *l, u32 i, u16 type);

/* Connect the lanes from @first on to @listener at LANE_HOST_PORT, which accepts them in order. */
void lean_open_by_guest(struct lean *l, int listener, u32 first);

/* Send a packet, waiting for room in the ring if there is none. False, from try: there is none. */
void lean_send(struct lean *l, struct lane *lane, enum vsp_op op, u32 len);
bool lean_try_send(struct lean *l, struct lane *lane, enum vsp_op op, u32 len);

/* Take all that arrived; how many packets. */
u32 lean_take(struct lean *l);

/* Wait until something arrived, or, if @room, some packet left the ring; or until it is over. */
void lean_wait(struct lean *l, bool room);

/* From any thread: it is over. Or, in @ms. */
void lean_end_soon(struct lean *l);
void lean_end_after(struct lean *l, u32 ms);
bool lean_over(const struct lean *l);

/* It is not over; with @n lanes, which are at least as many as before. */
void lean_go_on(struct lean *l, u32 n);

u64 now_ns(void);

#endif
