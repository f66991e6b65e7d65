/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peer.h - a guest made of packets: sends them in any chain shape, receives them from buffers of any size
 *
 * Follows no rule of the protocol by itself, so that tests can keep them or break them.
 */
#ifndef E2E_PEER_H
#define E2E_PEER_H

#include "vu/vhost.h"

#include "kernel/proto/wire.h"

enum peer_shape {
	PEER_ONE,      /* one descriptor */
	PEER_TWO,      /* header, payload: Linux 6.1 */
	PEER_SPLIT,    /* the header in three, the last with payload behind it */
	PEER_FRAGS,    /* header, payload in 4 KiB pieces: newer Linux */
	PEER_INDIRECT, /* PEER_FRAGS through a table */
	PEER_EMPTY,    /* PEER_TWO with descriptors of no length between */
	NUM_PEER_SHAPES,
};

enum {
	PEER_SLOT = 70 << 10, /* bytes of memory per descriptor in each ring */
	PEER_TABLE = 4096,    /* and for a table of indirect descriptors */
	PEER_WAIT_MS = 10000,
};

/* A peer with @ring entries per ring and receive buffers of @buffer bytes, header included. */
struct peer {
	struct vu_front f;
	u32 buffer;
	bool two;    /* receive buffers of two descriptors: header, payload */
	bool whole;  /* set before: memory is one region */
	bool tables; /* set before: receive buffers are tables of header and pages */
};

int peer_open(struct peer *p, const char *socket, u32 ring, u32 buffer, bool two, u64 features);
void peer_close(struct peer *p);

/* The same with a kernel device at @path, as the guest @cid. */
int peer_open_vhost(struct peer *p, const char *path, u64 cid, u32 ring, u32 buffer, bool two, u64 features);
void peer_close_vhost(struct peer *p);

/* Post every receive buffer: after the ring began anew. */
void peer_post_all(struct peer *p);

/* Send a packet; hdr.len need not be @len. False: no room in the ring for PEER_WAIT_MS. */
bool peer_send(struct peer *p, struct vsp_hdr hdr, const void *payload, u32 len, enum peer_shape shape);

/* The next packet that arrives within @ms; its payload is copied to @buf (64 KiB). False: none. */
bool peer_recv(struct peer *p, struct vsp_hdr *hdr, void *buf, int ms);

/*
 * For loads that are to cost little: payload stays where it lies and nothing is waited for. A packet that arrived is
 * valid until its buffer is posted, by peer_post_all(); one that is sent has whatever was in its memory before.
 */
const struct vsp_wire *peer_look(struct peer *p, u32 *len);
bool peer_push(struct peer *p, struct vsp_hdr hdr);

/* Memory for hand-made chains: 1 MiB that peer_send() never uses. */
u64 peer_scratch(const struct peer *p);

#endif
