// SPDX-License-Identifier: BSD-2-Clause
#include "storm.h"

static bool continues(const struct storm *s, const struct vsp_hdr *h)
{
	return s->total && h->buf_alloc == s->total && h->fwd_cnt == s->have && vsp_addr_eq(h->dst, s->dst);
}

void storm_add(struct storm *s, const struct vsp_hdr *h)
{
	bool whole = !h->buf_alloc && !h->fwd_cnt;
	bool piece = h->buf_alloc && h->buf_alloc <= VSP_DGRAM_MAX && h->len &&
		     (u64)h->fwd_cnt + h->len <= h->buf_alloc && (!h->fwd_cnt || continues(s, h));

	if (h->flags || !(whole || piece)) {
		s->bad++;
		s->cut += s->total != 0;
		s->total = 0;
		return;
	}
	if (!h->fwd_cnt) {
		s->cut += s->total != 0;
		s->total = whole ? h->len : h->buf_alloc;
		s->have = 0;
		s->dst = h->dst;
	}
	s->have += h->len;
	if (s->have < s->total)
		return;
	s->whole++;
	s->total = 0;
}

struct vsp_hdr storm_next(const struct storm *s, struct vsp_hdr h, u32 random)
{
	static const u32 totals[] = { 0, 0, 1, 3000, VSP_DGRAM_MAX, VSP_DGRAM_MAX, VSP_DGRAM_MAX + 1, UINT32_MAX };
	static const u32 offsets[] = { 0, 0, 0, 0, 1, 1000, VSP_DGRAM_MAX, UINT32_MAX };
	u32 most = 1 + (random >> 8 & 0xfff);

	if (s->total && random >> 30 < 2) {
		h.buf_alloc = s->total;
		h.fwd_cnt = s->have;
		h.len = random & 1 || most > s->total - s->have ? s->total - s->have : most;
		return h;
	}
	h.dst.port += random >> 20 & 1;
	h.flags = (random >> 21 & 15) == 0;
	h.buf_alloc = totals[random >> 25 & 7];
	h.fwd_cnt = offsets[random & 7];
	h.len = random >> 3 & 7 ? most : 0;
	return h;
}
