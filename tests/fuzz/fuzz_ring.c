// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_ring.c - a hostile driver: its descriptor table, indirect tables and indices are the input
 *
 * Walks chains as a device does and checks the walk against what it may be at most: it ends within the table (plus one
 * indirect table), never names a descriptor outside, and its sums are those of an oracle in u64.
 */
#include "fuzz.h"
#include "ring.h"

enum { TABLE_MAX = 64 };

struct table {
	struct vsp_desc desc[TABLE_MAX];
	u32 size; /* what the rules believe; descriptors repeat beyond TABLE_MAX */
};

static struct vsp_desc next_desc(struct input *in, u32 size)
{
	struct vsp_wire_desc w = {
		.addr = cpu_to_le64(next32(in)),
		.len = cpu_to_le32(next8(in) & 3 ? next_size(in) : 16u * next8(in)),
		.flags = cpu_to_le16(next8(in) & 1 ? next16(in) : next8(in) & 7),
	};
	u16 next = next16(in);

	w.next = cpu_to_le16(next & 0x8000 ? next : (u16)(next % (size ? size : 1)));
	return vsp_desc_decode(&w);
}

static void walk(const struct table *ring, const struct table *indirect, u16 head, bool may_indirect)
{
	struct vsp_chain c;
	struct vsp_chain_verdict v = vsp_chain_begin(&c, head, ring->size);
	const struct table *table = ring;
	u64 readable = 0, writable = 0;
	u32 steps = 0, entries = ring->size;
	bool seen_writable = false;

	MUST((v.what == VSP_CHAIN_MORE) == (head < ring->size));
	while (v.what == VSP_CHAIN_MORE || v.what == VSP_CHAIN_TABLE) {
		u16 at = v.what == VSP_CHAIN_TABLE ? 0 : v.next;
		const struct vsp_desc *d;

		if (v.what == VSP_CHAIN_TABLE) {
			MUST(may_indirect && table == ring && v.entries > 0 && v.entries <= VSP_RING_SIZE_MAX);
			table = indirect;
			entries = v.entries;
			steps = 0;
		}
		MUST(at < entries);
		MUST(++steps <= entries);
		d = &table->desc[at % TABLE_MAX];
		v = vsp_chain_step(&c, d, may_indirect);
		if (v.what == VSP_CHAIN_TABLE) {
			MUST((d->flags & VSP_DESC_INDIRECT) && !(d->flags & VSP_DESC_NEXT));
			MUST((u64)v.entries * 16 == d->len);
		} else if (v.what != VSP_CHAIN_BAD) {
			bool writes = d->flags & VSP_DESC_WRITE;

			MUST(!(d->flags & VSP_DESC_INDIRECT));
			MUST(writes || !seen_writable || !writable);
			seen_writable |= writes;
			*(writes ? &writable : &readable) += d->len;
			MUST(c.readable == readable && c.writable == writable);
			MUST((v.what == VSP_CHAIN_MORE) == !!(d->flags & VSP_DESC_NEXT));
		}
	}
	MUST(v.what == VSP_CHAIN_LAST ? v.why == VSP_OK : v.why >= VSP_REJECT_AVAIL && v.why < NUM_VSP_REJECTS);
}

/* The free-running indices, against the same in arithmetic that does not wrap. */
static void indices(struct input *in, u32 size)
{
	u16 last = next16(in), moved = next16(in), event = next16(in);
	u16 idx = (u16)(last + moved);
	s32 n = vsp_ring_avail(idx, last, size);

	MUST(n == (moved > size ? -1 : (s32)moved));
	MUST(vsp_ring_slot(idx, size) == idx % size);
	MUST(vsp_avail_slot_offset(vsp_ring_slot(idx, size)) + 2 <= vsp_avail_bytes(size) - 2);
	MUST(vsp_used_slot_offset(vsp_ring_slot(idx, size)) + 8 <= vsp_used_bytes(size) - 2);
	/* event was passed if it is one of last .. last + moved - 1 */
	MUST(vsp_ring_notify_due(event, idx, last) == ((u16)(event - last) < moved));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct table ring = { .size = 1u << (next8(&in) & 15) };
	struct table indirect = { .size = 0 };
	u8 shape = next8(&in);

	MUST(vsp_ring_size_valid(ring.size));
	indices(&in, ring.size);
	for (u32 i = 0; i < TABLE_MAX && in.left; i++) {
		struct table *t = i % 2 ? &indirect : &ring;

		t->desc[i / 2] = next_desc(&in, ring.size);
		t->desc[TABLE_MAX - 1 - i / 2] = t->desc[i / 2];
	}
	walk(&ring, &indirect, shape & 1 ? (u16)(data[0] << 8) : 0, shape & 2);
	return 0;
}
