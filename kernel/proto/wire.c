// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "wire.h"

static enum vsp_reject judge_addr(const struct vsp_wire *wire, const struct vsp_hdr *hdr, struct vsp_filter filter)
{
	if ((le64_to_cpu(wire->src_cid) | le64_to_cpu(wire->dst_cid)) >> 32)
		return VSP_REJECT_CID_HIGH;
	if (hdr->src.cid == VSP_CID_ANY || (filter.peer_cid != VSP_CID_ANY && hdr->src.cid != filter.peer_cid))
		return VSP_REJECT_SRC_CID;
	if (hdr->dst.cid == VSP_CID_ANY || (filter.my_cid != VSP_CID_ANY && hdr->dst.cid != filter.my_cid))
		return VSP_REJECT_DST_CID;
	return VSP_OK;
}

static bool op_exists(u16 type, u16 op)
{
	if (type == VSP_TYPE_DGRAM)
		return op == VSP_OP_RW || op == VSP_OP_RST || op == VSP_OP_CREDIT_UPDATE || op == VSP_OP_CREDIT_REQUEST;
	return op > VSP_OP_INVALID && op < NUM_VSP_OPS;
}

static enum vsp_reject judge_body(const struct vsp_hdr *hdr, u32 payload, u32 types)
{
	if (hdr->type >= NUM_VSP_TYPES || !(types & VSP_TYPES(hdr->type)))
		return VSP_REJECT_TYPE;
	if (!op_exists(hdr->type, hdr->op))
		return VSP_REJECT_OP;
	if (hdr->len > payload)
		return VSP_REJECT_LEN;
	if (hdr->len > VSP_MAX_PAYLOAD)
		return VSP_REJECT_TOO_BIG;
	return VSP_OK;
}

struct vsp_decoded vsp_decode(const struct vsp_wire *wire, u32 have, struct vsp_filter filter)
{
	struct vsp_decoded d = { .why = VSP_REJECT_SHORT };

	if (have < VSP_HDR_LEN)
		return d;
	d.hdr.src.cid = (u32)le64_to_cpu(wire->src_cid);
	d.hdr.src.port = le32_to_cpu(wire->src_port);
	d.hdr.dst.cid = (u32)le64_to_cpu(wire->dst_cid);
	d.hdr.dst.port = le32_to_cpu(wire->dst_port);
	d.hdr.len = le32_to_cpu(wire->len);
	d.hdr.type = le16_to_cpu(wire->type);
	d.hdr.op = le16_to_cpu(wire->op);
	d.hdr.flags = le32_to_cpu(wire->flags);
	d.hdr.buf_alloc = le32_to_cpu(wire->buf_alloc);
	d.hdr.fwd_cnt = le32_to_cpu(wire->fwd_cnt);
	d.why = judge_addr(wire, &d.hdr, filter);
	if (d.why == VSP_OK)
		d.why = judge_body(&d.hdr, have - VSP_HDR_LEN, filter.types);
	return d;
}

struct vsp_wire vsp_encode(struct vsp_hdr hdr)
{
	struct vsp_wire wire;

	wire.src_cid = cpu_to_le64(hdr.src.cid);
	wire.dst_cid = cpu_to_le64(hdr.dst.cid);
	wire.src_port = cpu_to_le32(hdr.src.port);
	wire.dst_port = cpu_to_le32(hdr.dst.port);
	wire.len = cpu_to_le32(hdr.len);
	wire.type = cpu_to_le16(hdr.type);
	wire.op = cpu_to_le16(hdr.op);
	wire.flags = cpu_to_le32(hdr.flags);
	wire.buf_alloc = cpu_to_le32(hdr.buf_alloc);
	wire.fwd_cnt = cpu_to_le32(hdr.fwd_cnt);
	return wire;
}

bool vsp_wants_rst(enum vsp_reject why, const struct vsp_hdr *hdr)
{
	if (hdr->op == VSP_OP_RST)
		return false;
	switch (why) {
	case VSP_REJECT_TYPE:
	case VSP_REJECT_OP:
	case VSP_REJECT_LEN:
	case VSP_REJECT_TOO_BIG:
	case VSP_REJECT_NO_FLOW:
	case VSP_REJECT_BACKLOG:
		return true;
	default:
		return false;
	}
}

bool vsp_ends_flow(enum vsp_reject why)
{
	return why == VSP_REJECT_OP || why == VSP_REJECT_LEN || why == VSP_REJECT_TOO_BIG;
}

struct vsp_hdr vsp_rst_for(const struct vsp_hdr *hdr)
{
	struct vsp_hdr rst = { .src = hdr->dst, .dst = hdr->src, .type = hdr->type, .op = VSP_OP_RST };

	return rst;
}

u32 vsp_types_for(u64 features)
{
	u32 types = 0;

	if (features & (1u << VSP_F_STREAM))
		types |= VSP_TYPES(VSP_TYPE_STREAM);
	if (features & (1u << VSP_F_SEQPACKET))
		types |= VSP_TYPES(VSP_TYPE_SEQPACKET);
	if (!(features & (1u << VSP_F_NO_IMPLIED_STREAM)))
		types |= VSP_TYPES(VSP_TYPE_STREAM);
	if (features & (1u << VSP_F_DGRAM))
		types |= VSP_TYPES(VSP_TYPE_DGRAM);
	return types;
}
