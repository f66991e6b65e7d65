// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "sched.h"

void vsp_sched_init(struct vsp_sched *s)
{
	s->head[VSP_LIST_FRESH] = NULL;
	s->head[VSP_LIST_BUSY] = NULL;
	s->served = 0;
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

/* Was it away long enough for another flow to have had a whole turn, or is nobody waiting? */
static bool starts_anew(const struct vsp_sched *s, const struct vsp_flow *f)
{
	if (!s->head[VSP_LIST_FRESH] && !s->head[VSP_LIST_BUSY])
		return true;
	return s->served - f->left_at >= VSP_SCHED_QUANTUM;
}

void vsp_sched_wake(struct vsp_sched *s, struct vsp_flow *f)
{
	if (vsp_flow_queued(f))
		return;
	if (starts_anew(s, f))
		f->deficit = VSP_SCHED_QUANTUM;
	if (f->deficit > 0) {
		append(s, f, VSP_LIST_FRESH);
		return;
	}
	f->deficit += VSP_SCHED_QUANTUM;
	append(s, f, VSP_LIST_BUSY);
}

struct vsp_flow *vsp_sched_next(const struct vsp_sched *s)
{
	return s->head[VSP_LIST_FRESH] ? s->head[VSP_LIST_FRESH] : s->head[VSP_LIST_BUSY];
}

void vsp_sched_charge(struct vsp_sched *s, struct vsp_flow *f, u32 bytes, bool more)
{
	u32 cost = bytes + VSP_SCHED_PACKET_COST;

	s->served += cost;
	f->deficit -= (s32)cost;
	if (!more) {
		vsp_sched_remove(s, f);
		return;
	}
	if (f->deficit > 0)
		return;
	unlink_flow(s, f);
	f->deficit += VSP_SCHED_QUANTUM;
	append(s, f, VSP_LIST_BUSY);
}

void vsp_sched_remove(struct vsp_sched *s, struct vsp_flow *f)
{
	if (!vsp_flow_queued(f))
		return;
	unlink_flow(s, f);
	f->left_at = s->served;
}
