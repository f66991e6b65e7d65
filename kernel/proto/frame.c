// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "frame.h"

struct vsp_piece vsp_frag_next(struct vsp_frag *f, u32 room)
{
	struct vsp_piece p = { .len = f->left < room ? f->left : room };

	if (p.len > VSP_MAX_PAYLOAD)
		p.len = VSP_MAX_PAYLOAD;
	f->left -= p.len;
	p.last = f->left == 0;
	if (p.last)
		p.flags = VSP_SEQ_EOM | f->flags;
	return p;
}

enum vsp_record_verdict vsp_record_add(struct vsp_record *r, u32 len, u32 flags, u32 *whole)
{
	r->len += len;
	if (!(flags & VSP_SEQ_EOM))
		return VSP_RECORD_PART;
	if (r->len == 0) {
		if (r->empty >= VSP_EMPTY_RECORDS_MAX)
			return VSP_RECORD_FULL;
		r->empty++;
	}
	*whole = r->len;
	r->len = 0;
	return VSP_RECORD_END;
}

void vsp_record_empty_read(struct vsp_record *r)
{
	r->empty--;
}
