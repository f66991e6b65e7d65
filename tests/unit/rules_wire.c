// SPDX-License-Identifier: BSD-2-Clause
/*
 * rules_wire.c - headers: bytes to values and back, and every way to be refused
 */
#include <string.h>

#include "budget.h"
#include "check.h"
#include "wire.h"

#define ALL_TYPES (VSP_TYPES(VSP_TYPE_STREAM) | VSP_TYPES(VSP_TYPE_SEQPACKET) | VSP_TYPES(VSP_TYPE_DGRAM))

static const struct vsp_filter at_guest_3 = { .my_cid = 3, .peer_cid = VSP_CID_HOST, .types = ALL_TYPES };
static const struct vsp_filter anywhere = { .my_cid = VSP_CID_ANY, .peer_cid = VSP_CID_ANY, .types = ALL_TYPES };

/* Written by hand from the layout in virtio 1.4 5.10.6. */
static const u8 sample[VSP_HDR_LEN] = {
	0x02, 0,    0,	  0,	0, 0, 0, 0, /* src_cid */
	0x03, 0,    0,	  0,	0, 0, 0, 0, /* dst_cid */
	0x78, 0x56, 0x34, 0x12,		    /* src_port */
	0xef, 0xcd, 0xab, 0x89,		    /* dst_port */
	0x00, 0x01, 0,	  0,		    /* len */
	0x01, 0,			    /* type */
	0x05, 0,			    /* op */
	0x03, 0,    0,	  0x80,		    /* flags */
	0x44, 0x33, 0x22, 0x11,		    /* buf_alloc */
	0xdd, 0xcc, 0xbb, 0xaa,		    /* fwd_cnt */
};

static struct vsp_hdr sample_hdr(void)
{
	struct vsp_hdr h = {
		.src = { 2, 0x12345678 },
		.dst = { 3, 0x89abcdef },
		.len = 256,
		.type = VSP_TYPE_STREAM,
		.op = VSP_OP_RW,
		.flags = 0x80000003u,
		.buf_alloc = 0x11223344,
		.fwd_cnt = 0xaabbccddu,
	};

	return h;
}

static void bytes_to_value(const void *arg)
{
	struct vsp_wire w;
	struct vsp_decoded d;

	(void)arg;
	memcpy(&w, sample, sizeof(w));
	d = vsp_decode(&w, VSP_HDR_LEN + 256, at_guest_3);
	CHECK_EQ(d.why, VSP_OK);
	CHECK_EQ(d.hdr.src.cid, 2);
	CHECK_EQ(d.hdr.src.port, 0x12345678);
	CHECK_EQ(d.hdr.dst.cid, 3);
	CHECK_EQ(d.hdr.dst.port, 0x89abcdefu);
	CHECK_EQ(d.hdr.len, 256);
	CHECK_EQ(d.hdr.type, VSP_TYPE_STREAM);
	CHECK_EQ(d.hdr.op, VSP_OP_RW);
	CHECK_EQ(d.hdr.flags, 0x80000003u);
	CHECK_EQ(d.hdr.buf_alloc, 0x11223344);
	CHECK_EQ(d.hdr.fwd_cnt, 0xaabbccddu);
}

static void value_to_bytes(const void *arg)
{
	struct vsp_wire w = vsp_encode(sample_hdr());

	(void)arg;
	CHECK_EQ(memcmp(&w, sample, sizeof(w)), 0);
}

static enum vsp_reject judge_have(struct vsp_hdr h, u32 have, struct vsp_filter f)
{
	struct vsp_wire w = vsp_encode(h);

	return vsp_decode(&w, have, f).why;
}

static enum vsp_reject judge(struct vsp_hdr h)
{
	return judge_have(h, VSP_HDR_LEN + 256, at_guest_3);
}

static void too_short(const void *arg)
{
	struct vsp_hdr h = sample_hdr();

	(void)arg;
	h.len = 0;
	CHECK_EQ(judge_have(h, 0, at_guest_3), VSP_REJECT_SHORT);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN - 1, at_guest_3), VSP_REJECT_SHORT);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN, at_guest_3), VSP_OK);
}

/* virtio 1.4 5.10.6: a buffer may be longer than its packet, and only the first len bytes count. */
static void announced_and_arrived(const void *arg)
{
	struct vsp_hdr h = sample_hdr();

	(void)arg;
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + 255, at_guest_3), VSP_REJECT_LEN);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + 256, at_guest_3), VSP_OK);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + 257, at_guest_3), VSP_OK);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN, at_guest_3), VSP_REJECT_LEN);
	h.len = 0xffffffffu;
	CHECK_EQ(judge_have(h, 0xffffffffu, at_guest_3), VSP_REJECT_LEN);
	h.len = VSP_MAX_PAYLOAD;
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + VSP_MAX_PAYLOAD, at_guest_3), VSP_OK);
	h.len = VSP_MAX_PAYLOAD + 1;
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + VSP_MAX_PAYLOAD, at_guest_3), VSP_REJECT_LEN);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + VSP_MAX_PAYLOAD + 1, at_guest_3), VSP_REJECT_TOO_BIG);
}

/* virtio 1.4 5.10.4, 5.10.6: the upper half of a CID is reserved and zero. */
static void cid_upper_half(const void *arg)
{
	struct vsp_wire w;

	(void)arg;
	for (int byte = 4; byte < 16; byte++) {
		u8 raw[VSP_HDR_LEN];

		if (byte == 8)
			byte = 12;
		memcpy(raw, sample, sizeof(raw));
		raw[byte] = 1;
		memcpy(&w, raw, sizeof(w));
		CHECK_EQ(vsp_decode(&w, VSP_HDR_LEN + 256, at_guest_3).why, VSP_REJECT_CID_HIGH);
		CHECK_EQ(vsp_decode(&w, VSP_HDR_LEN + 256, anywhere).why, VSP_REJECT_CID_HIGH);
	}
}

static void source_and_destination(const void *arg)
{
	struct vsp_hdr h = sample_hdr();

	(void)arg;
	h.src.cid = 4;
	CHECK_EQ(judge(h), VSP_REJECT_SRC_CID);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + 256, anywhere), VSP_OK);
	h.src.cid = VSP_CID_ANY;
	CHECK_EQ(judge(h), VSP_REJECT_SRC_CID);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + 256, anywhere), VSP_REJECT_SRC_CID);
	h = sample_hdr();
	h.dst.cid = 4;
	CHECK_EQ(judge(h), VSP_REJECT_DST_CID);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + 256, anywhere), VSP_OK);
	h.dst.cid = VSP_CID_ANY;
	CHECK_EQ(judge(h), VSP_REJECT_DST_CID);
	CHECK_EQ(judge_have(h, VSP_HDR_LEN + 256, anywhere), VSP_REJECT_DST_CID);
}

static void types_negotiated(const void *arg)
{
	struct vsp_filter f = anywhere;
	struct vsp_hdr h = sample_hdr();

	(void)arg;
	for (u16 type = 0; type < 70; type++) {
		bool exists = type >= VSP_TYPE_STREAM && type <= VSP_TYPE_DGRAM;

		h.type = type;
		f.types = ALL_TYPES;
		CHECK_EQ(judge_have(h, VSP_HDR_LEN + 256, f), exists ? VSP_OK : VSP_REJECT_TYPE);
		if (!exists)
			continue;
		f.types = VSP_TYPES(type);
		CHECK_EQ(judge_have(h, VSP_HDR_LEN + 256, f), VSP_OK);
		f.types = ALL_TYPES & ~VSP_TYPES(type);
		CHECK_EQ(judge_have(h, VSP_HDR_LEN + 256, f), VSP_REJECT_TYPE);
	}
	h.type = 0;
	CHECK_EQ(judge(h), VSP_REJECT_TYPE);
	h.type = 0xffff;
	CHECK_EQ(judge(h), VSP_REJECT_TYPE);
}

static void ops_that_exist(const void *arg)
{
	/* By op number, 0 to 8: what streams have, what datagrams have. */
	static const bool stream_has[] = { 0, 1, 1, 1, 1, 1, 1, 1, 0 };
	static const bool dgram_has[] = { 0, 0, 0, 1, 0, 1, 1, 1, 0 };
	struct vsp_hdr h = sample_hdr();

	(void)arg;
	for (unsigned int op = 0; op < ARRAY_SIZE(stream_has); op++) {
		h.op = (u16)op;
		h.type = VSP_TYPE_STREAM;
		CHECK_EQ(judge(h), stream_has[op] ? VSP_OK : VSP_REJECT_OP);
		h.type = VSP_TYPE_SEQPACKET;
		CHECK_EQ(judge(h), stream_has[op] ? VSP_OK : VSP_REJECT_OP);
		h.type = VSP_TYPE_DGRAM;
		CHECK_EQ(judge(h), dgram_has[op] ? VSP_OK : VSP_REJECT_OP);
	}
	h.op = 0xffff;
	CHECK_EQ(judge(h), VSP_REJECT_OP);
}

/* With everything wrong at once, the reasons come in the order of the enum. */
static void first_reason_wins(const void *arg)
{
	struct vsp_hdr h = sample_hdr();

	(void)arg;
	h.src.cid = 9;
	h.dst.cid = 9;
	h.type = 9;
	h.op = 9;
	h.len = 0xffffffffu;
	CHECK_EQ(judge_have(h, 43, at_guest_3), VSP_REJECT_SHORT);
	CHECK_EQ(judge(h), VSP_REJECT_SRC_CID);
	h.src.cid = 2;
	CHECK_EQ(judge(h), VSP_REJECT_DST_CID);
	h.dst.cid = 3;
	CHECK_EQ(judge(h), VSP_REJECT_TYPE);
	h.type = 1;
	CHECK_EQ(judge(h), VSP_REJECT_OP);
	h.op = 5;
	CHECK_EQ(judge(h), VSP_REJECT_LEN);
}

/* virtio 1.4 5.10.6: RST answers an unknown type; and RST answers nothing. */
static void rst_wanted(const void *arg)
{
	struct vsp_hdr h = sample_hdr();

	(void)arg;
	for (u32 why = 0; why <= NUM_VSP_REJECTS; why++) {
		bool wanted = why == VSP_REJECT_TYPE || why == VSP_REJECT_OP || why == VSP_REJECT_LEN ||
			      why == VSP_REJECT_TOO_BIG || why == VSP_REJECT_NO_FLOW || why == VSP_REJECT_BACKLOG;

		h.op = VSP_OP_RW;
		CHECK_EQ(vsp_wants_rst((enum vsp_reject)why, &h), wanted);
		h.op = VSP_OP_RST;
		CHECK_EQ(vsp_wants_rst((enum vsp_reject)why, &h), false);
	}
}

/* What such a packet carried was the connection's that its addresses name; other reasons speak of the addresses. */
static void flow_ends(const void *arg)
{
	(void)arg;
	for (u32 why = 0; why <= NUM_VSP_REJECTS; why++) {
		bool ends = why == VSP_REJECT_OP || why == VSP_REJECT_LEN || why == VSP_REJECT_TOO_BIG;

		CHECK_EQ(vsp_ends_flow((enum vsp_reject)why), ends);
	}
}

static void rst_is_reversed(const void *arg)
{
	struct vsp_hdr h = sample_hdr();
	struct vsp_hdr rst;

	(void)arg;
	h.type = 77;
	rst = vsp_rst_for(&h);
	CHECK(vsp_addr_eq(rst.src, h.dst));
	CHECK(vsp_addr_eq(rst.dst, h.src));
	CHECK_EQ(rst.type, 77);
	CHECK_EQ(rst.op, VSP_OP_RST);
	CHECK_EQ(rst.len | rst.flags | rst.buf_alloc | rst.fwd_cnt, 0);
	CHECK(!vsp_wants_rst(VSP_REJECT_NO_FLOW, &rst));
}

static void addresses_compare(const void *arg)
{
	struct vsp_addr a = { 3, 5 };

	(void)arg;
	CHECK(vsp_addr_eq(a, (struct vsp_addr){ 3, 5 }));
	CHECK(!vsp_addr_eq(a, (struct vsp_addr){ 4, 5 }));
	CHECK(!vsp_addr_eq(a, (struct vsp_addr){ 3, 6 }));
	CHECK(!vsp_addr_eq(a, (struct vsp_addr){ 5, 3 }));
}

/* virtio 1.4 5.10.4, device: guest_cid must not be a reserved CID. */
static void guest_cid_reserved(const void *arg)
{
	(void)arg;
	CHECK(!vsp_guest_cid_valid(0));
	CHECK(!vsp_guest_cid_valid(1));
	CHECK(!vsp_guest_cid_valid(2));
	CHECK(vsp_guest_cid_valid(3));
	CHECK(vsp_guest_cid_valid(0xfffffffeu));
	CHECK(!vsp_guest_cid_valid(0xffffffffu));
	CHECK(!vsp_guest_cid_valid(1ull << 32));
	CHECK(!vsp_guest_cid_valid((1ull << 32) + 3));
	CHECK(!vsp_guest_cid_valid(~0ull));
}

/* virtio 1.4 5.10.3.1, driver and device: which types are in force after which bits, all 16 combinations. */
static void types_of_features(const void *arg)
{
	enum { S = 1 << VSP_TYPE_STREAM, Q = 1 << VSP_TYPE_SEQPACKET, D = 1 << VSP_TYPE_DGRAM };
	static const u32 expected[16] = {
		S,     S,     S | Q,	 S | Q,	    /* NO_IMPLIED_STREAM not negotiated */
		0,     S,     Q,	 S | Q,	    /* negotiated */
		S | D, S | D, S | Q | D, S | Q | D, /* the same with datagrams */
		D,     S | D, Q | D,	 S | Q | D,
	};

	(void)arg;
	for (u32 f = 0; f < 16; f++) {
		CHECK_EQ(vsp_types_for(f), expected[f]);
		/* Bits of the transport are none of ours. */
		CHECK_EQ(vsp_types_for(f | ~0xfull), expected[f]);
	}
}

static void budget_of_replies(const void *arg)
{
	struct vsp_budget b = { .limit = 2 };

	(void)arg;
	CHECK(vsp_budget_left(&b));
	CHECK(vsp_budget_take(&b));
	CHECK(vsp_budget_left(&b));
	CHECK(!vsp_budget_give(&b));
	CHECK(vsp_budget_take(&b));
	CHECK(vsp_budget_take(&b));
	CHECK(!vsp_budget_left(&b));
	CHECK(!vsp_budget_take(&b));
	CHECK_EQ(b.used, 2);
	/* Only the reply that ends the standstill says so. */
	CHECK(vsp_budget_give(&b));
	CHECK(!vsp_budget_give(&b));
	CHECK_EQ(b.used, 0);
	b.limit = 0;
	CHECK(!vsp_budget_take(&b));
}

static const struct check_case cases[] = {
	CASE(bytes_to_value),	 CASE(value_to_bytes),
	CASE(too_short),	 CASE(announced_and_arrived),
	CASE(cid_upper_half),	 CASE(source_and_destination),
	CASE(types_negotiated),	 CASE(ops_that_exist),
	CASE(first_reason_wins), CASE(rst_wanted),
	CASE(flow_ends),	 CASE(rst_is_reversed),
	CASE(addresses_compare), CASE(guest_cid_reserved),
	CASE(types_of_features), CASE(budget_of_replies),
};

CHECK_SUITE(wire, cases);
