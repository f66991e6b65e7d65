/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * budget.h - how many replies a peer may make us owe it
 *
 * A packet for which nothing here exists is answered with a reset. The peer decides how many such packets it sends and
 * whether it drains the ring that the answers go to, so answers are a memory that it controls. Once the budget is
 * spent the shell stops taking packets from that ring until answers have left (virtio 1.4 5.10.6: "resource exhaustion
 * ... may stop processing").
 */
#ifndef VSP_BUDGET_H
#define VSP_BUDGET_H

#include "env.h"

enum {
	VSP_REPLIES_DEFAULT = 256, /* replies of 44 bytes that may wait per device and direction */
};

struct vsp_budget {
	u32 limit;
	u32 used;
};

/* May another packet be taken that might have to be answered? */
static inline bool vsp_budget_left(const struct vsp_budget *b)
{
	return b->used < b->limit;
}

/* One reply more is owed. False: the budget is spent (VSP_REJECT_REPLIES) and nothing was counted. */
static inline bool vsp_budget_take(struct vsp_budget *b)
{
	if (!vsp_budget_left(b))
		return false;
	b->used++;
	return true;
}

/* A reply left. True: processing that stopped for want of budget may go on. */
static inline bool vsp_budget_give(struct vsp_budget *b)
{
	return b->used-- == b->limit;
}

#endif
