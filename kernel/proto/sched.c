// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "sched.h"

void vsp_sched_init(struct vsp_sched *s)
{
	s->head[VSP_LIST_FRESH] = NULL;
	s->head[VSP_LIST_BUSY] = NULL;
	s->round_end = NULL;
	/* A flow of zeroes was last served in round 0. */
	s->round = 1;
}

static void append(struct vsp_sched *s, struct vsp_flow *f, u8 list)
{
	struct vsp_flow *head = s->head[list];

	f->list = list;
	if (!head) {
		f->next = f;
		f->prev = f;
		s->head[list] = f;
		return;
	}
	f->next = head;
	f->prev = head->prev;
	head->prev->next = f;
	head->prev = f;
}

static void unlink_flow(struct vsp_sched *s, struct vsp_flow *f)
{
	if (f->next == f)
		s->head[f->list] = NULL;
	else if (s->head[f->list] == f)
		s->head[f->list] = f->next;
	f->next->prev = f->prev;
	f->prev->next = f->next;
	f->next = NULL;
	f->prev = NULL;
	f->list = VSP_LIST_NONE;
}

/* The flow that ended the round has had its turn: those that are busy now have theirs in the next one. */
static void end_round(struct vsp_sched *s)
{
	struct vsp_flow *head = s->head[VSP_LIST_BUSY];

	s->round++;
	s->round_end = head ? head->prev : NULL;
}

/* To the tail of the busy list, with a quantum for the round after this one. */
static void make_busy(struct vsp_sched *s, struct vsp_flow *f)
{
	f->deficit += VSP_SCHED_QUANTUM;
	f->round = s->round + 1;
	append(s, f, VSP_LIST_BUSY);
	if (!s->round_end)
		s->round_end = f;
}

void vsp_sched_wake(struct vsp_sched *s, struct vsp_flow *f)
{
	if (vsp_flow_queued(f))
		return;
	if ((s32)(s->round - f->round) > 0 || !vsp_sched_next(s)) {
		f->deficit = VSP_SCHED_QUANTUM;
		f->round = s->round;
	}
	if (f->deficit > 0)
		append(s, f, VSP_LIST_FRESH);
	else
		make_busy(s, f);
}

struct vsp_flow *vsp_sched_next(const struct vsp_sched *s)
{
	return s->head[VSP_LIST_FRESH] ? s->head[VSP_LIST_FRESH] : s->head[VSP_LIST_BUSY];
}

void vsp_sched_charge(struct vsp_sched *s, struct vsp_flow *f, u32 bytes, bool more)
{
	bool ends_round = s->round_end == f;

	f->deficit -= (s32)(bytes + VSP_SCHED_PACKET_COST);
	if (!more) {
		vsp_sched_remove(s, f);
		return;
	}
	if (f->deficit > 0)
		return;
	unlink_flow(s, f);
	make_busy(s, f);
	if (ends_round)
		end_round(s);
}

void vsp_sched_hurry(struct vsp_sched *s, struct vsp_flow *f)
{
	/* Whoever is fresh keeps its place, and the others come behind it. */
	if (f->list == VSP_LIST_FRESH)
		return;
	vsp_sched_remove(s, f);
	f->deficit = VSP_SCHED_QUANTUM;
	f->round = s->round;
	append(s, f, VSP_LIST_FRESH);
}

void vsp_sched_remove(struct vsp_sched *s, struct vsp_flow *f)
{
	if (!vsp_flow_queued(f))
		return;
	unlink_flow(s, f);
	if (s->round_end == f)
		end_round(s);
}
