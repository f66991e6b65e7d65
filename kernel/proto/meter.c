// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "meter.h"

u32 vsp_meter_budget(u32 buf_alloc)
{
	u32 most = buf_alloc / VSP_METER_PACKET;

	return most > VSP_METER_SPARE ? most - VSP_METER_SPARE : 1;
}

bool vsp_meter_fits(const struct vsp_meter *m, u32 packets, u32 buf_alloc)
{
	u32 budget = vsp_meter_budget(buf_alloc);

	return m->out == 0 || (m->out < budget && packets <= budget - m->out);
}

bool vsp_meter_ask(const struct vsp_meter *m, u32 buf_alloc)
{
	return m->out > vsp_meter_budget(buf_alloc) / 2;
}

static struct vsp_mark *mark_at(struct vsp_meter *m, u32 i)
{
	return &m->marks[(m->first + i) % VSP_METER_MARKS];
}

void vsp_meter_sent(struct vsp_meter *m, u32 edge, u32 buf_alloc)
{
	u32 full = vsp_meter_budget(buf_alloc) / VSP_METER_MARKS;

	m->out++;
	/* The newest mark grows until it has its share; the last of all takes what there is. */
	if (m->n == 0 || (mark_at(m, m->n - 1)->packets >= full && m->n < VSP_METER_MARKS)) {
		m->n++;
		mark_at(m, m->n - 1)->packets = 0;
	}
	mark_at(m, m->n - 1)->packets++;
	mark_at(m, m->n - 1)->edge = edge;
}

bool vsp_meter_acked(struct vsp_meter *m, u32 fwd_cnt)
{
	u32 before = m->out;

	/* At most VSP_METER_MARKS times. */
	while (m->n > 0 && (s32)(fwd_cnt - mark_at(m, 0)->edge) >= 0) {
		m->out -= mark_at(m, 0)->packets;
		m->first = (m->first + 1) % VSP_METER_MARKS;
		m->n--;
	}
	return m->out != before;
}
