/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * meter.h - how many packets a peer may hold unread
 *
 * Credit counts bytes. Since 6.12.92 and in later stable kernels Linux also resets a flow of which so many packets wait
 * that their bookkeeping alone, about 576 bytes each, exceeds the flow's buf_alloc: 453 packets of the usual window,
 * however small. The protocol has no word for that, so a sender that does not want to be reset counts.
 *
 * A packet is outstanding until fwd_cnt passes its last byte. Which packet ends where is kept in a few marks of several
 * packets each, so a mark may retire late, never early. Packets without payload retire with the bytes before them:
 * nothing ever acknowledges them.
 *
 * A stock peer acknowledges small packets by itself only when its window runs low. Whoever is held back here must ask
 * (VSP_OP_CREDIT_REQUEST), and ask again after a while, for the answer is given whether the reader has read or not.
 */
#ifndef VSP_METER_H
#define VSP_METER_H

#include "env.h"

enum {
	VSP_METER_PACKET = 576, /* what Linux charges for a packet besides its bytes: SKB_TRUESIZE(0) */
	VSP_METER_SPARE = 2,	/* it counts the packet that arrives as well; and one for differences in rounding */
	VSP_METER_MARKS = 8,
};

/* Packets that end at or before @edge. */
struct vsp_mark {
	u32 edge;
	u32 packets;
};

/**
 * struct vsp_meter - packets that were sent and are not known to be read; zeroed memory is one without any
 * @out: how many
 * @first: the oldest mark
 * @n: marks in use
 * @marks: a ring of them, oldest first
 */
struct vsp_meter {
	u32 out;
	u32 first;
	u32 n;
	struct vsp_mark marks[VSP_METER_MARKS];
};

/* How many packets may be outstanding towards a peer with this window; at least 1. */
u32 vsp_meter_budget(u32 buf_alloc);

/* May @packets more be sent? Always, if none is outstanding: a message longer than the budget must go some time. */
bool vsp_meter_fits(const struct vsp_meter *m, u32 packets, u32 buf_alloc);

/* Is it time to ask how many were read, so that the answer comes before the budget is spent? */
bool vsp_meter_ask(const struct vsp_meter *m, u32 buf_alloc);

/* A packet was sent; @edge is the flow's count of bytes sent, its own included. */
void vsp_meter_sent(struct vsp_meter *m, u32 edge, u32 buf_alloc);

/* The peer says that it consumed the bytes up to @fwd_cnt, which is believed. True: packets retired. */
bool vsp_meter_acked(struct vsp_meter *m, u32 fwd_cnt);

#endif
