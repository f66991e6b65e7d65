/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sched.h - who sends next: deficit round robin over flows, charging bytes and packets
 *
 * Two lists. A flow that comes back with something left of its quantum starts in the fresh list and is served before
 * the busy ones, so that a ping waits for one packet and not for every bulk sender's quantum. Having spent its
 * quantum it goes to the tail of the busy list. A round is over when every flow that was busy at its beginning has
 * spent its quantum or left; a flow gets one quantum a round, whether it stays or comes and goes. Every queued flow
 * has a positive deficit: it is refilled when it runs out, not when it is looked at, so nothing here loops.
 *
 * The scheduler owns the links of struct vsp_flow, not the flows. One lock of the caller's guards a scheduler and all
 * flows in it.
 */
#ifndef VSP_SCHED_H
#define VSP_SCHED_H

#include "wire.h"

enum {
	/*
	 * What a packet costs besides its bytes, in bytes. Descriptors, notifications and the receiver's bookkeeping
	 * make a 64-byte packet about as dear as one of this many bytes.
	 */
	VSP_SCHED_PACKET_COST = 1024,
	/* What a flow may spend in a turn. At least the dearest packet, so that one refill always suffices. */
	VSP_SCHED_QUANTUM = VSP_MAX_PAYLOAD + VSP_HDR_LEN + VSP_SCHED_PACKET_COST,
};

/* A flow's place in the scheduler. Zeroed memory is a flow that is not queued. */
struct vsp_flow {
	struct vsp_flow *next;
	struct vsp_flow *prev;
	u32 round; /* the round that @deficit was given for */
	s32 deficit;
	u8 list;  /* enum vsp_list */
	u8 owner; /* the caller's: what kind of thing it is part of */
};

enum vsp_list {
	VSP_LIST_NONE,
	VSP_LIST_FRESH,
	VSP_LIST_BUSY,
	NUM_VSP_LISTS,
};

struct vsp_sched {
	struct vsp_flow *head[NUM_VSP_LISTS]; /* circular; [VSP_LIST_NONE] is unused */
	struct vsp_flow *round_end;	      /* the last busy flow of this round, or NULL without busy flows */
	u32 round;			      /* free-running */
};

void vsp_sched_init(struct vsp_sched *s);

static inline bool vsp_flow_queued(const struct vsp_flow *f)
{
	return f->list != VSP_LIST_NONE;
}

/* The flow has something to send. Harmless if it is queued already. */
void vsp_sched_wake(struct vsp_sched *s, struct vsp_flow *f);

/* The flow whose turn it is, or NULL. It stays where it is until vsp_sched_charge() or vsp_sched_remove(). */
struct vsp_flow *vsp_sched_next(const struct vsp_sched *s);

/**
 * vsp_sched_charge - a queued flow sent one packet
 * @s: the scheduler
 * @f: the flow
 * @bytes: payload bytes, at most VSP_MAX_PAYLOAD (a datagram of several fragments: charge each)
 * @more: it has another one that could be sent now; otherwise it leaves the scheduler
 */
void vsp_sched_charge(struct vsp_sched *s, struct vsp_flow *f, u32 bytes, bool more);

/**
 * vsp_sched_hurry - the flow's last packet goes before those of all flows that come after this, whatever it has spent
 * @s: the scheduler
 * @f: the flow; queued or not
 *
 * For what has to be said of an address before the next to have it says anything.
 */
void vsp_sched_hurry(struct vsp_sched *s, struct vsp_flow *f);

/* Take a flow out, for good or until the next wake. Harmless if it is not queued. */
void vsp_sched_remove(struct vsp_sched *s, struct vsp_flow *f);

#endif
