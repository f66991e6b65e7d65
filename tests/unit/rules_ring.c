// SPDX-License-Identifier: BSD-2-Clause
/*
 * rules_ring.c - the arithmetic of a split virtqueue and the walk along a chain, against a driver that lies
 */
#include <string.h>

#include "check.h"
#include "ring.h"

enum {
	R = 0,
	W = VSP_DESC_WRITE,
	N = VSP_DESC_NEXT,
	I = VSP_DESC_INDIRECT,
};

static void descriptor_bytes(const void *arg)
{
	/* virtio 1.4 2.7.5: addr, len, flags, next, little-endian */
	static const u8 raw[16] = { 8, 7, 6, 5, 4, 3, 2, 1, 0x44, 0x33, 0x22, 0x11, 0x05, 0x80, 0xfe, 0xff };
	struct vsp_wire_desc w;
	struct vsp_desc d;

	(void)arg;
	memcpy(&w, raw, sizeof(w));
	d = vsp_desc_decode(&w);
	CHECK_EQ(d.addr, 0x0102030405060708ll);
	CHECK_EQ(d.len, 0x11223344);
	CHECK_EQ(d.flags, 0x8005);
	CHECK_EQ(d.next, 0xfffe);
}

static void ring_sizes(const void *arg)
{
	(void)arg;
	CHECK(!vsp_ring_size_valid(0));
	for (u32 size = 1; size <= VSP_RING_SIZE_MAX; size *= 2) {
		CHECK(vsp_ring_size_valid(size));
		CHECK_EQ(vsp_ring_size_valid(size + 1), size == 1);
		CHECK_EQ(vsp_ring_size_valid(size * 3), false);
	}
	CHECK(!vsp_ring_size_valid(VSP_RING_SIZE_MAX * 2));
	CHECK(!vsp_ring_size_valid(0x80000000u));
	CHECK(!vsp_ring_size_valid(0xffffffffu));
}

/* virtio 1.4 2.7, 2.7.6, 2.7.8: the sizes of the three parts and what lies where. */
static void ring_layout(const void *arg)
{
	(void)arg;
	CHECK_EQ(vsp_desc_bytes(1), 16);
	CHECK_EQ(vsp_avail_bytes(1), 8);
	CHECK_EQ(vsp_used_bytes(1), 14);
	CHECK_EQ(vsp_desc_bytes(128), 2048);
	CHECK_EQ(vsp_avail_bytes(128), 262);
	CHECK_EQ(vsp_used_bytes(128), 1030);
	CHECK_EQ(vsp_desc_bytes(VSP_RING_SIZE_MAX), 524288);
	CHECK_EQ(vsp_avail_slot_offset(0), 4);
	CHECK_EQ(vsp_avail_slot_offset(32767), 65538);
	CHECK_EQ(vsp_used_slot_offset(0), 4);
	CHECK_EQ(vsp_used_slot_offset(32767), 262140);
	CHECK_EQ(vsp_used_event_offset(128), 260);
	CHECK_EQ(vsp_avail_event_offset(128), 1028);
	/* The event field is the last in its part. */
	CHECK_EQ(vsp_used_event_offset(VSP_RING_SIZE_MAX) + 2, vsp_avail_bytes(VSP_RING_SIZE_MAX));
	CHECK_EQ(vsp_avail_event_offset(VSP_RING_SIZE_MAX) + 2, vsp_used_bytes(VSP_RING_SIZE_MAX));
}

static void slots_wrap(const void *arg)
{
	(void)arg;
	CHECK_EQ(vsp_ring_slot(0, 1), 0);
	CHECK_EQ(vsp_ring_slot(0xffff, 1), 0);
	CHECK_EQ(vsp_ring_slot(127, 128), 127);
	CHECK_EQ(vsp_ring_slot(128, 128), 0);
	CHECK_EQ(vsp_ring_slot(0xffff, 128), 127);
	CHECK_EQ(vsp_ring_slot(0x8000, VSP_RING_SIZE_MAX), 0);
	CHECK_EQ(vsp_ring_slot(0xffff, VSP_RING_SIZE_MAX), 0x7fff);
}

static void available(const void *arg)
{
	static const u16 lasts[] = { 0, 1, 0x7fff, 0x8000, 0xffff };

	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(lasts); i++) {
		u16 last = lasts[i];

		CHECK_EQ(vsp_ring_avail(last, last, 128), 0);
		CHECK_EQ(vsp_ring_avail((u16)(last + 1), last, 128), 1);
		CHECK_EQ(vsp_ring_avail((u16)(last + 128), last, 128), 128);
		CHECK_EQ(vsp_ring_avail((u16)(last + 129), last, 128), -1);
		CHECK_EQ(vsp_ring_avail((u16)(last - 1), last, 128), -1);
		CHECK_EQ(vsp_ring_avail((u16)(last + 0x8000), last, VSP_RING_SIZE_MAX), VSP_RING_SIZE_MAX);
		CHECK_EQ(vsp_ring_avail((u16)(last + 0x8001), last, VSP_RING_SIZE_MAX), -1);
	}
}

/* virtio 1.4 2.7.7.2: said again with a loop: was the event's entry among those that were published? */
static bool passed(u16 event, u16 new_idx, u16 old_idx)
{
	for (u16 i = old_idx; i != new_idx; i++)
		if (i == event)
			return true;
	return false;
}

static void event_index(const void *arg)
{
	static const u16 olds[] = { 0, 1, 0x7ffe, 0x8000, 0xfffe, 0xffff };

	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(olds); i++) {
		for (u16 moved = 0; moved < 5; moved++) {
			u16 new_idx = (u16)(olds[i] + moved);

			for (s32 d = -3; d < 8; d++) {
				u16 event = (u16)(olds[i] + d);

				CHECK_EQ(vsp_ring_notify_due(event, new_idx, olds[i]), passed(event, new_idx, olds[i]));
			}
			CHECK_EQ(vsp_ring_notify_due((u16)(olds[i] + 0x8000), new_idx, olds[i]), false);
		}
	}
}

static struct vsp_chain_verdict step(struct vsp_chain *c, u32 len, u32 flags, u16 next)
{
	struct vsp_desc d = { .addr = 0x1000, .len = len, .flags = (u16)flags, .next = next };

	return vsp_chain_step(c, &d, true);
}

static void check_more(struct vsp_chain *c, u32 len, u32 flags, u16 next)
{
	struct vsp_chain_verdict v = step(c, len, flags, next);

	CHECK_EQ(v.what, VSP_CHAIN_MORE);
	CHECK_EQ(v.next, next);
	CHECK_EQ(v.why, VSP_OK);
}

static void check_last(struct vsp_chain *c, u32 len, u32 flags, u32 readable, u32 writable)
{
	struct vsp_chain_verdict v = step(c, len, flags, 0xffff);

	CHECK_EQ(v.what, VSP_CHAIN_LAST);
	CHECK_EQ(v.why, VSP_OK);
	CHECK_EQ(c->readable, readable);
	CHECK_EQ(c->writable, writable);
}

static void check_bad(struct vsp_chain *c, u32 len, u32 flags, u16 next, enum vsp_reject why)
{
	struct vsp_chain_verdict v = step(c, len, flags, next);

	CHECK_EQ(v.what, VSP_CHAIN_BAD);
	CHECK_EQ(v.why, why);
}

static struct vsp_chain begun(u32 ring_size)
{
	struct vsp_chain c;
	struct vsp_chain_verdict v;

	memset(&c, 0xa5, sizeof(c));
	v = vsp_chain_begin(&c, 0, ring_size);
	CHECK_EQ(v.what, VSP_CHAIN_MORE);
	CHECK_EQ(v.next, 0);
	CHECK_EQ(c.readable | c.writable | c.indirect, 0);
	return c;
}

static void heads(const void *arg)
{
	struct vsp_chain c;
	struct vsp_chain_verdict v;

	(void)arg;
	v = vsp_chain_begin(&c, 7, 8);
	CHECK_EQ(v.what, VSP_CHAIN_MORE);
	CHECK_EQ(v.next, 7);
	v = vsp_chain_begin(&c, 8, 8);
	CHECK_EQ(v.what, VSP_CHAIN_BAD);
	CHECK_EQ(v.why, VSP_REJECT_HEAD);
	v = vsp_chain_begin(&c, 0xffff, VSP_RING_SIZE_MAX);
	CHECK_EQ(v.why, VSP_REJECT_HEAD);
	v = vsp_chain_begin(&c, 0x7fff, VSP_RING_SIZE_MAX);
	CHECK_EQ(v.what, VSP_CHAIN_MORE);
}

static void shapes_that_are_seen(const void *arg)
{
	struct vsp_chain c = begun(8);

	(void)arg;
	/* one descriptor for header and payload; header and payload apart; many fragments; a receive buffer */
	check_last(&c, 100, R, 100, 0);
	c = begun(8);
	check_more(&c, 44, R | N, 5);
	check_last(&c, 1000, R, 1044, 0);
	c = begun(8);
	for (u16 i = 0; i < 7; i++)
		check_more(&c, 10, R | N, i);
	check_last(&c, 10, R, 80, 0);
	c = begun(8);
	check_more(&c, 44, W | N, 7);
	check_last(&c, 4096, W, 0, 4140);
	c = begun(8);
	check_more(&c, 44, R | N, 1);
	check_last(&c, 0, W, 44, 0);
}

/* virtio 1.4 2.7.5.2: readable ones come first. */
static void readable_before_writable(const void *arg)
{
	struct vsp_chain c = begun(8);

	(void)arg;
	check_more(&c, 10, R | N, 1);
	check_more(&c, 10, W | N, 2);
	check_bad(&c, 10, R, 0, VSP_REJECT_ORDER);
}

static void sums_do_not_wrap(const void *arg)
{
	struct vsp_chain c = begun(8);

	(void)arg;
	check_more(&c, 0xffffffffu, R | N, 1);
	check_last(&c, 0, R, 0xffffffffu, 0);
	c = begun(8);
	check_more(&c, 0xffffffffu, R | N, 1);
	check_bad(&c, 1, R, 0, VSP_REJECT_ORDER);
	c = begun(8);
	check_more(&c, 0x80000000u, W | N, 1);
	check_last(&c, 0x7fffffffu, W, 0, 0xffffffffu);
	c = begun(8);
	check_more(&c, 0x80000000u, W | N, 1);
	check_bad(&c, 0x80000000u, W, 0, VSP_REJECT_ORDER);
}

static void loops_end(const void *arg)
{
	struct vsp_chain c = begun(4);

	(void)arg;
	check_more(&c, 1, R | N, 0);
	check_more(&c, 1, R | N, 0);
	check_more(&c, 1, R | N, 0);
	check_bad(&c, 1, R | N, 0, VSP_REJECT_CHAIN);
	c = begun(1);
	check_bad(&c, 1, R | N, 0, VSP_REJECT_CHAIN);
	c = begun(1);
	check_last(&c, 1, R, 1, 0);
}

static void next_outside(const void *arg)
{
	struct vsp_chain c = begun(8);

	(void)arg;
	check_bad(&c, 1, R | N, 8, VSP_REJECT_HEAD);
	c = begun(8);
	check_more(&c, 1, R | N, 7);
	check_bad(&c, 1, R | N, 0xffff, VSP_REJECT_HEAD);
}

static struct vsp_chain check_table(u32 ring_size, u32 entries, u32 flags)
{
	struct vsp_chain c = begun(ring_size);
	struct vsp_chain_verdict v = step(&c, entries * 16, I | flags, 0xffff);

	CHECK_EQ(v.what, VSP_CHAIN_TABLE);
	CHECK_EQ(v.entries, entries);
	CHECK_EQ(v.why, VSP_OK);
	return c;
}

static void indirect_tables(const void *arg)
{
	struct vsp_chain c = check_table(8, 3, R);

	(void)arg;
	check_more(&c, 1, R | N, 1);
	check_more(&c, 2, R | N, 2);
	check_last(&c, 4, W, 3, 4);
	/* 2.7.5.3: the write flag of the descriptor that points to the table is ignored */
	c = check_table(8, 1, W);
	check_last(&c, 4, R, 4, 0);
	/* A table may be longer than its ring, and next is judged by the table. */
	c = check_table(2, 9, R);
	check_more(&c, 1, R | N, 8);
	check_bad(&c, 1, R | N, 9, VSP_REJECT_HEAD);
	c = check_table(8, 2, R);
	check_more(&c, 1, R | N, 0);
	check_bad(&c, 1, R | N, 0, VSP_REJECT_CHAIN);
	c = check_table(8, VSP_RING_SIZE_MAX, R);
	check_more(&c, 1, R | N, VSP_RING_SIZE_MAX - 1);
	/* After ordinary descriptors, as the last of its chain. */
	c = begun(8);
	check_more(&c, 10, R | N, 3);
	CHECK_EQ(step(&c, 32, I, 0).what, VSP_CHAIN_TABLE);
	check_more(&c, 10, W | N, 1);
	check_last(&c, 5, W, 10, 15);
}

static void indirect_tables_refused(const void *arg)
{
	struct vsp_chain c = check_table(8, 3, R);
	struct vsp_desc d = { .len = 16, .flags = I };

	(void)arg;
	check_bad(&c, 16, I, 0, VSP_REJECT_INDIRECT); /* nested */
	c = begun(8);
	check_bad(&c, 16, I | N, 1, VSP_REJECT_INDIRECT);
	c = begun(8);
	check_bad(&c, 0, I, 0, VSP_REJECT_INDIRECT);
	c = begun(8);
	check_bad(&c, 15, I, 0, VSP_REJECT_INDIRECT);
	c = begun(8);
	check_bad(&c, 17, I, 0, VSP_REJECT_INDIRECT);
	c = begun(8);
	check_bad(&c, 16 * (VSP_RING_SIZE_MAX + 1), I, 0, VSP_REJECT_INDIRECT);
	c = begun(8);
	check_bad(&c, 0xfffffff0u, I, 0, VSP_REJECT_INDIRECT);
	c = begun(8);
	CHECK_EQ(vsp_chain_step(&c, &d, false).why, VSP_REJECT_INDIRECT);
}

static const struct check_case cases[] = {
	CASE(descriptor_bytes),
	CASE(ring_sizes),
	CASE(ring_layout),
	CASE(slots_wrap),
	CASE(available),
	CASE(event_index),
	CASE(heads),
	CASE(shapes_that_are_seen),
	CASE(readable_before_writable),
	CASE(sums_do_not_wrap),
	CASE(loops_end),
	CASE(next_outside),
	CASE(indirect_tables),
	CASE(indirect_tables_refused),
};

CHECK_SUITE(ring, cases);
