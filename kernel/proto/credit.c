// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "credit.h"

u32 vsp_window_clamp(u64 bytes)
{
	if (bytes < 1)
		return 1;
	return bytes > VSP_WINDOW_MAX ? VSP_WINDOW_MAX : (u32)bytes;
}

struct vsp_txc vsp_txc_init(u32 cap)
{
	struct vsp_txc t = { .cap = cap };

	return t;
}

struct vsp_rxc vsp_rxc_init(u32 buf_alloc)
{
	struct vsp_rxc r = { .buf_alloc = buf_alloc };

	return r;
}

u32 vsp_txc_space(const struct vsp_txc *t)
{
	s64 space = (s64)vsp_txc_window(t) - vsp_txc_unacked(t);

	return space > 0 ? (u32)space : 0;
}

u32 vsp_txc_take(struct vsp_txc *t, u32 want)
{
	u32 space = vsp_txc_space(t);

	if (want > space)
		want = space;
	t->tx_cnt += want;
	return want;
}

void vsp_txc_untake(struct vsp_txc *t, u32 bytes)
{
	t->tx_cnt -= bytes;
}

void vsp_txc_sent(struct vsp_txc *t, u32 bytes)
{
	t->sent_cnt += bytes;
}

enum vsp_credit vsp_txc_update(struct vsp_txc *t, struct vsp_stamp stamp)
{
	u32 ahead = stamp.fwd_cnt - t->peer_fwd_cnt;
	u32 before = vsp_txc_space(t);
	u32 after;

	if (ahead > t->sent_cnt - t->peer_fwd_cnt)
		return ahead > VSP_WINDOW_MAX ? VSP_CREDIT_SAME : VSP_CREDIT_LIE;
	t->peer_fwd_cnt = stamp.fwd_cnt;
	t->peer_buf_alloc = stamp.buf_alloc;
	after = vsp_txc_space(t);
	if (after > before)
		return VSP_CREDIT_GREW;
	return after < before ? VSP_CREDIT_SHRANK : VSP_CREDIT_SAME;
}

bool vsp_rxc_admit(struct vsp_rxc *r, u32 bytes)
{
	if (bytes > r->edge - r->rx_cnt)
		return false;
	r->rx_cnt += bytes;
	return true;
}

void vsp_rxc_unadmit(struct vsp_rxc *r, u32 bytes)
{
	r->rx_cnt -= bytes;
}

void vsp_rxc_consume(struct vsp_rxc *r, u32 bytes)
{
	r->fwd_cnt += bytes;
}

void vsp_rxc_ask(struct vsp_rxc *r)
{
	r->asked = true;
}

struct vsp_stamp vsp_rxc_stamp(struct vsp_rxc *r)
{
	s64 room = (s64)r->buf_alloc - vsp_rxc_unread(r);

	if (!vsp_rxc_unread(r))
		r->asked = false;
	r->told.buf_alloc = r->buf_alloc;
	r->told.fwd_cnt = r->fwd_cnt;
	if (room > r->edge - r->rx_cnt)
		r->edge = r->rx_cnt + (u32)room;
	return r->told;
}

bool vsp_rxc_update_due(const struct vsp_rxc *r, u32 lowat, u32 peer_buf_alloc)
{
	u32 window = peer_buf_alloc < r->buf_alloc ? peer_buf_alloc : r->buf_alloc;
	u32 unread = vsp_rxc_unread(r);
	s64 room = (s64)r->buf_alloc - unread;
	s64 believed = (s64)r->told.buf_alloc - (r->rx_cnt - r->told.fwd_cnt);

	if (believed < 0)
		believed = 0;
	if (room <= believed)
		return false;
	return r->asked || room - believed >= window / 2 || unread + believed < lowat;
}

bool vsp_rxc_update_may_wait(const struct vsp_rxc *r, u32 lowat, u32 peer_buf_alloc)
{
	struct vsp_rxc unasked = *r;

	unasked.asked = false;
	return r->fwd_cnt - r->told.fwd_cnt < vsp_rxc_unread(r) && !vsp_rxc_update_due(&unasked, lowat, peer_buf_alloc);
}
