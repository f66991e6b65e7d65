/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tap.h - copies of a guest's packets, for somebody who looks on
 *
 * A client of the control socket gets a file in pcap's format, link type vsockmon, as things happen: what passes is
 * shown as it lies on the rings, before anybody judges it. The guest never waits for the client. What a slow one has
 * not taken is kept up to a limit; packets that find no room there are left out, and counted.
 */
#ifndef VSD_TAP_H
#define VSD_TAP_H

#include "daemon/loop.h"
#include "engine/tail.h"
#include "kernel/proto/wire.h"

enum {
	VSD_TAP_ROOM = 4 << 20, /* bytes that wait for the client */
};

/**
 * struct vsd_tap - what is kept of a capture; @fd is -1 where there is none
 * @watch: for epoll
 * @fd: the client
 * @payload: bytes of payload that are shown of a packet, at most
 * @again: packets from the guest that went back to the ring and were shown already
 * @left_out: packets that found no room, of all captures
 * @waiting: for the client
 */
struct vsd_tap {
	struct vsd_watch watch;
	int fd;
	u32 payload;
	u32 again;
	u64 left_out;
	struct vsock_tail waiting;
};

/* Show @fd (kept, and non-blocking by the flag of each call) what passes. 0, -EBUSY: somebody looks already; -errno. */
int vsd_tap_begin(struct vsd_guest *g, int fd, u32 payload);
void vsd_tap_end(struct vsd_guest *g);

/* A packet: its header, and @len bytes of payload behind the first @skip of these segments. */
void vsd_tap_packet(struct vsd_guest *g, const struct vsp_wire *wire, const struct iovec *iov, u32 niov, u32 skip,
		    u32 len);

/* Give the client what it takes. */
void vsd_tap_flush(struct vsd_guest *g);

#endif
