// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "dgram.h"

bool vsp_dgram_interrupt(struct vsp_dgram *d)
{
	bool lost = d->total != 0;

	d->total = 0;
	d->have = 0;
	return lost;
}

static bool continues(const struct vsp_dgram *d, const struct vsp_hdr *hdr)
{
	return d->total && hdr->buf_alloc == d->total && hdr->fwd_cnt == d->have && vsp_addr_eq(hdr->src, d->src) &&
	       vsp_addr_eq(hdr->dst, d->dst);
}

/* Is this header possible at all, whatever came before it? */
static enum vsp_reject judge(const struct vsp_hdr *hdr)
{
	if (hdr->flags)
		return VSP_REJECT_DGRAM_FLAGS;
	if (hdr->buf_alloc == 0)
		return hdr->fwd_cnt ? VSP_REJECT_DGRAM_ORDER : VSP_OK;
	if (hdr->buf_alloc > VSP_DGRAM_MAX || hdr->fwd_cnt >= hdr->buf_alloc)
		return VSP_REJECT_DGRAM_SIZE;
	if (hdr->len == 0 || hdr->len > hdr->buf_alloc - hdr->fwd_cnt)
		return VSP_REJECT_DGRAM_SIZE;
	return VSP_OK;
}

struct vsp_dgram_verdict vsp_dgram_add(struct vsp_dgram *d, const struct vsp_hdr *hdr)
{
	struct vsp_dgram_verdict v = { .why = (u8)judge(hdr) };

	if (v.why == VSP_OK && hdr->fwd_cnt && !continues(d, hdr))
		v.why = VSP_REJECT_DGRAM_ORDER;
	if (v.why != VSP_OK) {
		v.lost = vsp_dgram_interrupt(d);
		return v;
	}
	v.offset = hdr->fwd_cnt;
	v.total = hdr->buf_alloc ? hdr->buf_alloc : hdr->len;
	if (v.offset == 0) {
		v.lost = vsp_dgram_interrupt(d);
		v.what = hdr->len == v.total ? VSP_DGRAM_WHOLE : VSP_DGRAM_FIRST;
		if (v.what == VSP_DGRAM_WHOLE)
			return v;
		d->src = hdr->src;
		d->dst = hdr->dst;
		d->total = v.total;
		d->have = hdr->len;
		return v;
	}
	d->have += hdr->len;
	v.what = d->have == d->total ? VSP_DGRAM_LAST : VSP_DGRAM_MORE;
	if (v.what == VSP_DGRAM_LAST)
		vsp_dgram_interrupt(d);
	return v;
}

struct vsp_dgram_piece vsp_dgram_piece_at(u32 total, u32 offset, u32 room)
{
	u32 left = total - offset;
	struct vsp_dgram_piece p = { .len = left < room ? left : room };

	if (p.len < total) {
		p.buf_alloc = total;
		p.fwd_cnt = offset;
	}
	return p;
}
