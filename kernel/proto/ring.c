// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "ring.h"

static struct vsp_chain_verdict bad(enum vsp_reject why)
{
	struct vsp_chain_verdict v = { .what = VSP_CHAIN_BAD, .why = (u8)why };

	return v;
}

struct vsp_chain_verdict vsp_chain_begin(struct vsp_chain *c, u16 head, u32 ring_size)
{
	struct vsp_chain_verdict v = { .what = VSP_CHAIN_MORE, .next = head };

	c->table_size = ring_size;
	c->left = ring_size;
	c->readable = 0;
	c->writable = 0;
	c->indirect = false;
	return head < ring_size ? v : bad(VSP_REJECT_HEAD);
}

static struct vsp_chain_verdict enter_table(struct vsp_chain *c, const struct vsp_desc *d, bool may_indirect)
{
	struct vsp_chain_verdict v = { .what = VSP_CHAIN_TABLE };

	if (!may_indirect || c->indirect || (d->flags & VSP_DESC_NEXT))
		return bad(VSP_REJECT_INDIRECT);
	if (d->len == 0 || d->len % sizeof(struct vsp_wire_desc))
		return bad(VSP_REJECT_INDIRECT);
	v.entries = d->len / (u32)sizeof(struct vsp_wire_desc);
	if (v.entries > VSP_RING_SIZE_MAX)
		return bad(VSP_REJECT_INDIRECT);
	c->table_size = v.entries;
	c->left = v.entries;
	c->indirect = true;
	return v;
}

/* Add the descriptor's bytes to its direction; false where the sum leaves u32 or the order is wrong. */
static bool count(struct vsp_chain *c, const struct vsp_desc *d)
{
	u32 *sum = d->flags & VSP_DESC_WRITE ? &c->writable : &c->readable;

	if (!(d->flags & VSP_DESC_WRITE) && c->writable)
		return false;
	if (d->len > 0xffffffffu - *sum)
		return false;
	*sum += d->len;
	return true;
}

struct vsp_chain_verdict vsp_chain_step(struct vsp_chain *c, const struct vsp_desc *d, bool may_indirect)
{
	struct vsp_chain_verdict v = { .what = VSP_CHAIN_LAST };

	c->left--;
	if (d->flags & VSP_DESC_INDIRECT)
		return enter_table(c, d, may_indirect);
	if (!count(c, d))
		return bad(VSP_REJECT_ORDER);
	if (!(d->flags & VSP_DESC_NEXT))
		return v;
	if (d->next >= c->table_size)
		return bad(VSP_REJECT_HEAD);
	if (c->left == 0)
		return bad(VSP_REJECT_CHAIN);
	v.what = VSP_CHAIN_MORE;
	v.next = d->next;
	return v;
}
