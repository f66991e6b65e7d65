/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dgram.h - datagrams cut into fragments that are consecutive on the ring, and put together again
 *
 * The format is ours (docs/PROTOCOL.md). In an RW packet of type 3, buf_alloc is the length of the whole datagram (0:
 * this packet is all of it) and fwd_cnt the offset of this fragment. Nothing else travels between two fragments of a
 * datagram, so a receiver needs one slot per direction and device, no table and no timer.
 */
#ifndef VSP_DGRAM_H
#define VSP_DGRAM_H

#include "wire.h"

enum {
	VSP_DGRAM_MAX = 65536,	/* bytes of the largest datagram */
	VSP_DGRAM_REVISION = 1, /* fwd_cnt of the answer to a probe */
};

/* The datagram being put together. Zeroed: none. */
struct vsp_dgram {
	struct vsp_addr src;
	struct vsp_addr dst;
	u32 total;
	u32 have;
};

enum vsp_dgram_what {
	VSP_DGRAM_BAD,	 /* @why says it */
	VSP_DGRAM_WHOLE, /* one packet, one datagram */
	VSP_DGRAM_FIRST, /* get room for @total bytes, copy, wait for more */
	VSP_DGRAM_MORE,	 /* copy at @offset */
	VSP_DGRAM_LAST,	 /* copy at @offset; complete */
};

/**
 * struct vsp_dgram_verdict - what to do with an RW packet of type 3
 * @what: see the enum
 * @why: for VSP_DGRAM_BAD
 * @lost: a datagram that was being put together is given up; count it and free its room first
 * @offset: where in the datagram this payload belongs
 * @total: bytes of the whole datagram
 */
struct vsp_dgram_verdict {
	u8 what;
	u8 why;
	bool lost;
	u32 offset;
	u32 total;
};

/**
 * vsp_dgram_add - judge an arriving RW packet of type 3 and advance the slot
 * @d: the slot of this direction
 * @hdr: a header that vsp_decode() accepted
 */
struct vsp_dgram_verdict vsp_dgram_add(struct vsp_dgram *d, const struct vsp_hdr *hdr);

/* Any other packet on the ring ends an unfinished datagram. Returns true if there was one: it is lost, count it. */
bool vsp_dgram_interrupt(struct vsp_dgram *d);

/* A fragment to send: its length and the two header fields that describe it. */
struct vsp_dgram_piece {
	u32 len;
	u32 buf_alloc;
	u32 fwd_cnt;
};

/**
 * vsp_dgram_piece_at - the fragment of a datagram that starts at @offset
 * @total: bytes of the datagram, at most VSP_DGRAM_MAX
 * @offset: less than @total, or both are 0
 * @room: largest payload for this packet, at least 1
 */
struct vsp_dgram_piece vsp_dgram_piece_at(u32 total, u32 offset, u32 room);

#endif
