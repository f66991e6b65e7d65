// SPDX-License-Identifier: BSD-2-Clause
/*
 * rules_frame.c - seqpacket messages and datagrams, cut and put together
 */
#include "check.h"
#include "dgram.h"
#include "frame.h"

static void check_piece(struct vsp_frag *f, u32 room, u32 len, u32 flags, bool last)
{
	struct vsp_piece p = vsp_frag_next(f, room);

	CHECK_EQ(p.len, len);
	CHECK_EQ(p.flags, flags);
	CHECK_EQ(p.last, last);
}

static void message_is_cut(const void *arg)
{
	struct vsp_frag f = { .left = 10, .flags = VSP_SEQ_EOR };

	(void)arg;
	check_piece(&f, 4, 4, 0, false);
	check_piece(&f, 4, 4, 0, false);
	CHECK_EQ(f.left, 2);
	check_piece(&f, 4, 2, VSP_SEQ_EOM | VSP_SEQ_EOR, true);
	f = (struct vsp_frag){ .left = 4 };
	check_piece(&f, 4, 4, VSP_SEQ_EOM, true);
	f = (struct vsp_frag){ .left = 5 };
	check_piece(&f, 4, 4, 0, false);
	check_piece(&f, 1, 1, VSP_SEQ_EOM, true);
	f = (struct vsp_frag){ .left = 0, .flags = VSP_SEQ_EOR };
	check_piece(&f, 0, 0, VSP_SEQ_EOM | VSP_SEQ_EOR, true);
}

static void piece_fits_a_packet(const void *arg)
{
	struct vsp_frag f = { .left = VSP_MAX_PAYLOAD };

	(void)arg;
	check_piece(&f, 0xffffffffu, VSP_MAX_PAYLOAD, VSP_SEQ_EOM, true);
	f.left = VSP_MAX_PAYLOAD + 1;
	check_piece(&f, 0xffffffffu, VSP_MAX_PAYLOAD, 0, false);
	check_piece(&f, 0xffffffffu, 1, VSP_SEQ_EOM, true);
	f.left = 0xffffffffu;
	check_piece(&f, 0xffffffffu, VSP_MAX_PAYLOAD, 0, false);
	CHECK_EQ(f.left, 0xffffffffu - VSP_MAX_PAYLOAD);
}

static void message_is_joined(const void *arg)
{
	struct vsp_record r = { 0 };
	u32 whole = 77;

	(void)arg;
	CHECK_EQ(vsp_record_add(&r, 5, 0, &whole), VSP_RECORD_PART);
	CHECK_EQ(vsp_record_add(&r, 0, VSP_SEQ_EOR, &whole), VSP_RECORD_PART);
	CHECK_EQ(whole, 77);
	CHECK_EQ(vsp_record_add(&r, 7, VSP_SEQ_EOM, &whole), VSP_RECORD_END);
	CHECK_EQ(whole, 12);
	CHECK_EQ(vsp_record_add(&r, 3, VSP_SEQ_EOM | VSP_SEQ_EOR, &whole), VSP_RECORD_END);
	CHECK_EQ(whole, 3);
	/* The end may come in a packet of its own. */
	CHECK_EQ(vsp_record_add(&r, 9, 0, &whole), VSP_RECORD_PART);
	CHECK_EQ(vsp_record_add(&r, 0, VSP_SEQ_EOM, &whole), VSP_RECORD_END);
	CHECK_EQ(whole, 9);
	CHECK_EQ(r.empty, 0);
}

/* Empty messages cost no credit; the limit is what bounds their memory. */
static void empty_messages_are_counted(const void *arg)
{
	struct vsp_record r = { 0 };
	u32 whole = 77;

	(void)arg;
	for (u32 i = 0; i < VSP_EMPTY_RECORDS_MAX; i++) {
		CHECK_EQ(vsp_record_add(&r, 0, VSP_SEQ_EOM, &whole), VSP_RECORD_END);
		CHECK_EQ(whole, 0);
	}
	whole = 77;
	CHECK_EQ(vsp_record_add(&r, 0, VSP_SEQ_EOM, &whole), VSP_RECORD_FULL);
	CHECK_EQ(whole, 77);
	CHECK_EQ(r.empty, VSP_EMPTY_RECORDS_MAX);
	/* A message with a byte in it is bounded by credit and passes. */
	CHECK_EQ(vsp_record_add(&r, 1, VSP_SEQ_EOM, &whole), VSP_RECORD_END);
	CHECK_EQ(vsp_record_add(&r, 0, 0, &whole), VSP_RECORD_PART);
	vsp_record_empty_read(&r);
	CHECK_EQ(r.empty, VSP_EMPTY_RECORDS_MAX - 1);
	CHECK_EQ(vsp_record_add(&r, 0, VSP_SEQ_EOM, &whole), VSP_RECORD_END);
	CHECK_EQ(vsp_record_add(&r, 0, VSP_SEQ_EOM, &whole), VSP_RECORD_FULL);
}

static const struct check_case frame_cases[] = {
	CASE(message_is_cut),
	CASE(piece_fits_a_packet),
	CASE(message_is_joined),
	CASE(empty_messages_are_counted),
};

CHECK_SUITE(frame, frame_cases);

static struct vsp_hdr fragment(u32 len, u32 total, u32 offset)
{
	struct vsp_hdr h = {
		.src = { 3, 1000 },
		.dst = { 2, 2000 },
		.type = VSP_TYPE_DGRAM,
		.op = VSP_OP_RW,
		.len = len,
		.buf_alloc = total,
		.fwd_cnt = offset,
	};

	return h;
}

static void check_add(struct vsp_dgram *d, struct vsp_hdr h, enum vsp_dgram_what what, u32 offset, u32 total, bool lost)
{
	struct vsp_dgram_verdict v = vsp_dgram_add(d, &h);

	CHECK_EQ(v.what, what);
	CHECK_EQ(v.why, VSP_OK);
	CHECK_EQ(v.offset, offset);
	CHECK_EQ(v.total, total);
	CHECK_EQ(v.lost, lost);
}

static void check_bad(struct vsp_dgram *d, struct vsp_hdr h, enum vsp_reject why, bool lost)
{
	struct vsp_dgram_verdict v = vsp_dgram_add(d, &h);

	CHECK_EQ(v.what, VSP_DGRAM_BAD);
	CHECK_EQ(v.why, why);
	CHECK_EQ(v.lost, lost);
	CHECK_EQ(d->total, 0);
	CHECK_EQ(d->have, 0);
}

/* A slot with 40 of 100 bytes. */
static struct vsp_dgram begun(void)
{
	struct vsp_dgram d = { 0 };

	check_add(&d, fragment(40, 100, 0), VSP_DGRAM_FIRST, 0, 100, false);
	return d;
}

static void dgram_in_one_packet(const void *arg)
{
	struct vsp_dgram d = { 0 };

	(void)arg;
	check_add(&d, fragment(10, 0, 0), VSP_DGRAM_WHOLE, 0, 10, false);
	check_add(&d, fragment(0, 0, 0), VSP_DGRAM_WHOLE, 0, 0, false);
	check_add(&d, fragment(VSP_MAX_PAYLOAD, 0, 0), VSP_DGRAM_WHOLE, 0, VSP_MAX_PAYLOAD, false);
	check_add(&d, fragment(10, 10, 0), VSP_DGRAM_WHOLE, 0, 10, false);
	check_add(&d, fragment(VSP_DGRAM_MAX, VSP_DGRAM_MAX, 0), VSP_DGRAM_WHOLE, 0, VSP_DGRAM_MAX, false);
	CHECK_EQ(d.total, 0);
}

static void dgram_in_fragments(const void *arg)
{
	struct vsp_dgram d = begun();

	(void)arg;
	check_add(&d, fragment(59, 100, 40), VSP_DGRAM_MORE, 40, 100, false);
	check_add(&d, fragment(1, 100, 99), VSP_DGRAM_LAST, 99, 100, false);
	CHECK_EQ(d.total, 0);
	CHECK(!vsp_dgram_interrupt(&d));
	check_add(&d, fragment(1, VSP_DGRAM_MAX, 0), VSP_DGRAM_FIRST, 0, VSP_DGRAM_MAX, false);
	check_add(&d, fragment(VSP_DGRAM_MAX - 1, VSP_DGRAM_MAX, 1), VSP_DGRAM_LAST, 1, VSP_DGRAM_MAX, false);
}

static void dgram_of_impossible_size(const void *arg)
{
	static const struct vsp_dgram none;
	struct vsp_dgram d = none;

	(void)arg;
	check_bad(&d, fragment(1, VSP_DGRAM_MAX + 1, 0), VSP_REJECT_DGRAM_SIZE, false);
	check_bad(&d, fragment(1, 0xffffffffu, 0), VSP_REJECT_DGRAM_SIZE, false);
	check_bad(&d, fragment(0, 10, 0), VSP_REJECT_DGRAM_SIZE, false);
	check_bad(&d, fragment(11, 10, 0), VSP_REJECT_DGRAM_SIZE, false);
	check_bad(&d, fragment(1, 10, 10), VSP_REJECT_DGRAM_SIZE, false);
	check_bad(&d, fragment(1, 10, 0xffffffffu), VSP_REJECT_DGRAM_SIZE, false);
	check_bad(&d, fragment(1, 0, 1), VSP_REJECT_DGRAM_ORDER, false);
	d = begun();
	check_bad(&d, fragment(61, 100, 40), VSP_REJECT_DGRAM_SIZE, true);
	d = begun();
	check_bad(&d, fragment(0, 100, 40), VSP_REJECT_DGRAM_SIZE, true);
	d = begun();
	check_bad(&d, fragment(1, VSP_DGRAM_MAX + 1, 40), VSP_REJECT_DGRAM_SIZE, true);
}

static void dgram_out_of_order(const void *arg)
{
	struct vsp_dgram d = { 0 };
	struct vsp_hdr h;

	(void)arg;
	check_bad(&d, fragment(10, 100, 40), VSP_REJECT_DGRAM_ORDER, false);
	d = begun();
	check_bad(&d, fragment(10, 100, 39), VSP_REJECT_DGRAM_ORDER, true);
	d = begun();
	check_bad(&d, fragment(10, 100, 41), VSP_REJECT_DGRAM_ORDER, true);
	d = begun();
	check_bad(&d, fragment(10, 101, 40), VSP_REJECT_DGRAM_ORDER, true);
	d = begun();
	h = fragment(10, 100, 40);
	h.src.cid++;
	check_bad(&d, h, VSP_REJECT_DGRAM_ORDER, true);
	d = begun();
	h = fragment(10, 100, 40);
	h.src.port++;
	check_bad(&d, h, VSP_REJECT_DGRAM_ORDER, true);
	d = begun();
	h = fragment(10, 100, 40);
	h.dst.cid++;
	check_bad(&d, h, VSP_REJECT_DGRAM_ORDER, true);
	d = begun();
	h = fragment(10, 100, 40);
	h.dst.port++;
	check_bad(&d, h, VSP_REJECT_DGRAM_ORDER, true);
	/* Once given up, its rest finds nothing to continue. */
	check_bad(&d, fragment(60, 100, 40), VSP_REJECT_DGRAM_ORDER, false);
}

static void dgram_flags(const void *arg)
{
	struct vsp_dgram d = begun();
	struct vsp_hdr h = fragment(60, 100, 40);

	(void)arg;
	h.flags = 1;
	check_bad(&d, h, VSP_REJECT_DGRAM_FLAGS, true);
	h = fragment(10, 0, 0);
	h.flags = 0x80000000u;
	check_bad(&d, h, VSP_REJECT_DGRAM_FLAGS, false);
}

static void dgram_interrupted(const void *arg)
{
	struct vsp_dgram d = begun();

	(void)arg;
	CHECK(vsp_dgram_interrupt(&d));
	CHECK(!vsp_dgram_interrupt(&d));
	d = begun();
	check_add(&d, fragment(7, 0, 0), VSP_DGRAM_WHOLE, 0, 7, true);
	d = begun();
	check_add(&d, fragment(7, 50, 0), VSP_DGRAM_FIRST, 0, 50, true);
	CHECK_EQ(d.total, 50);
	CHECK_EQ(d.have, 7);
}

static void check_dgram_piece(u32 total, u32 offset, u32 room, u32 len, bool fragmented)
{
	struct vsp_dgram_piece p = vsp_dgram_piece_at(total, offset, room);

	CHECK_EQ(p.len, len);
	CHECK_EQ(p.buf_alloc, fragmented ? total : 0);
	CHECK_EQ(p.fwd_cnt, fragmented ? offset : 0);
}

static void dgram_is_cut(const void *arg)
{
	(void)arg;
	check_dgram_piece(0, 0, 1, 0, false);
	check_dgram_piece(100, 0, 100, 100, false);
	check_dgram_piece(100, 0, 101, 100, false);
	check_dgram_piece(100, 0, 99, 99, true);
	check_dgram_piece(100, 99, 99, 1, true);
	check_dgram_piece(100, 50, 50, 50, true);
	check_dgram_piece(100, 50, 49, 49, true);
	check_dgram_piece(VSP_DGRAM_MAX, 0, VSP_MAX_PAYLOAD, VSP_DGRAM_MAX, false);
}

static const struct check_case dgram_cases[] = {
	CASE(dgram_in_one_packet), CASE(dgram_in_fragments), CASE(dgram_of_impossible_size),
	CASE(dgram_out_of_order),  CASE(dgram_flags),	     CASE(dgram_interrupted),
	CASE(dgram_is_cut),
};

CHECK_SUITE(dgram, dgram_cases);
