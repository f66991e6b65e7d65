// SPDX-License-Identifier: GPL-2.0-only
/*
 * tap.c - copies of packets for the interfaces of type vsockmon
 *
 * What passes is shown as it lies on the ring, header and payload, in both directions: transmitted packets when they go
 * to the ring, received ones before anybody judges them. The payload is copied, because its pages go back to the device
 * or to the user.
 */
#include <linux/highmem.h>
#include <uapi/linux/vsockmon.h>

#include "vst.h"

/* A packet as it lies on the ring; its payload is @data, or the pages of @zc. */
struct tapped {
	const struct vsp_wire *wire;
	const void *data;
	const struct vst_zc *zc;
	u32 len;
};

static u16 tap_op(enum vsp_op op)
{
	switch (op) {
	case VSP_OP_REQUEST:
	case VSP_OP_RESPONSE:
		return AF_VSOCK_OP_CONNECT;
	case VSP_OP_RST:
	case VSP_OP_SHUTDOWN:
		return AF_VSOCK_OP_DISCONNECT;
	case VSP_OP_RW:
		return AF_VSOCK_OP_PAYLOAD;
	case VSP_OP_CREDIT_UPDATE:
	case VSP_OP_CREDIT_REQUEST:
		return AF_VSOCK_OP_CONTROL;
	default:
		return AF_VSOCK_OP_UNKNOWN;
	}
}

static void put_headers(struct sk_buff *skb, const struct vsp_wire *wire)
{
	struct af_vsockmon_hdr *mon = skb_put_zero(skb, sizeof(*mon));

	mon->src_cid = wire->src_cid;
	mon->dst_cid = wire->dst_cid;
	mon->src_port = wire->src_port;
	mon->dst_port = wire->dst_port;
	mon->op = cpu_to_le16(tap_op(le16_to_cpu(wire->op)));
	mon->transport = cpu_to_le16(AF_VSOCK_TRANSPORT_VIRTIO);
	mon->len = cpu_to_le16(sizeof(*wire));
	skb_put_data(skb, wire, sizeof(*wire));
}

static int store_pages(struct sk_buff *skb, u32 at, const struct vst_zc *zc)
{
	u32 i;

	for (i = 0; i < zc->n; i++) {
		u8 *page = kmap_local_page(zc->frags[i].bv_page);
		int err = skb_store_bits(skb, at, page + zc->frags[i].bv_offset, zc->frags[i].bv_len);

		kunmap_local(page);
		if (err)
			return err;
		at += zc->frags[i].bv_len;
	}
	return 0;
}

static struct sk_buff *tap_skb(void *opaque)
{
	const struct tapped *t = opaque;
	u32 head = sizeof(struct af_vsockmon_hdr) + sizeof(*t->wire);
	struct sk_buff *skb;
	int err;

	/* Pages one by one: nobody waits for memory here. */
	skb = alloc_skb_with_frags(head, t->len, 0, &err, GFP_ATOMIC | __GFP_NOWARN);
	if (!skb)
		return NULL;
	put_headers(skb, t->wire);
	skb->data_len = t->len;
	skb->len += t->len;
	err = t->zc ? store_pages(skb, head, t->zc) : skb_store_bits(skb, head, t->data, t->len);
	if (!err)
		return skb;
	kfree_skb(skb);
	return NULL;
}

static struct sk_buff *note(void *opaque)
{
	*(bool *)opaque = true;
	return NULL;
}

/* Is anybody shown copies? */
bool vst_is_tapped(void)
{
	bool tapped = false;

	vsock_deliver_tap(note, &tapped);
	return tapped;
}

/* A packet that arrived, or a header that goes out alone. Does not sleep. */
void vst_tap(const struct vsp_wire *wire, const void *data, u32 len)
{
	struct tapped t = { .wire = wire, .data = data, .len = len };

	vsock_deliver_tap(tap_skb, &t);
}

/* A packet that goes out. Does not sleep. */
void vst_tap_pkt(const struct vst_pkt *pkt)
{
	const u8 *data = pkt->page ? page_address(pkt->page) : pkt->data;
	u32 i, from, end;

	for (i = 0, from = 0; i <= pkt->more; i++, from = end) {
		struct vsp_wire wire = pkt->wire;
		struct tapped t = { .wire = &wire, .zc = pkt->zc, .data = data + from };

		end = vst_pkt_end(pkt, i);
		t.len = end - from;
		wire.len = cpu_to_le32(t.len);
		vsock_deliver_tap(tap_skb, &t);
	}
}
