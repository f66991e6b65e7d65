// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_wire.c - any 44 bytes, any filter: what is accepted keeps every promise of wire.h and survives the way back
 */
#include <string.h>

#include "conn.h"
#include "fuzz.h"
#include "names.h"

/* What wire.h promises of a header that was accepted. */
static void must_be_good(const struct vsp_hdr *h, u32 have, struct vsp_filter f)
{
	MUST(have >= VSP_HDR_LEN);
	MUST(h->len <= have - VSP_HDR_LEN && h->len <= VSP_MAX_PAYLOAD);
	MUST(h->src.cid != VSP_CID_ANY && h->dst.cid != VSP_CID_ANY);
	MUST(f.my_cid == VSP_CID_ANY || h->dst.cid == f.my_cid);
	MUST(f.peer_cid == VSP_CID_ANY || h->src.cid == f.peer_cid);
	MUST(h->type >= VSP_TYPE_STREAM && h->type < NUM_VSP_TYPES && (f.types & 1u << h->type));
	MUST(h->op >= VSP_OP_REQUEST && h->op < NUM_VSP_OPS);
	if (h->type == VSP_TYPE_DGRAM)
		MUST(h->op != VSP_OP_REQUEST && h->op != VSP_OP_RESPONSE && h->op != VSP_OP_SHUTDOWN);
}

/* A reply to the reply must never be wanted, and the reply must find its way to where the packet came from. */
static void must_end(const struct vsp_hdr *h, enum vsp_reject why)
{
	struct vsp_hdr rst = vsp_rst_for(h);
	struct vsp_wire w = vsp_encode(rst);
	struct vsp_filter back = { .my_cid = h->src.cid, .peer_cid = h->dst.cid, .types = 0xe };
	struct vsp_decoded d = vsp_decode(&w, VSP_HDR_LEN, back);

	MUST(h->op != VSP_OP_RST);
	MUST(why != VSP_OK && why != VSP_REJECT_SHORT);
	MUST(vsp_addr_eq(rst.src, h->dst) && vsp_addr_eq(rst.dst, h->src));
	for (u32 r = 0; r < NUM_VSP_REJECTS; r++)
		MUST(!vsp_wants_rst((enum vsp_reject)r, &rst));
	if (h->type >= VSP_TYPE_STREAM && h->type < NUM_VSP_TYPES)
		MUST(d.why == VSP_OK);
}

/* All events that the header can be are answered by the table, without answering a reset. */
static void must_be_answered(const struct vsp_hdr *h)
{
	enum vsp_event e = vsp_event_of((enum vsp_op)h->op);

	if (h->op == VSP_OP_SHUTDOWN)
		e = vsp_event_of_shutdown(h->flags, h->fwd_cnt & 1);
	if (h->op == VSP_OP_RST)
		e = vsp_event_of_rst(h->flags, h->fwd_cnt);
	for (u32 s = 0; s < NUM_VSP_STATES; s++) {
		struct vsp_verdict v = vsp_conn_step((enum vsp_state)s, e);

		MUST(v.possible && v.next < NUM_VSP_STATES && v.err < NUM_VSP_ERRS);
		MUST(h->op != VSP_OP_RST || !(v.acts & VSP_ACT_SEND_RST));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vsp_filter filter;
	struct vsp_wire wire;
	struct vsp_decoded d;
	u32 have;

	if (size < sizeof(wire) + 4)
		return 0;
	memcpy(&wire, data, sizeof(wire));
	in.data += sizeof(wire);
	in.left -= sizeof(wire);
	filter.types = next8(&in) & 0xe;
	/* The filter asks for what the header has, or for something else. */
	filter.my_cid = next8(&in) & 1 ? VSP_CID_ANY : (u32)le64_to_cpu(wire.dst_cid);
	filter.peer_cid = next8(&in) & 1 ? VSP_CID_HOST : (u32)le64_to_cpu(wire.src_cid);
	have = next8(&in) & 1 ? next_size(&in) : VSP_HDR_LEN + (le32_to_cpu(wire.len) & 0x3ffff);

	d = vsp_decode(&wire, have, filter);
	MUST(d.why < NUM_VSP_REJECTS && vsp_reject_name(d.why)[0] != '?');
	if (d.why == VSP_OK) {
		struct vsp_wire again = vsp_encode(d.hdr);

		must_be_good(&d.hdr, have, filter);
		must_be_answered(&d.hdr);
		MUST(!memcmp(&again, &wire, sizeof(wire)));
	} else if (vsp_wants_rst(d.why, &d.hdr)) {
		must_end(&d.hdr, d.why);
	}
	return 0;
}
